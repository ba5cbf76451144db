"""Objectives of encoder-decoders: ten tokens by hand, the statistics of the draws, the loss."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import ConfigError
from train.errors import UserError
from train.objectives import (
    accuracy,
    cross_entropy_and_z,
    multitask,
    prefix_lm,
    span_corruption,
    text_to_text,
)

END = 2


class Pieces:
    """Sentinels 39, 38, 37, 36; END ends a text."""

    sep_id, eos_id = None, END
    sentinels = np.asarray([39, 38, 37, 36], np.int32)


class Given:
    """Stands for np.random.Generator: each call gets the next answer."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def permutation(self, count):
        found = self.answers.pop(0)
        assert sorted(found) == list(range(count))
        return np.asarray(found, int)

    def integers(self, low, high):
        found = self.answers.pop(0)
        assert low <= found < high
        return found


def check(row, **expected):
    assert set(row) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(row[key], value, err_msg=key)
        assert row[key].dtype == ("float32" if key == "weights" else "int32"), key


TEN = {  # two documents of five tokens
    "tokens": np.asarray([10, 11, 12, 13, 14, 20, 21, 22, 23, 24], np.int32),
    "segment_ids": np.asarray([1] * 5 + [2] * 5, np.int32),
}


def corruption(**changes):
    defaults = {
        "length": 10, "noise_rate": 0.3, "mean_span": 1.5, "isolate_documents": True, "z_loss": 0.0
    }  # fmt: skip
    return span_corruption.Objective(**{**defaults, **changes})


def cuts():
    """Ten tokens lose 3 in 2 spans: 4 are kept, 2 dropped, 3 kept, 1 dropped."""
    return Given([3, 0, 1, 2, 4, 5], [1, 0])


def test_span_corruption():
    objective = corruption()
    assert (objective.window, objective.targets) == (10, 6)
    check(
        objective.features(TEN, cuts(), Pieces),
        tokens=[10, 11, 12, 13, 39, 21, 22, 23, 38, END],
        segment_ids=[1] * 5 + [2] * 5,
        targets=[39, 14, 20, 38, 24, END],
        decoder_tokens=[0, 39, 14, 0, 38, 24],
        decoder_segment_ids=[1, 1, 1, 2, 2, 2],
        weights=[1, 1, 0, 1, 1, 1],  # 20 is in the span of the first document, but not of it
    )


def test_span_corruption_not_isolated():
    row = corruption(isolate_documents=False).features(TEN, cuts(), Pieces)
    np.testing.assert_array_equal(row["decoder_tokens"], [0, 39, 14, 20, 38, 24])
    np.testing.assert_array_equal(row["weights"], np.ones(6))
    assert set(row["segment_ids"]) == set(row["decoder_segment_ids"]) == {1}


def test_span_corruption_of_a_last_window():
    example = {"tokens": TEN["tokens"], "segment_ids": np.asarray([1] * 4 + [0] * 6)}
    row = corruption().features(example, Given([0, 1], []), Pieces)  # one of four, in one span
    np.testing.assert_array_equal(row["tokens"], [10, 11, 12, 39, END, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(row["segment_ids"], [1] * 5 + [0] * 5)
    np.testing.assert_array_equal(row["targets"], [39, 13, END, 0, 0, 0])
    np.testing.assert_array_equal(row["weights"], [1, 1, 1, 0, 0, 0])
    example["segment_ids"] = np.asarray([1] + [0] * 9)  # a single token is not dropped
    row = corruption().features(example, Given(), Pieces)
    np.testing.assert_array_equal(row["tokens"][:3], [10, END, 0])
    np.testing.assert_array_equal(row["weights"], [1, 0, 0, 0, 0, 0])


def test_too_few_sentinels_are_an_error():
    example = {"tokens": np.arange(70) % 30, "segment_ids": np.ones(70, int)}
    with pytest.raises(UserError, match=r"loses 14 spans, .* only 4 sentinels"):
        corruption(length=64).features(example, np.random.default_rng(0), Pieces)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise_rate": 1.0}, "noise_rate 1.0 must lie between"),  # no window would be the longest
        ({"mean_span": 0.0}, "mean_span 0.0 must be 1 or more"),
    ],
)
def test_impossible_rates_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        corruption(**changes)


def test_lengths_of_the_paper():
    """Inputs of 512 and targets of 114 tokens from 568 of text (the paper's code)."""
    assert span_corruption.window_of(512, 0.15, 3.0) == 568
    assert span_corruption.row_sizes(568, 0.15, 3.0) == (512, 114)


@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.15, 1.0), (0.5, 3.0), (0.3, 1.0)])
def test_every_length_is_filled(rate, mean):
    for length in range(8, 300):
        count = span_corruption.window_of(length, rate, mean)
        assert span_corruption.row_sizes(count, rate, mean)[0] == length


def test_span_statistics():
    """Ten thousand draws: every way to drop 4 of 12 tokens in 2 spans is equally likely."""
    draws, seen, lengths = 10_000, {}, []
    for index in range(draws):
        rng = np.random.default_rng([0, index])
        begins, dropped = span_corruption.draw_spans(12, 1 / 3, 2.0, rng)
        assert begins.sum() == 2
        assert dropped.sum() == 4
        assert dropped[begins].all()
        key = tuple(np.cumsum(begins) * dropped)
        seen[key] = seen.get(key, 0) + 1
        lengths.append(key.count(1))
    ways = {
        (0,) * a + (1,) * b + (0,) * (8 - a) + (2,) * (4 - b)
        for a, b in itertools.product(range(1, 8), range(1, 4))
    }
    assert set(seen) == ways
    expected = draws / len(ways)
    assert max(abs(n - expected) for n in seen.values()) < 5 * math.sqrt(expected)
    assert abs(np.mean(lengths) - 2) < 5 * math.sqrt(2 / 3 / draws)


def test_row_statistics():
    """Rate, spans and number of targets of real rows: exact in each, spread evenly over them."""
    objective = corruption(length=64, noise_rate=0.15, mean_span=3.0)
    count = objective.window
    example = {"tokens": np.arange(100, 100 + count), "segment_ids": np.ones(count, int)}
    gone = np.zeros(count)
    noise, spans = span_corruption.count_noise(count, 0.15, 3.0)
    assert (count, noise, spans) == (70, 10, 3)
    for index in range(10_000):
        row = objective.features(example, np.random.default_rng([0, index]), Pieces)
        left = row["tokens"][(row["tokens"] >= 100)]
        there = row["targets"][row["targets"] >= 100]
        assert np.array_equal(np.sort(np.concatenate([left, there])), example["tokens"])
        assert row["weights"].sum() == objective.targets == noise + spans + 1
        assert row["segment_ids"].all()
        gone[there - 100] += 1
    rates = gone / 10_000
    assert rates[0] == 0
    assert rates[-1] == 1
    inner = rates[10:-10]
    np.testing.assert_allclose(inner.mean(), 0.12, atol=0.03)  # the last span stands at the end
    assert inner.std() < 0.04


def test_prefix_lm():
    objective = prefix_lm.Objective(length=5, z_loss=0.0)
    assert (objective.window, objective.targets) == (10, 5)
    check(
        objective.features(TEN, Given(2), Pieces),
        tokens=[10, 11, 20, 21, 22],
        segment_ids=[1, 1, 2, 2, 2],
        targets=[12, 13, 14, 23, 24],
        decoder_tokens=[0, 12, 13, 0, 23],
        decoder_segment_ids=[1, 1, 1, 2, 2],
        weights=[1] * 5,
    )
    short = {**TEN, "segment_ids": (np.arange(10) < 7).astype(np.int32)}
    check(
        objective.features(short, Given(4), Pieces),
        tokens=[10, 11, 12, 13, 20],
        segment_ids=[1, 1, 1, 1, 2],
        targets=[14, 21, 0, 0, 0],
        decoder_tokens=[0, 0, 0, 0, 0],
        decoder_segment_ids=[1, 2, 0, 0, 0],
        weights=[1, 1, 0, 0, 0],
    )


def test_prefix_statistics():
    objective = prefix_lm.Objective(length=9, z_loss=0.0)
    example = {"tokens": np.arange(18), "segment_ids": np.ones(18, int)}
    counts = np.zeros((2, 10))
    for index in range(10_000):
        row = objective.features(example, np.random.default_rng([0, index]), Pieces)
        assert row["weights"].sum() == 9
        assert row["segment_ids"].all()
        for half in (1, 2):
            counts[half - 1, (row["segment_ids"] == half).sum()] += 1
    assert counts[:, 0].sum() == counts[:, 9].sum() == 0
    assert np.abs(counts[:, 1:9] - 1250).max() < 5 * math.sqrt(1250)


PAIR = {"tokens_a": np.asarray([10, 11, 12]), "tokens_b": np.asarray([20, 21]), "label": 0}


def test_text_to_text():
    check(
        text_to_text.Objective(length=6, target_length=4, z_loss=0.0).features(PAIR, None, Pieces),
        tokens=[10, 11, 12, END, 0, 0],
        segment_ids=[1, 1, 1, 1, 0, 0],
        targets=[20, 21, END, 0],
        decoder_tokens=[0, 20, 21, 0],
        decoder_segment_ids=[1, 1, 1, 0],
        weights=[1, 1, 1, 0],
    )
    cut = text_to_text.Objective(length=3, target_length=0, z_loss=0.0)
    row = cut.features({**PAIR, "tokens_b": np.arange(20, 26)}, None, Pieces)
    np.testing.assert_array_equal(row["tokens"], [10, 11, 12])
    np.testing.assert_array_equal(row["targets"], [20, 21, 22])
    np.testing.assert_array_equal(row["decoder_tokens"], [0, 20, 21])


def test_multitask_gives_both_kinds_of_rows_one_shape():
    objective = multitask.Objective(
        length=10, target_length=8, noise_rate=0.3, mean_span=1.5, isolate_documents=True,
        z_loss=0.0,
    )  # fmt: skip
    assert (objective.window, objective.targets) == (10, 8)
    corrupted = objective.features(TEN, cuts(), Pieces)
    answered = objective.features(PAIR, None, Pieces)
    alone = corruption().features(TEN, cuts(), Pieces)
    for key, value in alone.items():
        np.testing.assert_array_equal(corrupted[key][: len(value)], value)
        assert not corrupted[key][len(value) :].any()
    np.testing.assert_array_equal(answered["targets"], [20, 21, END, 0, 0, 0, 0, 0])
    shapes = [{key: (v.shape, v.dtype) for key, v in row.items()} for row in (corrupted, answered)]
    assert shapes[0] == shapes[1]


def test_cross_entropy_and_z_are_autodiff_of_their_formulas():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype("f4")
    targets, weights = rng.integers(0, 5, (2, 3)), rng.random((2, 3)).astype("f4")

    def formula(logits):
        log_z = jnp.log(jnp.exp(logits).sum(-1))
        chosen = jnp.take_along_axis(logits, jnp.asarray(targets)[..., None], 2)[..., 0]
        return ((log_z - chosen) * weights).sum() + 0.1 * (log_z**2 * weights).sum()

    def ours(logits):
        (likelihood, total), (z, same) = cross_entropy_and_z(logits, targets, weights, 0.1)
        return likelihood + z + 0 * (total + same)

    for got, wanted in zip(
        jax.value_and_grad(ours)(logits), jax.value_and_grad(formula)(logits), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    (_, total), (_, same) = cross_entropy_and_z(logits, targets, weights, 0.1)
    assert total == same
    np.testing.assert_allclose(total, weights.sum(), rtol=1e-6)


def test_loss_has_both_parts():
    logits = np.asarray([[[1.0, 2.0, 0.0]]], "f4")
    batch = {"targets": np.asarray([[1]]), "weights": np.ones((1, 1), "f4")}
    objective = corruption(z_loss=0.5)
    losses, metrics, _ = objective.loss(lambda *_: {"logits": logits}, None, batch, None, {})
    log_z = math.log(math.e + math.e**2 + 1)
    assert tuple(losses) == objective.losses
    np.testing.assert_allclose(losses["cross_entropy"], (log_z - 2, 1), rtol=1e-6)
    np.testing.assert_allclose(losses["z_loss"], (0.5 * log_z**2, 1), rtol=1e-6)
    assert metrics["accuracy"] == accuracy(logits, **batch)
