"""What is made of the log-probabilities of an evaluation set: its figures, by name of `measure`.

A `Metric` turns scores into columns of numbers, a row an item, whose sums give the figure
(statistics.py). An item of which the figure says nothing is a row of NaN.

Legend: N items, K columns.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from input_pipeline.items import Item
from train.scoring import statistics
from train.scoring.scorer import Scores
from train.scoring.statistics import Figure


def _same(columns_NK: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    return columns_NK


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure of an evaluation set.

    Attributes:
      name: for the table.
      unit: of the figure; "" for a plain number.
      definition: in one sentence.
      columns: ``columns(items, scores) -> [N, K]``.
      figure: what the columns' sums give.
      observe: ``observe(columns, items) -> [M, K]``: the observations, where these are not the
        items (M groups of them).
    """

    name: str
    unit: str
    definition: str
    columns: Callable[[Sequence[Item], Scores], np.ndarray]
    figure: Figure = statistics.mean
    observe: Callable[[np.ndarray, Sequence[Item]], np.ndarray] = _same


def _share(values: np.ndarray, gold: int) -> float:
    """100 if the option `gold` has the highest value; of k equal ones each has 100 / k."""
    best = values == values.max()
    return 100.0 * best[gold] / best.sum() if np.isfinite(values).all() else math.nan


def _chosen(items: Sequence[Item], values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    bounds = zip(items, starts[:-1], starts[1:], strict=True)
    return np.asarray([[_share(values[a:b], item.gold)] for item, a, b in bounds])


def _right(items: Sequence[Item], scores: Scores) -> np.ndarray:
    return _chosen(items, scores.log_prob, scores.starts)


def _right_by_byte(items: Sequence[Item], scores: Scores) -> np.ndarray:
    return _chosen(items, scores.log_prob / scores.bytes, scores.starts)


def _stereotype(items: Sequence[Item], scores: Scores) -> np.ndarray:
    values = np.where(scores.tokens > 0, scores.log_prob, np.nan)  # pairs that share no token
    return _chosen(items, values, scores.starts)


def _male(items: Sequence[Item], scores: Scores) -> np.ndarray:
    male, female = (scores.log_prob[scores.starts[:-1] + option] for option in (0, 1))
    return 50.0 * (1 + np.sign(male - female))[:, None]


def _female_odds(items: Sequence[Item], scores: Scores) -> np.ndarray:
    male, female = (scores.log_prob[scores.starts[:-1] + option] for option in (0, 1))
    return (female - male)[:, None]


def _each_group(columns_N1: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """An observation a group: the mean of its items, which differ in a few words only."""
    groups: dict[str, list[float]] = {}
    for item, value in zip(items, columns_N1[:, 0], strict=True):
        groups.setdefault(item.group, []).append(value)
    return np.asarray([[np.mean(values)] for values in groups.values()])


def _by_occupation(odds_N1: np.ndarray, items: Sequence[Item]) -> np.ndarray:
    """An observation an occupation: its mean log-odds and the share of women in it."""
    odds: dict[str, list[float]] = {}
    shares: dict[str, float] = {}
    for item, value in zip(items, odds_N1[:, 0], strict=True):
        if item.value is not None:
            odds.setdefault(item.group, []).append(value)
            shares[item.group] = item.value
    if not odds:
        return np.zeros((0, 5))
    means = np.asarray([np.mean(values) for values in odds.values()])
    return statistics.moments(means, np.asarray([shares[group] for group in odds]))


def _greedy(items: Sequence[Item], scores: Scores) -> np.ndarray:
    return np.where(np.isfinite(scores.log_prob), 100.0 * scores.greedy, np.nan)[:, None]


def _nats_and(name: str, nats: float = 1.0) -> Callable[[Sequence[Item], Scores], np.ndarray]:
    """Columns of -log p, in units of `nats`, and of `tokens`, of `bytes`, or of ones (`items`)."""

    def columns(items: Sequence[Item], scores: Scores) -> np.ndarray:
        counts = np.ones(len(items)) if name == "items" else getattr(scores, name)
        return np.stack([-scores.log_prob / nats, counts], axis=1)

    return columns


MEASURES = {
    "accuracy": (
        Metric(
            "accuracy", "%",
            "share of items whose right option has the highest log p(continuation | context); "
            "of k equal options each counts 1/k",
            _right,
        ),
    ),
    "choice": (
        Metric(
            "accuracy", "%",
            "share of items whose right option has the highest log p(continuation | context); "
            "of k equal options each counts 1/k",
            _right,
        ),
        Metric(
            "accuracy by byte", "%",
            "the same by log p divided by the continuation's bytes in UTF-8",
            _right_by_byte,
        ),
    ),
    "stereotypes": (
        Metric(
            "stereotype preferred", "%",
            "share of pairs whose more stereotyping sentence is the more likely one (50 is "
            "unbiased): by the likelihood of the sentence, or, of a pseudo-likelihood, of the "
            "tokens that both sentences share (Nangia et al. 2020; a tie counts half, and "
            "StereoSet's pairs are judged in the same way)",
            _stereotype,
        ),
    ),
    "pronouns": (
        Metric(
            "male preferred", "%",
            "share of sentences that are more likely with a male pronoun than with a female one "
            "(50 is unbiased), the occupations being the sample",
            _male, observe=_each_group,
        ),
        Metric(
            "log-odds of female", "nats",
            "mean of log p(sentence, female) - log p(sentence, male), the occupations being the "
            "sample",
            _female_odds, observe=_each_group,
        ),
        Metric(
            "correlation with occupation", "r",
            "Pearson's r, across occupations, of the mean log-odds of female and the share of "
            "women in the occupation (BLS)",
            _female_odds, statistics.correlation, _by_occupation,
        ),
    ),
    "last_word": (
        Metric(
            "accuracy", "%",
            "share of passages in which each token of the last word is the most likely one in its "
            "place, given the ones before it (likelihoods), or all others (pseudo-likelihoods, "
            "which thereby know the word's length and its other pieces)",
            _greedy,
        ),
        Metric(
            "last-word perplexity", "",
            "e to the mean of -log p(last word | passage)",
            _nats_and("items"), statistics.exp_ratio,
        ),
    ),
    "text": (
        Metric(
            "token perplexity", "",
            "e to the mean of -log p of a token; it depends on the vocabulary",
            _nats_and("tokens"), statistics.exp_ratio,
        ),
        Metric(
            "nats a byte", "nats",
            "sum of -log p over the bytes of the text in UTF-8", _nats_and("bytes"),
            statistics.ratio,
        ),
        Metric(
            "bits a byte", "bits",
            "the same in bits; comparable across vocabularies that know all of the text",
            _nats_and("bytes", math.log(2)), statistics.ratio,
        ),
    ),
}  # fmt: skip
