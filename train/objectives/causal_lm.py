"""Predict the next token (GPT; Radford et al. 2018, section 3.1)."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from model.heads import Heads
from train.errors import UserError
from train.objectives import Pair, accuracy, cross_entropy


@dataclasses.dataclass(frozen=True)
class Objective:
    """Next-token prediction on a stream of documents.

    Attributes:
      length: tokens in a row.
      isolate_documents: a token sees and is predicted from its own document only; otherwise the
        row is one text, as GPT-2 was trained, with the end-of-text token as the border.
      cls_first: a row begins with [CLS], as BERT's do; so do those of "LTR & No NSP" (Devlin et al.
        2019, section 5.1: "our input representation"). It joins the first document.
    """

    length: int
    isolate_documents: bool
    cls_first: bool = False
    rows: ClassVar[str] = "stream"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = "causal"

    @property
    def window(self) -> int:
        """One token more than the row, [CLS] counted: inputs and targets are shifted by one."""
        return self.length + 1 - self.cls_first

    @property
    def targets(self) -> int:
        """Every position predicts."""
        return self.length

    def head(self) -> Heads:
        """The LM head."""
        return Heads(lm=True)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Shifts a window [length + 1] into `tokens`, `targets` and `weights` [length]."""
        tokens, segments, positions = (
            example[name] for name in ("tokens", "segment_ids", "positions")
        )
        if self.cls_first:
            if tokenizer.cls_id is None:
                raise UserError(
                    "Rows of this family begin with [CLS], which the tokenizer does not have; use "
                    "config.tokenizer.kind=wordpiece, bpe or unigram."
                )
            tokens = np.concatenate([[tokenizer.cls_id], tokens])
            positions = np.concatenate([[0], positions + (segments == segments[0])])
            segments = np.concatenate([segments[:1], segments])
        row = {"tokens": tokens[:-1].astype(np.int32), "targets": tokens[1:].astype(np.int32)}
        real = segments[1:] > 0  # the last window of an evaluation ends in padding
        if not self.isolate_documents:
            return {**row, "weights": real.astype(np.float32)}
        return {
            **row,
            "weights": (real & (segments[1:] == segments[:-1])).astype(np.float32),
            "segment_ids": segments[:-1].astype(np.int32),
            "positions": positions[:-1].astype(np.int32),
        }

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood over all targets of the batch, in nats a token."""
        logits = apply(params, batch, rng)["logits"]
        targets = (logits, batch["targets"], batch["weights"])
        return {"loss": cross_entropy(*targets)}, {"accuracy": accuracy(*targets)}, carry
