"""From rows to batches: order, mixture, slicing by process, prefetch.

The batch of a step is a pure function of (rows, weights, seed, step). Nothing else is state: a run
resumes at step k by asking for step k, on any number of processes.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grain.python as grain
import numpy as np

from input_pipeline.contiguous import ContiguousOrder
from input_pipeline.errors import DataError
from input_pipeline.packing import ChainedRows, ExampleRows, FixedRows, Row, RowSource

Batch = dict[str, np.ndarray]
Features = Callable[[Row, np.random.Generator], Batch]

_THREADS = 1  # making rows holds the interpreter: with more threads a batch takes twice as long
_SMALL = 1 << 20  # rows below which an epoch's permutation is held in memory, in 8 MB at most
_TRAIN, _EVAL, _SHUFFLE, _FIXED = 0, 1, 2, 3  # keep the random streams of one seed apart


@dataclass(frozen=True)
class _Failure:
    """An exception on its way out of a Grain thread.

    After an exception in `map`, Grain may stay on the record, pass over it or look finished: so
    none is raised there, and the consumer raises it.
    """

    error: Exception


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([seed, *key])


def mixture(rows: Sequence[RowSource], weights: Sequence[float], seed: int) -> grain.MapDataset:
    """Give the endless order of rows: element g is (source, epoch, index), found in O(1).

    Each source is shuffled anew in every epoch of its own; sources are mixed at the given rates.
    """
    sources = [_order(number, len(source), seed) for number, source in enumerate(rows)]
    return sources[0] if len(sources) == 1 else grain.MapDataset.mix(sources, list(weights))


def _order(number: int, size: int, seed: int) -> grain.MapDataset:
    """Give the endless order of one source, a permutation an epoch."""
    shuffle_seed = int(np.random.SeedSequence([seed, _SHUFFLE, number]).generate_state(1)[0])
    # map_with_index counts through all epochs.
    if size > _SMALL:
        order = grain.MapDataset.range(size).shuffle(seed=shuffle_seed).repeat()
        return order.map_with_index(lambda position, index: (number, position // size, index))

    def shuffled(position: int, index: int) -> tuple[int, int, int]:
        epoch = position // size
        return number, epoch, int(_permutation(shuffle_seed, epoch, size)[index])

    return grain.MapDataset.range(size).repeat().map_with_index(shuffled)


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Give one epoch of a small source; Grain's O(1) shuffle takes 0.1 ms a row."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def _check(batch_size: int, process_index: int, process_count: int) -> slice:
    """Give this process's rows of each global batch."""
    if batch_size % process_count:
        raise DataError(
            f"batch size {batch_size} does not divide among {process_count} processes;"
            " set --config.batch_size to a multiple"
        )
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


def _stack(examples: Sequence[Batch]) -> Batch:
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _iterate(make: Callable[[int], Batch], steps: range, prefetch: int) -> Iterator[Batch]:
    """Make the batches of `steps` in order, `prefetch` ahead, in a thread of Grain's."""

    def guarded(step: int) -> Batch | _Failure:
        try:
            return make(step)
        except Exception as error:
            return _Failure(error)

    options = grain.ReadOptions(num_threads=min(_THREADS, prefetch), prefetch_buffer_size=prefetch)
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(guarded)
    for batch in dataset.to_iter_dataset(options):
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


def train_batches(
    rows: Sequence[RowSource],
    weights: Sequence[float],
    features: Features,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    process_index: int,
    process_count: int,
    prefetch: int,
) -> Iterator[Batch]:
    """Give this process's part of the global batches of steps [start_step, num_steps).

    Args:
        rows: one or several sources of rows.
        weights: the rate of each source, of any sum.
        features: (row, rng) -> arrays of fixed shapes; rng is keyed by (seed, row of the run), so
            every epoch draws anew; that of FixedRows by (seed, source, copy, index). (Contiguous
            rows come in order, at the rates of their lanes.)
        batch_size: rows of the global batch.
        seed: of order, mixture and features.
        start_step: the first step asked for; reaching it costs nothing.
        num_steps: the run's steps in all.
        process_index: this process; it takes a contiguous slice of each global batch.
        process_count: how many there are; the global batch does not depend on it.
        prefetch: batches made ahead in a thread; 0 for none.

    Raises:
        DataError: the batch does not divide among the processes.
    """
    part = _check(batch_size, process_index, process_count)
    contiguous = getattr(rows[0], "lanes", 0)
    order = ContiguousOrder(rows) if contiguous else mixture(rows, weights, seed)

    def make(step: int) -> Batch:
        examples = []
        for row_of_run in range(step * batch_size + part.start, step * batch_size + part.stop):
            source, epoch, index = order[row_of_run]
            found = rows[source]
            key = (_TRAIN, row_of_run)
            if isinstance(found, FixedRows):
                key = (_FIXED, source, *found.key(epoch, index))
            rng = _rng(seed, *key)
            examples.append(features(found.row(epoch, index, rng), rng))
        return _stack(examples)

    return _iterate(make, range(start_step, num_steps), prefetch)


def eval_batches(
    rows: RowSource,
    features: Features,
    *,
    batch_size: int,
    seed: int,
    max_rows: int,
    process_index: int,
    process_count: int,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Give this process's part of the batches that hold each row once, in order.

    Random choices are keyed by (seed, row), so each evaluation sees the same masks. The last batch
    is filled with rows of zeros (segment 0, weight 0). Every process gets as many batches.

    Args:
        rows: the evaluation rows.
        features: (row, rng) -> arrays of fixed shapes.
        batch_size: rows of the global batch.
        seed: of the features.
        max_rows: at most so many rows, spread evenly over all (the first of each lane, where
            rows are contiguous; about so many, where a record has several: all of its rows or
            none); 0 for all.
        process_index: this process.
        process_count: how many there are.
        prefetch: batches made ahead in a thread; 0 for none.
    """
    part = _check(batch_size, process_index, process_count)
    if max_rows and isinstance(rows, ExampleRows | ChainedRows):
        chosen = rows.whole_records(max_rows)
        rows, max_rows = (rows, max_rows) if chosen is None else (chosen, 0)
    size = len(rows)
    count = min(size, max_rows) if max_rows else size

    def example(number: int) -> Batch:
        index = number if getattr(rows, "lanes", 0) else number * size // count
        rng = _rng(seed, _EVAL, index)
        return features(rows.row(0, index, rng), rng)

    def make(step: int) -> Batch:
        numbers = range(step * batch_size + part.start, step * batch_size + part.stop)
        examples = [example(number) for number in numbers if number < count]
        padding = len(numbers) - len(examples)
        if padding:
            model = examples[0] if examples else example(0)
            zeros = {key: np.zeros_like(value) for key, value in model.items()}
            examples.extend([zeros] * padding)
        return _stack(examples)

    return _iterate(make, range(-(-count // batch_size)), prefetch)
