"""Predict tokens in a random order, each from those before it there (Yang et al. 2019, XLNet).

A row is: the text whose states enter the memory [reuse_len], then A [SEP] B [SEP] [CLS], where A
continues it and B continues A or is from elsewhere (section 2.5). The first part never sees the
second, which is the next row's first part: the memory must not know what is predicted there.

Of the ablations in table 6: "- memory" is ``config.model.mem_len`` 0, "- span-based pred"
`max_span` 0, "- bidirectional data" ``config.objective.bidirectional`` False, K is `span_context`.
"""

import bisect
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from configs.base import ConfigError
from model.heads import Heads
from train.errors import UserError
from train.objectives import Pair, accuracy, cross_entropy, pad


def choose_spans(
    begins: np.ndarray,
    ordinary: np.ndarray,
    count: int,
    context: int,
    longest: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws the positions to predict, in spans of whole words (section 2.3 and published code).

    A span has n words with a probability in proportion to 1/n, and n * context tokens around it
    that are not predicted. All spans of the row are drawn, those beyond `count` dropped at random;
    single tokens fill up what is missing. (The published code stops at the count instead, so that
    the end of a row is predicted less often.)

    Args:
      begins: [N] bool, True where a token begins a word.
      ordinary: [N] bool, False at special tokens, which are never predicted.
      count: how many positions to draw; fewer where there are not as many ordinary tokens.
      context: K.
      longest: words of a span, at most; 0: single tokens, pieces of words too, each as likely.
      rng: the row's own generator.

    Returns:
      Sorted positions.
    """
    if not longest:
        return np.sort(rng.permutation(np.flatnonzero(ordinary))[:count])
    size = len(begins)
    edges = [*np.flatnonzero(begins).tolist(), size]
    lengths = np.arange(1, longest + 1)
    chances = (1 / lengths) / (1 / lengths).sum()
    words = rng.choice(lengths, size // (context + 1) + 1, p=chances)
    before = rng.integers(words * context).tolist()
    spans, end = [], 0
    for n, left in zip(words.tolist(), before, strict=True):
        word = bisect.bisect_left(edges, end + left)
        if word + n >= len(edges):
            break
        spans.append(slice(edges[word], edges[word + n]))
        end = edges[word + n] + n * context - left
    until = [0, *np.cumsum(ordinary).tolist()]
    chosen, missing = np.zeros(size, bool), min(count, until[-1])
    for index in rng.permutation(len(spans)).tolist():
        tokens = until[spans[index].stop] - until[spans[index].start]
        if tokens <= missing:
            chosen[spans[index]] = True
            missing -= tokens
    chosen &= ordinary
    rest = np.flatnonzero(ordinary & ~chosen)
    chosen[rng.permutation(rest)[:missing]] = True
    return np.flatnonzero(chosen)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Permutation language modelling on contiguous rows.

    Attributes:
      length: tokens in a row.
      span_context: K: one token in K is predicted (section 2.3, partial prediction).
      max_span: words of a predicted span, at most; 0: single tokens, as many of them ("- span-based
        pred" of table 6; 1 would be whole words).
      mem_len: tokens that the model's memory holds.
      reuse_len: tokens of a row that enter it; the next row goes on after them.
    """

    length: int
    span_context: int
    max_span: int
    mem_len: int
    reuse_len: int
    rows: ClassVar[str] = "contiguous"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = "permuted"

    def __post_init__(self) -> None:
        """ConfigError where the parts do not fit into a row."""
        if self.reuse_len > self.length - 8:
            raise ConfigError(
                f"config.model.reuse_len {self.reuse_len} leaves too little of config.length "
                f"{self.length} for two texts; lower it (half of the length is usual)."
            )
        if self.mem_len and not self.reuse_len:
            raise ConfigError(
                f"config.model.mem_len is {self.mem_len} but config.model.reuse_len is 0, so that "
                "the memory would hold what is predicted next; set it (half of the length is "
                "usual), or set mem_len to 0."
            )
        if self.span_context < 1 or self.max_span < 0:
            raise ConfigError(
                f"config.objective.span_context {self.span_context} must be at least 1, and "
                f"config.objective.max_span {self.max_span} at least 0."
            )

    @property
    def window(self) -> int:
        """Three places are for two [SEP] and [CLS]."""
        return self.length - 3

    @property
    def stride(self) -> int:
        """By how many tokens of text a row lies behind the one before."""
        return self.reuse_len or self.window

    @property
    def targets(self) -> int:
        """How many positions of a row are predicted."""
        return max(1, round(self.length / self.span_context))

    def head(self) -> Heads:
        """The LM head on the query stream."""
        return Heads(lm=True, permuted=True)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Lays out a row and draws what is predicted, and in which order.

        The rank of a token in `factorization_order`: 0 for the first part's tokens that are not
        predicted, its targets from 1 on in random order; then the second part's in the same way.
        """
        if tokenizer.sep_id is None or tokenizer.cls_id is None:
            raise UserError(
                "config.objective.name=permutation_lm needs a [SEP] and a [CLS] token, which this "
                "tokenizer does not have; use config.tokenizer.kind=unigram, wordpiece or bpe."
            )
        backward = bool(example["backward"])
        first = example["tokens"][: self.reuse_len]
        second, third = self._two_texts(example, rng, tokenizer)
        sep, cls = [tokenizer.sep_id], [tokenizer.cls_id]
        tokens = np.concatenate([first, second, sep, third, sep, cls]).astype(np.int32)
        sizes = (len(first) + len(second) + 1, len(third) + 1, 1)

        special = tokenizer.is_special[tokens]
        begins = _word_begins(tokens, backward, tokenizer)
        begins[1:] |= special[:-1]
        begins |= special
        share = round(self.targets * self.reuse_len / self.length)
        order = np.zeros(len(tokens), np.int32)
        positions, rank = [], 0
        for part, count in (
            (slice(0, len(first)), share),
            (slice(len(first), len(tokens)), self.targets - share),
        ):
            chosen = part.start + choose_spans(
                begins[part], ~special[part], count, self.span_context, self.max_span, rng
            )
            order[part] = rank
            order[chosen] = rank + 1 + rng.permutation(len(chosen))
            rank += 1 + len(chosen)
            positions.append(chosen)
        at = np.concatenate(positions)
        return {
            "tokens": pad(tokens, self.length, "int32"),
            "segment_ids": pad(np.ones(len(tokens)), self.length, "int32"),
            "token_types": pad(np.repeat([0, 1, 2], sizes), self.length, "int32"),
            "factorization_order": pad(order, self.length, "int32"),
            "target_positions": pad(at, self.targets, "int32"),
            "targets": pad(tokens[at], self.targets, "int32"),
            "weights": pad(np.ones(len(at)), self.targets, "float32"),
            "backward": np.int32(backward),
            "continues": np.int32(example["continues"]),
        }

    def _two_texts(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """A and B: the rest of the window cut where a word begins; B is from elsewhere in half."""
        rest = example["tokens"][self.reuse_len :]
        begins = _word_begins(rest, bool(example["backward"]), tokenizer)
        cuts = 1 + np.flatnonzero(begins[1:])
        cut = int(rng.choice(cuts)) if len(cuts) else len(rest) // 2
        follows = rng.random() < 0.5
        return rest[:cut], rest[cut:] if follows else example["elsewhere"][: len(rest) - cut]

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the predicted tokens, in nats; the memory goes on."""
        outputs = apply(params, batch, rng, caches=carry or None)
        targets = (outputs["logits"], batch["targets"], batch["weights"])
        carry = outputs["caches"] if carry else carry
        return {"loss": cross_entropy(*targets)}, {"accuracy": accuracy(*targets)}, carry


def _word_begins(tokens: np.ndarray, backward: bool, tokenizer: Any) -> np.ndarray:
    """[N] bool: where a word begins in reading order; backwards that is after its first piece."""
    starts = tokenizer.word_start[tokens]
    if backward and len(starts):
        starts = np.concatenate([[True], starts[:-1]])
    return starts.copy()
