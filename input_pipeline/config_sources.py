"""What the config names: its sources, and its tokenizer (kept, loaded or trained)."""

import itertools
import os
from collections.abc import Iterator

from ml_collections import ConfigDict

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec, read_documents
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
            label_field=data.label_field,
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
        tokenizer: config.tokenizer: path (where to load from; "" to train), kind, vocab_size,
            lowercase.
        data: config.data: the text to train on, at most `max_tokenizer_bytes` of it, drawn evenly
            (a character vocabulary sees all of it).
        folder: where the run keeps its tokenizer.
    """
    if holds_tokenizer(folder):
        return load_tokenizer(folder)
    if tokenizer.path:
        result = load_tokenizer(tokenizer.path)
    else:
        documents = itertools.chain.from_iterable(
            read_documents(spec) for spec in source_specs(data, data.source, data.split)
        )
        texts = (document.text for document in documents)
        if tokenizer.kind != "char":
            texts = _sample(texts, data.max_tokenizer_bytes)
        result = train_tokenizer(
            tokenizer.kind, texts, tokenizer.vocab_size, lowercase=tokenizer.lowercase
        )
    result.save(folder)
    return result
