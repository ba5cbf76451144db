"""The report of a study: a table for the terminal, report.md, and a self-contained report.html."""

import shlex
from pathlib import Path

import jinja2
from markupsafe import Markup
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from train.study import plan, plots
from train.study.results import Record, config_hash
from train.study.summary import ALPHA, TWO_LEVEL, Comparison, Cost, Summary, bounds, number, shown_p
from train.workdir import write_text

Rows = list[list[str]]
RESULT_HEADER = ("labels", "arm", "mean", "95% interval", "by seed", "runs")
COST_HEADER = ("", "runs", "wall time", "training FLOPs", "tokens")


def write(study: ConfigDict, summary: Summary, records: list[Record], workdir: Path) -> None:
    """Writes report.md and report.html into the study's folder."""
    base, runs = plan.make(study, workdir)
    content = {
        "title": study.title,
        "verdicts": [c.verdict for c in summary.comparisons],
        "caption": caption(study, summary),
        "warning": warning(study, summary),
        "results": {"header": RESULT_HEADER, "rows": result_rows(study, summary)},
        "differences": {
            "header": difference_header(summary),
            "rows": [difference_row(c, summary) for c in summary.comparisons],
        },
        "costs": {"header": COST_HEADER, "rows": cost_rows(summary)},
        "lineage": lineage_rows(study, records),
        "records": records,
        "run_names": {r.config_hash: r.title for r in [base, *runs]},
        "failed": [f"{r['workdir']}: {r['error']}" for r in summary.failed],
    }
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("train.study", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["clock"] = clock
    drawings = {
        "efficiency": plots.label_efficiency(summary, study.arms, study.budgets),
        "curves": plots.learning_curves(runs, summary),
        "pretraining": plots.pretraining_curve(base),
    }
    svg = {name: Markup(text) for name, text in drawings.items()}
    write_text(workdir / "report.md", templates.get_template("report.md").render(content))
    page = templates.get_template("report.html").render(content, svg=svg)
    write_text(workdir / "report.html", page)


def show(study: ConfigDict, summary: Summary, workdir: Path, console: Console) -> None:
    """Prints the tables and the verdicts."""
    console.print()
    rows = result_rows(study, summary)
    console.print(as_table(study.title, RESULT_HEADER, rows, every=len(study.arms)))
    console.print(caption(study, summary), warning(study, summary), "", style="dim", sep="\n")
    console.print(as_table("Cost", COST_HEADER, cost_rows(summary)))
    for comparison in summary.comparisons:
        console.print(comparison.verdict, style="bold", markup=False, highlight=False)
    for record in summary.failed:
        text = f"failed: {record['workdir']}: {record['error']}"
        console.print(text, style="red", markup=False)
    console.print(f"\n{workdir / 'report.html'}", markup=False, highlight=False)


def as_table(title: str, header: tuple[str, ...], rows: Rows, every: int = 0) -> Table:
    """A rich table; a rule after each `every` rows."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 or name == "arm" else "right")
    for index, row in enumerate(rows, 1):
        # A bracket of an interval is not rich's markup.
        texts = [text.replace("[", "\\[") for text in row]
        table.add_row(*texts, end_section=bool(every) and index % every == 0)
    return table


def result_rows(study: ConfigDict, summary: Summary) -> Rows:
    """One row per budget and arm."""
    scale = summary.scale
    return [
        [
            plan.budget_name(c.budget),
            plan.LABELS[c.arm],
            number(c.estimate.mean, scale),
            bounds(c.estimate, scale),
            " ".join(number(value, scale) for value in c.values.values()),
            f"{len(c.values)} of {len(study.seeds)}",
        ]
        for c in summary.cells
    ]


def difference_header(summary: Summary) -> tuple[str, ...]:
    """Column names of the comparisons."""
    return ("labels", "compared", summary.unit, "95% paired bootstrap", "95% t",
            "corrected p", "intervals overlap", "pairs")  # fmt: skip


def difference_row(comparison: Comparison, summary: Summary) -> list[str]:
    """One comparison: the difference, its intervals, and whether the arms' own ones overlap."""
    scale = summary.scale
    return [
        plan.budget_name(comparison.budget),
        " − ".join(plan.LABELS[arm] for arm in comparison.arms),
        number(comparison.difference.mean, scale),
        bounds(comparison.difference, scale),
        bounds(comparison.tested, scale),
        shown_p(comparison.p).removeprefix("p").removeprefix("="),
        "no" if comparison.separate else "yes",
        str(len(comparison.seeds)),
    ]


def cost_rows(summary: Summary) -> Rows:
    """What was spent: pre-training, each arm, and the first arm's runs with pre-training on top."""
    base = summary.pretraining
    rows = [cost_row(base.name, 1, base.seconds, base.flops, base.tokens)]
    for arm in summary.costs:
        name = f"{arm.name}: fine-tuning"
        rows.append(cost_row(f"{name}, all runs", arm.runs, arm.seconds, arm.flops, arm.tokens))
        if arm.runs:
            rows.append(cost_row(f"{name}, one run on average", 1, *one_run(arm)))
    first = summary.costs[0]
    if first.runs and first.name == plan.LABELS["pretrained"]:
        name = f"{first.name}: one run on average + pre-training"
        for how, share in ((f"shared by {first.runs}", first.runs), ("in full", 1)):
            seconds, flops, tokens = one_run(first)
            seconds, flops = seconds + base.seconds / share, flops + base.flops / share
            rows.append(cost_row(f"{name} {how}", 1, seconds, flops, tokens + base.tokens // share))
    return rows


def one_run(cost: Cost) -> tuple[float, float, int]:
    """Seconds, FLOPs and tokens of one run, on average."""
    return cost.seconds / cost.runs, cost.flops / cost.runs, cost.tokens // cost.runs


def cost_row(name: str, runs: int, seconds: float, flops: float, tokens: int) -> list[str]:
    """A row of the cost table."""
    return [name, str(runs), clock(seconds), f"{flops:.3g}", f"{tokens:,}"]


def clock(seconds: float) -> str:
    """Seconds for people: "8.2 s", "3:05", "2:10:00"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def caption(study: ConfigDict, summary: Summary) -> str:
    """What the numbers are and how the intervals were made."""
    unit = ", in per cent" if summary.scale == 100 else ""
    better = "higher" if summary.higher_is_better else "lower"
    return (
        f"{summary.metric} of the last step{unit} ({better} is better). 95% intervals: "
        f"{summary.method}, {study.resamples:,} resamples, seeds per cell: {len(study.seeds)}; "
        "differences are paired by seed: same labelled examples, order and steps for both arms. "
        f"p: {summary.test}, corrected for {len(summary.comparisons)} comparison(s) (Holm 1979); "
        f"resolved below {ALPHA}."
    )


def warning(study: ConfigDict, summary: Summary) -> str:
    """How far the intervals can be trusted."""
    seeds = len(study.seeds)
    if seeds < 2:
        return "One seed gives no interval: nothing is said about what another seed would give."
    examples = (
        "Evaluation examples are resampled too. "
        if summary.method == TWO_LEVEL
        else "Evaluation examples are not resampled: the intervals hold for these examples only. "
    )
    if seeds >= 10:
        return examples.strip()
    return examples + (
        f"With {seeds} seeds a percentile bootstrap over seeds is narrow (resampling seeds alone, "
        "it covers about 75% of the time with 3 and 83% with 5, not 95%): compare the t "
        "interval of the difference. There is one pre-training run: the intervals do not hold its "
        "own variation."
    )


def lineage_rows(study: ConfigDict, records: list[Record]) -> list[tuple[str, str]]:
    """Name and value of what the figures depend on, from the pre-training's lineage."""
    base = next(r for r in records if r["role"] == "pretrain")
    rows = [("study config", config_hash(study))]
    for name, value in base["lineage"].items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = shlex.join(map(str, value))
        rows.append((name.replace("_", " "), str(value)))
    return rows
