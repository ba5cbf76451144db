"""Numbers with units, for people."""

import numpy as np

from train.study.statistics import Estimate

NONE = "–"
SI = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def score_text(value: float, unit: str, sign: str = "") -> str:
    """A figure of ``pretune score``: one decimal of per cents, four digits of others."""
    if np.isnan(value):
        return NONE
    return f"{value:{sign}z.1f}" if unit == "%" else f"{value:{sign}.4g}"


def interval(estimate: Estimate) -> str:
    """An interval of losses; a dash for none."""
    if np.isnan(estimate.low):
        return NONE
    return f"[{estimate.low:+z.3f}, {estimate.high:+z.3f}]"


def si(value: float) -> str:
    """Three digits and a prefix: "30.2 G"."""
    for size, prefix in SI:
        if value >= size:
            return f"{float(f'{value / size:.3g}'):g} {prefix}"
    return f"{value:.3g}"


def memory(size: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def money(dollars: float) -> str:
    """Two decimals from a cent on, two digits below."""
    return f"{dollars:,.2f}" if dollars >= 0.01 else f"{dollars:.1g}"
