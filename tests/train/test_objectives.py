"""Features of every objective by hand, the statistics of the draws, and the losses by formula."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import ConfigError
from train.errors import UserError
from train.objectives import (
    NAMES,
    accuracy,
    causal_lm,
    classification,
    cross_entropy,
    masked_lm,
    masked_lm_nsp,
)

PAD, CLS, SEP, MASK = 0, 1, 2, 3


class WordPieces:
    """Ids 0 to 3 are special, even ids begin a word, odd ids continue one."""

    cls_id, sep_id, mask_id, eos_id = CLS, SEP, MASK, None
    is_special = np.arange(40) < 4
    word_start = np.arange(40) % 2 == 0
    pair_separators = 1


class Bytes:
    """A tokenizer without [CLS] and [SEP]: GPT's."""

    cls_id, sep_id, eos_id, pair_separators = None, None, 9, 1


class Characters:
    """A tokenizer without special tokens."""

    cls_id = sep_id = mask_id = None
    is_special = np.zeros(40, bool)


class Chosen:
    """Stands for np.random.Generator: it gives what it was told to."""

    def __init__(self, order, draws=(), choices=(), size=None):
        self.order, self.draws, self.choices = list(order), list(draws), list(choices)
        self.size = size

    def integers(self, low, high):
        assert low <= self.size < high
        return self.size

    def permutation(self, x):
        return np.asarray(x)[self.order] if np.ndim(x) else np.asarray(self.order)

    def random(self, size=None):
        if size is None:
            return self.draws.pop(0)
        return np.asarray([self.draws.pop(0) for _ in range(size)])

    def choice(self, values, size=None):
        if size is None:
            return self.choices.pop(0)
        got = [self.choices.pop(0) for _ in range(size)]
        assert np.isin(got, values).all()
        return np.asarray(got)


def check(row, **expected):
    assert set(row) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(row[key], value, err_msg=key)
        kind = "float32" if "weights" in key else "int32"
        assert np.asarray(row[key]).dtype == kind, key


WINDOW = {  # ten tokens: a document of four, one of four, two of padding
    "tokens": np.asarray([10, 11, 12, 13, 20, 21, 22, 23, 0, 0], np.int32),
    "segment_ids": np.asarray([1, 1, 1, 1, 2, 2, 2, 2, 0, 0], np.int32),
    "positions": np.asarray([5, 6, 7, 8, 0, 1, 2, 3, 0, 0], np.int32),
}


def test_causal_lm_isolated():
    row = causal_lm.Objective(9, isolate_documents=True).features(WINDOW, None, None)
    check(
        row,
        tokens=[10, 11, 12, 13, 20, 21, 22, 23, 0],
        targets=[11, 12, 13, 20, 21, 22, 23, 0, 0],
        weights=[1, 1, 1, 0, 1, 1, 1, 0, 0],  # nothing is predicted across the border
        segment_ids=[1, 1, 1, 1, 2, 2, 2, 2, 0],
        positions=[5, 6, 7, 8, 0, 1, 2, 3, 0],
    )


def test_causal_lm_not_isolated():
    row = causal_lm.Objective(9, isolate_documents=False).features(WINDOW, None, None)
    check(
        row,
        tokens=[10, 11, 12, 13, 20, 21, 22, 23, 0],
        targets=[11, 12, 13, 20, 21, 22, 23, 0, 0],
        weights=[1, 1, 1, 1, 1, 1, 1, 0, 0],
    )


@pytest.mark.parametrize("isolated", [False, True])
def test_causal_lm_behind_cls(isolated):
    """A row of BERT's: the first token too is predicted, from [CLS], which is of its document."""
    objective = causal_lm.Objective(10, isolate_documents=isolated, cls_first=True)
    assert objective.window == 10
    apart = {
        "segment_ids": [1, 1, 1, 1, 1, 2, 2, 2, 2, 0],
        "positions": [0, 6, 7, 8, 9, 0, 1, 2, 3, 0],
    }
    check(
        objective.features(WINDOW, None, WordPieces),
        tokens=[CLS, 10, 11, 12, 13, 20, 21, 22, 23, 0],
        targets=[10, 11, 12, 13, 20, 21, 22, 23, 0, 0],
        weights=[1, 1, 1, 1, 1 - isolated, 1, 1, 1, 0, 0],
        **(apart if isolated else {}),
    )
    with pytest.raises(UserError, match=r"begin with .CLS., which the tokenizer does not have"):
        objective.features(WINDOW, None, Characters)


def mlm(**changes):
    defaults = {"length": 10, "mask_rate": 0.4, "whole_word": False, "isolate_documents": True}
    return masked_lm.Objective(**{**defaults, **changes})


EIGHT = {
    "tokens": np.asarray([10, 12, 14, 16, 18, 20, 22, 24], np.int32),
    "segment_ids": np.asarray([1, 1, 1, 2, 2, 2, 2, 2], np.int32),
    "positions": np.asarray([0, 1, 2, 0, 1, 2, 3, 4], np.int32),
}


def test_masked_lm():
    # 0.4 of 8 tokens: 3. Positions 8, 2, 5 are drawn; in order 2, 5, 8 they are masked, replaced
    # (by 30) and kept.
    rng = Chosen(order=[7, 1, 4, 0, 2, 3, 5, 6], draws=[0.79, 0.81, 0.91], choices=[30])
    check(
        mlm().features(EIGHT, rng, WordPieces),
        tokens=[CLS, 10, MASK, 14, 16, 30, 20, 22, 24, SEP],
        target_positions=[2, 5, 8],
        targets=[12, 18, 24],
        weights=[1, 1, 1],
        segment_ids=[1, 1, 1, 1, 2, 2, 2, 2, 2, 2],
        positions=[0, 1, 2, 3, 0, 1, 2, 3, 4, 5],
    )


def test_masked_lm_refuses_what_cannot_be():
    for rate in (0.0, 15.0):
        with pytest.raises(ConfigError, match=f"mask_rate is {rate}"):
            mlm(mask_rate=rate)
    with pytest.raises(UserError, match=r"needs a .CLS., a .SEP. and a mask token"):
        mlm().features(EIGHT, np.random.default_rng(0), Characters)


def test_masked_lm_last_window_not_isolated():
    example = {**EIGHT, "tokens": EIGHT["tokens"] * (np.arange(8) < 5)}
    example["segment_ids"] = np.asarray([1, 1, 1, 2, 2, 0, 0, 0], np.int32)
    # 0.4 of 5 tokens: 2, so that the third target has no weight.
    rng = Chosen(order=[0, 4, 1, 2, 3], draws=[0.1, 0.1])
    check(
        mlm(isolate_documents=False).features(example, rng, WordPieces),
        tokens=[CLS, MASK, 12, 14, 16, MASK, 0, 0, 0, SEP],
        target_positions=[1, 5, 0],
        targets=[10, 18, 0],
        weights=[1, 1, 0],
        segment_ids=[1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
    )


def test_masked_lm_whole_words():
    # Words: (10 11) (12) (14 15 17 19) (20); 3 of 8 pieces. The long word, drawn first, is passed
    # over; then word 0 and word 3 fill the three places.
    example = {**EIGHT, "tokens": np.asarray([10, 11, 12, 14, 15, 17, 19, 20], np.int32)}
    rng = Chosen(order=[2, 0, 3, 1], draws=[0.1, 0.1, 0.1])
    row = mlm(whole_word=True).features(example, rng, WordPieces)
    np.testing.assert_array_equal(row["tokens"], [1, MASK, MASK, 12, 14, 15, 17, 19, MASK, 2])
    np.testing.assert_array_equal(row["target_positions"], [1, 2, 8])
    np.testing.assert_array_equal(row["targets"], [10, 11, 20])


def test_whole_words_that_begin_with_a_piece():
    example = {**EIGHT, "tokens": np.asarray([11, 12, 13, 14, 16, 18, 20, 22], np.int32)}
    rng = Chosen(order=[0, 1, 2, 3, 4, 5, 6], draws=[0.1, 0.1, 0.1])
    row = mlm(whole_word=True).features(example, rng, WordPieces)
    np.testing.assert_array_equal(row["targets"], [11, 12, 13])


SENTENCES = {
    "tokens": np.asarray([10, 12, 14, 16, 18], np.int32),
    "sentence_starts": np.asarray([0, 2, 4]),
    "distractor": np.asarray([30, 32, 34, 36, 38], np.int32),
}


@pytest.mark.parametrize(
    ("draw", "label", "tokens"),
    [
        # A ends at the border 2; B has 2 of the 3 tokens that both candidates have, in both cases.
        (0.6, 0, [CLS, 10, MASK, SEP, 14, 16, SEP, 0, 0, 0]),
        (0.4, 1, [CLS, 10, MASK, SEP, 30, 32, SEP, 0, 0, 0]),
    ],
)
def test_masked_lm_nsp(draw, label, tokens):
    objective = masked_lm_nsp.Objective(length=10, mask_rate=0.15, whole_word=False)
    rng = Chosen(order=[1, 0, 2, 3], draws=[draw, 0.1], choices=[2], size=2)
    check(
        objective.features(SENTENCES, rng, WordPieces),
        tokens=tokens,
        token_types=[0] * 4 + [1] * 3 + [0] * 3,
        segment_ids=[1] * 7 + [0] * 3,
        target_positions=[2],
        targets=[12],
        weights=[1],
        labels=label,
        label_weights=1,
    )


def test_masked_lm_nsp_cuts_one_sentence_in_the_middle():
    objective = masked_lm_nsp.Objective(length=8, mask_rate=0.15, whole_word=False)
    example = {**SENTENCES, "sentence_starts": np.asarray([0])}
    rng = Chosen(order=[0, 1, 2, 3], draws=[0.1, 0.95], size=2)
    row = objective.features(example, rng, WordPieces)
    np.testing.assert_array_equal(row["tokens"], [CLS, 10, 12, SEP, 30, 32, SEP, 0])


def classify(tokenizer, length, first, second=()):
    texts = {"tokens_a": np.asarray(first), "tokens_b": np.asarray(second, int)}
    example = texts | {"label": 1, "record": 7}
    return classification.Objective(length, 2).features(example, None, tokenizer)


def test_classification_single():
    check(
        classify(WordPieces, 10, [10, 11, 12]),
        tokens=[CLS, 10, 11, 12, SEP, 0, 0, 0, 0, 0],
        segment_ids=[1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        token_types=[0] * 10,
        labels=1,
        label_weights=1,
        record=7,
    )


def test_classification_pair():
    check(
        classify(WordPieces, 10, [10, 11, 12], [20, 21]),
        tokens=[CLS, 10, 11, 12, SEP, 20, 21, SEP, 0, 0],
        segment_ids=[1] * 8 + [0] * 2,
        token_types=[0] * 5 + [1] * 3 + [0] * 2,
        labels=1,
        label_weights=1,
        record=7,
    )


@pytest.mark.parametrize(
    ("first", "second", "tokens"),
    [
        (range(10, 25), [], [CLS, *range(10, 18), SEP]),
        # seven places; the longer text gives way until both are equal
        (range(10, 16), range(20, 23), [CLS, 10, 11, 12, 13, SEP, 20, 21, 22, SEP]),
        (range(10, 12), range(20, 29), [CLS, 10, 11, SEP, 20, 21, 22, 23, 24, SEP]),
        (range(10, 19), range(20, 29), [CLS, 10, 11, 12, 13, SEP, 20, 21, 22, SEP]),
    ],
)
def test_classification_cuts_the_longer_text(first, second, tokens):
    row = classify(WordPieces, 10, list(first), list(second))
    np.testing.assert_array_equal(row["tokens"], tokens)


def test_classification_without_cls():
    row = classify(Bytes, 10, [10, 11, 12], [20, 21])
    np.testing.assert_array_equal(row["tokens"], [10, 11, 12, 9, 20, 21, 9, 0, 0, 0])
    np.testing.assert_array_equal(row["token_types"], [0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(row["segment_ids"], [1, 1, 1, 1, 1, 1, 1, 0, 0, 0])


def test_masking_statistics():
    """Ten thousand rows: 3 of 20 positions (0.15), uniformly; 80% masked, 10% random, 10% kept."""
    rows, length = 10_000, 20
    objective = mlm(length=length + 2, mask_rate=0.15)
    text = np.arange(10, 10 + length, dtype=np.int32)
    ones = np.ones(length, np.int32)
    example = {"tokens": text, "segment_ids": ones, "positions": np.arange(length)}
    fates, where = [], np.zeros(length + 2)
    for index in range(rows):
        row = objective.features(example, np.random.default_rng([0, index]), WordPieces)
        at = row["target_positions"]
        assert row["weights"].sum() == 3
        assert len(set(at)) == 3
        np.testing.assert_array_equal(row["targets"], text[at - 1])
        untouched = np.delete(row["tokens"][1:-1], at - 1)
        np.testing.assert_array_equal(untouched, np.delete(text, at - 1))
        now = row["tokens"][at]
        fates.extend(np.where(now == MASK, 0, np.where(now == row["targets"], 2, 1)))
        where[at] += 1
    draws = 3 * rows
    masked, random, kept = np.bincount(fates, minlength=3) / draws
    # a random token is the old one in 1 of 36 cases: it then counts as kept
    for share, expected in ((masked, 0.8), (random, 0.1 * 35 / 36), (kept, 0.1 + 0.1 / 36)):
        assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)
    assert where[0] == where[-1] == 0  # never [CLS] or [SEP]
    np.testing.assert_allclose(where[1:-1] / rows, 0.15, atol=5 * math.sqrt(0.15 * 0.85 / rows))


def test_next_sentence_labels_are_even():
    objective = masked_lm_nsp.Objective(length=10, mask_rate=0.15, whole_word=False)
    rows = [
        objective.features(SENTENCES, np.random.default_rng([0, index]), WordPieces)
        for index in range(10_000)
    ]
    assert abs(np.mean([row["labels"] for row in rows]) - 0.5) < 5 * 0.5 / 100
    firsts = {int(np.argmax(row["tokens"] == SEP)) - 1 for row in rows}
    assert firsts == {2, 4}  # both borders are used


def test_the_length_of_a_pair_does_not_tell_its_label():
    objective = masked_lm_nsp.Objective(length=40, mask_rate=0.15, whole_word=False)
    lengths = {0: [], 1: []}
    for index in range(4_000):
        rng = np.random.default_rng([0, index])
        long = np.arange(4, 4 + int(rng.integers(6, 30)))
        other = np.arange(4, 4 + int(rng.integers(6, 30)))
        starts = np.asarray([0, len(long) // 2])
        example = {"tokens": long, "sentence_starts": starts, "distractor": other}
        row = objective.features(example, rng, WordPieces)
        lengths[int(row["labels"])].append(int(row["segment_ids"].sum()))
    means = [np.mean(lengths[label]) for label in (0, 1)]
    spread = np.std(lengths[0]) / math.sqrt(1_800) * math.sqrt(2)
    assert abs(means[0] - means[1]) < 5 * spread


LOGITS = np.asarray([[[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[3.0, 0.0, 0.0], [0.0, 0.0, 5.0]]], "f4")
TARGETS = np.asarray([[1, 2], [1, 0]], np.int32)


def test_cross_entropy_and_accuracy_by_hand():
    weights = np.asarray([[1, 1], [0.5, 0]], "f4")
    total, weight = cross_entropy(LOGITS, TARGETS, weights)
    first = math.log(math.e + math.e**2 + 1) - 2
    third = math.log(math.e**3 + 2)
    np.testing.assert_allclose(total, first + math.log(3) + 0.5 * third, rtol=1e-6)
    assert weight == 2.5
    hits, weight = accuracy(LOGITS, TARGETS, weights)
    np.testing.assert_allclose(hits, 1 + 1 / 3, rtol=1e-6)  # three equal logits: a third of a hit
    assert weight == 2.5


def test_losses_sum_over_parts_and_leave_out_rows_without_weight():
    objective = masked_lm_nsp.Objective(length=10, mask_rate=0.15, whole_word=False)
    nsp = np.asarray([[0.0, 1.0], [9.0, 0.0]], "f4")

    def apply(params, batch, rng):
        return {"logits": jnp.asarray(LOGITS), "next_sentence_logits": jnp.asarray(nsp)}

    batch = {
        "targets": TARGETS,
        "weights": np.asarray([[1, 1], [0, 0]], "f4"),
        "labels": np.asarray([0, 1], np.int32),
        "label_weights": np.asarray([1, 0], "f4"),  # the second row is padding
    }
    losses, metrics, carry = objective.loss(apply, None, batch, None, {})
    assert set(losses) == set(objective.losses) == {"mlm_loss", "nsp_loss"}
    first = math.log(math.e + math.e**2 + 1) - 2
    np.testing.assert_allclose(losses["mlm_loss"], (first + math.log(3), 2), rtol=1e-6)
    np.testing.assert_allclose(losses["nsp_loss"], (math.log(1 + math.e), 1), rtol=1e-6)
    assert metrics["nsp_accuracy"] == (0, 1)
    assert carry == {}


def test_every_objective_is_a_file_found_by_name():
    pretraining = ["causal_lm", "masked_lm", "masked_lm_nsp", "permutation_lm"]
    seq2seq = ["multitask", "prefix_lm", "span_corruption", "text_to_text"]
    labelled = ["classification", "extractive_qa", "multiple_choice", "regression"]
    labelled += ["instruction", "token_classification"]
    assert sorted([*pretraining, *seq2seq, *labelled]) == NAMES


SEVERAL = {
    "tokens": np.asarray([10, 11, 20, 21, 22], np.int32),
    "sentence_starts": np.asarray([0, 2]),
    "document_starts": np.asarray([2]),
}


@pytest.mark.parametrize("isolated", [False, True])
def test_masked_lm_of_full_sentences(isolated):
    """A separator where a document ends, padding at the end; one segment, or one a document."""
    rng = Chosen([4, 0, 1, 2, 3], draws=[0.5])
    objective = mlm(mask_rate=0.15, isolate_documents=isolated, packing="full_sentences")
    apart = {
        "segment_ids": [1, 1, 1, 1, 2, 2, 2, 2, 0, 0],
        "positions": [0, 1, 2, 3, 0, 1, 2, 3, 0, 0],
    }
    check(
        objective.features(SEVERAL, rng, WordPieces()),
        tokens=[CLS, 10, 11, SEP, 20, 21, MASK, SEP, PAD, PAD],
        target_positions=[6],
        targets=[22],
        weights=[1],
        **(apart if isolated else {"segment_ids": [1] * 8 + [0] * 2}),
    )


def test_masked_lm_of_three_documents_in_a_row():
    example = {**SEVERAL, "document_starts": np.asarray([2, 4])}
    rng = Chosen([4, 0, 1, 2, 3], draws=[0.95])
    row = mlm(mask_rate=0.15, packing="full_sentences").features(example, rng, WordPieces())
    assert row["tokens"].tolist() == [CLS, 10, 11, SEP, 20, 21, SEP, 22, SEP, PAD]
    assert row["segment_ids"].tolist() == [1, 1, 1, 1, 2, 2, 2, 3, 3, 0]
    assert row["positions"].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 0]


def test_input_formats_by_name():
    """Liu et al. 2019, section 4.2, and the windows that BERT is trained on here."""
    rows = {"windows": "stream", "full_sentences": "full_sentences", "doc_sentences": "sentences"}
    assert {name: mlm(packing=name).rows for name in rows} == rows
    rows = {"segments": "sentences", "sentences": "sentence_pairs"}
    assert {name: nsp(pairs=name).rows for name in rows} == rows
    with pytest.raises(ConfigError, match=r"'doc_sentence' .did you mean 'doc_sentences'"):
        mlm(packing="doc_sentence")
    with pytest.raises(ConfigError, match=r"no kind of pairs .* 'windows'; choose one of seg"):
        nsp(pairs="windows")


def nsp(length=10, **changes):
    return masked_lm_nsp.Objective(length, mask_rate=0.15, whole_word=False, **changes)


@pytest.mark.parametrize(
    ("draw", "distractor", "label", "second"),
    [
        (0.6, [30, 32, 34], 0, [14, 16]),
        (0.4, [30, 32, 34], 1, [30, 32, 34]),  # whole, whatever the other one's length
        (0.4, range(30, 40), 1, [30, 31, 32, 33, 34]),  # what fits beside A
        (0.4, [], 0, [14, 16]),  # there is no other sentence
    ],
)
def test_masked_lm_nsp_on_two_sentences(draw, distractor, label, second):
    example = {
        "tokens": np.asarray([10, 12, 14, 16], np.int32),
        "sentence_starts": np.asarray([0, 2]),
        "distractor": np.asarray([*distractor], np.int32),
    }
    size = len(second)
    rng = Chosen(order=[0, *range(1, 2 + size)], draws=[draw, 0.95])
    check(
        nsp(pairs="sentences").features(example, rng, WordPieces),
        tokens=[CLS, 10, 12, SEP, *second, SEP] + [0] * (5 - size),
        token_types=[0] * 4 + [1] * (size + 1) + [0] * (5 - size),
        segment_ids=[1] * (5 + size) + [0] * (5 - size),
        target_positions=[1],
        targets=[10],
        weights=[1],
        labels=label,
        label_weights=1,
    )


def test_classification_of_a_pair_with_two_separators():
    """RoBERTa: <s> a </s></s> b </s>."""
    tokenizer = WordPieces()
    tokenizer.pair_separators = 2
    example = {
        "tokens_a": np.asarray([10, 11], np.int32),
        "tokens_b": np.asarray([20, 21, 22, 23], np.int32),
        "label": np.int32(1),
        "record": 7,
    }
    row = classification.Objective(9, 2).features(example, None, tokenizer)
    assert row["tokens"].tolist() == [CLS, 10, 11, SEP, SEP, 20, 21, 22, SEP]
    assert row["token_types"].tolist() == [0] * 5 + [1] * 4
