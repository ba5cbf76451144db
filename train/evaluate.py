"""Evaluation on a held-out split: exact means over all its rows."""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from train import metrics
from train.mesh import to_devices
from train.program import Program

Batches = Callable[[], Iterable[dict[str, np.ndarray]]]


def evaluate(
    program: Program, params: Any, splits: dict[str, Batches], rows: int
) -> dict[str, float]:
    """Exact means over each split, as ``{split/name: value}`` ("eval/loss", ...).

    A model with memory begins each split with an empty one and carries it through the batches, of
    `rows` rows: the training's own memory has no part in it.
    """
    flat = {}
    for name, batches in splits.items():
        carry, found = program.carry(rows), []
        for batch in batches():
            values, carry = program.eval_step(params, to_devices(batch, program.mesh), carry)
            found.append(values)
        flat |= metrics.means(metrics.add(found), name, program.objective.losses)
    return flat


def save_predictions(program: Program, params: Any, batches: Batches, path: pathlib.Path) -> None:
    """Writes predictions, labels and `correct` (0/1), example by example, as one .npz file."""
    rows: list[dict[str, Any]] = []
    for batch in batches():
        rows.append(jax.device_get(program.predict(params, to_devices(batch, program.mesh))))
    arrays = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    real = arrays.pop("weights") > 0
    arrays = {key: value[real] for key, value in arrays.items()}
    np.savez(path, correct=arrays["predictions"] == arrays["labels"], **arrays)
