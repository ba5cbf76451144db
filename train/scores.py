"""Metrics of labelled tasks, from the libraries that define them; NaN where one is undefined."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def by_record(
    predictions: dict[str, np.ndarray], shown: Callable[[Any], Any]
) -> list[dict[str, Any]]:
    """What was predicted for each record [E] and what is right, as `shown`; for JSON."""
    columns = (predictions[key] for key in ("record", "predictions", "labels"))
    return [
        {"record": int(record), "prediction": shown(prediction), "label": shown(label)}
        for record, prediction, label in zip(*columns, strict=True)
    ]


def f1(labels: np.ndarray, predictions: np.ndarray, classes: int) -> float:
    """F1 of class 1 where there are two classes, else the mean over the classes (scikit-learn).

    Undefined (NaN) for a class that is neither there nor predicted.
    """
    from sklearn.metrics import f1_score  # slow to import

    if classes == 2:
        return float(f1_score(labels, predictions, pos_label=1, zero_division=math.nan))
    return float(
        f1_score(
            labels, predictions, labels=range(classes), average="macro", zero_division=math.nan
        )
    )


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation (scikit-learn); undefined where all labels or predictions are alike."""
    from sklearn.metrics import matthews_corrcoef

    if min(len(np.unique(labels)), len(np.unique(predictions))) < 2:
        return math.nan
    return float(matthews_corrcoef(labels, predictions))


def correlations(values: np.ndarray, predictions: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation (SciPy); undefined where either side is constant."""
    from scipy.stats import pearsonr, spearmanr

    if len(values) < 2 or min(np.ptp(values), np.ptp(predictions)) == 0:
        return math.nan, math.nan
    return (
        float(pearsonr(values, predictions).statistic),
        float(spearmanr(values, predictions).statistic),
    )


def entities(labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict:
    """Precision, recall and F1 of entities, as CoNLL counts them (seqeval).

    Args:
      labels: the tags of each sentence, in BIO or a like scheme.
      predictions: the same, predicted.

    Undefined (NaN) where there is no entity to find, or none was found.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

    there = len(get_entities([list(tags) for tags in labels]))
    found = len(get_entities([list(tags) for tags in predictions]))
    labels, predictions = [list(tags) for tags in labels], [list(tags) for tags in predictions]
    with warnings.catch_warnings():  # tags outside the scheme, and zero divisions
        warnings.simplefilter("ignore")
        values = {
            "precision": precision_score(labels, predictions) if found else math.nan,
            "recall": recall_score(labels, predictions) if there else math.nan,
            "f1": f1_score(labels, predictions) if found + there else math.nan,
        }
    return {name: float(value) for name, value in values.items()}
