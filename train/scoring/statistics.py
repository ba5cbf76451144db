"""A figure and its standard error, from what each item contributes.

All figures here are functions of sums over items (a mean, a ratio of sums, a correlation), and
their standard errors are the jackknife's (Efron and Stein 1981): with the figure computed anew
without each item in turn, sqrt((n - 1) / n times the sum of squared deviations from the mean of
these). Of a mean that is exactly the sample standard deviation over sqrt(n), for shares of 0 and 1
sqrt(p (1 - p) / (n - 1)). The same holds for the difference of two models on the same items, which
is thereby paired.

Legend: N items, K sums.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-12  # of a variance, relative: below it nothing varies
Figure = Callable[[np.ndarray, int], np.ndarray]  # sums [..., K] of n items -> [...]


class Estimate(NamedTuple):
    """A figure over n items; None where it, or its standard error, is not defined."""

    n: int
    value: float | None
    standard_error: float | None


def estimate(columns_NK: np.ndarray, figure: Figure) -> Estimate:
    """The figure and its standard error; items with a NaN are left out and not counted."""
    columns_NK = columns_NK[np.isfinite(columns_NK).all(axis=1)]
    return _jackknife([(columns_NK, 1)], figure)


def difference(first_NK: np.ndarray, second_NK: np.ndarray, figure: Figure) -> Estimate:
    """The figure of the second model minus that of the first, on the items that both have."""
    both = np.isfinite(first_NK).all(axis=1) & np.isfinite(second_NK).all(axis=1)
    return _jackknife([(first_NK[both], -1), (second_NK[both], 1)], figure)


def _jackknife(signed: list[tuple[np.ndarray, int]], figure: Figure) -> Estimate:
    n = len(signed[0][0])
    if n == 0:
        return Estimate(0, None, None)
    with np.errstate(all="ignore"):  # what is not a number is told as undefined
        sums = [columns.sum(axis=0) for columns, _ in signed]
        value = sum(sign * figure(total, n) for total, (_, sign) in zip(sums, signed, strict=True))
        if n == 1:
            return Estimate(n, _defined(value), None)
        without_N = sum(
            sign * figure(total - columns, n - 1)
            for total, (columns, sign) in zip(sums, signed, strict=True)
        )
        spread = np.sum(np.square(without_N - np.mean(without_N)))
        error = np.sqrt((n - 1) / n * spread)
    value = _defined(value)
    return Estimate(n, value, None if value is None else _defined(error))


def _defined(value: np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None


def mean(sums: np.ndarray, n: int) -> np.ndarray:
    """Of one column."""
    return sums[..., 0] / n


def ratio(sums: np.ndarray, n: int) -> np.ndarray:
    """Of the first column's sum to the second's."""
    return sums[..., 0] / sums[..., 1]


def exp_ratio(sums: np.ndarray, n: int) -> np.ndarray:
    """A perplexity: e to the ratio, where the first column is in nats."""
    return np.exp(ratio(sums, n))


def moments(x_N: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    """The columns [N, 5] of which `correlation` is a function.

    Both sides are shifted to their means, which changes nothing but the rounding.
    """
    x_N, y_N = x_N - np.mean(x_N), y_N - np.mean(y_N)
    return np.stack([x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N], axis=1)


def correlation(sums: np.ndarray, n: int) -> np.ndarray:
    """Pearson's r; not defined for fewer than three pairs or where one side does not vary."""
    x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    variance_x, variance_y = xx - x * x / n, yy - y * y / n
    varies = (variance_x > ROUNDING * xx) & (variance_y > ROUNDING * yy) & (n >= 3)
    return np.where(varies, (xy - x * y / n) / np.sqrt(variance_x * variance_y), np.nan)
