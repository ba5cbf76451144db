"""The tables of a study's report as plain text: one source for the terminal, Markdown and HTML.

A study of one family has no column for it. A row says which part of the study it is about, so that
a page can filter it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ml_collections import ConfigDict

from train.study import resources
from train.study.plan import Run, budget_name
from train.study.results import Record
from train.study.summary import Cell, Comparison, Summary
from train.study.units import NONE, interval, memory, money, score_text, si
from train.study.wording import bounds, clock, number, shown_p, signed


@dataclass(frozen=True)
class Row:
    """Cells, and what they are about.

    Attributes:
      cells: texts.
      family: that the row is about; likewise `labels` and `arm`. "" where it is about none.
      bold: it is what the table is read for.
      bar: low end, middle and high end of an interval to be drawn, as shares of the room.
    """

    cells: list[str]
    family: str = ""
    labels: str = ""
    arm: str = ""
    bold: bool = False
    bar: tuple[float, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table whose first `names` columns are words, the others figures.

    Attributes:
      zero: where zero is among the rows' bars.
    """

    header: tuple[str, ...]
    names: int
    rows: list[Row] = field(default_factory=list)
    zero: float = 0.0

    @property
    def swatch(self) -> int:
        """The column that names the arm, which a page marks with the arm's colour; -1: none."""
        return next((i for i, name in enumerate(self.header) if name.startswith("arm")), -1)


class Maker:
    """Makes the tables of one study: knows whether families need a column.

    Attributes:
      study: its config.
      many: it has more than one family.
    """

    def __init__(self, study: ConfigDict, summary: Summary):
        self.study, self.summary = study, summary
        self.many = len(study.families) > 1

    def table(self, *header: str, names: int = 2) -> Table:
        """An empty table that begins with the family, if there are several."""
        family = ("family",) if self.many else ()
        return Table((*family, *header), names + self.many)

    def row(self, family: str, budget: int | None, arm: str, *cells: str) -> Row:
        """A row of it, which begins with the labels."""
        labels = NONE if budget is None else budget_name(budget)
        return Row([*([family] if self.many else []), labels, *cells], family, labels, arm)

    def label(self, arm: str) -> str:
        """The arm's name for people."""
        return self.study.arm[arm].label

    def results(self) -> Table:
        """A row for each family, budget and arm."""
        table = self.table(
            "labels", "arm", "mean", "95% interval", "by seed", "runs", "failed or degenerate"
        )
        scale, seeds = self.summary.scale, len(self.study.seeds)
        for c in self.summary.cells:
            values = " ".join(number(value, scale) for value in c.values.values())
            bad = len(c.failed) + len(c.degenerate)
            figures = number(c.estimate.mean, scale), bounds(c.estimate, scale), values
            runs = f"{len(c.values)} of {seeds}", f"{bad} of {seeds}" if bad else "0"
            table.rows.append(
                self.row(c.family, c.budget, c.arm, self.label(c.arm), *figures, *runs)
            )
        return table

    def differences(self) -> Table:
        """A row for each comparison: the difference and its intervals."""
        table = self.table(
            "labels", "compared", self.summary.unit, "95% paired bootstrap", "95% t",
            "corrected p", "intervals overlap", "pairs",
        )  # fmt: skip
        scale, bars = self.summary.scale, self.bars()
        table = replace(table, zero=bars[1])
        for c, bar in zip(self.summary.comparisons, bars[0], strict=True):
            known = not np.isnan(c.difference.mean)
            cells = (
                " − ".join(map(self.label, c.arms)),
                signed(c.difference.mean, scale) if known else NONE,
                bounds(c.difference, scale),
                bounds(c.tested, scale),
                shown_p(c.p).removeprefix("p").removeprefix("="),
                self.overlap(c),
                str(len(c.seeds)),
            )
            row = self.row(c.family, c.budget, c.arms[0], *cells)
            table.rows.append(replace(row, bold=bool(c.resolved), bar=bar))
        return table

    def overlap(self, comparison: Comparison) -> str:
        """Whether the two arms' own intervals overlap; a dash where one has none."""
        c = comparison
        own = [self.summary.cell(c.family, arm, c.budget).estimate for arm in c.arms]
        if any(np.isnan(estimate.low) for estimate in own):
            return NONE
        return "no" if c.separate else "yes"

    def bars(self) -> tuple[list[tuple[float, ...]], float]:
        """The comparisons' t intervals as shares of the room that all take, and where 0 is."""
        ends = [
            (e.low, e.mean, e.high) if np.isfinite(e.low) else ()
            for e in (c.tested for c in self.summary.comparisons)
        ]
        low, high = (f([0.0, *(x for end in ends for x in end)]) for f in (min, max))
        room = (high - low) or 1.0
        return [tuple((x - low) / room for x in end) for end in ends], -low / room

    def published(self) -> Table:
        """What the paper found, beside what was found here; no rows where there is no paper."""
        source = self.study.published
        columns = [f"paper: {name}" for name in source.columns]
        table = self.table("labels", "arm", *columns, "here", "95% interval")
        scale = self.summary.scale
        for family in self.study.families:
            for budget in self.study.budgets:
                for arm, *figures in source.rows:
                    here = [NONE, NONE]
                    if arm in self.study.arms:
                        estimate = self.summary.cell(family, arm, budget).estimate
                        here = [number(estimate.mean, scale), bounds(estimate, scale)]
                    label = self.label(arm) if arm in self.study.arm else arm
                    cells = (label, *map(str, figures), *here)
                    table.rows.append(self.row(family, budget, arm, *cells))
        return table

    def reaches(self, runs: Sequence[Run]) -> Table:
        """How soon one arm is as good as the other is at its end."""
        table = self.table("labels", "arm", "reaches", "which is", "after", "the other took",
                           "times as fast", names=3)  # fmt: skip
        higher = self.summary.higher_is_better
        for r in resources.reaches(self.study, runs, self.summary.metric, higher):
            after = "not reached" if r.seconds is None else clock(r.seconds)
            fast = f"{r.other_seconds / r.seconds:.2g}" if r.seconds else NONE
            target = number(r.target, self.summary.scale)
            one, other = map(self.label, r.arms)
            cells = (one, f"the end of {other}", target, after, clock(r.other_seconds), fast)
            table.rows.append(self.row(r.family, r.budget, r.arms[0], *cells))
        return table

    def costs(self, runs: Sequence[Run], records: Sequence[Record]) -> Table:
        """A row for each config of a shared stage and for each family, budget and arm."""
        accelerators = list(self.study.accelerators)
        table = self.table(
            "labels", "arm or stage", "runs", "trained", "share trained", "steps", "tokens",
            "FLOPs", "peak memory", "time", "compiling", "FLOPs before", "time before",
            *(f"{name}, $" for name, _, _ in accelerators),
        )  # fmt: skip
        arms = {self.label(arm): arm for arm in self.study.arms}
        for c in resources.costs(self.study, runs, records):
            cells = (
                c.name,
                str(c.runs),
                f"{c.num_trained:,}",
                f"{100 * c.num_trained / max(c.num_params, 1):.3g}%",
                f"{c.steps:,.0f}",
                si(c.tokens),
                si(c.flops),
                memory(c.peak_bytes),
                clock(c.seconds),
                f"{100 * c.compile_share:.0f}%",
                si(c.before_flops) if c.before_flops else NONE,
                clock(c.before_seconds) if c.before_seconds else NONE,
                *(
                    money(c.dollars(peak, price, self.study.utilisation))
                    for _, peak, price in accelerators
                ),
            )
            arm = arms.get(c.name, "") if c.budget is not None else ""
            table.rows.append(self.row(c.family, c.budget, arm, *cells))
        return table

    def forgetting(self, records: Sequence[Record]) -> Table:
        """The loss of the first stage before and after; no rows where it was not measured."""
        table = self.table("labels", "arm", "before", "after", "forgotten", "95% t", "runs")
        for c in self.summary.cells:
            if c.forgetting is None:
                continue
            pairs = [r["forgetting"] for r in cell_records(c, records) if "forgetting" in r]
            means = [float(np.mean([pair[k] for pair in pairs])) for k in ("before", "after")]
            cells = (
                self.label(c.arm),
                *(f"{mean:.3f}" for mean in means),
                f"{c.forgetting.mean:+z.3f}",
                interval(c.forgetting),
                str(len(pairs)),
            )
            table.rows.append(self.row(c.family, c.budget, c.arm, *cells))
        return table

    def scores(self, records: Sequence[Record]) -> Table:
        """Bias and the like before and after; no rows where nothing was scored."""
        table = self.table("labels", "arm", "task", "metric", "items", "before", "after",
                           "difference", "standard error", "runs", names=4)  # fmt: skip
        for c in self.summary.cells:
            figures: dict[tuple[str, str], list[Record]] = {}
            for record in cell_records(c, records):
                for score in record.get("scores", ()):
                    figures.setdefault((score["task"], score["metric"]), []).append(score)
            for (task, metric), scores in figures.items():
                unit = scores[0]["unit"]
                cells = (
                    self.label(c.arm),
                    task,
                    f"{metric}, {unit}" if unit else metric,
                    f"{scores[0]['difference']['n']:,}",
                    *(score_text(mean_score(scores, k), unit) for k in ("before", "after")),
                    score_text(mean_score(scores, "difference"), unit, sign="+"),
                    score_text(standard_error(scores), unit),
                    str(len(scores)),
                )
                table.rows.append(self.row(c.family, c.budget, c.arm, *cells))
        return table


def cell_records(cell: Cell, records: Sequence[Record]) -> list[Record]:
    """The finished runs of a cell."""
    asked = (cell.family, cell.arm, cell.budget)
    return [
        r
        for r in records
        if r["status"] == "done" and (r["family"], r["arm"], r["budget"]) == asked
    ]


def mean_score(scores: Sequence[Record], which: str) -> float:
    """The mean over runs of "before", "after" or "difference"; NaN where one is not defined."""
    return float(np.mean([nan_if_none(score[which]["value"]) for score in scores]))


def standard_error(scores: Sequence[Record]) -> float:
    """Of the mean difference over runs: by item (all runs score the same ones), and by seed.

    The variances are added, which counts what runs and items have to do with each other twice: it
    is rather too large than too small.
    """
    by_item = np.mean([nan_if_none(s["difference"]["standard_error"]) ** 2 for s in scores])
    values = [nan_if_none(s["difference"]["value"]) for s in scores]
    by_seed = np.var(values, ddof=1) / len(values) if len(values) > 1 else 0.0
    return float(np.sqrt(by_item + by_seed))


def nan_if_none(value: float | None) -> float:
    """What is not defined as NaN."""
    return np.nan if value is None else value
