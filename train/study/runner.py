"""Runs what is missing of a study, one run after the other, and records each in results.jsonl."""

import json
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console

from train.errors import USER_ERRORS, Diverged, UserError
from train.study import plan, results

# train.loop.run, or what stands in for it: (config, workdir, force=...) -> its dict of results.
RunFunction = Callable[..., dict]


def run_study(
    study: ConfigDict, workdir: Path, run: RunFunction, console: Console
) -> list[results.Record]:
    """Does the missing runs and returns one record per run of the study, pre-training first.

    A fine-tuning run that diverges or breaks is recorded and told, and the study goes on; the same
    command again tries it again. What stops the study: a user's error, which every run would meet;
    any failure of the pre-training; a signal (KeyboardInterrupt).
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
    taken: list[float] = []
    for index, item in enumerate(missing):
        place, to_go = total - len(missing) + index + 1, time_to_go(taken, len(missing) - index)
        console.print(f"[bold]\\[{place}/{total}] {item.title}[/]{to_go}", highlight=False)
        record = attempt(item, study.metric, run)
        results.append(path, record)
        tell(record, console)
        if item.role == "finetune":
            taken.append(record["wall_seconds"])
    latest = results.latest(results.read(path))
    return [latest[item.config_hash] for item in [base, *runs]]


def time_to_go(taken: list[float], missing: int) -> str:
    """For the line before a run, from the seconds of this session's runs; "" before the first."""
    if not taken:
        return ""
    minutes, seconds = divmod(round(sum(taken) / len(taken) * missing), 60)
    return f"  about {minutes}:{seconds:02} to go"


def attempt(item: plan.Run, metric: str, run: RunFunction) -> results.Record:
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
    }
    try:
        # The folder's name holds the config's hash: what differs there can only be a path.
        outcome = run(item.config, str(item.folder), force=True)
        if outcome["stopped"]:
            raise KeyboardInterrupt
        record |= outcome_fields(item, metric, outcome)
    except Exception as error:
        diverged = isinstance(error, Diverged)
        if item.role == "pretrain" or (isinstance(error, USER_ERRORS) and not diverged):
            raise
        if not diverged:  # a bug: its traceback is wanted
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
        "lineage": lineage(item.folder),
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


def lineage(folder: Path) -> dict:
    """What the run's figures depend on, from its lineage.json."""
    everything = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    return {k: v for k, v in everything.items() if k not in ("summary", "labels")}
