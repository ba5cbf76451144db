"""Bootstrap intervals against enumeration, scipy, closed forms and simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from train.study import statistics


def test_replicates_have_the_enumerated_distribution():
    values_SN = np.array([[1.0], [2.0], [6.0]])
    means = [np.mean(draw) for draw in itertools.product([1.0, 2.0, 6.0], repeat=3)]
    wanted, counts = np.unique(np.round(means, 9), return_counts=True)
    got, found = np.unique(
        np.round(statistics.replicates(values_SN, resamples=50_000), 9), return_counts=True
    )
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_allclose(found / 50_000, counts / 27, atol=0.01)


def test_two_levels_have_the_enumerated_distribution():
    values_SN = np.array([[0.0, 1.0], [1.0, 1.0]])
    pairs = list(itertools.product([0, 1], repeat=2))
    means = [values_SN[np.ix_(rows, columns)].mean() for rows in pairs for columns in pairs]
    wanted, counts = np.unique(means, return_counts=True)
    got, found = np.unique(statistics.replicates(values_SN, resamples=50_000), return_counts=True)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_allclose(found / 50_000, counts / 16, atol=0.01)


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(1).normal(3, 2, 12)
    ours = statistics.mean_interval(values[:, None], resamples=40_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_three_seeds_give_the_extremes():
    estimate = statistics.mean_interval(np.array([[0.1], [0.5], [0.6]]))
    assert (estimate.low, estimate.high) == pytest.approx((0.1, 0.6))


@pytest.mark.parametrize(("seeds", "low", "high"), [(3, 0.69, 0.81), (20, 0.90, 0.97)])
def test_coverage_by_simulation(seeds, low, high):
    """The docstring's claim: 75% with three seeds (1 - 2/2^3); near 95% with many."""
    rng = np.random.default_rng(0)
    hits = []
    for trial in range(500):
        estimate = statistics.mean_interval(rng.normal(size=(seeds, 1)), resamples=1000, seed=trial)
        hits.append(estimate.low <= 0 <= estimate.high)
    assert low < np.mean(hits) < high


def test_two_level_interval_covers_where_seeds_alone_do_not():
    """Examples of unequal difficulty: another draw of examples moves the mean of all seeds."""
    rng = np.random.default_rng(0)
    one, two = [], []
    for trial in range(300):
        chance_N = rng.beta(2, 2, 60)
        values_SN = (rng.random((5, 60)) < chance_N).astype(float)
        seeds_only = statistics.mean_interval(
            values_SN.mean(axis=1, keepdims=True), resamples=500, seed=trial
        )
        both = statistics.mean_interval(values_SN, resamples=500, seed=trial)
        one.append(seeds_only.low <= 0.5 <= seeds_only.high)
        two.append(both.low <= 0.5 <= both.high)
    assert np.mean(one) < 0.8
    assert np.mean(two) > 0.93


def test_pairing_narrows_the_interval():
    seed_effect = np.array([[-3.0], [-1.0], [0.0], [1.0], [3.0]])
    noise = np.array([[0.1], [-0.1], [0.0], [0.1], [-0.1]])
    a_SN, b_SN = seed_effect + 1 + noise, seed_effect
    paired = statistics.paired_difference(a_SN, b_SN)
    unpaired = np.quantile(
        statistics.replicates(a_SN, seed=1) - statistics.replicates(b_SN, seed=2), [0.025, 0.975]
    )
    assert paired.mean == pytest.approx(1.0)
    assert paired.low > 0
    assert paired.high - paired.low < 0.1 * (unpaired[1] - unpaired[0])


def test_degenerate_inputs():
    none = statistics.mean_interval(np.zeros((0, 1)))
    assert np.isnan([none.mean, none.low, none.high]).all()
    one = statistics.mean_interval(np.array([[0.7]]))
    assert one.mean == 0.7
    assert np.isnan(one.low)
    same = statistics.mean_interval(np.full((3, 1), 0.7))
    assert (same.low, same.high) == pytest.approx((0.7, 0.7))
    zero = statistics.paired_difference(np.ones((3, 4)), np.ones((3, 4)))
    assert zero.low <= 0 <= zero.high


def test_same_seed_same_interval_and_another_differs():
    values_SN = np.random.default_rng(0).normal(size=(8, 1))
    first = statistics.mean_interval(values_SN, resamples=300, seed=1)
    assert first == statistics.mean_interval(values_SN, resamples=300, seed=1)
    assert first != statistics.mean_interval(values_SN, resamples=300, seed=2)


def test_t_test_over_seeds_is_scipys():
    values = np.array([0.61, 0.64, 0.70, -0.1])
    wanted = stats.ttest_1samp(values, 0)
    estimate, p = statistics.t_test(values[:, None])
    assert p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    one, p = statistics.t_test(values[None])
    assert np.isnan([p, one.low]).all()
    assert one.mean == pytest.approx(values.mean())
    same, p = statistics.t_test(np.full((3, 4), 0.5))
    assert (same.low, same.high, p) == (0.5, 0.5, 0)
    assert statistics.t_test(np.zeros((3, 4)))[1] == 1


def test_t_test_of_crossed_effects_by_hand():
    """Two seeds, three examples; the analysis of variance written out."""
    values_SN = np.array([[4.0, 2.0, 3.0], [5.0, -3.0, 1.0]])
    mean = 2.0
    seeds = 3 * ((3 - mean) ** 2 + (1 - mean) ** 2) / 1
    examples = 2 * ((4.5 - mean) ** 2 + (-0.5 - mean) ** 2 + (2 - mean) ** 2) / 2
    # Residuals of the first row, [4, 2, 3] - 3 - [4.5, -0.5, 2] + 2; the second's are the opposite.
    rest = 2 * ((-1.5) ** 2 + 1.5**2 + 0**2) / 2
    both = seeds + examples - rest
    freedom = both**2 / (seeds**2 / 1 + examples**2 / 2 + rest**2 / 2)
    error = np.sqrt(both / 6)
    estimate, p = statistics.t_test(values_SN)
    assert p == pytest.approx(2 * stats.t.sf(mean / error, freedom))
    half = stats.t.ppf(0.975, freedom) * error
    assert (estimate.low, estimate.high) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize("seed_effect", [0.0, 0.1, 1.0])
def test_p_value_is_uniform_where_there_is_no_difference(seed_effect):
    """The docstring's claim for three seeds: 3 to 8%, whether seeds differ or examples only."""
    rng = np.random.default_rng(0)
    rejected = []
    for _ in range(2000):
        values_SN = rng.normal(size=(3, 40)) + rng.normal(size=40)
        values_SN += seed_effect * rng.normal(size=(3, 1))
        rejected.append(statistics.t_test(values_SN)[1] < 0.05)
    assert 0.02 < np.mean(rejected) < 0.09


def test_holm_by_hand():
    """0.01 times 3; 0.02 times 2; 0.04 times 1 is no smaller than the one before it."""
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.9, 0.8]) == [1, 1]
    assert statistics.holm([np.nan, 0.02])[1] == pytest.approx(0.02)
    assert np.isnan(statistics.holm([np.nan, 0.02])[0])
    assert statistics.holm([]) == []
