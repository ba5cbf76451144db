"""Figures of a study in words: verdicts, numbers, intervals, durations."""

from collections.abc import Sequence

import numpy as np

from train.study.plan import budget_name
from train.study.statistics import Estimate


def verdict(
    labels: Sequence[str], family: str, budget: int, difference: Estimate, p: float, alpha: float,
    scale: float, unit: str,
) -> str:  # fmt: skip
    """One sentence: which arm's metric is higher, or that the study does not resolve it."""
    a, b = labels
    where = f"at {budget_name(budget)} labels" + (f" ({family})" if family else "")
    if np.isnan(p):
        return f"not resolved: {a} and {b} {where} (fewer than two paired seeds)"
    size = f"{signed(difference.mean, scale)} {unit} {bounds(difference, scale)}, {shown_p(p)}"
    if p >= alpha:
        return f"not resolved: {a} and {b} {where}, {size}"
    return f"{a} {'>' if difference.mean > 0 else '<'} {b} {where}, {size}"


def shown_p(p: float) -> str:
    """A p-value for people; a dash for none."""
    if np.isnan(p):
        return "–"
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def signed(value: float, scale: float) -> str:
    """A difference with its sign, one decimal for points, four digits otherwise."""
    return f"{value * scale:+.1f}" if scale == 100 else f"{value:+.4g}"


def number(value: float, scale: float) -> str:
    """A value of the metric for people; a dash for none."""
    if np.isnan(value):
        return "–"
    return f"{value * scale:.1f}" if scale == 100 else f"{value:.4g}"


def bounds(estimate: Estimate, scale: float) -> str:
    """The interval as "[low, high]"; a dash for none."""
    if np.isnan(estimate.low):
        return "–"
    return f"[{number(estimate.low, scale)}, {number(estimate.high, scale)}]"


def clock(seconds: float) -> str:
    """Seconds for people: "8.2 s", "3:05", "2:10:00"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
