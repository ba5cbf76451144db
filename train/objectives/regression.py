"""A number for a text or a pair (STS-B in Devlin et al. 2019, section 4.1): squared error."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from input_pipeline.values import as_number
from model.heads import Heads
from train.framing import text_task
from train.objectives import Pair, classification
from train.scores import by_record, correlations


@dataclasses.dataclass(frozen=True)
class Objective:
    """One number a row, from one state that stands for all of it.

    Attributes:
      length: tokens in a row; longer texts are cut.
      pooling: as in classification.
      cls_last: as in classification.
    """

    length: int
    pooling: str = "own"
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman")
    window: ClassVar[int] = 0

    def head(self) -> Heads:
        """A classifier of one output."""
        return Heads(num_labels=1, pooling=self.pooling)

    def task(self, data: Any) -> Task:
        """A text or a pair, and its number."""
        return text_task(
            data,
            label=lambda value, where, _: as_number(value, data.label_field, where),
            labels=None,
            identity=("regression",),
        )

    @property
    def _rows(self) -> classification.Objective:
        """Whose rows these are."""
        return classification.Objective(self.length, 1, self.pooling, cls_last=self.cls_last)

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose texts do not fit into a row."""
        return self._rows.longer(store, tokenizer)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """The row of classification, with a number for its label."""
        row = self._rows.features(example, rng, tokenizer)
        return row | {"labels": np.float32(example["label"])}

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean squared error, and the mean absolute one."""
        error = apply(params, batch, rng)["class_logits"][:, 0] - batch["labels"]
        weights = batch["label_weights"]
        total = jnp.sum(weights)
        losses = {"loss": (jnp.sum(jnp.square(error) * weights), total)}
        return losses, {"absolute_error": (jnp.sum(jnp.abs(error) * weights), total)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each row [B]: the prediction, the label, and the weight (0: no example)."""
        return {
            "predictions": apply(params, batch)["class_logits"][:, 0],
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
        """Pearson's and Spearman's correlation of predictions and labels."""
        found, given = predictions["predictions"], predictions["labels"]
        pearson, spearman = correlations(given, found)
        return {"pearson": pearson, "spearman": spearman}, by_record(predictions, float)
