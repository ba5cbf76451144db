"""Classify a text or a pair (Devlin et al. 2019, section 4.1; Radford et al. 2018, 3.3)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from configs.base import ConfigError
from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from input_pipeline.values import as_label
from model.heads import Heads
from train.framing import class_index, frame_within, text_task
from train.objectives import Pair, accuracy, cross_entropy, pad, smoothed_cross_entropy
from train.room import longer
from train.scores import by_record, f1, matthews


@dataclasses.dataclass(frozen=True)
class Objective:
    """A label for each row from one state that stands for all of it.

    Attributes:
      length: tokens in a row; longer texts are cut.
      num_labels: classes.
      pooling: "own": the family's pooled state; "mean": the mean of the tokens' states.
      label_smoothing: share of the target that all classes have alike (Szegedy et al. 2016).
      lm_weight: weight of next-token prediction on the same text beside the label, the auxiliary
        loss of GPT-1 (Radford et al. 2018, equation 5); 0: none.
      causal: the model sees earlier tokens only.
      cls_last: a [SEP] b [SEP] [CLS], and [CLS] is of a third token type (XLNet).
    """

    length: int
    num_labels: int
    pooling: str = "own"
    label_smoothing: float = 0.0
    lm_weight: float = 0.0
    causal: bool = False
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    predicts: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ("f1", "matthews")
    window: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """ConfigError on weights that make no sense here."""
        check_smoothing(self.label_smoothing)
        if self.lm_weight < 0 or (self.lm_weight and not self.causal):
            raise ConfigError(
                f"config.objective.lm_weight is {self.lm_weight}; it must not be negative, and it "
                "needs a model that predicts the next token (config.model.family=gpt, or "
                "attention_type=uni)."
            )

    @property
    def losses(self) -> tuple[str, ...]:
        """The label's, and the text's where it is predicted too."""
        return ("loss", "lm_loss") if self.lm_weight else ("loss",)

    @property
    def targets(self) -> int:
        """Positions that predict a token."""
        return self.length - 1 if self.lm_weight else 0

    def head(self) -> Heads:
        """The classifier."""
        return Heads(num_labels=self.num_labels, pooling=self.pooling, lm=self.lm_weight > 0)

    def task(self, data: Any) -> Task:
        """A text or a pair, and the name of its class."""
        field = data.label_field
        return text_task(
            data,
            label=lambda value, where, names: class_index(value, field, where, names),
            labels=lambda record: [as_label(record[1][1], field, record[0])],
            identity=("classification",),
        )

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose texts do not fit into a row."""
        first, second = store.sizes("tokens_a"), store.sizes("tokens_b")
        return longer(first, second, self.length, tokenizer)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """One framed text or pair, padded to [length] (train/framing.py)."""
        framed = frame_within(
            example["tokens_a"], example["tokens_b"], self.length, tokenizer, self.cls_last
        )
        return {
            "tokens": pad(framed.tokens, self.length, "int32"),
            "segment_ids": pad(np.ones(len(framed.tokens)), self.length, "int32"),
            "token_types": pad(framed.token_types, self.length, "int32"),
            "labels": np.int32(example["label"]),
            "label_weights": np.float32(1),
            "record": np.int32(example["record"]),
        }

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the label, in nats; with `lm_weight`, also the text's."""
        outputs = apply(params, batch, rng)
        labels = (outputs["class_logits"], batch["labels"], batch["label_weights"])
        smoothing = 0.0 if rng is None else self.label_smoothing  # evaluation is not smoothed
        losses = {"loss": smoothed_cross_entropy(*labels, smoothing)}
        if self.lm_weight:
            follows = (batch["segment_ids"][:, 1:] > 0).astype(jnp.float32)
            text = (outputs["logits"][:, :-1], batch["tokens"][:, 1:], follows)
            value, weight = cross_entropy(*text)
            losses["lm_loss"] = (self.lm_weight * value, weight)
        return losses, {"accuracy": accuracy(*labels)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each row [B]: the predicted class, the label, and the weight (0: no example)."""
        logits = apply(params, batch)["class_logits"]
        return {
            "predictions": jnp.argmax(logits, axis=-1),
            "labels": batch["labels"],
            "weights": batch["label_weights"],
            "record": batch["record"],
        }

    def finalize(
        self,
        predictions: dict[str, np.ndarray],
        records: Callable[[], Sequence[Record]],
        tokenizer: Any,
        labels: Sequence[str],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """F1 (of class 1 of two; else the mean over classes) and Matthews' correlation."""
        found, given = predictions["predictions"], predictions["labels"]
        metrics = {"f1": f1(given, found, len(labels)), "matthews": matthews(given, found)}
        return metrics, by_record(predictions, labels.__getitem__)


def check_smoothing(value: float) -> None:
    """ConfigError on a share that is none."""
    if not 0 <= value < 1:
        raise ConfigError(
            f"config.objective.label_smoothing is {value}; it must be at least 0 and below 1."
        )
