"""Rows for models from token stores: windows of a stream, runs of sentences, labelled examples.

A row source finds row `index` of any epoch in O(1) (windows, examples) or from a plan of one
integer a row (sentences). Arrays in a row are of any length; objectives give them a fixed shape.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.example_store import ExampleStore
from input_pipeline.token_store import TokenStore

Row = dict[str, np.ndarray]


class RowSource(Protocol):
    """Rows that are found by epoch and index."""

    def __len__(self) -> int:
        """Give the number of rows in an epoch."""

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give row `index` of an epoch; `rng` is for this row's own random choices."""


class StreamRows:
    """Consecutive windows of `length` tokens over tokens [start, stop) of a store.

    With a seed, each epoch begins at a phase of its own, so that windows are cut elsewhere; the
    tokens before the phase and after the last whole window (fewer than 2 * length) sit that epoch
    out. Without a seed every token comes exactly once, the last window padded with segment 0.
    """

    def __init__(self, store: TokenStore, start: int, stop: int, length: int, seed: int | None):
        self._store, self._start, self._stop, self._length = store, start, stop, length
        self._seed = seed
        size = stop - start
        whole = (size - length + 1) // length  # windows that fit whatever the phase
        self._rows = max(1, whole) if seed is not None else -(-size // length)
        self._spare = max(0, size - self._rows * length)

    def __len__(self) -> int:
        """Return the number of windows in an epoch."""
        return self._rows

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the text under these rows."""
        return self._store.text_bytes(self._start, self._stop)

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give one window.

        Returns:
            tokens [length] int32; segment_ids [length] int32, documents counted from 1, 0 where
            padded; positions [length] int32, counted from each document's first token in the row.
        """
        phase = 0 if self._seed is None else _phase(self._seed, epoch, self._spare)
        first = self._start + phase + index * self._length
        count = min(self._length, self._stop - first)
        documents = self._store.documents
        low = int(np.searchsorted(documents, first, "right"))
        high = int(np.searchsorted(documents, first + count, "left"))
        starts = np.concatenate([[0], documents[low:high] - first])  # of segments, in the row
        segments = np.searchsorted(starts, np.arange(count), "right")
        row = {k: np.zeros(self._length, np.int32) for k in ("tokens", "segment_ids", "positions")}
        row["tokens"][:count] = self._store.tokens[first : first + count]
        row["segment_ids"][:count] = segments
        row["positions"][:count] = np.arange(count) - starts[segments - 1]
        return row


@functools.lru_cache(maxsize=16)
def _phase(seed: int, epoch: int, spare: int) -> int:
    """Give how many tokens an epoch leaves out at its beginning, at most `spare`."""
    return int(np.random.default_rng([seed, epoch]).integers(spare + 1))


class SentenceRows:
    """Whole sentences, filled greedily up to `length` tokens.

    Rows never cross a document, unless `crossing`; then one place is kept free for a separator
    wherever they do. A sentence longer than a row is cut into rows' lengths. The plan (where each
    row begins and ends, among the sentences) is the same in every epoch.
    """

    def __init__(
        self, store: TokenStore, start: int, stop: int, length: int, crossing: bool = False
    ):
        self._store, self._length = store, length
        self._bounds = _sentence_bounds(store, start, stop, length)
        self._next = _greedy_next(self._bounds, store.documents, length, crossing)
        firsts, sentence, last = [], 0, len(self._bounds) - 1
        following = self._next.tolist()
        while sentence < last:
            firsts.append(sentence)
            sentence = following[sentence]
        self._firsts = np.array([*firsts, last], np.int64)
        row_starts = self._bounds[self._firsts[:-1]]
        self._document = np.searchsorted(store.documents, row_starts, "right")

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self._firsts) - 1

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give one row.

        Returns:
            tokens [N <= length] int32; sentence_starts [S] int32, where sentences begin in it;
            document_starts [D] int32, where a further document begins in it; distractor
            [M <= length] int32, a run of whole sentences, from a random one on, of another document
            (of another row where there is one document only; empty where there is one row only).
        """
        first, last = self._firsts[index], self._firsts[index + 1]
        start, stop = self._bounds[first], self._bounds[last]
        return {
            "tokens": self._tokens(start, stop),
            "sentence_starts": (self._bounds[first:last] - start).astype(np.int32),
            "document_starts": self._document_starts(start, stop),
            "distractor": self._distractor(index, rng),
        }

    def _tokens(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self._store.tokens[start:stop], np.int32)

    def _document_starts(self, start: int, stop: int) -> np.ndarray:
        documents = self._store.documents
        low, high = np.searchsorted(documents, [start + 1, stop], "left")
        return (documents[low:high] - start).astype(np.int32)

    def _distractor(self, index: int, rng: np.random.Generator) -> np.ndarray:
        low = int(np.searchsorted(self._document, self._document[index], "left"))
        high = int(np.searchsorted(self._document, self._document[index], "right"))
        if high - low == len(self):
            low, high = index, index + 1
        others = len(self) - (high - low)
        if others == 0:
            return np.zeros(0, np.int32)
        other = int(rng.integers(others))
        other += (high - low) * (other >= low)
        sentence = int(rng.integers(self._firsts[other], self._firsts[other + 1]))
        return self._tokens(self._bounds[sentence], self._bounds[self._next[sentence]])


def _sentence_bounds(store: TokenStore, start: int, stop: int, length: int) -> np.ndarray:
    """Give int64 [S + 1]: bounds of the sentences in [start, stop), too long ones cut."""
    if store.sentences is None:
        raise DataError(
            f"the token store '{store.folder}' was built without sentences; delete it and run again"
        )
    low, high = np.searchsorted(store.sentences, [start + 1, stop], "left")
    bounds = np.concatenate([[start], store.sentences[low:high], [stop]])
    long = np.flatnonzero(np.diff(bounds) > length)
    cuts = [np.arange(bounds[i] + length, bounds[i + 1], length) for i in long]
    return np.sort(np.concatenate([bounds, *cuts])) if cuts else bounds


def _greedy_next(
    bounds: np.ndarray, documents: np.ndarray, length: int, crossing: bool
) -> np.ndarray:
    """Give int64 [S]: the sentence after the last that fits a row beginning at sentence i."""
    document = np.searchsorted(documents, bounds[:-1], "right")  # of each sentence, from 1
    if crossing:  # counted with a separator after each document
        starts, ends = bounds[:-1] + document, bounds[1:] + document
        return np.searchsorted(ends, starts + length, "right")
    limits = np.minimum(bounds[:-1] + length, documents[document])
    return np.searchsorted(bounds, limits, "right") - 1


@dataclass(frozen=True)
class ExampleRows:
    """Examples of a store; `indices` int64 [E] says which.

    `first_record` is the number of the store's first record among those of all sources.
    """

    store: ExampleStore
    indices: np.ndarray
    first_record: int = 0

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.indices)

    @property
    def numbers(self) -> np.ndarray:
        """Which record each row is of, among those of all sources, int64 [E]."""
        return self.first_record + self.store.records[self.indices]

    def whole_records(self, most: int) -> "ExampleRows":
        """Give all rows of some records, spread evenly, that together have about `most` rows."""
        if most >= len(self):
            return self
        records = self.store.records[self.indices]
        every = np.unique(records)
        count = max(1, most * len(every) // len(self))
        chosen = every[np.arange(count) * len(every) // count]
        return replace(self, indices=self.indices[np.isin(records, chosen)])

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give one example: its arrays, its numbers, and `record`, which record it is of."""
        number = self.indices[index]
        record = self.first_record + int(self.store.records[number])
        return {**self.store.example(number), "record": np.int32(record)}


class PackedRows:
    """Several examples a row, as many as fit: next-fit in an order drawn once by the seed.

    Without a seed the examples stay in their order. A longer example has a row of its own.
    """

    def __init__(self, rows: ExampleRows, array: str, length: int, seed: int | None):
        """`length`: of the named array, over all examples of a row."""
        count = len(rows)
        order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
        self._rows, self._order = rows, order
        sizes = rows.store.sizes(array)[rows.indices[order]]
        self._bounds = _next_fit(sizes, length)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._bounds) - 1

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give `examples`, the row's examples as `ExampleRows` gives them."""
        chosen = self._order[self._bounds[index] : self._bounds[index + 1]]
        return {"examples": [self._rows.row(epoch, int(i), rng) for i in chosen]}


def _next_fit(sizes: np.ndarray, length: int) -> np.ndarray:
    """Int64 [R + 1]: where rows begin if each takes the next items while they fit."""
    bounds, filled = [0], 0
    for number, size in enumerate(sizes.tolist()):
        if filled and filled + size > length:
            bounds.append(number)
            filled = 0
        filled += size
    return np.array([*bounds, len(sizes)], np.int64)


class ChainedRows:
    """The rows of several sources, one source after the other."""

    def __init__(self, sources: Sequence[RowSource]):
        self._sources = list(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    @property
    def lanes(self) -> int:
        """Rows of a batch of contiguous rows; 0 for rows of other kinds."""
        return getattr(self._sources[0], "lanes", 0)

    def whole_records(self, most: int) -> "ChainedRows | None":
        """Give the same of each source, by its share; None where a source has no records."""
        if not all(isinstance(source, ExampleRows) for source in self._sources):
            return None
        shares = [most * len(source) // len(self) for source in self._sources]
        return ChainedRows(
            [s.whole_records(share) for s, share in zip(self._sources, shares, strict=True)]
        )

    def __len__(self) -> int:
        """Return the number of rows of all sources."""
        return int(self._ends[-1])

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give the row from the source that `index` falls in."""
        number = int(np.searchsorted(self._ends, index, "right"))
        before = int(self._ends[number - 1]) if number else 0
        return self._sources[number].row(epoch, index - before, rng)
