"""What is kept of the runs of a study: a record in each run's folder, and results.jsonl of all.

A record is one JSON object:
  key, stage, family, arm, budget, seed, folder     its place in the study (train/study/plan.py)
  status                  "done" or "failed", then with the `error`
  metric, value           of the last stage: the study's metric, at the last step
  eval                    all metrics of the last evaluation
  correct                 of the last stage: "1" or "0" for each evaluated example, in order
  majority                the share of the evaluated examples that have the most frequent label
  steps, tokens, flops, num_params, num_trained, peak_bytes
  seconds, compile_seconds, effects_seconds, wall_seconds, started, finished
  forgetting              {"before", "after"}: loss of the first stage on its held-out text
  scores                  [{task, metric, unit, before, after, difference}]: bias and the like
  sources                 name and size of each file that was trained or evaluated on; of a state
                          from elsewhere (init_from) the hash of its checkpoint's manifest
  lineage                 revision, hashes, seed, device, versions, command
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.files import find_files
from train import manifest, workdir
from train.checkpoint import best_folder
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


RECORD = "record.json"


def load(folder: Path) -> Record | None:
    """The record in a run's folder; None if the run has not ended."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: remove it, and its run is done again.") from error


def save(folder: Path, record: Record) -> None:
    """Keeps a run's record, whole or not at all."""
    workdir.write_text(folder / RECORD, json.dumps(record, indent=1))


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
                f"{path}, line {number} is not JSON: remove the file; it is written again from the "
                "records of the runs."
            ) from error
    return records


def write(path: Path, records: list[Record]) -> None:
    """Writes results.jsonl, whole or not at all."""
    lines = (json.dumps(record, separators=(",", ":")) for record in records)
    workdir.write_text(path, "".join(line + "\n" for line in lines))


def read_correct(folder: Path) -> dict[str, Any]:
    """`correct` and `majority` of a run that predicts classes; {} for others."""
    path = folder / "predictions.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        correct, labels = arrays["correct"], arrays["labels"]
    counts = np.unique(labels, return_counts=True)[1]
    return {
        "correct": "".join(map(str, correct.astype(int))),
        "majority": float(counts.max() / len(labels)),
    }


def read_curve(folder: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric from a run's metrics.jsonl; empty if it is not there.

    After a resumption a step may stand there twice: the later line counts. Where the metric was
    undefined (null), there is no point.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return [], []
    points = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get(name) is not None:
            points[row["step"]] = row[name]
    steps = sorted(points)
    return steps, [points[step] for step in steps]


def lineage(folder: Path) -> Record:
    """What the run's figures depend on, from its lineage.json."""
    everything = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    return {k: v for k, v in everything.items() if k not in ("summary", "labels")}


def sources(config: ConfigDict, before: bool) -> list[list[Any]]:
    """What a run reads that its config only names.

    Args:
      config: of the run.
      before: it begins from another run of the study, which has a record of its own.

    Returns:
      Name and size of each file of its data (TFDS tells contents apart by its names); of a state
      from elsewhere its folder's name and the hash of its checkpoint's manifest.
    """
    data = config.data
    tasks = [task[0] for task in (*data.tasks, *data.eval_tasks)]
    names = [*data.source.split(","), *data.eval_source.split(","), *tasks]
    files = (n.strip() for n in names if n.strip() and not n.strip().startswith("tfds:"))
    found = [[Path(f.path).name, f.identity()[1]] for name in files for f in find_files(name)]
    if config.init_from and not before:
        found.append([Path(config.init_from).name, state_hash(config.init_from)])
    return found


@functools.lru_cache  # verifying a state reads all of it
def state_hash(folder: str) -> str:
    """Sixteen hex digits for the state that `init_from` takes from a run."""
    described = manifest.path_of(best_folder(Path(folder))).read_bytes()
    return hashlib.sha256(described).hexdigest()[:16]


def measured(record: Record, metric: str) -> Record:
    """A record with the metric and its value, where it is a last stage's that is done.

    A run that leaves the metric undefined (as Matthews' correlation where it predicts one class)
    counts as failed.

    Raises:
      UserError: the task measures something else.
    """
    if record["status"] != "done" or not record["arm"]:
        return record
    if metric not in record["eval"]:
        known = ", ".join(sorted(record["eval"]))
        raise UserError(f"config.metric is {metric!r}, but the task measures {known}.")
    value = record["eval"][metric]
    if value is None:
        error = f"{metric} is not defined for what the run predicts."
        return record | {"status": "failed", "error": error}
    return record | {"metric": metric, "value": value}
