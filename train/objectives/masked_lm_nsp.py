"""Masked tokens and next-sentence prediction together (Devlin et al. 2019, section 3.1, task 2)."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from model.heads import Heads
from train.objectives import Pair, accuracy, cross_entropy, pad
from train.objectives.masked_lm import check_rate, check_tokens, mask_tokens


@dataclasses.dataclass(frozen=True)
class Objective:
    """[CLS] A [SEP] B [SEP]: B follows A in half of the rows and is from elsewhere in the rest.

    Attributes:
      length: tokens in a row.
      mask_rate: share of the tokens that are predicted.
      whole_word: mask all pieces of a word together.
    """

    length: int
    mask_rate: float
    whole_word: bool
    rows: ClassVar[str] = "sentences"
    losses: ClassVar[tuple[str, ...]] = ("mlm_loss", "nsp_loss")
    predicts: ClassVar[str] = "in_place"

    def __post_init__(self) -> None:
        """ConfigError on a share of the tokens that is none."""
        check_rate(self.mask_rate)

    @property
    def window(self) -> int:
        """Three places are for [CLS] and two [SEP]."""
        return self.length - 3

    @property
    def targets(self) -> int:
        """The largest number of predicted positions in a row."""
        return max(1, round(self.window * self.mask_rate))

    def head(self) -> Heads:
        """The LM head and the next-sentence head."""
        return Heads(lm=True, next_sentence=True)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """One row; `labels` [] is 0 where B is the next text, 1 where it is from elsewhere.

        A run of one sentence is cut in its middle, so that the two labels stay equally frequent.
        B's length must not tell the label, nor whether B ends with its sentence: in both cases it
        is cut at a random place in the second half of what both candidates have. (Without that a
        model reaches 80% on the lengths alone and learns nothing about the texts.)
        """
        check_tokens(tokenizer)
        text, borders = example["tokens"], np.asarray(example["sentence_starts"])
        borders = borders[borders > 0]
        cut = int(rng.choice(borders)) if len(borders) else max(1, len(text) // 2)
        elsewhere = bool(rng.random() < 0.5)
        first = text[:cut]
        after, other = text[cut:], example["distractor"]
        common = min(len(after), len(other))
        size = int(rng.integers((common + 1) // 2, max(common, 2)))
        second = (other if elsewhere else after)[:size]

        tokens = np.concatenate(
            [[tokenizer.cls_id], first, [tokenizer.sep_id], second, [tokenizer.sep_id]]
        )
        row = mask_tokens(tokens, self.mask_rate, self.whole_word, self.targets, rng, tokenizer)
        types = np.arange(len(tokens)) >= len(first) + 2
        return {
            **row,
            "tokens": pad(row["tokens"], self.length, "int32"),
            "token_types": pad(types, self.length, "int32"),
            "segment_ids": pad(np.ones(len(tokens)), self.length, "int32"),
            "labels": np.int32(elsewhere),
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
        """The sum of two means: over masked tokens and over rows (appendix A.2), in nats."""
        outputs = apply(params, batch, rng)
        masked = (outputs["logits"], batch["targets"], batch["weights"])
        order = (outputs["next_sentence_logits"], batch["labels"], batch["label_weights"])
        losses = {"mlm_loss": cross_entropy(*masked), "nsp_loss": cross_entropy(*order)}
        metrics = {"mlm_accuracy": accuracy(*masked), "nsp_accuracy": accuracy(*order)}
        return losses, metrics, carry
