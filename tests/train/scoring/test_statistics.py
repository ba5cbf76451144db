"""Figures and their standard errors, against the formulas and against scipy."""

import numpy as np
import pytest
from scipy import stats

from train.scoring import statistics
from train.scoring.statistics import Estimate, difference, estimate

RNG = np.random.default_rng(0)


def test_a_share_has_the_error_of_a_binomial():
    hits = np.array([1.0, 0, 1, 1, 0, 1, 1])
    p, n = 5 / 7, 7
    found = estimate(hits[:, None], statistics.mean)
    assert found.n == 7
    assert found.value == pytest.approx(p)
    assert found.standard_error == pytest.approx(np.sqrt(p * (1 - p) / (n - 1)))
    sample = hits.std(ddof=1) / np.sqrt(n)
    assert found.standard_error == pytest.approx(sample)


def test_one_item_has_no_error_and_none_has_no_value():
    assert estimate(np.array([[1.0]]), statistics.mean) == Estimate(1, 1.0, None)
    assert estimate(np.zeros((0, 1)), statistics.mean) == Estimate(0, None, None)
    assert estimate(np.array([[np.nan]]), statistics.mean) == Estimate(0, None, None)


def test_items_without_a_number_are_not_counted():
    found = estimate(np.array([[1.0], [np.nan], [3.0]]), statistics.mean)
    assert found == Estimate(2, 2.0, pytest.approx(1.0))


def test_difference_is_paired():
    first, second = RNG.normal(size=(20, 1)), RNG.normal(size=(20, 1))
    found = difference(first, second, statistics.mean)
    gap = (second - first)[:, 0]
    assert found.value == pytest.approx(gap.mean())
    assert found.standard_error == pytest.approx(gap.std(ddof=1) / np.sqrt(20))
    second[3] = np.nan
    found = difference(first, second, statistics.mean)
    assert found.n == 19
    assert found.value == pytest.approx(np.delete(gap, 3).mean())


def test_ratio_has_the_error_of_linearisation():
    bits, sizes = RNG.uniform(1, 2, 400), RNG.uniform(50, 150, 400)
    bits *= sizes
    found = estimate(np.stack([bits, sizes], 1), statistics.ratio)
    assert found.value == pytest.approx(bits.sum() / sizes.sum())
    residual = bits - found.value * sizes
    expected = np.sqrt(np.sum(residual**2) * 400 / 399) / sizes.sum()
    assert found.standard_error == pytest.approx(expected, rel=0.01)


def test_perplexity_beyond_numbers_is_undefined():
    columns = np.array([[5000.0, 1], [5000.0, 1]])
    assert estimate(columns, statistics.exp_ratio) == Estimate(2, None, None)


def test_correlation_is_pearsons():
    x = RNG.normal(size=30)
    y = 100 + x + RNG.normal(size=30)
    found = estimate(statistics.moments(x, y), statistics.correlation)
    assert found.value == pytest.approx(stats.pearsonr(x, y).statistic)
    without = [stats.pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(30)]
    expected = np.sqrt(29 / 30 * np.sum((without - np.mean(without)) ** 2))
    assert found.standard_error == pytest.approx(expected)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2], [3, 5]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3], [0.1, 0.1, 0.1])]
)
def test_correlation_undefined(x, y):
    columns = statistics.moments(np.array(x, float), np.array(y, float))
    assert estimate(columns, statistics.correlation)[1:] == (None, None)
