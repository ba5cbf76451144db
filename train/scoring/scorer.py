"""The scorer: options of items in, their log-probabilities out, batched by length.

Rows are collected by their shape, rounded up to a few (`BUCKETS`), so that few programs are
compiled and little is padding. As soon as a shape has a batch full, it is computed.

Legend: O options of all items.
"""

import bisect
import collections
import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from input_pipeline.items import Item
from train.errors import UserError
from train.mesh import to_devices
from train.scoring.language_model import LanguageModel
from train.scoring.rows import Rows

# Sizes to which rows and targets are filled up: at most a half more, a fifth on average.
BUCKETS = sorted(
    [1, *range(8, 32, 8), *(2**i for i in range(5, 21)), *(3 * 2**i for i in range(4, 20))]
)
CHUNK = 1024  # items tokenised at once
IN_FLIGHT = 2  # batches that are computed while the next one is laid out


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a model says of the options of all items, one after the other.

    Attributes:
      log_prob: [O] float64, log p(continuation | context) in nats, or the pseudo-likelihood.
      tokens: [O] int, how many tokens were scored.
      bytes: [O] int, of the continuation in UTF-8.
      greedy: [O] bool, whether each token scored is the most likely one in its place.
      unknown: [O] int, tokens of the continuation that the vocabulary does not know.
      cut: [O] bool, whether the text did not fit into one row.
      starts: [items + 1] int, where the options of each item begin.
    """

    log_prob: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    greedy: np.ndarray
    unknown: np.ndarray
    cut: np.ndarray
    starts: np.ndarray


def score(
    lm: LanguageModel, items: Sequence[Item], unmodified: bool = False, batch_tokens: int = 4096
) -> Scores:
    """Scores the options of all items.

    Args:
      lm: the model.
      items: what to score.
      unmodified: of a pseudo-likelihood, only the tokens that an item's two options share
        (Nangia et al. 2020, section 3.1); a likelihood is always the whole continuation's.
      batch_tokens: about so many tokens in a batch.

    Raises:
      UserError: a continuation that gives no token.
    """
    starts = np.cumsum([0, *(len(item.options) for item in items)])
    count = int(starts[-1])
    found = Scores(
        log_prob=np.zeros(count), tokens=np.zeros(count, int), bytes=np.zeros(count, int),
        greedy=np.ones(count, bool), unknown=np.zeros(count, int), cut=np.zeros(count, bool),
        starts=starts,
    )  # fmt: skip
    batches = _Batches(lm, batch_tokens)
    option = 0
    for item, texts in _tokenised(lm.layout.tokenizer, items):
        shared = _shared(*(ids for ids, _ in texts)) if _by_shared(lm, unmodified, item) else None
        for number, (ids, first) in enumerate(texts):
            wanted = np.arange(first, len(ids)) if shared is None else shared[number]
            found.tokens[option] = len(wanted)
            found.bytes[option] = len(item.options[number][1].encode("utf-8"))
            found.unknown[option] = np.sum(ids[wanted] == lm.layout.tokenizer.unk_id)
            found.cut[option] = lm.layout.cuts(ids, first)
            if len(wanted):
                for rows in lm.layout.rows(ids, wanted):
                    _add(found, batches.put(rows, option))
            option += 1
    _add(found, batches.finish())
    return found


def _by_shared(lm: LanguageModel, unmodified: bool, item: Item) -> bool:
    return unmodified and lm.layout.is_pseudo and len(item.options) == 2


def _tokenised(
    tokenizer: Any, items: Sequence[Item]
) -> Iterator[tuple[Item, list[tuple[np.ndarray, int]]]]:
    """For each item and option: ids of the whole text, and where its continuation begins.

    Context and continuation are tokenised together, as text is in training; the continuation is
    what follows the tokens that the context by itself has as well.
    """
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        texts = {c: None for item in chunk for c, _ in item.options if c}
        texts |= {c + rest: None for item in chunk for c, rest in item.options}
        ids = dict(zip(texts, tokenizer.encode_batch(list(texts)), strict=True))
        for item in chunk:
            options = []
            for context, continuation in item.options:
                whole = ids[context + continuation]
                first = _common(ids[context], whole) if context else 0
                if first == len(whole):
                    raise UserError(
                        f"{item.where}: {continuation!r} gives no token of the run's vocabulary; "
                        "mend or remove it."
                    )
                options.append((whole, first))
            yield item, options


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two texts have in common at their beginning."""
    size = min(len(a), len(b))
    differs = np.flatnonzero(a[:size] != b[:size])
    return int(differs[0]) if len(differs) else size


def _shared(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in each of two texts of the tokens that both have, in the same order."""
    matcher = difflib.SequenceMatcher(None, a.tolist(), b.tolist(), autojunk=False)
    pairs = [
        (block.a + i, block.b + i)
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]
    both = np.asarray(pairs, int).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _add(found: Scores, results: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    for owner, log_prob, greedy in results:
        np.add.at(found.log_prob, owner, log_prob)
        np.logical_and.at(found.greedy, owner, greedy)


class _Batches:
    """Rows that wait for their batch, by shape; and batches whose results are on their way."""

    def __init__(self, lm: LanguageModel, batch_tokens: int) -> None:
        self._lm, self._batch_tokens = lm, batch_tokens
        self._ways = lm.mesh.shape["data"] * lm.mesh.shape["fsdp"]
        self._waiting: dict[Any, list[tuple[Rows, np.ndarray]]] = collections.defaultdict(list)
        self._count: dict[Any, int] = collections.Counter()
        self._pending: collections.deque = collections.deque()

    def put(self, rows: Rows, option: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Takes the rows of an option; returns (option, log-probability, greedy) of some rows."""
        longest = self._lm.layout.length  # the position table may end there
        shape = tuple((name, min(_bucket(rows[name].shape[1]), longest)) for name in sorted(rows))
        count = len(rows["targets"])
        filled = {
            name: np.pad(rows[name], ((0, 0), (0, size - rows[name].shape[1])))
            for name, size in shape
        }
        self._waiting[shape].append((filled, np.full(count, option)))
        self._count[shape] += count
        most = self._size(shape)
        while self._count[shape] >= most:
            self._start(shape, most)
        return self._results(IN_FLIGHT)

    def finish(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Computes what is left; returns the results of all rows that were not given yet."""
        results = []
        for shape, count in list(self._count.items()):
            if count:
                most = self._size(shape)  # a quarter and a sixteenth of a batch: few shapes
                sizes = [size for size in (most // 16, most // 4) if self._fits(size, count)]
                self._start(shape, min([*sizes, most]))
            results += self._results(IN_FLIGHT)
        return results + self._results(0)

    def _fits(self, size: int, count: int) -> bool:
        return size >= count and size % self._ways == 0

    def _size(self, shape: Any) -> int:
        """Rows of a batch: a power of two times the devices, about `batch_tokens` tokens."""
        width = max(size for _, size in shape)
        return self._ways * 2 ** max(
            0, (self._batch_tokens // width // self._ways).bit_length() - 1
        )

    def _start(self, shape: Any, size: int) -> None:
        """Sends the first `size` rows of a shape, filled up with rows of weight 0."""
        waiting = self._waiting.pop(shape)
        owner = np.concatenate([own for _, own in waiting])
        rows = {name: np.concatenate([part[name] for part, _ in waiting]) for name, _ in shape}
        if len(owner) > size:
            self._waiting[shape] = [({k: v[size:] for k, v in rows.items()}, owner[size:])]
        self._count[shape] = max(0, len(owner) - size)
        owner = owner[:size]
        missing = size - len(owner)
        batch = {k: np.pad(v[:size], ((0, missing), (0, 0))) for k, v in rows.items()}
        output = self._lm.score(self._lm.params, to_devices(batch, self._lm.mesh))
        self._pending.append((owner, output))

    def _results(self, left: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        results = []
        while len(self._pending) > left:
            owner, output = self._pending.popleft()
            log_prob, greedy = (part[: len(owner)] for part in jax.device_get(output))
            results.append((owner, log_prob.astype(np.float64), greedy))
        return results


def _bucket(size: int) -> int:
    return BUCKETS[bisect.bisect_left(BUCKETS, size)]
