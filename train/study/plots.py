"""Plots of a study as inline SVG: text stays text, and the page's CSS gives the colours.

Matplotlib draws with stand-in colours, which become CSS afterwards: axes take `currentColor`, arms
the variables `--arm-0`, `--arm-1`, ... So one drawing serves light, dark and print.
"""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from train.study import plan
from train.study.results import read_curve
from train.study.summary import Cell, Summary

INK = "#010203"  # stand-in for currentColor
ARM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito 2008
MARKERS = "osD^"
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def label_efficiency(summary: Summary, arms: Sequence[str], budgets: Sequence[int]) -> str:
    """The metric against the label budget, with its interval and each seed's value, per arm.

    Budgets stand at equal distances: "all" is a place, not a number.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": "label-efficiency"}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for index, arm in enumerate(arms):
            cells = [c for c in summary.cells if c.arm == arm]
            _intervals(axes, cells, index, (index - (len(arms) - 1) / 2) * 0.08, summary.scale)
        axes.set_xticks(range(len(budgets)), [plan.budget_name(b) for b in budgets])
        axes.set_xlim(-0.4, len(budgets) - 0.6)
        axes.set_xlabel("labelled examples")
        axes.set_ylabel(_axis_name(summary))
        axes.legend(loc="best")
        return to_svg(figure, "Label efficiency: the metric against the number of labels, per arm")


def _intervals(axes, cells: list[Cell], index: int, shift: float, scale: float) -> None:
    x = np.arange(len(cells)) + shift
    mean, low, high = (
        scale * np.array([getattr(c.estimate, name) for c in cells])
        for name in ("mean", "low", "high")
    )
    colour = _colour(index)
    axes.errorbar(
        x, mean, np.nan_to_num([mean - low, high - mean]).clip(0), color=colour, capsize=4,
        marker=MARKERS[index % 4], linestyle=("-", "--", ":", "-.")[index % 4],
        label=plan.LABELS[cells[0].arm],
    )  # fmt: skip
    for place, item in zip(x, cells, strict=True):
        values = scale * np.array(list(item.values.values()))
        axes.plot(np.full(len(values), place), values, ".", color=colour, alpha=0.45, markersize=5)


def learning_curves(runs: Sequence[plan.Run], summary: Summary) -> str:
    """Training loss and the metric against the step, one line a run; "" if nothing was logged.

    One row of plots per label budget, the same axes for both arms.
    """
    budgets = list(dict.fromkeys(run.budget for run in runs))
    arms = list(dict.fromkeys(run.arm for run in runs))
    names = [("train/loss", 1.0), (summary.metric, summary.scale)]
    drawn = False
    with mpl.rc_context(STYLE | {"svg.hashsalt": "learning-curves"}):
        figure = Figure(figsize=(6.8, 2.4 * len(budgets) + 0.4), layout="constrained")
        grid = figure.subplots(len(budgets), 2, squeeze=False, sharex=True)
        for run in runs:
            for axes, (name, scale) in zip(grid[budgets.index(run.budget)], names, strict=True):
                steps, values = read_curve(run.folder, name)
                drawn |= bool(steps)
                axes.plot(
                    steps, scale * np.array(values), color=_colour(arms.index(run.arm)), alpha=0.8,
                    linewidth=1.2, linestyle=("-", "--", ":", "-.")[arms.index(run.arm) % 4],
                    marker="." if name == summary.metric else "",
                    label=plan.LABELS[run.arm] if run.seed == runs[0].seed else "_",
                )  # fmt: skip
        for budget, (left, right) in zip(budgets, grid, strict=True):
            left.set_ylabel("training loss")
            right.set_ylabel(_axis_name(summary))
            left.set_title(f"{plan.budget_name(budget)} labels", loc="left", fontsize=11)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        grid[0][0].legend(loc="best")
        return to_svg(figure, "Learning curves of every fine-tuning run") if drawn else ""


def pretraining_curve(run: plan.Run) -> str:
    """Losses of the pre-training against the step; "" if nothing was logged."""
    curves = {name: read_curve(run.folder, name) for name in ("train/loss", "eval/loss")}
    if not any(steps for steps, _ in curves.values()):
        return ""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "pre-training"}):
        figure = Figure(figsize=(6.4, 3.0), layout="constrained")
        axes = figure.subplots()
        for index, (name, (steps, values)) in enumerate(curves.items()):
            label = {"train/loss": "training", "eval/loss": "held-out"}[name]
            axes.plot(
                steps, values, ("-", "o--")[index], color=INK, alpha=(0.5, 1)[index], label=label
            )
        axes.set_xlabel("step")
        axes.set_ylabel("pre-training loss")
        axes.legend(loc="best")
        return to_svg(figure, "Pre-training loss against the step")


def _axis_name(summary: Summary) -> str:
    name = summary.metric.removeprefix("eval/")
    return f"{name}, %" if summary.scale == 100 else name


def _colour(index: int) -> str:
    return ARM_COLOURS[index % len(ARM_COLOURS)]


def to_svg(figure: Figure, description: str) -> str:
    """The figure as one <svg> element, scalable, without background, metadata or colours of ink."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # drops the XML prologue, whose DTD is an outside address
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
    svg = svg.replace(INK, "currentColor")
    for index, colour in enumerate(ARM_COLOURS):
        svg = svg.replace(colour, f"var(--arm-{index})")
    return svg
