"""The next token: masks by hand, frequencies of draws, the penalty."""

import jax
import numpy as np
import pytest

from model.errors import ModelError
from model.logits import forbid, penalise
from model.sampling import Sampling, narrow, sample

LOGITS = np.log(np.asarray([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32))


def drawn(sampling, count=4000):
    logits = np.tile(LOGITS[:1], (count, 1))
    tokens = np.asarray(sample(logits, sampling, jax.random.split(jax.random.key(0), count)))
    return np.bincount(tokens, minlength=3) / count


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0), [0.5, 0.3, 0.2]),
        (Sampling(0.5), [25 / 38, 9 / 38, 4 / 38]),  # p^(1/0.5) = p^2, normalised
        (Sampling(1.0, top_k=2), [0.5 / 0.8, 0.3 / 0.8, 0]),
        (Sampling(1.0, top_k=9), [0.5, 0.3, 0.2]),
        (Sampling(1.0, top_p=0.6), [0.5 / 0.8, 0.3 / 0.8, 0]),  # 0.5 is short of 0.6, 0.8 is not
        (Sampling(1.0, top_p=0.4), [1, 0, 0]),
        (Sampling(0.5, top_p=0.65), [1, 0, 0]),  # of the squares: 25 / 38 reaches 0.65
        (Sampling(1.0, top_k=2, top_p=0.6), [1, 0, 0]),  # of the top two: 0.5 / 0.8 reaches 0.6
        (Sampling(0.0), [1, 0, 0]),
    ],
)
def test_frequencies(sampling, expected):
    np.testing.assert_allclose(drawn(sampling), expected, atol=0.03)


def test_masks_are_row_by_row():
    kept = lambda sampling: np.isfinite(narrow(LOGITS, sampling)).tolist()  # noqa: E731
    assert kept(Sampling(1.0, top_k=1)) == [[True, False, False], [False, False, True]]
    assert kept(Sampling(1.0, top_p=0.75)) == [[True, True, False], [False, False, True]]
    # Equal tokens stay or go together among the top k, which is a count; not in the nucleus.
    assert kept(Sampling(1.0, top_k=2)) == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("top_p", [0.15, 0.3, 0.45, 0.6, 0.8, 0.9])
def test_a_nucleus_is_the_smallest_set_also_among_equals(top_p):
    """By rank, the higher id first, as in transformers (torch 2.13, transformers 5.24)."""
    table = np.asarray([[1] * 8, [4, 1, 1, 1, 1, 0, 0, 0], [1, 2, 2, 1, 2, 0, 0, 0]], np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(table).astype("float32")
    found = np.isfinite(narrow(logits, Sampling(1.0, top_p=top_p)))
    for row, kept in zip(table / table.sum(1, keepdims=True), found, strict=True):
        order = sorted(range(8), key=lambda i: (-row[i], -i))
        size = next(n for n in range(1, 9) if row[order[:n]].sum() > top_p)
        assert set(np.flatnonzero(kept)) == set(order[:size])


def test_penalty():
    scores = np.asarray([[2.0, -2.0, 0.0, 3.0, -1.0]], np.float32)
    seen = np.asarray([[True, True, True, False, False]])
    np.testing.assert_allclose(penalise(scores, seen, 2.0), [[1.0, -4.0, 0.0, 3.0, -1.0]])
    assert penalise(scores, None, 2.0) is scores


def test_forbid():
    scores = np.asarray([[2.0, -2.0, 0.0]] * 2, np.float32)
    found = forbid(jax.numpy.asarray(scores), np.asarray([0, 2]), np.asarray([True, False]))
    np.testing.assert_array_equal(found, [[-np.inf, -2, -np.inf], [2, -2, 0]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"temperature": -1}, "temperature"),
        ({"repetition_penalty": 0}, "repetition penalty is 0"),
    ],
)
def test_errors(wrong, message):
    with pytest.raises(ModelError, match=message):
        Sampling(**wrong)
