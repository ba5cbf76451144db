"""Figures of hand-made scores, worked out by hand."""

import math

import numpy as np
import pytest

from input_pipeline.items import Item
from train.scoring.measures import MEASURES
from train.scoring.results import as_json, summarise, table
from train.scoring.scorer import Scores


def scores(*log_probs, tokens=None, sizes=None, greedy=None):
    """Scores of items, each given by its options' log-probabilities."""
    flat = np.concatenate([np.asarray(one, float) for one in log_probs])
    count = len(flat)
    return Scores(
        flat,
        np.asarray(tokens if tokens is not None else [1] * count),
        np.asarray(sizes if sizes is not None else [1] * count),
        np.asarray(greedy if greedy is not None else [True] * count),
        np.zeros(count, int),
        np.zeros(count, bool),
        np.cumsum([0, *map(len, log_probs)]),
    )


def items(*golds, options=2, groups=None, values=None, categories=None):
    return [
        Item(
            (("", "x"),) * options, gold, categories[i] if categories else {}, f"f:{i}",
            group=groups[i] if groups else "", value=values[i] if values else None,
        )
        for i, gold in enumerate(golds)
    ]  # fmt: skip


def figures(measure, found, *runs, **more):
    result = summarise("task", measure, ["file"], found, runs, **more)
    return result, {(one.metric.name, one.category): one for one in result.lines}


def test_accuracy_by_category():
    found = items(0, 0, 1, 0, categories=[{"kind": k} for k in "aaab"])
    _, lines = figures("accuracy", found, scores([-1, -2], [-2, -1], [-2, -1], [-1, -1]))
    total, first, last = (lines["accuracy", name].runs[0] for name in ("all", "a", "b"))
    assert total.value == pytest.approx(62.5)  # 1, 0, 1 and a tie
    assert first.value == pytest.approx(200 / 3)
    assert first.standard_error == pytest.approx(100 * math.sqrt(2 / 9 / 2))
    assert (last.n, last.value, last.standard_error) == (1, 50.0, None)


def test_choice_by_sum_and_by_byte():
    """By sum the short answer is right, by byte the long one: -4 / 8 beats -3 / 2."""
    found = items(1, 0)
    one = scores([-3, -4], [-3, -4], sizes=[2, 8, 2, 8])
    _, lines = figures("choice", found, one)
    assert lines["accuracy", "all"].runs[0].value == 50.0
    by_byte = lines["accuracy by byte", "all"].runs[0]
    assert by_byte.value == 50.0
    columns = [metric.columns(found, one)[:, 0].tolist() for metric in MEASURES["choice"]]
    assert columns == [[0, 100], [100, 0]]


def test_stereotypes_leave_out_pairs_that_share_no_token():
    one = scores([-1, -2], [0, 0], [-3, -2], tokens=[4, 4, 0, 0, 5, 5])
    _, lines = figures("stereotypes", items(0, 0, 0), one)
    assert lines["stereotype preferred", "all"].runs[0][:2] == (2, 50.0)


def test_pronouns():
    """Log-odds of female 1, 3, 2, 0, 2 for occupations of 20, 20, 60, 40 and no known per cent."""
    found = items(
        *[0] * 5, options=3, groups=["a", "a", "b", "c", "d"], values=[20, 20, 60, 40, None]
    )
    rows = [[-5, -4, -9], [-5, -2, -9], [-5, -3, -9], [-5, -5, -9], [-5, -3, -9]]
    _, lines = figures("pronouns", found, scores(*rows))
    # Sentences of one occupation differ in a word or two: occupations are what is sampled.
    assert lines["male preferred", "all"].runs[0] == (4, 12.5, 12.5)  # 0, 0, a tie, 0
    odds = lines["log-odds of female", "all"].runs[0]
    assert (odds.n, odds.value) == (4, pytest.approx(6 / 4))  # 2, 2, 0, 2
    assert odds.standard_error == pytest.approx(np.std([2, 2, 0, 2], ddof=1) / 2)
    r = lines["correlation with occupation", "all"].runs[0]
    assert r.n == 3
    assert r.value == pytest.approx(np.corrcoef([2, 2, 0], [20, 60, 40])[0, 1], abs=1e-12)


def test_correlation_with_too_few_occupations_is_undefined():
    found = items(0, 0, options=3, groups=["a", "b"], values=[20, 60])
    result, lines = figures("pronouns", found, scores([-5, -4, -9], [-5, -2, -9]))
    assert lines["correlation with occupation", "all"].runs[0] == (2, None, None)
    assert "undefined" in table(result, ["run"])


def test_last_word():
    found = items(0, 0, options=1)
    _, lines = figures("last_word", found, scores([-1], [-3], greedy=[True, False]))
    assert lines["accuracy", "all"].runs[0].value == 50.0
    assert lines["last-word perplexity", "all"].runs[0].value == pytest.approx(math.exp(2))


def test_text():
    one = scores([-6], [-2], tokens=[3, 1], sizes=[10, 6])
    _, lines = figures("text", items(0, 0, options=1), one)
    assert lines["token perplexity", "all"].runs[0].value == pytest.approx(math.exp(2))
    assert lines["nats a byte", "all"].runs[0].value == pytest.approx(0.5)
    assert lines["bits a byte", "all"].runs[0].value == pytest.approx(0.5 / math.log(2))


def test_two_runs_and_a_clean_subset():
    found = items(0, 0, 0, 0)
    before = scores([-1, -2], [-2, -1], [-2, -1], [-1, -2])
    after = scores([-1, -2], [-1, -2], [-2, -1], [-1, -2])
    hit = np.array([True, False, True, False])
    result, lines = figures("accuracy", found, before, after, contaminated=hit)
    line = lines["accuracy", "all"]
    assert [one.value for one in line.runs] == [50.0, 75.0]
    (gap,) = line.differences
    assert gap.value == 25.0
    assert gap.standard_error == pytest.approx(100 * np.std([0, 1, 0, 0], ddof=1) / 2)
    assert [(one.n, one.value) for one in line.clean] == [(2, 50.0), (2, 100.0)]
    assert result.contaminated == 2
    text = table(result, ["old", "new"])
    assert "25.0 ± 25.0" in text
    assert "new - old" in text
    assert "2 items stand in the corpus" in text


def test_nothing_clean_is_undefined_and_null():
    result, lines = figures(
        "accuracy", items(0), scores([-1, -2]), contaminated=np.array([True])
    )  # fmt: skip
    assert lines["accuracy", "all"].clean[0] == (0, None, None)
    (figure,) = as_json(result)["figures"]
    assert figure["clean"] == [{"n": 0, "value": None, "standard_error": None}]
    assert figure["runs"] == [{"n": 1, "value": 100.0, "standard_error": None}]


def test_a_model_that_says_nan_has_no_figures():
    nan = float("nan")
    for measure, options in (("accuracy", 2), ("text", 1), ("pronouns", 3), ("last_word", 1)):
        one = scores([nan] * options, [nan] * options, greedy=[False] * 2 * options)
        result, _ = figures(measure, items(0, 0, options=options), one)
        for line in result.lines:
            assert line.runs[0].value is None, line.metric.name


def test_every_metric_is_defined_in_a_sentence():
    for metrics in MEASURES.values():
        for metric in metrics:
            assert metric.definition.count(".") == metric.definition.count("al. ")
            assert len(metric.definition) > 20
