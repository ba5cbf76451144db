"""Labelled examples and text-to-text tasks as rows, with what is held out of them."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.config_sources import task_specs
from input_pipeline.errors import DataError
from input_pipeline.packing import ExampleRows
from input_pipeline.sources import SourceSpec
from input_pipeline.stores import pair_store
from input_pipeline.token_store import ExampleStore
from input_pipeline.tokenizers import Tokenizer

_HOLDOUT_SEED = 0  # which examples are held out is the data's, not the run's


def divide(
    store: ExampleStore, spec: SourceSpec, holdout: float
) -> tuple[ExampleRows, ExampleRows]:
    """Give the rows for training and those held out.

    Files are often sorted by label, so the hold-out is drawn, and drawn alike in every run.
    """
    order = np.random.default_rng(_HOLDOUT_SEED).permutation(len(store))
    held = round(len(store) * holdout)
    if held == len(store):
        raise DataError(
            f"--config.data.holdout={holdout} leaves no example of '{spec.spec}' to train"
            " on; lower it"
        )
    return ExampleRows(store, np.sort(order[held:])), ExampleRows(store, np.sort(order[:held]))


def prepare_tasks(
    data: ConfigDict, tokenizer: Tokenizer, cache_dir: Path
) -> tuple[list, list[ExampleStore], list[ExampleRows], list[tuple[SourceSpec, ExampleRows]]]:
    """Give specs, stores and training rows of config.data.tasks, and (spec, rows) of evaluation.

    Rows have `tokens_a`, the source text, and `tokens_b`, the target (and a `label`, always 0).

    Raises:
        DataError: no task, or one that cannot be read.
    """
    tasks = task_specs(data, data.tasks, data.split)
    if not tasks:
        raise DataError(
            "no text-to-text task: set --config.data.tasks to (source, input, target) triples such"
            " as (('train.tsv', 'sst2 sentence: {sentence}', '{label}'),)"
        )
    specs = [spec for spec, _, _ in tasks]
    stores = [pair_store(spec, tokenizer, cache_dir, *texts) for spec, *texts in tasks]
    hold_out = 0.0 if data.eval_tasks else data.holdout
    parts = [divide(store, spec, hold_out) for spec, store in zip(specs, stores, strict=True)]
    evaluation = [(spec, held) for spec, (_, held) in zip(specs, parts, strict=True) if len(held)]
    for spec, *texts in task_specs(data, data.eval_tasks, data.eval_split or data.split):
        store = pair_store(spec, tokenizer, cache_dir, *texts)
        evaluation.append((spec, ExampleRows(store, np.arange(len(store)))))
    return specs, stores, [train for train, _ in parts], evaluation
