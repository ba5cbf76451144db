"""Runs what is missing of a study, one run after the other, and records each in results.jsonl."""

import platform
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from train.errors import USER_ERRORS, UserError
from train.study import plan, results

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")

# (config, workdir, progress=...) -> {"step", "seconds", "flops", "tokens", "eval"}: train.loop.run
RunFunction = Callable[..., dict]


def run_study(
    study: ConfigDict, workdir: Path, run: RunFunction, console: Console
) -> list[results.Record]:
    """Does the missing runs and returns one record per run of the study, pre-training first.

    A fine-tuning run that fails is recorded and told, and the study goes on; the same command
    again tries it again. A user's error before anything has succeeded stops the study: it would
    stop every run. So does any failure of the pre-training.
    """
    base, runs = plan.make(study, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "results.jsonl"
    done = {k for k, r in results.latest(results.read(path)).items() if r["status"] == "done"}
    missing = [item for item in runs if item.config_hash not in done]
    if missing and not (base.config_hash in done and base.folder.exists()):
        missing = [base, *missing]
    total = len(runs) + 1
    if len(missing) < total:
        console.print(f"{total - len(missing)} of {total} runs are already in {path}")
    clock = Clock(sum(item.role == "finetune" for item in missing))
    for number, item in enumerate(missing, total - len(missing) + 1):
        console.print(f"[bold]\\[{number}/{total}] {item.title}[/]{clock.remaining()}")
        record = attempt(item, study.metric, run, stop_on_user_error=not done)
        results.append(path, record)
        tell(record, console)
        if record["status"] == "done":
            done.add(item.config_hash)
        clock.finished(record)
    latest = results.latest(results.read(path))
    return [latest[item.config_hash] for item in [base, *runs]]


class Clock:
    """Guesses the time to go from the fine-tuning runs of this session."""

    def __init__(self, missing: int):
        self.missing, self.count, self.start = missing, 0, None

    def finished(self, record: results.Record) -> None:
        """Counts a run that has ended; pre-training only starts the clock."""
        if self.start is None or record["role"] == "pretrain":
            self.start = time.monotonic() - record["wall_seconds"] * (record["role"] != "pretrain")
        self.count += record["role"] == "finetune"

    def remaining(self) -> str:
        """For the line before a run: "" until one fine-tuning run has ended."""
        if not self.count:
            return ""
        seconds = (time.monotonic() - self.start) / self.count * (self.missing - self.count)
        return f"  about {seconds // 60:.0f}:{seconds % 60:02.0f} to go"


def attempt(
    item: plan.Run, metric: str, run: RunFunction, *, stop_on_user_error: bool
) -> results.Record:
    """One run and its record, of success or of failure."""
    start = time.monotonic()
    record = {
        "role": item.role,
        "arm": item.arm,
        "budget": item.budget,
        "seed": item.seed,
        "config_hash": item.config_hash,
        "workdir": item.folder.name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
    }
    try:
        outcome = run(item.config, str(item.folder), progress=True)
        record |= outcome_fields(item, metric, outcome)
    except Exception as error:
        if item.role == "pretrain" or (stop_on_user_error and isinstance(error, USER_ERRORS)):
            raise
        traceback.print_exc(file=sys.stderr)
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    return record | {"wall_seconds": time.monotonic() - start}


def outcome_fields(item: plan.Run, metric: str, outcome: dict) -> results.Record:
    """What a record keeps of a finished run; the metric only where it is the task's."""
    fields = {
        "status": "done",
        "steps": int(outcome["step"]),
        "tokens": int(outcome["tokens"]),
        "seconds": float(outcome["seconds"]),
        "flops": float(outcome["flops"]),
        "eval": {name: float(value) for name, value in outcome["eval"].items()},
    }
    if item.role == "finetune":
        if metric not in fields["eval"]:
            known = ", ".join(sorted(fields["eval"]))
            raise UserError(f"config.metric is {metric!r}, but the task measures {known}.")
        fields["metric"] = metric
        fields["value"] = fields["eval"][metric]
        fields["correct"] = results.read_correct(item.folder)
    return fields


def tell(record: results.Record, console: Console) -> None:
    """One line on the run that has just ended."""
    if record["status"] == "failed":
        console.print(f"      failed: {record['error']}", style="red", markup=False)
    elif record["role"] == "finetune":
        console.print(f"      {record['metric']} {record['value']:.4f}, {record['seconds']:.1f} s")


def environment() -> results.Record:
    """The device and the versions that a run used."""
    device = jax.devices()[0]
    return {
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }
