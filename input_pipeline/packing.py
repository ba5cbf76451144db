"""Rows for models from token stores: windows of a stream, labelled examples, rows of both.

A row source finds row `index` of any epoch in O(1) (whole sentences: sentence_rows.py). Arrays in
a row are of any length; objectives give them a fixed shape.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

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


@dataclass(frozen=True)
class FixedRows:
    """Rows as they were drawn once: `copies` epochs, which repeat for ever.

    Static masking (Liu et al. 2019, section 4.1; of BERT's published data there were 10 copies):
    where windows begin, what is paired and what is masked is the same whenever a copy comes again.
    The pipeline draws by `key`.
    """

    rows: RowSource
    copies: int

    @property
    def lanes(self) -> int:
        """Rows of a batch of contiguous rows; 0 for rows of other kinds."""
        return getattr(self.rows, "lanes", 0)

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self.rows)

    def key(self, epoch: int, index: int) -> tuple[int, int]:
        """Give what all draws of a row are keyed by: its copy, and its index."""
        return epoch % self.copies, index

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give the row of the epoch's copy."""
        return self.rows.row(epoch % self.copies, index, rng)


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
