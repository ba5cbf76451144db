"""The report of a study: tables for the terminal, report.md, plots, and report.html.

The page is one file that loads nothing: its styles, scripts and data (the records, but for which
examples were right) are in it. Its tables are plain HTML; a script draws the plots and sorts.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
from ml_collections import ConfigDict
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from train.study import captions, figures, plan, plots, provenance, tables, units
from train.study.plan import Run, budget_name
from train.study.results import Record
from train.study.summary import Comparison, Summary
from train.study.tables import Row, Table
from train.study.wording import clock, number
from train.workdir import write_text

FEW = 8  # verdicts that need no filter
MANY = 24  # rows from which on a table scrolls by itself
TERMINAL_LACKS = ("trained", "tokens", "steps", "time before", ", $")  # columns of the costs
EVERYTHING = 10**12  # labels by which "all" is sorted
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("train.study", "templates"),
    autoescape=jinja2.select_autoescape(["html"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
TEMPLATES.filters["zip"] = lambda a, b: list(zip(a, b, strict=True))


def write(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record],
    workdir: Path,
) -> None:  # fmt: skip
    """Writes report.md, report.html and plots/ into the study's folder."""
    drawn = figures.make(study, summary, runs, records)
    content = contents(study, summary, runs, records) | {"figures": {f["name"]: f for f in drawn}}
    labels = [study.arm[arm].label for arm in study.arms]
    plots.write(drawn, labels, workdir / "plots")
    markdown = TEMPLATES.get_template("report.md").render(content, cell=markdown_cell)
    write_text(workdir / "report.md", re.sub(r"\n{3,}", "\n\n", markdown))
    data = page_data(study, summary, runs, records, drawn)
    page = TEMPLATES.get_template("report.html").render(
        content, data=data, FEW=FEW, MANY=MANY, colours=len(plots.COLOURS)
    )
    write_text(workdir / "report.html", page)


def contents(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record]
) -> dict[str, Any]:
    """What both reports say."""
    maker = tables.Maker(study, summary)
    done = {r["key"] for r in records if r["status"] == "done"}
    return {
        "title": study.title,
        "opening": captions.opening(study, summary),
        "outcome": captions.outcome(summary),
        "verdicts": verdicts(study, summary),
        "source": study.published.source,
        "caption": captions.caption(study, summary, runs),
        "warning": captions.warning(study, summary, runs),
        "captions": captions,
        "dollars": captions.dollars(study),
        "published": maker.published(),
        "results": maker.results(),
        "differences": maker.differences(),
        "reaches": maker.reaches([run for run in runs if run.key in done]),
        "costs": maker.costs(runs, records),
        "forgetting": maker.forgetting(records),
        "scores": maker.scores(records),
        "runs": run_rows(study, summary, runs, records),
        "metric": summary.metric.removeprefix("eval/"),
        "surroundings": provenance.surroundings(records),
        "lineage": provenance.runs_table(study, runs, records),
        "about": provenance.study_rows(study, records),
        "failed": failures(study, runs, summary),
        "families": list(study.families),
        "budgets": list(study.budgets),
        "labels": [budget_name(budget) for budget in study.budgets],
        "arms": {arm: study.arm[arm].label for arm in study.arms},
    }


def verdicts(study: ConfigDict, summary: Summary) -> list[tuple[str, list[Comparison]]]:
    """Comparisons by family, those that are resolved first."""
    return [
        (
            family,
            sorted(
                (c for c in summary.comparisons if c.family == family), key=lambda c: not c.resolved
            ),
        )
        for family in study.families
    ]


def failures(study: ConfigDict, runs: Sequence[Run], summary: Summary) -> list[tuple[str, str]]:
    """Title and error of each failed run."""
    titles = {run.key: plan.title(study, run) for run in runs}
    return [(titles[r["key"]], r["error"]) for r in summary.failed]


def run_rows(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record]
) -> list[dict[str, Any]]:
    """What the table of all runs shows of each: texts, and the numbers that it is sorted by."""
    by_key = {run.key: run for run in runs}
    rows = []
    for index, record in enumerate(records):
        run, done = by_key[record["key"]], record["status"] == "done"
        pair = record.get("forgetting") if done else None
        change = pair["after"] - pair["before"] if pair else None
        value = record.get("value") if done else None
        keys = ("steps", "flops", "peak_bytes")
        numbers = {key: record[key] if done else "" for key in keys}
        rows.append(
            {
                "index": index,
                "name": plan.kind(study, run),
                "title": plan.title(study, run),
                "family": run.family,
                "arm": run.arm,
                "labels": budget_name(run.budget) if run.last else "",
                "budget": run.budget or (EVERYTHING if run.last else -1),
                "seed": run.seed,
                "status": record["status"],
                "error": record.get("error", ""),
                "value": value,
                "shown": "" if value is None else number(value, summary.scale),
                "steps": f"{numbers['steps']:,}" if done else "",
                "flops": units.si(numbers["flops"]) if done else "",
                "memory": units.memory(numbers["peak_bytes"]) if done else "",
                "seconds": record["seconds"] if done else record["wall_seconds"],
                "time": clock(record["seconds"] if done else record["wall_seconds"]),
                "change": change,
                "forgotten": "" if change is None else f"{change:+z.3f}",
                "key": record["key"],
                "numbers": numbers,
            }
        )
    return rows


def page_data(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record],
    drawn: Sequence[figures.Figure],
) -> dict[str, Any]:  # fmt: skip
    """What the page's script reads."""
    titles = {run.key: plan.title(study, run) for run in runs}
    return {
        "metric": summary.metric,
        "scale": summary.scale,
        "arms": [study.arm[arm].label for arm in study.arms],
        "arm_names": list(study.arms),
        "titles": [titles[r["key"]] for r in records],
        "records": [finite({k: v for k, v in r.items() if k != "correct"}) for r in records],
        "figures": list(drawn),
    }


def finite(value: Any) -> Any:
    """A record with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown_cell(text: str) -> str:
    """Text that stays in its cell (or line) and is no markup."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`")


def show(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record],
    workdir: Path, console: Console,
) -> None:  # fmt: skip
    """Prints results, costs, verdicts and failed runs, and where the page is."""
    maker = tables.Maker(study, summary)
    console.print()
    console.print(as_rich(study.title, maker.results()))
    notes = (
        captions.caption(study, summary, runs),
        captions.warning(study, summary, runs),
        captions.DEGENERATE,
    )
    console.print(*notes, "", style="dim", sep="\n", markup=False, highlight=False)
    console.print(as_rich("Costs", narrow(maker.costs(runs, records), TERMINAL_LACKS)))
    console.print(captions.RESOURCES, "", style="dim", sep="\n", markup=False, highlight=False)
    console.print(captions.outcome(summary), markup=False, highlight=False)
    for _, comparisons in verdicts(study, summary):
        for c in comparisons:
            order = f" (expected ordering: {c.ordering})" if c.ordering else ""
            style = "bold" if c.resolved else None
            console.print(c.verdict + order, style=style, markup=False, highlight=False)
    for title, error in failures(study, runs, summary):
        console.print(f"failed: {title}: {error}", style="red", markup=False, highlight=False)
    console.print(f"\n{workdir / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def narrow(table: Table, left_out: Sequence[str]) -> Table:
    """A table without some columns."""
    kept = [i for i, name in enumerate(table.header) if not name.endswith(tuple(left_out))]
    rows = [replace(row, cells=[row.cells[i] for i in kept]) for row in table.rows]
    return replace(table, header=tuple(table.header[i] for i in kept), rows=rows)


def as_rich(title: str, table: Table) -> RichTable:
    """A table for the terminal, with a rule where the family or the labels change."""
    rich = RichTable(title=escaped(title), title_justify="left", box=box.SIMPLE_HEAD)
    for index, name in enumerate(table.header):
        named = index < table.names  # names are not broken in two
        justify = "left" if named else "right"
        rich.add_column(escaped(name), justify=justify, overflow="fold", no_wrap=named)
    for row, following in zip(table.rows, [*table.rows[1:], Row([])], strict=True):
        ends = (row.family, row.labels) != (following.family, following.labels)
        rich.add_row(*map(escaped, row.cells), end_section=ends)
    return rich


def escaped(text: str) -> str:
    """A bracket of an interval is not rich's markup."""
    return text.replace("[", "\\[")
