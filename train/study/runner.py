"""Does what is missing of a study; several processes may do so at once, through its folders.

Each run's folder holds its record once it has ended, and a lock while a process works on it (the
lock ends with the process). So whoever comes, in whatever order, takes the next run that nobody has
done or is doing; a study that was killed goes on with what is missing.
"""

import math
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ml_collections import ConfigDict

from train.compiling import compile_seconds
from train.errors import USER_ERRORS, Busy, Diverged, UserError
from train.interrupts import interruptible
from train.study import effects, results
from train.study.plan import Run
from train.study.results import Record
from train.workdir import locked

CLAIM = ".claim"
WAIT = 1.0  # seconds between looks at what other processes do
# train.loop.run, or what stands in for it: (config, workdir, progress=, force=) -> its results.
RunFunction = Callable[..., dict]


class Watcher:
    """Is told what happens; does nothing."""

    def begins(self, run: Run) -> None:
        """This process begins a run."""

    def ended(self, run: Run, record: Record) -> None:
        """A run has its record; it may be another process's, or an earlier session's."""

    def waits(self) -> None:
        """All that is left is being done by other processes."""


def run_study(
    study: ConfigDict, workdir: Path, runs: list[Run], run: RunFunction,
    watcher: Watcher | None = None,
) -> list[Record]:  # fmt: skip
    """Does the missing ones of `runs` and returns the record of each, in the plan's order.

    A run that diverges or breaks is recorded and told, and the study goes on without those that
    build on it; the same command again tries it again. What stops the study: a user's error, which
    every run would meet; a signal (KeyboardInterrupt).
    """
    watcher = watcher or Watcher()
    effects.check(tuple(study.effects.score), study.effects.max_items)
    found = done(study, runs, workdir)
    left = [run for run in runs if wanted(run, runs, found)]
    for item in runs:
        if item not in left:
            watcher.ended(item, found[item.key])
    began = now()
    while left:
        taken = next_run(study, left, found, began, run, watcher)
        if taken is None:
            watcher.waits()
            time.sleep(WAIT)
            continue
        left.remove(taken)
        keep(workdir, runs, found)
    keep(workdir, runs, found)
    return [found[item.key] for item in runs if item.key in found]


def done(study: ConfigDict, runs: list[Run], workdir: Path) -> dict[str, Record]:
    """The records of the runs that are done, by key."""
    before = {r["key"]: r for r in results.read(workdir / "results.jsonl")}
    found = {run.key: record for run in runs if (record := known(run, before))}
    return {key: results.measured(record, study.metric) for key, record in found.items()}


def known(run: Run, before: dict[str, Record]) -> Record | None:
    """The record of a run that is done: its folder's, else that of an earlier results.jsonl.

    Raises:
      UserError: the files that it was trained on have changed since.
    """
    record = results.load(run.folder) or before.get(run.key)
    if not record or record["status"] != "done":
        return None
    if record["sources"] != results.sources(run.config, bool(run.before)):
        raise UserError(
            f"{run.folder} was trained, evaluated or begun on other files than are now in "
            f"{run.config.data.source} (or data.eval_source, init_from); remove that folder, or "
            "keep this study's runs elsewhere (--workdir, --config.store)."
        )
    return record | place(run)  # another study may call it otherwise


def wanted(run: Run, runs: list[Run], found: dict[str, Record]) -> bool:
    """Whether a run is missing, or a finished stage whose folder is gone is needed by one."""
    if run.key not in found:
        return True
    needed = [other for other in runs if other.needs and other.needs.key == run.key]
    return not run.folder.exists() and any(wanted(other, runs, found) for other in needed)


def keep(workdir: Path, runs: list[Run], found: dict[str, Record]) -> None:
    """Writes results.jsonl."""
    results.write(workdir / "results.jsonl", [found[r.key] for r in runs if r.key in found])


def next_run(
    study: ConfigDict, left: list[Run], found: dict[str, Record], began: str, run: RunFunction,
    watcher: Watcher,
) -> Run | None:  # fmt: skip
    """Does the first run that can be done now, or learns that another process has; None: neither.

    Args:
      study: the study.
      left: the runs without a record of this session.
      found: records by key, to which the run's is added.
      began: when the session did; a failure of before then is tried again.
      run: the training.
      watcher: is told.
    """
    waiting = {item.key for item in left}
    for item in left:
        if item.needs and item.needs.key in waiting:
            continue
        record = fresh(item, began)
        if record is None and item.needs and found[item.needs.key]["status"] == "failed":
            record = place(item) | {
                "status": "failed",
                "error": f"what it builds on failed: {item.needs.folder}",
                "wall_seconds": 0.0,
            }
        if record is None:
            try:
                with locked(item.folder, CLAIM):
                    record = fresh(item, began)  # another one may have ended it since
                    if record is None:
                        watcher.begins(item)
                        record = attempt(study, item, run)
                        results.save(item.folder, record)
            except Busy:
                continue
        found[item.key] = results.measured(record, study.metric)
        watcher.ended(item, found[item.key])
        return item
    return None


def fresh(item: Run, began: str) -> Record | None:
    """The record of a run that has ended well, or that has failed in this session."""
    record = results.load(item.folder)
    if record and (record["status"] == "done" or record["finished"] >= began):
        return record | place(item)
    return None


def now() -> str:
    """UTC; such texts sort by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def place(item: Run) -> Record:
    """What a record says of the run's place in the study."""
    return {
        "key": item.key,
        "stage": item.stage,
        "family": item.family,
        "arm": item.arm,
        "budget": item.budget,
        "seed": item.seed,
        "folder": item.folder.name,
        "before": [run.key for run in item.before],
    }


def attempt(study: ConfigDict, item: Run, run: RunFunction) -> Record:
    """One run and its record, of success or of failure."""
    start, compiled = time.monotonic(), compile_seconds()
    record = place(item) | {"started": now()}
    config = item.config.copy_and_resolve_references()
    effects_asked = study.effects.forgetting or study.effects.score
    if item.last and (effects_asked or study.keep):
        # From scratch as well, where no effects are measured: saving takes time, which is compared.
        config.checkpoint.every, config.checkpoint.keep = config.steps, 1
    try:
        with interruptible():
            # The folder's name holds the config's hash: what differs there can only be a path.
            outcome = run(config, str(item.folder), progress=False, force=True)
            if outcome["stopped"]:
                raise KeyboardInterrupt
            record |= outcome_fields(item, outcome)
            began = time.monotonic()
            record |= side_effects(study, item)
            record["effects_seconds"] = time.monotonic() - began
    except Exception as error:
        diverged = isinstance(error, Diverged)
        if isinstance(error, USER_ERRORS) and not diverged:
            raise
        if not diverged:  # a bug: its traceback is wanted
            traceback.print_exc(file=sys.stderr)
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    if item.last and not study.keep:
        shutil.rmtree(item.folder / "checkpoints", ignore_errors=True)
    return record | {
        "compile_seconds": compile_seconds() - compiled,
        "wall_seconds": time.monotonic() - start,
        "finished": now(),
    }


def outcome_fields(item: Run, outcome: dict) -> Record:
    """What a record keeps of a finished run."""
    fields: Record = {"status": "done", "steps": int(outcome["step"])}
    for name in ("tokens", "num_params", "num_trained", "peak_bytes"):
        fields[name] = int(outcome[name])
    for name in ("flops", "seconds"):
        fields[name] = float(outcome[name])
    # JSON has no NaN: an undefined metric is null.
    fields["eval"] = {
        name: float(value) if math.isfinite(value) else None
        for name, value in outcome["eval"].items()
    }
    fields["lineage"] = results.lineage(item.folder)
    fields["sources"] = results.sources(item.config, bool(item.before))
    return fields | (results.read_correct(item.folder) if item.last else {})


def side_effects(study: ConfigDict, item: Run) -> Record:
    """What the run did to its pre-training: forgetting, and scores such as bias."""
    asked, fields = study.effects, Record()
    if not item.last or not item.before:
        return fields
    if asked.forgetting:
        first = item.before[0].folder
        before, after = effects.loss_before(first), effects.loss_after(item.folder, first)
        if before is not None and after is not None:
            fields["forgetting"] = {"before": before, "after": after}
    if asked.score and (not asked.seeds or item.seed in asked.seeds):
        fields["scores"] = effects.scores(
            item.before[-1].folder, item.folder, tuple(asked.score), asked.max_items
        )
    return fields
