"""What the plots of a study show: values that the page draws, and train/study/plots.py."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from train.study import panels
from train.study.curves import Curves
from train.study.panels import Figure, Series, figure, plain
from train.study.plan import Run, budget_name
from train.study.results import Record
from train.study.statistics import Estimate
from train.study.summary import Cell, Summary
from train.study.tables import cell_records


def make(
    study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record]
) -> list[Figure]:
    """All figures that have something to show."""
    points, curves = (kind(study, summary, runs, records) for kind in (Points, Curves))
    found = [
        points.efficiency(),
        points.price("compute", "training FLOPs", "flops"),
        points.price("time", "seconds", "seconds"),
        curves.progress(),
        points.forgetting(),
        curves.learning(),
        curves.stages(),
    ]
    return [figure for figure in found if figure["panels"]]


class Points(panels.Maker):
    """Makes the figures whose points are runs, and means of runs."""

    def means(
        self,
        cells: Sequence[Cell],
        x: Callable[[Cell], float],
        y: Callable[[Cell], Estimate | None],
        scale: float,
    ) -> Series:
        """One arm's cells as a line."""
        points = [(x(c), y(c), c) for c in cells]
        points = [(at, e, c) for at, e, c in points if e is not None and math.isfinite(e.mean)]
        bounds = {
            side: [plain(scale * getattr(e, side)) for _, e, _ in points]
            for side in ("low", "high")
        }
        return {
            "kind": "mean",
            "arm": list(self.study.arms).index(cells[0].arm),
            "x": [plain(at) for at, _, _ in points],
            "y": [plain(scale * e.mean) for _, e, _ in points],
            **bounds,
            "names": [
                f"{self.name(c)}, mean of {len(c.values)} seed{'s' * (len(c.values) != 1)}"
                for _, _, c in points
            ],
        }

    def name(self, cell: Cell) -> str:
        """A cell for people."""
        label = self.study.arm[cell.arm].label
        return f"{cell.family}, {label}, {budget_name(cell.budget)} labels"

    def dots(
        self,
        cells: Sequence[Cell],
        x: Callable[[Cell, Record], float],
        y: Callable[[Record], float | None],
        scale: float,
    ) -> Series:
        """The runs of one arm's cells."""
        found = [
            (plain(x(c, r)), plain(scale * value), self.index[r["key"]])
            for c in cells
            for r in cell_records(c, self.records)
            if (value := y(r)) is not None
        ]
        keys = zip(("x", "y", "runs"), zip(*found, strict=True) if found else ((), (), ()),
                   strict=True)  # fmt: skip
        arm = list(self.study.arms).index(cells[0].arm)
        return {"kind": "dots", "arm": arm} | {key: list(values) for key, values in keys}

    def by_arm(self, family: str) -> list[list[Cell]]:
        """The cells of a family by arm."""
        return [
            [c for c in self.summary.cells if (c.family, c.arm) == (family, arm)]
            for arm in self.study.arms
        ]

    def by_labels(
        self, family: str, y: Callable[[Cell], Estimate | None],
        of_run: Callable[[Record], float | None], scale: float,
    ) -> list[Series]:  # fmt: skip
        """Something by labels: budgets at equal distances, arms a little beside each other."""
        budgets, count = list(self.study.budgets), len(self.study.arms)
        width = min(0.09, 0.5 / count) if len(budgets) > 1 else 0.8 / count
        series = []
        for index, cells in enumerate(self.by_arm(family)):
            shift = (index - (count - 1) / 2) * width
            at = lambda c, *_, shift=shift: budgets.index(c.budget) + shift  # noqa: E731
            parts = self.means(cells, at, y, scale), self.dots(cells, at, of_run, scale)
            series += [part for part in parts if part["x"]]
        return series

    def labels_axis(self) -> dict[str, Any]:
        """The axis of label budgets."""
        ticks = [budget_name(b) for b in self.study.budgets]
        return {"label": "labelled examples", "kind": "ordinal", "ticks": ticks}

    def efficiency(self) -> Figure:
        """The metric by labels; a panel a family."""
        found = [
            self.panel(
                family,
                series=self.by_labels(
                    family, lambda c: c.estimate, lambda r: r["value"], self.summary.scale
                ),
            )
            for family in self.study.families
        ]
        return figure("efficiency", "Label efficiency", self.labels_axis(), self.metric, found)

    def forgetting(self) -> Figure:
        """What was forgotten by labels; a panel a family."""

        def forgotten(record: Record) -> float | None:
            pair = record.get("forgetting")
            return pair and pair["after"] - pair["before"]

        found = [
            self.panel(
                family, series=self.by_labels(family, lambda c: c.forgetting, forgotten, 1.0)
            )
            for family in self.study.families
        ]
        label = "loss after − before"
        return figure("forgetting", "Forgetting", self.labels_axis(), label, found)

    def price(self, name: str, label: str, key: str) -> Figure:
        """The metric against what a run took, with the stages before it and without."""
        took = {r["key"]: r[key] for r in self.records if r["status"] == "done"}

        def whole(record: Record) -> float:
            return record[key] + sum(took.get(k, 0) for k in record["before"])

        found = []
        any_before = any(r["before"] for r in self.records if r["arm"])
        ways = {"all stages in full": whole} if any_before else {}
        ways["last stage alone"] = lambda record: record[key]
        for family in self.study.families:
            for words, of in ways.items():
                series = []
                for cells in self.by_arm(family):
                    mean = {
                        c.budget: np.mean([of(r) for r in rows])
                        for c in cells
                        if (rows := cell_records(c, self.records))
                    }
                    cells = [c for c in cells if mean.get(c.budget)]
                    if cells:
                        at = lambda c, mean=mean: mean[c.budget]  # noqa: E731
                        run_at = lambda _, r, of=of: of(r)  # noqa: E731
                        scale = self.summary.scale
                        series += [
                            self.means(cells, at, lambda c: c.estimate, scale),
                            self.dots(cells, run_at, lambda r: r["value"], scale),
                        ]
                found.append(self.panel(family, words, series=series))
        x = {"label": label, "kind": "log"}
        return figure(name, f"Quality against {name}", x, self.metric, found, len(ways))
