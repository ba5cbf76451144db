"""What a plot of a study is: panels with series, as plain values.

A series of kind "mean" is a line with markers and intervals, "dots" are runs, "curve" is the line
of one run. Whatever is in a plot is about a record (`run`, `runs`: its index) or named (`names`).
"""

import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from train.study.plan import Run
from train.study.results import Record
from train.study.summary import Summary

DIGITS = 6  # of a plotted number
NO_ARM = -1  # shared stages
Figure = dict[str, Any]
Series = dict[str, Any]


class Maker:
    """Makes figures of one study."""

    def __init__(
        self, study: ConfigDict, summary: Summary, runs: Sequence[Run], records: Sequence[Record]
    ):
        self.study, self.summary, self.records = study, summary, records
        self.index = {r["key"]: i for i, r in enumerate(records)}
        self.runs = [run for run in runs if run.key in self.index]
        name = summary.metric.removeprefix("eval/")
        self.metric = f"{name}, %" if summary.scale == 100 else name

    def panel(self, family: str, *parts: str, series: list[Series], **more: Any) -> Figure:
        """A panel, titled by the family (if there are several) and by `parts`."""
        words = [*([family] if len(self.study.families) > 1 else []), *filter(None, parts)]
        return {"title": ", ".join(words), "family": family, "series": series, **more}


def figure(
    name: str, title: str, x: dict[str, Any], y: str, panels: list[Figure], columns: int = 0
) -> Figure:
    """A figure of those panels that hold something.

    Args:
      name: of its files and its place in the page.
      title: for people.
      x: label, kind ("ordinal", "linear", "log") and, of an ordinal axis, ticks.
      y: label, where panels have none of their own.
      panels: each with `series`; those with the same `share` have the same x axis, those with the
        same `share_y` the same y axis.
      columns: of the grid; 0: as many as fit.
    """
    filled = [panel for panel in panels if any(one["x"] for one in panel["series"])]
    return {"name": name, "title": title, "x": x, "y": y, "columns": columns, "panels": filled}


def plain(value: float) -> float | None:
    """A number with few digits, as JSON knows it: not NaN, not infinite."""
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
