"""XLNet's objective: a row by hand, the statistics of the spans, and what cannot be."""

import math

import numpy as np
import pytest

from configs.base import ConfigError
from model.heads import Heads
from train.errors import UserError
from train.objectives import permutation_lm
from train.objectives.permutation_lm import Objective, choose_spans

CLS, SEP = 1, 2


class WordPieces:
    """Ids 0 to 3 are special, even ids begin a word, odd ids continue one."""

    cls_id, sep_id = CLS, SEP
    is_special = np.arange(60) < 4
    word_start = (np.arange(60) % 2 == 0) | (np.arange(60) < 4)


class Draws:
    """Stands for np.random.Generator: it gives what it was told to, in order."""

    def __init__(self, **values):
        self.values = {name: list(value) for name, value in values.items()}

    def _next(self, name):
        return np.asarray(self.values[name].pop(0))

    def choice(self, values, size=None, p=None):
        got = self._next("choice")
        if p is not None:
            np.testing.assert_allclose(p, np.asarray([60, 30, 20, 15, 12]) / 137)
            got = np.concatenate([got, np.ones(size - len(got), int)])
        assert np.isin(got, values).all()
        return got

    def integers(self, high):
        got = self._next("integers")
        return np.concatenate([got, np.zeros(len(high) - len(got), int)])

    def permutation(self, x):
        got = self._next("permutation")
        return np.asarray(x)[got] if np.ndim(x) else got

    def random(self):
        return float(self._next("random"))

    def done(self):
        return not any(self.values.values())


def objective(**changes):
    defaults = {"length": 18, "span_context": 3, "max_span": 5, "mem_len": 6, "reuse_len": 8}
    return Objective(**{**defaults, **changes})


# Fifteen tokens; words: 10 11 | 12 | 14 15 17 | 16 | 18 || 20 21 | 22 | 24 | 26 27
TEXT = np.asarray([10, 11, 12, 14, 15, 17, 16, 18, 20, 21, 22, 24, 26, 27, 28], np.int32)
EXAMPLE = {
    "tokens": TEXT, "elsewhere": np.arange(40, 47, dtype=np.int32), "backward": np.int32(0),
    "continues": np.int32(1),
}  # fmt: skip


@pytest.mark.parametrize(("follows", "second"), [(0.4, [24, 26, 27, 28]), (0.6, [40, 41, 42, 43])])
def test_row_by_hand(follows, second):
    # B begins at 24. 6 of 18 tokens are predicted: 8/18 of them, 3, in the first part.
    # First part: one span of two words, two tokens of context before it: (12)(14 15 17) is one too
    # many, so that single tokens fill up: 10, 16, 18. Second part: a span of one word from place 1
    # on (20 21 | 22 | SEP | ...): 22; then 20 and the first of B.
    rng = Draws(
        choice=[3, [2], [1]], random=[follows],
        integers=[[2], [1]],
        permutation=[[0], [0, 5, 6, 1, 2, 3, 4, 7], [2, 0, 1], [0], [0, 2, 1, 3, 4, 5], [1, 0, 2]],
    )  # fmt: skip
    row = objective().features(EXAMPLE, rng, WordPieces)
    expected = {
        "tokens": [10, 11, 12, 14, 15, 17, 16, 18, 20, 21, 22, SEP, *second, SEP, CLS],
        "segment_ids": [1] * 18,
        "token_types": [0] * 12 + [1] * 5 + [2],
        "target_positions": [0, 5, 6, 8, 10, 12],
        "targets": [10, 17, 16, 20, 22, second[0]],
        "weights": [1] * 6,
        # Ranks of the targets: 3, 1, 2 in the first part; 6, 5, 7 in the second, whose rest has 4.
        "factorization_order": [3, 0, 0, 0, 0, 1, 2, 0, 6, 4, 5, 4, 7, 4, 4, 4, 4, 4],
        "backward": 0,
        "continues": 1,
    }
    assert set(row) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(row[key], value, err_msg=key)
        assert np.asarray(row[key]).dtype == ("float32" if key == "weights" else "int32")
    assert rng.done()


def test_ten_tokens_of_spans_by_hand():
    # Words: 0 1 | 2 | 3 4 5 | 6 | 7 8 | 9 (special). Context 2, at most five words.
    begins = np.asarray([1, 0, 1, 1, 0, 0, 1, 1, 0, 1], bool)
    ordinary = np.arange(10) < 9
    # A span of one word, from place 1 on: 2; its context ends at 3 + 2 - 1 = 4; the next, of two
    # words, from 4 + 1 on: 6 and 7 8. Both fit into five: 2, 6, 7, 8; token 4 fills up.
    rng = Draws(choice=[[1, 2]], integers=[[1, 1]], permutation=[[1, 0], [3, 0, 1, 2, 4]])
    got = choose_spans(begins, ordinary, 5, 2, 5, rng)
    np.testing.assert_array_equal(got, [2, 4, 6, 7, 8])
    # With room for three the span drawn first keeps its place, the other is dropped.
    rng = Draws(choice=[[1, 2]], integers=[[1, 1]], permutation=[[1, 0], [0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(choose_spans(begins, ordinary, 3, 2, 5, rng), [6, 7, 8])


def test_backward_rows_keep_words_together():
    """Read backwards, 14 15 17 is 17 15 14: a word begins after its first piece."""
    text = TEXT[::-1]
    begins = permutation_lm._word_begins(text, True, WordPieces)
    words = np.split(text, np.flatnonzero(begins)[1:])
    assert [word[::-1].tolist() for word in words][::-1] == [
        [10, 11], [12], [14, 15, 17], [16], [18], [20, 21], [22], [24], [26, 27], [28],
    ]  # fmt: skip


def test_a_short_text_is_padded():
    short = {**EXAMPLE, "tokens": TEXT[:10], "elsewhere": np.arange(40, 42, dtype=np.int32)}
    row = objective().features(short, np.random.default_rng(0), WordPieces)
    np.testing.assert_array_equal(row["segment_ids"], [1] * 13 + [0] * 5)
    assert (row["tokens"][13:] == 0).all()
    at = row["target_positions"][row["weights"] > 0]
    assert (at < 12).all()


def test_statistics_of_ten_thousand_rows():
    """K = 6: one token in six, never [SEP] or [CLS]; ranks in uniform order."""
    rows, length, reuse = 10_000, 64, 32
    subject = objective(length=length, reuse_len=reuse, span_context=6)
    assert subject.targets == 11
    single = np.arange(4, 60, 2)  # one token a word
    where = np.zeros(length)
    spans = np.zeros(12)
    first_of_first = 0
    for index in range(rows):
        rng = np.random.default_rng([0, index])
        text = rng.choice(single, length - 3).astype(np.int32)
        example = {**EXAMPLE, "tokens": text, "elsewhere": text[reuse:]}
        row = subject.features(example, rng, WordPieces)
        at, order = row["target_positions"], row["factorization_order"]
        assert row["weights"].sum() == 11
        assert len(set(at)) == 11
        assert (at < reuse).sum() == 6
        np.testing.assert_array_equal(row["tokens"][at], row["targets"])
        assert not WordPieces.is_special[row["targets"]].any()
        # Ranks: 0, then 1 to 6; 7 for the rest of the second part, then 8 to 12.
        assert sorted(order[at]) == [*range(1, 7), *range(8, 13)]
        rest = np.delete(order, at)
        np.testing.assert_array_equal(rest, np.where(np.arange(len(rest)) < reuse - 6, 0, 7))
        where[at] += 1
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        np.add.at(spans, [len(run) for run in runs], 1)
        first_of_first += order[at[0]] == 1
    assert abs(first_of_first / rows - 1 / 6) < 5 * math.sqrt(5 / 36 / rows)
    rate = where / rows
    assert rate[-1] == rate[-2] == 0  # [CLS] and the last [SEP]
    np.testing.assert_allclose(rate[:reuse].mean(), 6 / reuse, rtol=1e-9)
    # Long spans do not fit into every part; their proportions are tested below.
    assert (np.diff(spans[1:6]) < 0).all()
    assert spans[5] > 0.02 * spans.sum()
    assert spans[6:].sum() < 0.02 * spans.sum()  # two that touch


def test_rates_of_choose_spans_itself():
    """Without a count: one token in K + 1 for words of one token, evenly; spans as 1/n."""
    size, rows = 700, 1000
    begins, sizes, places = np.ones(size, bool), np.zeros(6), np.zeros(size)
    for index in range(rows):
        rng = np.random.default_rng([1, index])
        at = choose_spans(begins, begins, 10**9, 6, 5, OnlySpans(rng))
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        np.add.at(sizes, [min(len(run), 5) for run in runs], 1)
        places[at] += 1
    expected = np.asarray([60, 30, 20, 15, 12]) / 137
    np.testing.assert_allclose(sizes[1:] / sizes.sum(), expected, atol=0.03)
    np.testing.assert_allclose(places[20:650].mean() / rows, 1 / 7, rtol=0.02)


class OnlySpans:
    """A generator under which nothing is filled up."""

    def __init__(self, rng):
        self.rng = rng

    def choice(self, *args, **kwargs):
        return self.rng.choice(*args, **kwargs)

    def integers(self, *args):
        return self.rng.integers(*args)

    def permutation(self, x):
        return self.rng.permutation(x) if np.ndim(x) == 0 else np.zeros(0, int)


def test_single_tokens_by_hand_and_as_many_as_in_spans():
    """Table 6, "- span-based pred": no words, no context; the special token is never drawn."""
    begins = np.asarray([1, 0, 1, 1, 0, 0, 1, 1, 0, 1], bool)
    ordinary = np.arange(10) < 9
    rng = Draws(permutation=[[8, 1, 4, 0, 2, 3, 5, 6, 7]])
    np.testing.assert_array_equal(choose_spans(begins, ordinary, 3, 2, 0, rng), [1, 4, 8])
    assert rng.done()
    alone, counts = np.zeros(10), set()
    for seed in range(2000):
        drawn = np.random.default_rng(seed)
        at = choose_spans(begins, ordinary, 3, 2, 0, drawn)
        alone[at] += 1
        counts |= {len(at), len(choose_spans(begins, ordinary, 3, 2, 5, drawn))}
    assert counts == {3}
    assert alone[9] == 0
    np.testing.assert_allclose(alone[:9] / 2000, 1 / 3, atol=5 * math.sqrt(2 / 9 / 2000))
    assert objective(max_span=0).targets == objective().targets


@pytest.mark.parametrize("changes", [{"max_span": 0}, {"mem_len": 0}])
def test_rows_of_an_ablation_keep_their_targets(changes):
    row = objective(**changes).features(EXAMPLE, np.random.default_rng(0), WordPieces)
    assert row["weights"].sum() == 6
    assert (row["target_positions"] < 8).sum() == 3  # half of them in the part that is kept


def test_targets_and_head():
    assert objective(length=512, span_context=6, reuse_len=256).targets == 85  # as published
    assert objective().head() == Heads(lm=True, permuted=True)
    assert (objective().window, objective().stride) == (15, 8)
    assert objective(mem_len=0, reuse_len=0).stride == 15


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reuse_len": 12}, "reuse_len 12 leaves too little of config.length 18"),
        ({"reuse_len": 0}, "mem_len is 6 but config.model.reuse_len is 0"),
        ({"span_context": 0}, "span_context 0"),
        ({"max_span": -1}, "max_span -1 at least 0"),
    ],
)
def test_impossible_values_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        objective(**changes)


def test_a_tokenizer_without_separator_is_refused():
    class Bytes:
        cls_id = sep_id = None

    with pytest.raises(UserError, match=r"needs a .SEP. and a .CLS. token"):
        objective().features(EXAMPLE, np.random.default_rng(0), Bytes)
