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
) -> tuple[dict[str, float], dict[str, dict[str, np.ndarray]]]:
    """Goes once through each split.

    Returns:
      Exact means, as ``{split/name: value}`` ("eval/loss", ...); and for each split what the
      objective predicts, example by example in the split's order ({} where it predicts nothing).

    A model with memory begins each split with an empty one and carries it through the batches, of
    `rows` rows: the training's own memory has no part in it.
    """
    flat, predictions = {}, {}
    for name, batches in splits.items():
        carry, found, outputs = program.carry(rows), [], []
        for batch in batches():
            batch = to_devices(batch, program.mesh)
            values, carry, output = program.eval_step(params, batch, carry)
            found.append(values)
            outputs.append(jax.device_get(output))
        flat |= metrics.means(metrics.add(found), name, program.objective.losses)
        predictions[name] = _examples(outputs)
    return flat, predictions


def _examples(outputs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches of outputs -> arrays of all examples; rows of weight 0 are padding."""
    if not outputs[0]:
        return {}
    arrays = {key: np.concatenate([output[key] for output in outputs]) for key in outputs[0]}
    real = arrays.pop("weights") > 0
    return {key: value[real] for key, value in arrays.items()}


def save_predictions(predictions: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Writes predictions, labels and `correct` (0/1), example by example, as one .npz file."""
    np.savez(path, correct=predictions["predictions"] == predictions["labels"], **predictions)
