"""The figures of what happened during runs: learning curves, and quality by time."""

import numpy as np

from train.study import panels, plan, resources
from train.study.panels import NO_ARM, Figure, Series, figure, plain
from train.study.plan import Run, budget_name
from train.study.results import read_curve

POINTS = 80  # of a curve at most; of more, evenly spaced ones


class Curves(panels.Maker):
    """Makes the figures whose lines are curves."""

    def progress(self) -> Figure:
        """The metric during the last stage, against seconds of training."""
        panels = []
        done = [run for run in self.runs if self.records[self.index[run.key]]["status"] == "done"]
        timed = resources.timed_curves(done, self.summary.metric)
        for family in self.study.families:
            for budget in self.study.budgets:
                series = []
                for arm_index, arm in enumerate(self.study.arms):
                    curves = timed.get((family, arm, budget))
                    if not curves:
                        continue
                    seconds, values = resources.mean_curve(curves)
                    if len(values) < 2:
                        continue
                    name = f"{family}, {self.study.arm[arm].label}, {budget_name(budget)} labels"
                    series.append(
                        {
                            "kind": "mean",
                            "arm": arm_index,
                            "x": [plain(s) for s in seconds],
                            "y": [plain(self.summary.scale * v) for v in values],
                            "names": [f"{name}, mean of {len(curves)}"] * len(values),
                        }
                    )
                labels = budget_name(budget)
                panels.append(
                    self.panel(
                        family, f"{labels} labels", series=series, labels=labels, share=labels
                    )
                )
        x = {"label": "seconds of training", "kind": "linear"}
        return figure("progress", "Quality during fine-tuning", x, self.metric, panels)

    def learning(self) -> Figure:
        """Training loss and the metric of each run against its step."""
        found = []
        kinds = {"train/loss": ("training loss", 1.0), self.summary.metric: (self.metric, None)}
        for family in self.study.families:
            for budget in self.study.budgets:
                for name, (label, scale) in kinds.items():
                    series = []
                    for run in self.runs:
                        if (run.family, run.budget) == (family, budget):
                            arm = list(self.study.arms).index(run.arm)
                            series += self.curve(run, name, arm, scale or self.summary.scale)
                    labels = budget_name(budget)
                    found.append(
                        self.panel(family, f"{labels} labels", series=series, labels=labels,
                                   y=label, share=labels, share_y=name)
                    )  # fmt: skip
        x = {"label": "step", "kind": "linear"}
        return figure("learning", "Learning curves", x, "", found, 2)

    def stages(self) -> Figure:
        """The losses of the stages before the last."""
        found: dict[tuple[str, str], Figure] = {}
        for run in self.runs:
            if run.last:
                continue
            key = (run.family, plan.kind(self.study, run))
            panel = found.setdefault(key, self.panel(*key, series=[], share=str(key)))
            for loss, style in (("train/loss", "training"), ("eval/loss", "held out")):
                for one in self.curve(run, loss, NO_ARM, 1.0):
                    panel["series"].append(one | {"style": style})
        x = {"label": "step", "kind": "linear"}
        return figure("stages", "The stages before", x, "loss", list(found.values()))

    def curve(self, run: Run, name: str, arm: int, scale: float) -> list[Series]:
        """One metric of a run, if it was logged."""
        steps, values = read_curve(run.folder, name)
        points = [(s, plain(scale * v)) for s, v in zip(steps, values, strict=True)]
        points = [point for point in points if point[1] is not None]
        if not points:
            return []
        if len(points) > POINTS:
            chosen = np.linspace(0, len(points) - 1, POINTS).round().astype(int)
            points = [points[i] for i in chosen]
        x, y = map(list, zip(*points, strict=True))
        return [{"kind": "curve", "arm": arm, "run": self.index[run.key], "x": x, "y": y}]
