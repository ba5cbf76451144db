"""What a study shows while it runs: a table of its arms, what is being done, the time to go."""

import json
import time
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from train.study import plan
from train.study.plan import Run
from train.study.results import Record
from train.study.runner import Watcher, now
from train.study.wording import clock, number

RECENT = 32768  # bytes of metrics.jsonl that are read for the last line


class Progress(Watcher):
    """A live table where the output is a terminal, a line a run where it is not."""

    def __init__(self, study: ConfigDict, runs: list[Run], console: Console, scale: float) -> None:
        """`scale`: by which the metric is multiplied for people."""
        self._study, self._runs, self._console, self._scale = study, runs, console, scale
        self._records: dict[str, Record] = {}
        self._current: Run | None = None
        self._since = time.monotonic()
        self._began, self._session = time.monotonic(), now()
        self._worked = 0.0  # seconds of the runs that have ended in this session, here or elsewhere
        self._live = Live(
            get_renderable=self._table, console=console, refresh_per_second=1, transient=True,
            redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begins(self, run: Run) -> None:
        """Tells what is done next."""
        self._current, self._since = run, time.monotonic()
        if not self._console.is_terminal:
            place = f"[{len(self._records) + 1}/{len(self._runs)}]"
            name = plan.title(self._study, run)
            self._console.print(f"{place} {name}{self._eta()}", markup=False, highlight=False)

    def ended(self, run: Run, record: Record) -> None:
        """Counts a run; says so where this session, here or elsewhere, has done it."""
        self._records[run.key] = record
        mine = self._current is run
        if mine:
            self._current = None
        if record.get("started", "") >= self._session:
            self._worked += record["wall_seconds"]
        if record["status"] == "failed":
            text = f"{plan.title(self._study, run)} failed: {record['error']}"
            self._console.print(text, style="red", markup=False, highlight=False)
        elif mine and not self._console.is_terminal:
            self._console.print(f"      {self._outcome(record)}", markup=False, highlight=False)

    def waits(self) -> None:
        """Other processes do what is left."""
        self._current = None

    def _outcome(self, record: Record) -> str:
        took = clock(record["wall_seconds"])
        if "value" in record:
            return f"{record['metric']} {number(record['value'], self._scale)}, {took}"
        found = {k: v for k, v in record["eval"].items() if k.count("/") == 1 and v is not None}
        values = ", ".join(f"{k} {v:.4f}" for k, v in found.items())
        return f"{values}, {took}" if values else took

    def _eta(self) -> str:
        seconds = self.time_to_go()
        return f"  about {clock(seconds)} to go" if seconds is not None else ""

    def time_to_go(self) -> float | None:
        """Seconds until all is done, from what such runs have taken so far; None where none has.

        A run counts as others of its family and arm, else as others of its kind (a stage that is
        shared, or a last one). Processes that work beside this one shorten it.
        """
        known: dict[object, list[float]] = {}
        for run in self._runs:
            record = self._records.get(run.key)
            if record and record["status"] == "done":
                for kind in ((run.family, run.arm), run.last):
                    known.setdefault(kind, []).append(record["wall_seconds"])
        total = 0.0
        for run in self._runs:
            if run.key not in self._records:
                own = known.get((run.family, run.arm)) or known.get(run.last)
                if not own:
                    return None
                total += sum(own) / len(own)
        elapsed = time.monotonic() - self._began
        at_once = max(1.0, self._worked / elapsed) if self._worked else 1.0
        spent = time.monotonic() - self._since if self._current else 0.0
        return max(0.0, (total - spent) / at_once)

    def _table(self) -> RenderableType:
        study = self._study
        table = Table(title=study.title, title_justify="left")
        table.add_column("family")
        table.add_column("arm")
        for budget in study.budgets:
            table.add_column(f"{plan.budget_name(budget)} labels", justify="right")
        table.add_column("done", justify="right")
        for family in study.families:
            shared: dict[str, list[Run]] = {}
            for run in self._of(family, ""):
                shared.setdefault(plan.kind(study, run), []).append(run)
            for name, runs in shared.items():
                self._row(table, family, name, runs)
            for arm in study.arms:
                self._row(table, family, study.arm[arm].label, self._of(family, arm))
        done, eta = len(self._records), self.time_to_go()
        text = Text(f"{done} of {len(self._runs)} runs")
        if eta is not None:
            text.append(f", about {clock(eta)} to go")
        current = f"now: {self._now()}" if self._current else "waiting for other processes"
        return Group(table, text, Text(current if done < len(self._runs) else ""))

    def _of(self, family: str, arm: str) -> list[Run]:
        return [r for r in self._runs if (r.family, r.arm) == (family, arm)]

    def _row(self, table: Table, family: str, name: str, runs: list[Run]) -> None:
        if not runs:
            return
        cells = []
        for budget in self._study.budgets:
            records = [self._records.get(r.key) for r in runs if r.budget == budget]
            values = [r["value"] for r in records if r and r["status"] == "done"]
            mean = number(sum(values) / len(values), self._scale) if values else ""
            cells.append(f"{mean} ({len(values)})" if values else "")
        ended = [self._records[r.key] for r in runs if r.key in self._records]
        failed = sum(r["status"] == "failed" for r in ended)
        told = f"{len(ended)}/{len(runs)}" + (f", {failed} failed" if failed else "")
        table.add_row(family, name, *cells, told)

    def _now(self) -> str:
        run = self._current
        found = last_line(run.folder / "metrics.jsonl")
        text = f"{plan.title(self._study, run)}, {clock(time.monotonic() - self._since)}"
        if "train/loss" in found:
            text += f", step {found['step']}/{run.config.steps}, loss {found['train/loss']:.3f}"
        return text


def last_line(path: Path) -> dict:
    """The last whole line of a metrics.jsonl; {} if there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - RECENT))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
