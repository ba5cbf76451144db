"""Restore spans that were dropped from the text (T5; Raffel et al. 2020, section 3.3.4)."""

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np

from configs.base import ConfigError
from train.errors import UserError
from train.seq2seq import TeacherForced, end_of_text, make_row


def count_noise(count: int, rate: float, mean_span: float) -> tuple[int, int]:
    """How many of `count` tokens are dropped, and in how many spans; both exact, not drawn."""
    if count < 2:
        return 0, 0
    noise = min(max(round(count * rate), 1), count - 1)
    return noise, min(max(round(noise / mean_span), 1), noise, count - noise)


def row_sizes(count: int, rate: float, mean_span: float) -> tuple[int, int]:
    """Tokens in the encoder and in the decoder for a text of `count`, each with its end token."""
    noise, spans = count_noise(count, rate, mean_span)
    return count - noise + spans + 1, noise + spans + 1


@functools.lru_cache
def window_of(length: int, rate: float, mean_span: float) -> int:
    """The longest text that leaves `length` tokens in the encoder: it fills rows exactly.

    One token more gives one token more in the encoder or none, so no length is missed (unless
    half of the text is dropped token by token).
    """
    count = 1
    while row_sizes(count + 1, rate, mean_span)[0] <= length:
        count += 1
    return count


def divide(count: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`count` as a sum of `parts` positive numbers, every such sum equally likely."""
    cuts = np.sort(rng.permutation(count - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [count]]))


def draw_spans(
    count: int, rate: float, mean_span: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where spans begin and what they cover, two [count] bool: kept and dropped text alternate.

    As in the paper's code, the first token is always kept and the last one always dropped.
    """
    noise, spans = count_noise(count, rate, mean_span)
    begins, dropped = np.zeros(count, bool), np.zeros(count, bool)
    if spans:
        kept = divide(count - noise, spans, rng)
        borders = np.cumsum(np.stack([kept, divide(noise, spans, rng)], axis=1).ravel())
        begins[borders[::2]] = True
        for first, stop in borders.reshape(-1, 2):
            dropped[first:stop] = True
    return begins, dropped


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """A sentinel stands for each dropped span; the target is each sentinel and what it hides.

    Where documents are isolated, a span belongs to the document of its first token; if it goes on
    into the next one, that part is read but not predicted.

    Attributes:
      length: tokens in the encoder.
      noise_rate: share of the tokens that are dropped.
      mean_span: their mean number in a span.
      isolate_documents: a token sees its own document only.
      z_loss: weight of log(Z)^2 in the loss.
    """

    length: int
    noise_rate: float
    mean_span: float
    isolate_documents: bool
    z_loss: float
    rows: ClassVar[str] = "stream"

    def __post_init__(self) -> None:
        """ConfigError on a rate that leaves nothing, or on spans of less than a token."""
        if not 0 < self.noise_rate < 1 or not self.mean_span >= 1:
            raise ConfigError(
                f"config.objective.noise_rate {self.noise_rate} must lie between 0 and 1, and "
                f"config.objective.mean_span {self.mean_span} must be 1 or more."
            )

    @property
    def window(self) -> int:
        """More than the row: what is dropped goes to the decoder."""
        return window_of(self.length, self.noise_rate, self.mean_span)

    @property
    def targets(self) -> int:
        """Tokens in the decoder; every one is predicted."""
        return row_sizes(self.window, self.noise_rate, self.mean_span)[1]

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Corrupts a window; arrays of [length] and [targets], without padding in full windows."""
        real = example["segment_ids"] > 0  # the last window of an evaluation ends in padding
        tokens = example["tokens"][real]
        document = example["segment_ids"][real]
        if not self.isolate_documents:
            document = np.ones_like(document)
        begins, dropped = draw_spans(len(tokens), self.noise_rate, self.mean_span, rng)
        spans = int(begins.sum())
        if spans > len(tokenizer.sentinels):
            raise UserError(
                f"A row of {self.length} tokens loses {spans} spans, but the tokenizer has only "
                f"{len(tokenizer.sentinels)} sentinels; set --config.tokenizer.sentinels to at "
                f"least {spans}."
            )
        sentinels, end = tokenizer.sentinels[:spans], end_of_text(tokenizer)

        left = tokens.copy()
        left[begins] = sentinels
        left, left_document = left[begins | ~dropped], document[begins | ~dropped]
        first = np.flatnonzero(begins[dropped])  # of each span, among the dropped
        owner = document[begins][np.cumsum(begins[dropped]) - 1]
        weights = np.insert((owner == document[dropped]).astype(np.float32), first, 1)
        target = np.insert(tokens[dropped], first, sentinels)
        owner = np.insert(owner, first, document[begins])
        last = np.ones_like(end)
        return make_row(
            np.concatenate([left, end]),
            np.concatenate([target, end]),
            np.concatenate([left_document, last * document[-1]]),
            np.concatenate([owner, last * (owner[-1] if spans else document[-1])]),
            np.concatenate([weights, last]),
            self.length,
            self.targets,
        )
