"""What the config names: its sources, and its tokenizer (kept, loaded or trained)."""

import os
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec, read_documents, read_records
from input_pipeline.task import Templates
from input_pipeline.tokenizer_files import holds_tokenizer
from input_pipeline.tokenizers import Tokenizer, load_tokenizer, train_tokenizer


def source_specs(data: ConfigDict, sources: str, split: str) -> list[SourceSpec]:
    """Give the specs of the comma-separated `sources`, with the options of config.data."""
    specs = [
        SourceSpec(
            spec=spec.strip(),
            split=split,
            text_field=data.text_field,
            text_b_field=data.text_b_field,
            format=data.format,
            document=data.document,
            errors=data.errors,
            data_dir=data.data_dir,
        )
        for spec in sources.split(",")
        if spec.strip()
    ]
    if not specs:
        raise DataError("no data: set --config.data.source to a file, a glob or tfds:NAME")
    return specs


def eval_specs(data: ConfigDict) -> list[SourceSpec]:
    """Give the sources of evaluation; empty where part of the training data is held out instead."""
    if data.eval_source:
        return source_specs(data, data.eval_source, data.eval_split or data.split)
    if not data.eval_split:
        return []
    specs = source_specs(data, data.source, data.eval_split)
    for spec in specs:
        if not spec.is_tfds:
            raise DataError(
                f"'{spec.spec}' is made of files, which have no split '{data.eval_split}';"
                " set --config.data.eval_source instead of eval_split"
            )
    return specs


def task_specs(
    data: ConfigDict, tasks: Sequence[Sequence[str]], split: str
) -> list[tuple[SourceSpec, Templates]]:
    """Give each source of config.data.tasks, with the templates of its two texts."""
    found = []
    for task in tasks:
        if isinstance(task, str) or len(task) != 3:
            raise DataError(
                f"--config.data.tasks holds {task!r}; each task is a triple (source, input,"
                " target), such as ('train.tsv', 'sst2 sentence: {sentence}', '{label}')"
            )
        source, *texts = task
        found += [(spec, Templates(*texts)) for spec in source_specs(data, source, split)]
    return found


def _texts(data: ConfigDict) -> Iterator[str]:
    """All text that trains: of the sources and of the tasks."""
    if data.source or not data.tasks:
        for spec in source_specs(data, data.source, data.split):
            yield from (document.text for document in read_documents(spec))
    for spec, templates in task_specs(data, data.tasks, data.split):
        for record in read_records(spec, templates.fields):
            source, targets = templates.fill(record)[1]
            yield from (source, *targets)


def _sample(texts: Iterator[str], limit: int) -> list[str]:
    """Draw texts evenly from a stream of unknown length, `limit` bytes at most.

    Every k-th text is kept; each time the limit is passed, every other one goes and k doubles.
    """
    kept: list[tuple[int, str]] = []
    size, stride = 0, 1
    for number, text in enumerate(texts):
        if number % stride:
            continue
        kept.append((len(text.encode("utf-8")), text))
        size += kept[-1][0]
        while size > limit and len(kept) > 1:
            kept, stride = kept[::2], stride * 2
            size = sum(length for length, _ in kept)
    return [text for _, text in kept]


def prepare_tokenizer(
    tokenizer: ConfigDict, data: ConfigDict, folder: str | os.PathLike
) -> Tokenizer:
    """Give the tokenizer in `folder`; else load or train it as the config says, and save it there.

    Args:
        tokenizer: config.tokenizer: path (where to load from; "" to train), kind, vocab_size
            (sentinels included), lowercase, sentinels (how many there must be).
        data: config.data: the text to train on, at most `max_tokenizer_bytes` of it, drawn evenly
            (a character vocabulary sees all of it).
        folder: where the run keeps its tokenizer.
    """
    if holds_tokenizer(folder):
        return load_tokenizer(folder)
    if tokenizer.path:
        result = load_tokenizer(tokenizer.path)
    else:
        texts = _texts(data)
        if tokenizer.kind != "char":
            texts = _sample(texts, data.max_tokenizer_bytes)
        size = tokenizer.vocab_size - tokenizer.sentinels
        result = train_tokenizer(tokenizer.kind, texts, size, lowercase=tokenizer.lowercase)
    result = result.with_sentinels(tokenizer.sentinels)
    result.save(folder)
    return result
