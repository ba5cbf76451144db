"""Metrics: (sum, weight) pairs until they are written to metrics.jsonl and TensorBoard."""

import json
import math
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

Metrics = dict[str, tuple[Any, Any]]


def add(batches: Iterable[Metrics]) -> dict[str, tuple[float, float]]:
    """Sums and weights over batches, fetched from the device together."""
    total: dict[str, tuple[float, float]] = {}
    for metrics in jax.device_get(list(batches)):
        for name, (value, weight) in metrics.items():
            old = total.get(name, (0.0, 0.0))
            total[name] = (old[0] + float(value), old[1] + float(weight))
    return total


def means(
    total: dict[str, tuple[float, float]], prefix: str, losses: Iterable[str]
) -> dict[str, float]:
    """``{prefix/name: sum / weight}``, with prefix/loss the sum of the parts of the loss.

    A mean without any weight is NaN, not 0.
    """
    flat = {n: value / weight if weight else float("nan") for n, (value, weight) in total.items()}
    flat["loss"] = sum(flat[name] for name in losses)
    return {f"{prefix}/{name}": value for name, value in flat.items()}


def shown(value: float) -> str:
    """A metric for people; one that is not defined on the data at hand is called so."""
    return "undefined" if math.isnan(value) else f"{value:.4f}"


class Writer:
    """Appends to ``metrics.jsonl`` (one JSON object a line, flushed) and to TensorBoard events."""

    def __init__(self, workdir: pathlib.Path, tensorboard: bool, main: bool) -> None:
        """Opens the files for appending; of several processes only the first one (`main`) does."""
        target = workdir / "metrics.jsonl" if main else os.devnull
        self._file = open(target, "a", encoding="utf-8")  # noqa: SIM115  closed by close()
        self._board = None
        if tensorboard:
            with warnings.catch_warnings():  # deprecations inside protobuf's generated code
                warnings.simplefilter("ignore")
                from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line: `step`, then the values by flat name. What is not finite becomes null."""
        line = {"step": step} | {k: v if np.isfinite(v) else None for k, v in values.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both."""
        self._file.close()
        if self._board:
            self._board.close()


def truncate(workdir: pathlib.Path, step: int) -> float:
    """Drops the lines after `step`: a resumed run writes them again, bit for bit.

    Returns:
      The seconds that the run took until then.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return 0.0
    kept, seconds = [], 0.0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # a line cut short by a kill
        if values["step"] <= step:
            kept.append(line + "\n")
            seconds = values.get("train/seconds", seconds)
    path.write_text("".join(kept), encoding="utf-8")
    return seconds
