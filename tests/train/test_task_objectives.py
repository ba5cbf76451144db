"""Rows of the labelled tasks by hand, their losses and metrics by formula."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.base import ConfigError
from input_pipeline.errors import DataError
from train import squad
from train.answers import compare
from train.objectives import (
    classification,
    extractive_qa,
    instruction,
    multiple_choice,
    regression,
    smoothed_cross_entropy,
    token_classification,
)
from train.scores import correlations, entities, f1, matthews

CLS, SEP, END = 1, 2, 9


class Words:
    """One id a word: its length plus 10; [CLS] 1, [SEP] 2."""

    cls_id, sep_id, eos_id, pair_separators = CLS, SEP, None, 1

    def encode_batch(self, texts):
        return [np.array([10 + len(w) for w in text.split()], np.int32) for text in texts]

    def offsets(self, texts):
        found = []
        for text in texts:
            spans, at = [], 0
            for word in text.split():
                at = text.index(word, at)
                spans.append((at, at + len(word)))
                at += len(word)
            found.append(np.array(spans, np.int32).reshape(-1, 2))
        return found


class Halves(Words):
    """Two pieces a word, none for "-"; an end-of-text token and no other special one."""

    cls_id, sep_id, eos_id = None, None, END

    def encode_batch(self, texts):
        pieces = lambda text: [i for w in text.split() if w != "-" for i in (10 + len(w), 30)]  # noqa: E731
        return [np.array(pieces(text), np.int32) for text in texts]


DATA = ConfigDict(
    {"text_field": "t", "text_b_field": "b", "label_field": "l", "id_field": "", "tasks": (),
     "choice_fields": ("c",)}
)  # fmt: skip


def same(row, **expected):
    for key, value in expected.items():
        np.testing.assert_array_equal(row[key], value, err_msg=key)


def example(objective, values, tokenizer, labels=(), number=0):
    found = objective.task(DATA).encode([("f:1", values)], tokenizer, labels)
    return found[0][number] | {"record": 5}


def test_smoothing_by_formula():
    logits = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    targets, weights = np.array([0, 3, 1]), np.array([1, 1, 0], np.float32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    soft = np.full((3, 4), 0.2 / 4)
    soft[np.arange(3), targets] += 0.8
    wanted = -(soft * log_p).sum(1)[:2].sum()
    value, weight = smoothed_cross_entropy(*map(jnp.asarray, (logits, targets, weights)), 0.2)
    np.testing.assert_allclose([value, weight], [wanted, 2], rtol=1e-5)
    with pytest.raises(ConfigError, match="label_smoothing is 1"):
        classification.Objective(8, 2, label_smoothing=1.0)


def test_auxiliary_loss_is_of_the_text():
    """Position t predicts token t + 1, padding not at all; the weight is in the sum."""
    with pytest.raises(ConfigError, match=r"lm_weight is 0\.5.*family=gpt"):
        classification.Objective(4, 2, lm_weight=0.5)
    objective = classification.Objective(4, 2, lm_weight=0.5, causal=True)
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((1, 4, 7)).astype(np.float32)
    batch = {
        "tokens": jnp.array([[3, 4, 5, 0]]), "segment_ids": jnp.array([[1, 1, 1, 0]]),
        "labels": jnp.array([1]), "label_weights": jnp.ones(1),
    }  # fmt: skip
    outputs = {"class_logits": jnp.zeros((1, 2)), "logits": jnp.asarray(logits)}
    losses, _, _ = objective.loss(lambda *_: outputs, None, batch, None, {})
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -(log_p[0, 0, 4] + log_p[0, 1, 5])
    np.testing.assert_allclose(losses["lm_loss"], (0.5 * wanted, 2), rtol=1e-5)
    np.testing.assert_allclose(losses["loss"], (math.log(2), 1), rtol=1e-5)
    assert set(losses) == set(objective.losses)


def test_errors_are_squared_and_averaged_over_the_examples():
    """The last row is padding."""
    batch = {"labels": jnp.array([1.0, 2.0, 9.0]), "label_weights": jnp.array([1.0, 1.0, 0.0])}
    said = lambda *_: {"class_logits": jnp.array([[3.0], [1.5], [0.0]])}  # noqa: E731
    losses, metrics, _ = regression.Objective(8).loss(said, None, batch, None, {})
    np.testing.assert_allclose(losses["loss"], (2**2 + 0.5**2, 2))
    np.testing.assert_allclose(metrics["absolute_error"], (2.5, 2))


def test_words_and_their_pieces():
    objective = token_classification.Objective(10, 3)
    values = [["aa", "b", "cccc"], ["O", "B-X", "I-X"]]
    labels = ("B-X", "I-X", "O")
    row = objective.features(example(objective, values, Words(), labels), None, Words())
    same(
        row,
        tokens=[CLS, 12, 11, 14, SEP, 0, 0, 0, 0, 0],
        segment_ids=[1] * 5 + [0] * 5,
        labels=[0, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        label_weights=[0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        word_numbers=[-1, 0, 1, 2, -1, -1, -1, -1, -1, -1],
        record=5,
    )
    # Of two pieces, the first; for a model that sees the past only, the last. "-" has none.
    values = [["aa", "-", "b"], ["O", "B-X", "I-X"]]
    for causal, at in ((False, [0, 2]), (True, [1, 3])):
        objective = token_classification.Objective(6, 3, causal=causal)
        row = objective.features(example(objective, values, Halves(), labels), None, Halves())
        same(row, tokens=[12, 30, 11, 30, END, 0])
        assert np.flatnonzero(row["label_weights"]).tolist() == at
        assert row["word_numbers"][at].tolist() == [0, 2]
        assert row["labels"][at].tolist() == [2, 1]
    # Words that do not fit are left out.
    objective = token_classification.Objective(8, 3)
    long = example(objective, [["a"] * 9, ["O"] * 9], Words(), labels)
    assert objective.features(long, None, Words())["label_weights"].sum() == 6
    with pytest.raises(DataError, match="f:1 has 1 words but 2 tags"):
        example(objective, [["a"], ["O", "O"]], Words(), labels)


def qa(length=12, stride=3, question=2, **more):
    more = {"no_answer": False, "null_threshold": 0.0, "skip_bad_answers": False, **more}
    return extractive_qa.Objective(length, stride, question, 5, **more)


CONTEXT = "a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh"
ANSWER = {"text": ["eeeee ffffff"], "answer_start": [14]}


def test_windows_of_a_context():
    """Rows of 12: [CLS], 2 of the question, [SEP], 7 of the context, [SEP]; 8 words, 3 apart."""
    objective = qa()
    found = objective.task(DATA).encode([("f", [CONTEXT, "w xx y", ANSWER])], Words(), ())[0]
    assert [e["begin"] for e in found] == [0, 3]
    assert [e["context"].tolist() for e in found] == [list(range(11, 18)), list(range(14, 19))]
    assert [e["span"] for e in found] == [[4, 5], [1, 2]]
    # Most context on the poorer side; the window's length decides between equals.
    assert found[0]["owned"].tolist() == [True] * 5 + [False, False]
    assert found[1]["owned"].tolist() == [False, False, True, True, True]
    row = objective.features(found[1] | {"record": 0}, None, Words())
    same(
        row,
        tokens=[CLS, 11, 12, SEP, 14, 15, 16, 17, 18, SEP, 0, 0],
        token_types=[0] * 4 + [1] * 6 + [0, 0],
        labels=[5, 6],
        allowed=[1, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0],
        owned=[0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0],
        null_position=0,
        context_position=4,
        begin=3,
    )
    last = qa(cls_last=True)
    row = last.features(found[1] | {"record": 0}, None, Words())
    same(row, tokens=[14, 15, 16, 17, 18, SEP, 11, 12, SEP, CLS, 0, 0], labels=[1, 2],
         null_position=9, context_position=0)  # fmt: skip
    elsewhere = {"text": ["a"], "answer_start": [0]}
    found = objective.task(DATA).encode([("f", [CONTEXT, "w xx", elsewhere])], Words(), ())[0]
    assert [e["span"] for e in found] == [[0, 0], []]
    row = objective.features(found[1] | {"record": 0}, None, Words())
    same(row, labels=[0, 0])  # not in this window: [CLS]
    with pytest.raises(ConfigError, match=r"stride 9 must be between 1 and 6"):
        qa(stride=9)


def test_questions_that_lose_their_end_or_their_answer():
    """In windows of two or three words: what fits, a long question, an answer of four words."""
    objective = extractive_qa.Objective(9, 1, 2, 5, False, 0.0, False)
    answer = lambda text: {"text": [text], "answer_start": [0]}  # noqa: E731
    cases = [("q", "a b", False), ("q q q", "a b", True), ("q", "a b c d e f", True)]
    for question, text, cut in cases:
        record = ("f:1", ["a b c d e f g", question, answer(text)])
        windows = objective.task(DATA).encode([record], Words(), ())[0]
        assert len(windows) > 1
        assert [window["cut"] for window in windows] == [cut] * len(windows)


def test_best_spans_over_windows():
    """Starts only where a window owns them; ends after starts; no longer than asked."""
    predictions = {
        "first": np.array([[3, 0], [5, 4]]),
        "last": np.array([[2, 4], [9, 5]]),
        "start_scores": np.array([[5.0, 1.0], [4.0, -2e30]]),
        "end_scores": np.array([[9.0, 2.0], [8.0, 3.0]]),
    }
    assert squad.n_best(predictions, [0, 1], 4) == [(10.0, 0, 2), (7.0, 3, 4), (7.0, 5, 5)]
    assert squad.n_best(predictions, [0, 1], 5)[0] == (12.0, 5, 9)
    offsets = np.array([[0, 2], [2, 5], [6, 9], [9, 10], [11, 12], [13, 15]])
    spans = [(10.0, 0, 2), (9.0, 1, 2), (8.0, 1, 2)]
    found = squad.texts(spans, "ab cd efg. h ij", offsets)
    assert found == [{"text": "ab cd efg", "score": 10.0}, {"text": "cd efg", "score": 9.0}]


def test_squad_metrics_by_hand():
    assert squad.normalize("The  Cat, a  dog's!") == "cat dogs"
    assert squad.exact_match("the U.S.", "US") == 1
    # two of three words found, two of two wanted: 2 * 2 / 5
    assert squad.f1("big red car", "the red car") == pytest.approx(0.8)
    assert squad.f1("a", "the") == 1  # both are empty, once normalised
    assert squad.f1("x", "the") == 0
    line = {"prediction": "red car", "answers": ["blue car", "a red car"], "n_best": []}
    assert squad.scores([line], False) == {"exact_match": 1.0, "f1": 1.0}
    # Gains of "no answer": the best threshold lies between -1 and 3.
    two = [
        {"prediction": "x", "answers": ["x"], "n_best": [{"text": "x"}], "no_answer_gain": -1.0},
        {"prediction": "z", "answers": [], "n_best": [{"text": "z"}], "no_answer_gain": 3.0},
    ]
    found = squad.scores(two, True)
    assert set(found) == set(squad.METRICS_2)
    assert (found["exact_match"], found["best_exact_match"], found["best_f1"]) == (0.5, 1, 1)
    assert (found["has_answer_f1"], found["no_answer_exact_match"]) == (1, 0)


def test_rows_of_choices():
    objective = multiple_choice.Objective(8, 3)
    one = example(objective, [1, "q", "q", ["aa", "b b"]], Words(), ("0", "1", "2"))
    row = objective.features(one, None, Words())
    same(
        row,
        tokens=[[CLS, 11, 11, SEP, 12, SEP, 0, 0], [CLS, 11, 11, SEP, 11, 11, SEP, 0], [0] * 8],
        token_types=[[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 0], [0] * 8],
        labels=1,
    )
    batch = {key: jnp.asarray(value)[None] for key, value in row.items()}
    seen = {}

    def apply(params, rows, rng=None):
        seen.update(rows)
        return {"class_logits": jnp.array([[1.0], [2.0], [9.0]])}

    losses, metrics, _ = objective.loss(apply, None, batch, None, {})
    assert seen["tokens"].shape == (3, 8)
    wanted = math.log(math.exp(1) + math.exp(2)) - 2  # the third is not there
    np.testing.assert_allclose(losses["loss"], (wanted, 1), rtol=1e-5)
    assert float(metrics["accuracy"][0]) == 1
    with pytest.raises(DataError, match="has 4 choices, more than any"):
        example(objective, [1, "q", "", list("abcd")], Words(), ("0", "1", "2"))


TEMPLATE = (("system", "", "\n"), ("user", "U ", " ."), ("assistant", "A ", " ."))


def test_only_answers_are_learned():
    objective = instruction.Objective(16, TEMPLATE, 0.0, 0.0, 0)
    messages = [{"role": "user", "content": "xx"}, {"role": "assistant", "content": "yyy zzz"}]
    one = example(objective, [messages], Halves())
    #            U   .   xx      " ."    A       yyy     zzz     end  " ."
    same(one, tokens=[11, 30, 12, 30, 11, 30, 11, 30, 13, 30, 13, 30, END, 11, 30],
         answers=[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0])  # fmt: skip
    short = {"tokens": np.array([11, 13, END]), "answers": np.array([0, 1, 1])}
    row = objective.features({"examples": [short, short]}, None, Halves())
    same(
        row,
        tokens=[11, 13, 11, 13] + [0] * 12,
        targets=[13, END, 13, END] + [0] * 12,
        weights=[1, 1, 1, 1] + [0] * 12,
        segment_ids=[1, 1, 2, 2] + [0] * 12,
        positions=[0, 1, 0, 1] + [0] * 12,
    )
    prompts, wanted = objective.prompts([("f", [messages])], Halves())
    assert prompts[0].tolist() == [11, 30, 12, 30, 11, 30, 11, 30]
    assert wanted == [["yyy zzz"]]
    prompts, wanted = objective.prompts([("f", ["xx", ["yyy", "z"]])], Halves())
    assert (prompts[0].tolist(), wanted) == ([11, 30, 12, 30, 11, 30, 11, 30], [["yyy", "z"]])
    with pytest.raises(ConfigError, match="must have the roles 'user' and 'assistant'"):
        instruction.Objective(16, (("user", "", ""),), 0.0, 0.0, 0)


def test_metrics_by_hand():
    labels, said = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    # tp 2, fp 1, fn 1, tn 1
    assert f1(labels, said, 2) == pytest.approx(4 / 6)
    assert matthews(labels, said) == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))
    assert math.isnan(matthews(labels, np.ones(5)))
    assert math.isnan(f1(np.zeros(3), np.zeros(3), 2))
    values = np.array([1.0, 2.0, 4.0])
    pearson, spearman = correlations(values, np.array([1.0, 3.0, 2.0]))
    assert spearman == pytest.approx(0.5)
    centred = values - values.mean()
    other = np.array([-1.0, 1.0, 0.0])
    assert pearson == pytest.approx(centred @ other / np.sqrt(centred @ centred * (other @ other)))
    assert all(map(math.isnan, correlations(values, np.ones(3))))
    found = entities([["B-X", "I-X", "O", "B-Y"], ["O"]], [["B-X", "I-X", "O", "B-X"], ["B-Y"]])
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1 / 2, "f1": 0.4})
    found = entities([["O"]], [["O"]])
    assert all(map(math.isnan, found.values()))


def test_texts_are_compared_with_the_nearest():
    found = compare(["red car", "no"], [["a blue car", "red car"], ["yes"]])
    assert found["exact_match"] == 0.5
    assert found["rouge1"] == 0.5
