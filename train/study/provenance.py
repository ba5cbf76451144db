"""Where the figures of a study come from: of the study, of each surrounding, of each run."""

import shlex
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from train.study import equal, resources
from train.study.plan import Run, title
from train.study.results import Record, config_hash
from train.study.tables import Row, Table
from train.study.units import si
from train.study.wording import clock

OWN = ("config_hash", "data", "tokenizer", "seed")  # of a run's lineage; the rest is surroundings
SHOWN = 12  # digits of a hash in a table; the page's data hold it whole


def surroundings(records: Sequence[Record]) -> dict[str, dict[str, str]]:
    """What runs have in common (revision, device, versions, command), under A, B, ..."""
    found: list[dict[str, str]] = []
    for record in records:
        if "lineage" in record and (here := _surrounding(record)) not in found:
            found.append(here)
    return {_letter(index): here for index, here in enumerate(found)}


def _surrounding(record: Record) -> dict[str, str]:
    return {
        name.replace("_", " "): _plain(value)
        for name, value in record["lineage"].items()
        if name not in OWN
    }


def _letter(index: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(65 + index % 26) + (str(index // 26) if index >= 26 else "")


def _plain(value: Any) -> str:
    """A value of a lineage as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return shlex.join(map(str, value))
    return str(value)


def runs_table(study: ConfigDict, runs: Sequence[Run], records: Sequence[Record]) -> Table:
    """The lineage of each run."""
    table = Table(
        ("run", "key", "config", "data", "tokenizer", "seed", "after", "in", "began", "folder"), 1
    )
    letters = {tuple(here.items()): name for name, here in surroundings(records).items()}
    names = {run.key: run for run in runs}
    for record in records:
        run, own = names[record["key"]], record.get("lineage", {})
        here = letters[tuple(_surrounding(record).items())] if own else "–"
        cells = [
            title(study, run),
            record["key"],
            *(str(own.get(name, "–"))[:SHOWN] for name in OWN[:3]),
            str(own.get("seed", record["seed"])),
            " ".join(record["before"]) or "–",
            here,
            record.get("started", "–"),
            record["folder"],
        ]
        table.rows.append(Row(cells, run.family, "", run.arm))
    return table


def study_rows(study: ConfigDict, records: Sequence[Record]) -> list[tuple[str, str]]:
    """Name and value of what is so of the whole study."""
    took = resources.total(records)
    share = took.compile_seconds / took.wall_seconds if took.wall_seconds else 0.0
    rows = [
        ("study config", config_hash(study)),
        ("equal", equal.shown(study)),
        ("runs finished", f"{took.runs:,} (shared stages among them)"),
        ("wall time", f"{clock(took.wall_seconds)}, summed over runs"),
        ("of it compiling", f"{clock(took.compile_seconds)} ({100 * share:.0f}%)"),
        ("of it forgetting and scores", clock(took.effects_seconds)),
        ("training FLOPs", si(took.flops)),
    ]
    ended = [r["finished"] for r in records if r.get("finished")]
    if ended:
        rows.append(("last run ended", max(ended)))
    return rows
