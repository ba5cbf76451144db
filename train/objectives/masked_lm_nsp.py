"""Masked tokens and next-sentence prediction together (Devlin et al. 2019, section 3.1, task 2).

With the two kinds of `pairs` that RoBERTa compares (Liu et al. 2019, section 4.2): SEGMENT-PAIR+NSP
and SENTENCE-PAIR+NSP.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from configs.base import choose
from model.heads import Heads
from train.objectives import Pair, accuracy, cross_entropy, pad
from train.objectives.masked_lm import check_rate, check_tokens, mask_tokens

ROWS = {"segments": "sentences", "sentences": "sentence_pairs"}  # pairs -> rows


@dataclasses.dataclass(frozen=True)
class Objective:
    """[CLS] A [SEP] B [SEP]: B follows A in half of the rows and is from elsewhere in the rest.

    Attributes:
      length: tokens in a row.
      mask_rate: share of the tokens that are predicted.
      whole_word: mask all pieces of a word together.
      pairs: what A and B are. "segments": the two parts of a run of sentences that fills the row;
        "sentences": one sentence each, so that most of a long row is padding. (The paper then takes
        more rows a batch, to have about as many tokens; here the number of rows is
        ``config.batch_size``, and short rows, ``config.length``, cost less.)
    """

    length: int
    mask_rate: float
    whole_word: bool
    pairs: str = "segments"
    losses: ClassVar[tuple[str, ...]] = ("mlm_loss", "nsp_loss")
    predicts: ClassVar[str] = "in_place"

    def __post_init__(self) -> None:
        """ConfigError on a share of the tokens that is none, or unknown pairs."""
        check_rate(self.mask_rate)
        choose("kind of pairs (config.objective.pairs)", self.pairs, ROWS)

    @property
    def rows(self) -> str:
        """Runs of sentences, or two sentences."""
        return ROWS[self.pairs]

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
        """One row; `labels` [] is 0 where B is the next text, 1 where it is from elsewhere."""
        check_tokens(tokenizer)
        make = segments if self.pairs == "segments" else sentences
        first, second, elsewhere = make(example, self.window, rng)
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


def segments(
    example: dict[str, Any], room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """A, B and whether B is from elsewhere: a run of sentences, cut where one of them begins.

    A run of one sentence is cut in its middle, so that the two labels stay equally frequent. B's
    length must not tell the label, nor whether B ends with its sentence: in both cases it is cut at
    a random place in the second half of what both candidates have. (Without that a model reaches
    80% on the lengths alone and learns nothing about the texts.)
    """
    text, borders = example["tokens"], np.asarray(example["sentence_starts"])
    borders = borders[borders > 0]
    cut = int(rng.choice(borders)) if len(borders) else max(1, len(text) // 2)
    elsewhere = bool(rng.random() < 0.5)
    after, other = text[cut:], example["distractor"]
    common = min(len(after), len(other))
    size = int(rng.integers((common + 1) // 2, max(common, 2)))
    return text[:cut], (other if elsewhere else after)[:size], elsewhere


def sentences(
    example: dict[str, Any], room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """A, B and whether B is from elsewhere: two whole sentences.

    Only one from elsewhere may not fit into the `room` of both. It is then cut, which tells its
    label: let rows be longer than two sentences.
    """
    text, cut = example["tokens"], int(example["sentence_starts"][1])
    elsewhere = bool(rng.random() < 0.5) and len(example["distractor"]) > 0
    second = example["distractor"] if elsewhere else text[cut:]
    return text[:cut], second[: room - cut], elsewhere
