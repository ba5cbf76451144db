"""Predict masked tokens (BERT; Devlin et al. 2019, section 3.1, task 1, and appendix A.1).

Of RoBERTa's input formats (Liu et al. 2019, section 4.2 and table 2) the two without next-sentence
prediction are here (`packing`), the two with it in masked_lm_nsp.py (`pairs`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from configs.base import ConfigError, choose
from model.heads import Heads
from train.errors import UserError
from train.objectives import Pair, accuracy, cross_entropy, pad

ROWS = {
    "windows": "stream",
    "full_sentences": "full_sentences",
    "doc_sentences": "sentences",
}  # packing -> rows


def choose_positions(
    candidates: np.ndarray, word_start: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws the positions to predict.

    Args:
      candidates: sorted positions [N] that may be drawn.
      word_start: [N] bool, True where a candidate begins a word. All True draws single tokens;
        otherwise a word is drawn with all its pieces or not at all.
      count: how many positions to draw, at most; a word that would go beyond is passed over.
      rng: the row's own generator.

    Returns:
      Sorted positions, `count` of them or a few less where whole words do not fill up.
    """
    if word_start.all():
        return np.sort(rng.permutation(candidates)[:count])
    word = np.cumsum(word_start) - word_start[0]
    sizes = np.bincount(word)
    chosen, left = np.zeros(len(sizes), bool), count
    for index in rng.permutation(len(sizes)):
        if sizes[index] <= left:
            chosen[index] = True
            left -= sizes[index]
        if left == 0:
            break
    return candidates[chosen[word]]


def mask_tokens(
    tokens: np.ndarray,
    mask_rate: float,
    whole_word: bool,
    max_targets: int,
    rng: np.random.Generator,
    tokenizer: Any,
) -> dict[str, np.ndarray]:
    """Replaces tokens and says what they were.

    Of the `mask_rate` of all ordinary tokens (at least one), 80% become the mask token, 10% a
    random ordinary token, 10% stay (appendix A.1). A fresh draw for each row and epoch.

    Args:
      tokens: [N] ids, special tokens included; these are never chosen.
      mask_rate: share of the ordinary tokens that are predicted.
      whole_word: draw words instead of pieces.
      max_targets: the fixed size P of the target arrays.
      rng: the row's own generator.
      tokenizer: gives mask_id, is_special [V], word_start [V].

    Returns:
      `tokens` [N], `target_positions`, `targets` and `weights` [P], filled up with weight 0.
    """
    candidates = np.flatnonzero(~tokenizer.is_special[tokens])
    starts = np.ones(len(candidates), bool)
    if whole_word:
        starts = tokenizer.word_start[tokens[candidates]]
    count = min(max_targets, max(1, round(len(candidates) * mask_rate)))
    positions = choose_positions(candidates, starts, count, rng)

    draw = rng.random(len(positions))
    ordinary = np.flatnonzero(~tokenizer.is_special)
    masked = tokens.astype(np.int32)
    masked[positions[draw < 0.8]] = tokenizer.mask_id
    at_random = positions[(draw >= 0.8) & (draw < 0.9)]
    masked[at_random] = rng.choice(ordinary, len(at_random))
    return {
        "tokens": masked,
        "target_positions": pad(positions, max_targets, "int32"),
        "targets": pad(tokens[positions], max_targets, "int32"),
        "weights": pad(np.ones(len(positions)), max_targets, "float32"),
    }


def check_rate(mask_rate: float) -> None:
    """ConfigError unless it is a share of the tokens."""
    if not 0 < mask_rate <= 1:
        raise ConfigError(
            f"config.objective.mask_rate is {mask_rate}; it must be above 0 and at most 1."
        )


def check_tokens(tokenizer: Any) -> None:
    """UserError on a tokenizer without the special tokens of these rows."""
    if None in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id):
        raise UserError(
            "Predicting masked tokens needs a [CLS], a [SEP] and a mask token, which this "
            "tokenizer does not have; use config.tokenizer.kind=wordpiece, bpe or unigram."
        )


def framed_window(segments: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segments and positions [N] of a window, and [N + 2] of it between [CLS] and [SEP].

    [CLS] joins the first document, which therefore starts at position 1, [SEP] the last one.
    """
    shifted = positions + (segments == segments[0])
    return (
        np.concatenate([segments[:1], segments, segments[-1:]]),
        np.concatenate([[0], shifted, shifted[-1:] + 1]),
    )


def framed_documents(starts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments and positions [size] of documents that end in [SEP], the first after [CLS].

    `starts` [D]: where further documents begin in the text alone.
    """
    begins = np.concatenate([[0], starts + np.arange(len(starts)) + 2])
    segments = np.searchsorted(begins, np.arange(size), "right")
    return segments, np.arange(size) - begins[segments - 1]


@dataclasses.dataclass(frozen=True)
class Objective:
    """Masked-token prediction: [CLS], text, [SEP].

    Attributes:
      length: tokens in a row.
      mask_rate: share of the tokens that are predicted.
      whole_word: mask all pieces of a word together.
      isolate_documents: a token sees its own document only (RoBERTa's rows: False).
      packing: what a row holds. "windows": as many tokens as fit, cut anywhere; "full_sentences":
        as many sentences, with a [SEP] where a document ends (FULL-SENTENCES); "doc_sentences": as
        many sentences of one document (DOC-SENTENCES). The rest of a row is padding. Where
        documents end early the paper takes more rows a batch, to have about as many tokens; here a
        batch is of ``config.batch_size`` rows whatever they hold.
    """

    length: int
    mask_rate: float
    whole_word: bool
    isolate_documents: bool
    packing: str = "windows"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = "in_place"

    def __post_init__(self) -> None:
        """ConfigError on a share of the tokens that is none, or an unknown packing."""
        check_rate(self.mask_rate)
        choose("packing (config.objective.packing)", self.packing, ROWS)

    @property
    def rows(self) -> str:
        """Windows, or whole sentences."""
        return ROWS[self.packing]

    @property
    def window(self) -> int:
        """Two places are for [CLS] and [SEP]."""
        return self.length - 2

    @property
    def targets(self) -> int:
        """The largest number of predicted positions in a row."""
        return max(1, round(self.window * self.mask_rate))

    def head(self) -> Heads:
        """The LM head."""
        return Heads(lm=True)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Frames a text of at most [length - 2] and masks it; arrays of [length] and [targets]."""
        check_tokens(tokenizer)
        text = example["tokens"]
        if self.packing != "windows":
            text = np.insert(text, example["document_starts"], tokenizer.sep_id)
        tokens = np.concatenate([[tokenizer.cls_id], text, [tokenizer.sep_id]])
        row = mask_tokens(tokens, self.mask_rate, self.whole_word, self.targets, rng, tokenizer)
        row["tokens"] = pad(row["tokens"], self.length, "int32")
        if self.packing == "windows":  # the last one of an evaluation ends in padding
            segments, positions = framed_window(example["segment_ids"], example["positions"])
        else:
            segments, positions = framed_documents(example["document_starts"], len(tokens))
        row["segment_ids"] = pad(segments, self.length, "int32")
        if not self.isolate_documents:
            return {**row, "segment_ids": (row["segment_ids"] > 0).astype(np.int32)}
        return {**row, "positions": pad(positions, self.length, "int32")}

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the masked tokens, in nats."""
        logits = apply(params, batch, rng)["logits"]
        targets = (logits, batch["targets"], batch["weights"])
        return {"loss": cross_entropy(*targets)}, {"accuracy": accuracy(*targets)}, carry
