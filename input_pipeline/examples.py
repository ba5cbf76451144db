"""Labelled examples as rows: their classes, what is held out, and how many are trained on."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.config_sources import eval_specs, source_specs, task_specs
from input_pipeline.errors import DataError
from input_pipeline.example_store import ExampleStore
from input_pipeline.packing import ExampleRows
from input_pipeline.records import Record
from input_pipeline.sources import SourceSpec, read_records
from input_pipeline.stores import example_store
from input_pipeline.task import Task, Templates
from input_pipeline.tokenizers import Tokenizer

_HOLDOUT_SEED = 0  # which examples are held out is the data's, not the run's


@dataclass(frozen=True)
class Source:
    """Labelled records: where they are, what is made of them, and how they become its fields."""

    spec: SourceSpec
    task: Task
    templates: Templates | None = None

    def records(self) -> list[Record]:
        """Read them, with the values that the task itself reads."""
        records = list(read_records(self.spec, self.task.fields))
        return [self.templates.fill(record) for record in records] if self.templates else records


@dataclass(frozen=True)
class Examples:
    """Examples of all sources.

    Attributes:
        specs: of the training sources.
        stores: of the training sources.
        train: rows of each training source.
        evaluation: (spec, rows) of what is evaluated; `ExampleRows.first_record` counts on from
            one to the next.
        sources: of evaluation, in the same order.
        labels: names of the classes.
    """

    specs: list[SourceSpec]
    stores: list[ExampleStore]
    train: list[ExampleRows]
    evaluation: list[tuple[SourceSpec, ExampleRows]]
    sources: list[Source]
    labels: tuple[str, ...]


def prepare_examples(
    data: ConfigDict, task: Task, tokenizer: Tokenizer, cache_dir: Path, seed: int, pairs: bool
) -> Examples:
    """Give the examples of ``config.data.source``, or of ``config.data.tasks``.

    Args:
        data: config.data.
        task: what the objective makes of records; of `pairs`, its fields are two texts.
        tokenizer: the run's.
        cache_dir: where stores are kept.
        seed: of the choice of ``config.data.budget`` examples.
        pairs: they are of ``config.data.tasks``.

    Raises:
        DataError: of reading; labels of evaluation that training does not have; nothing to train
            or evaluate on.
    """
    train, held_out = _pairs(data, task) if pairs else _sources(data, task)
    labels = _label_names(data, train)
    store = lambda source: example_store(  # noqa: E731
        source.spec, tokenizer, cache_dir, source.task, labels
    )
    stores, rows = [store(source) for source in train], []
    evaluation: list[tuple[Source, ExampleRows]] = []
    for source, own in zip(train, stores, strict=True):
        kept, held = divide(own, source.spec, 0.0 if held_out else data.holdout)
        rows.append(kept)
        if len(held):
            evaluation.append((source, held))
    for source in held_out:
        own = store(source)
        evaluation.append((source, ExampleRows(own, np.arange(len(own)))))
    if data.budget:
        rows = within_budget(rows, data.budget, seed)
    sources, first = [source for source, _ in evaluation], 0
    numbered = []
    for source, held in evaluation:
        numbered.append((source.spec, dataclasses.replace(held, first_record=first)))
        first += held.store.meta["records"]
    return Examples([s.spec for s in train], stores, rows, numbered, sources, labels)


def _sources(data: ConfigDict, task: Task) -> tuple[list[Source], list[Source]]:
    """Sources of training and of evaluation; none of the latter where some is held out instead."""
    train = source_specs(data, data.source, data.split)
    return [Source(s, task) for s in train], [Source(s, task) for s in eval_specs(data)]


def _pairs(data: ConfigDict, task: Task) -> tuple[list[Source], list[Source]]:
    """The same of text-to-text tasks."""
    if not data.tasks:
        raise DataError(
            "no text-to-text task: set --config.data.tasks to (source, input, target) triples such"
            " as (('train.tsv', 'sst2 sentence: {sentence}', '{label}'),)"
        )
    if data.eval_source or (data.eval_split and not data.eval_tasks):
        raise DataError(
            "text-to-text tasks are evaluated on --config.data.eval_tasks, not on eval_source or"
            " eval_split alone; set it, or leave these empty to hold out some of each task"
        )
    train = task_specs(data, data.tasks, data.split)
    held_out = task_specs(data, data.eval_tasks, data.eval_split or data.split)
    of = lambda specs: [Source(spec, texts.around(task), texts) for spec, texts in specs]  # noqa: E731
    return of(train), of(held_out)


def _label_names(data: ConfigDict, sources: Sequence[Source]) -> tuple[str, ...]:
    """The config's labels; else the training split's, numbers by value, names by alphabet."""
    if data.labels:
        return tuple(str(name) for name in data.labels)
    found = {
        label
        for source in sources
        for record in (read_records(source.spec, source.task.fields) if source.task.labels else ())
        for label in source.task.labels(record)
    }
    numeric = all(label.isdecimal() for label in found)
    # "1" and "01" are two names of one value.
    return tuple(sorted(found, key=lambda name: (int(name), name) if numeric else name))


def divide(
    store: ExampleStore, spec: SourceSpec, holdout: float
) -> tuple[ExampleRows, ExampleRows]:
    """Give the rows for training and those held out; all rows of a record go the same way.

    Files are often sorted by label, so the hold-out is drawn, and drawn alike in every run.
    """
    records = np.unique(store.records)
    order = np.random.default_rng(_HOLDOUT_SEED).permutation(len(records))
    held = round(len(records) * holdout)
    if held == len(records):
        raise DataError(
            f"--config.data.holdout={holdout} leaves no example of '{spec.spec}' to train"
            " on; lower it"
        )
    chosen = np.isin(store.records, records[order[:held]])
    return ExampleRows(store, np.flatnonzero(~chosen)), ExampleRows(store, np.flatnonzero(chosen))


def within_budget(train: Sequence[ExampleRows], budget: int, seed: int) -> list[ExampleRows]:
    """Draw `budget` records from all sources; with one seed, a smaller budget's are among them."""
    records = [np.unique(rows.store.records[rows.indices]) for rows in train]
    ends = np.cumsum([len(some) for some in records])
    if not 0 < budget <= ends[-1]:
        raise DataError(
            f"--config.data.budget={budget} must lie between 1 and the {ends[-1]} labelled examples"
            " for training; 0 takes all"
        )
    chosen = np.sort(np.random.default_rng([seed]).permutation(ends[-1])[:budget])
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    starts = ends - [len(some) for some in records]
    found = []
    for rows, some, part, start in zip(train, records, parts, starts, strict=True):
        kept = np.isin(rows.store.records[rows.indices], some[part - start])
        found.append(dataclasses.replace(rows, indices=rows.indices[kept]))
    return found
