"""Rows that go on from batch to batch, for models with memory (Dai et al. 2019; XLNet, 2.4).

A batch has lanes: its row b continues row b of the batch before. Which text a row holds is still a
function of its number alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.packing import FixedRows
from input_pipeline.token_store import TokenStore


@dataclass(frozen=True)
class Lanes:
    """How contiguous rows are cut.

    Attributes:
        train: rows of a training batch.
        evaluation: rows of an evaluation batch.
        stride: tokens by which a lane advances from row to row.
        bidirectional: half of the lanes read the text from its end to its beginning.
    """

    train: int
    evaluation: int
    stride: int
    bidirectional: bool


class ContiguousRows:
    """Windows of `length` tokens over tokens [start, stop) of a store, one part of them a lane.

    Row `index` is turn ``index // lanes`` of lane ``index % lanes``. The windows of a lane advance
    by `stride`: they overlap by length - stride. With `bidirectional`, the second half of the
    lanes read the parts of the first half backwards. With a seed each epoch begins at a phase of
    its own. What does not fill a window at the end of a part is left out.

    Attributes:
        lanes: rows of a batch; with 0 there is no row.
    """

    def __init__(
        self,
        store: TokenStore,
        start: int,
        stop: int,
        length: int,
        stride: int,
        lanes: int,
        bidirectional: bool,
        seed: int | None,
    ):
        self.lanes = lanes
        self._store, self._start, self._stop = store, start, stop
        self._length, self._stride, self._seed = length, stride, seed
        self._forward = lanes - lanes // 2 if bidirectional else lanes
        self._part = (stop - start) // max(1, self._forward)
        if self._part < 2:
            raise DataError(
                f"'{store.folder.name}' has {stop - start} tokens here, too few for a batch of"
                f" {lanes} contiguous rows; add text or lower --config.batch_size"
            )
        # One turn less leaves the phase a whole stride to choose from.
        turns = (self._part - length) // stride + (seed is None)
        self._turns = max(1, turns)

    def __len__(self) -> int:
        """Return the number of rows in an epoch, a multiple of the lanes."""
        return self._turns * self.lanes

    def _phase(self, epoch: int) -> int:
        if self._seed is None:
            return 0
        spare = self._part - self._length - (self._turns - 1) * self._stride
        return int(np.random.default_rng([self._seed, epoch]).integers(max(0, spare) + 1))

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Give one window, in reading order.

        Returns:
            tokens [N] int32, N = length but where a part is shorter; elsewhere [M] int32, a window
            of length - stride tokens (of length, where rows do not overlap) from a random place,
            read in the same direction; backward [] and continues [] int32, 1 for a row that is read
            backwards, and for one that continues the lane's row before (not so the first of an
            epoch).
        """
        turn, lane = divmod(index, self.lanes)
        backward = lane >= self._forward
        offset = self._phase(epoch) + turn * self._stride
        first = self._start + (lane % self._forward) * self._part
        stop = min(offset + self._length, self._part)
        window = slice(first + offset, first + stop)
        if backward:
            window = slice(first + self._part - stop, first + self._part - offset)
        size = min(self._length - self._stride or self._length, self._stop - self._start)
        other = int(rng.integers(self._start, self._stop - size + 1))
        step = -1 if backward else 1
        return {
            "tokens": np.asarray(self._store.tokens[window][::step], np.int32),
            "elsewhere": np.asarray(self._store.tokens[other : other + size][::step], np.int32),
            "backward": np.int32(backward),
            "continues": np.int32(turn > 0),
        }


class ContiguousOrder:
    """The endless order of contiguous rows: element g is (source, epoch, index), found in O(1).

    Each source has its own lanes of a batch, and its own epochs.
    """

    def __init__(self, rows: Sequence[ContiguousRows | FixedRows]):
        self._rows = rows
        self._ends = np.cumsum([source.lanes for source in rows])

    def __getitem__(self, row_of_run: int) -> tuple[int, int, int]:
        """Give what the g-th row of the run is."""
        step, lane = divmod(row_of_run, int(self._ends[-1]))
        number = int(np.searchsorted(self._ends, lane, "right"))
        source = self._rows[number]
        lane -= int(self._ends[number]) - source.lanes
        epoch, turn = divmod(step, len(source) // source.lanes)
        return number, epoch, turn * source.lanes + lane


def share_lanes(weights: Sequence[float], lanes: int) -> list[int]:
    """Divide the rows of a batch among sources by weight: at least one each, none for weight 0."""
    least = [int(weight > 0) for weight in weights]
    if lanes < sum(least):
        raise DataError(
            f"a batch of {lanes} contiguous rows cannot hold {sum(least)} sources; raise"
            " --config.batch_size"
        )
    free = lanes - sum(least)
    exact = [weight / sum(weights) * free for weight in weights]
    shares = [int(share) for share in exact]
    by_rest = sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])
    for number in by_rest[: free - sum(shares)]:
        shares[number] += 1
    return [one + share for one, share in zip(least, shares, strict=True)]
