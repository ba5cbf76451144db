"""What a loss on text is worth: against a predictor that ignores the context, and by the byte."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Batches = Iterable[dict[str, np.ndarray]]


def count_targets(batches: Batches, vocab_size: int) -> np.ndarray:
    """How often each token is predicted, by weight: [V] float64."""
    counts = np.zeros(vocab_size)
    for batch in batches:
        weights = batch["weights"].ravel()
        counts += np.bincount(batch["targets"].ravel(), weights, minlength=vocab_size)
    return counts


def unigram_loss(trained: np.ndarray, held_out: np.ndarray) -> float:
    """Nats a token of the predictor that always answers with the tokens' frequencies.

    Args:
      trained: [V] counts of the predicted tokens of training; each gets one more (Laplace).
      held_out: [V] counts of those to predict.
    """
    log_probability = np.log((trained + 1) / (trained.sum() + len(trained)))
    return float(-(held_out * log_probability).sum() / held_out.sum())


def bits_per_byte(loss: float, batches: Batches, tokenizer: Any) -> float:
    """A loss in nats a token as bits a byte of the text that the predicted tokens spell.

    Unlike the loss it does not depend on the vocabulary. Defined where each token is predicted
    once, from what is before it. Special tokens are predicted too, and spell nothing.
    """
    ids = np.concatenate([batch["targets"][batch["weights"] > 0] for batch in batches])
    return loss * len(ids) / math.log(2) / len(tokenizer.decode(ids.tolist()).encode("utf-8"))
