"""Classify a text or a pair (Devlin et al. 2019, section 4.1; Radford et al. 2018, 3.3)."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from model.heads import Heads
from train.objectives import Pair, accuracy, cross_entropy, pad


def truncate_pair(
    first: np.ndarray, second: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the ends of the longer text until both fit into `room` tokens, as BERT does."""
    half = room // 2
    keep_second = min(len(second), max(half, room - len(first)))
    keep_first = min(len(first), room - keep_second)
    return first[:keep_first], second[:keep_second]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A label for each row from one state that stands for all of it.

    Attributes:
      length: tokens in a row; longer texts are cut.
      num_labels: classes.
      pooling: "own": the family's pooled state; "mean": the mean of the tokens' states.
      cls_last: a [SEP] b [SEP] [CLS], and [CLS] is of a third token type (XLNet).
    """

    length: int
    num_labels: int
    pooling: str = "own"
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = ""
    window: ClassVar[int] = 0
    targets: ClassVar[int] = 0

    def head(self) -> Heads:
        """The classifier."""
        return Heads(num_labels=self.num_labels, pooling=self.pooling)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """[CLS] a [SEP] b [SEP], without the tokens that the tokenizer does not have.

        RoBERTa's vocabularies have two separators between the texts.

        GPT's tokenizers have no [CLS]; there the end-of-text token follows each text, and the last
        one's state is what is classified.
        """
        start = [] if tokenizer.cls_id is None else [tokenizer.cls_id]
        end = tokenizer.eos_id if tokenizer.sep_id is None else tokenizer.sep_id
        end = [] if end is None else [end]
        first, second = example["tokens_a"], example["tokens_b"]
        middle = end * tokenizer.pair_separators if len(second) else end
        ends = len(middle) + (len(end) if len(second) else 0)
        first, second = truncate_pair(first, second, self.length - len(start) - ends)
        parts = [(start, 0), (first, 0), (middle, 0)]
        if len(second):
            parts += [(second, 1), (end, 1)]
        if self.cls_last:
            parts = [*parts[1:], (start, 2)]
        tokens = np.concatenate([np.asarray(part, np.int32) for part, _ in parts])
        types = np.repeat([kind for _, kind in parts], [len(part) for part, _ in parts])
        return {
            "tokens": pad(tokens, self.length, "int32"),
            "segment_ids": pad(np.ones(len(tokens)), self.length, "int32"),
            "token_types": pad(types, self.length, "int32"),
            "labels": np.int32(example["label"]),
            "label_weights": np.float32(1),
        }

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the label, in nats."""
        logits = apply(params, batch, rng)["class_logits"]
        labels = (logits, batch["labels"], batch["label_weights"])
        return {"loss": cross_entropy(*labels)}, {"accuracy": accuracy(*labels)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each row [B]: the predicted class, the label, and the weight (0: no example)."""
        logits = apply(params, batch)["class_logits"]
        return {
            "predictions": jnp.argmax(logits, axis=-1),
            "labels": batch["labels"],
            "weights": batch["label_weights"],
        }
