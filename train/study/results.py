"""What is kept of the runs of a study: results.jsonl, and what each run's folder holds.

One JSON object a line and run: its place in the study (`role`, `arm`, `budget`, `seed`,
`config_hash`), `status` ("done" or "failed"), and what came of it (`value` of the study's `metric`,
`eval`, `steps`, `tokens`, `seconds`, `flops`, `correct`) or the `error`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train import workdir
from train.errors import UserError

Record = dict[str, Any]


def config_hash(*parts: ConfigDict | str) -> str:
    """Sixteen hex digits of the SHA-256 of what decides a run's results.

    Keys that change nothing in what is computed, or say where things lie, do not count.
    """
    plain = [part if isinstance(part, str) else _counting(part) for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _counting(config: ConfigDict) -> dict[str, Any]:
    flat = workdir.flatten(config.to_dict())
    free = (*workdir.FREE, "data.cache_dir", "data.data_dir")
    return {key: value for key, value in flat.items() if not key.startswith(free)}


def read(path: Path) -> list[Record]:
    """The records of a results.jsonl, in order; none if there is no such file."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number} is not JSON: remove that line, and its run is done again."
            ) from error
    return records


def append(path: Path, record: Record) -> None:
    """Adds one record: the file always holds whole lines, whenever the process is killed."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    line = json.dumps(record, separators=(",", ":"))
    workdir.write_text(path, before + line + "\n")


def latest(records: list[Record]) -> dict[str, Record]:
    """The last record of each config hash: an attempt that follows a failed one replaces it."""
    return {record["config_hash"]: record for record in records}


def read_correct(folder: Path) -> list[int] | None:
    """Which evaluation examples a run got right, 0/1 in the order of the split; None if not kept.

    Read from `predictions.npz` with the array `correct`, or `predictions` and `labels`.
    """
    path = folder / "predictions.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        if "correct" in arrays:
            correct = arrays["correct"]
        else:
            correct = arrays["predictions"] == arrays["labels"]
        return correct.astype(int).tolist()


def read_curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric from a run's metrics.jsonl; empty if it is not there.

    After a resumption a step may stand there twice: the later line counts.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return [], []
    points = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if name in row:
            points[row["step"]] = row[name]
    steps = sorted(points)
    return steps, [points[step] for step in steps]
