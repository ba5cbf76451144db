"""Stores of examples: what a task makes of each record, in memory-mapped files, found in O(1).

A store is a folder of, for each array of the task, NAME.bin (int32, the arrays of all examples one
after the other) and NAME.bounds.bin (int64 [examples + 1], where each begins, and the end); for
each number NAME.bin (float64 [examples]); record.bin (int64 [examples], which record of the source
an example is of); and meta.json. A record gives one example, several (windows of a long text), or
none (then it was skipped).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.records import Record
from input_pipeline.store_files import StoreWriter, build_once, read_column, read_meta

# Arrays (int32 [N]) and numbers by name.
Example = dict[str, np.ndarray | float]
# Records to the examples of each.
Encode = Callable[[Sequence[Record]], Sequence[Sequence[Example]]]
_CHUNK = 1024  # records encoded at once: enough for the tokenizer's threads, and it bounds memory


class ExampleStore:
    """Examples on disk, memory-mapped.

    Attributes:
        records: int64 [E], the record of each example.
        meta: examples, records, skipped (records without an example), arrays, numbers.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta = read_meta(folder)
        self.records = read_column(folder, "record")
        self._arrays = {
            name: (read_column(folder, name), read_column(folder, f"{name}.bounds"))
            for name in self.meta["arrays"]
        }
        self._numbers = {name: read_column(folder, name) for name in self.meta["numbers"]}

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.records)

    def sizes(self, name: str) -> np.ndarray:
        """Length of an array in each example, int64 [E]."""
        return np.diff(self._arrays[name][1])

    def values(self, name: str) -> np.ndarray:
        """A number of each example, float64 [E]."""
        return self._numbers[name]

    def largest(self, name: str) -> np.ndarray:
        """The largest value of an array in each example, which is nowhere empty, int32 [E]."""
        values, bounds = self._arrays[name]
        return np.maximum.reduceat(values, bounds[:-1])

    def example(self, index: int) -> Example:
        """Give an example's arrays (int32 [N]) and numbers."""
        found: Example = {
            name: np.asarray(values[bounds[index] : bounds[index + 1]])
            for name, (values, bounds) in self._arrays.items()
        }
        return found | {name: values[index] for name, values in self._numbers.items()}


def build_example_store(
    folder: Path,
    records: Iterable[Record],
    encode: Encode,
    arrays: Sequence[str],
    numbers: Sequence[str],
) -> ExampleStore:
    """Encode records into a store at `folder`, or open the one that is there.

    Streams: memory does not depend on the data. Atomic: `folder` appears complete or not at all,
    also where two processes build it at once.

    Args:
        folder: where the store goes; its name must identify source, tokenizer and task.
        records: not read where the store exists.
        encode: what the task makes of them.
        arrays: names of the arrays of an example.
        numbers: names of its numbers.

    Raises:
        DataError: of `records` and `encode`; no example at all.
    """

    def write(writer: StoreWriter) -> dict:
        ends, count, skipped = dict.fromkeys(arrays, 0), 0, 0
        for name in arrays:
            writer.append(f"{name}.bounds", [0])
        for chunk in _chunks(records):
            found = list(encode(chunk))
            of = [number for number, some in enumerate(found, count) for _ in some]
            examples = [example for some in found for example in some]
            count += len(chunk)
            skipped += sum(not some for some in found)
            if not examples:
                continue
            writer.append("record", of)
            for name in arrays:
                values = [np.asarray(example[name], np.int32) for example in examples]
                bounds = ends[name] + np.cumsum([len(value) for value in values])
                ends[name] = int(bounds[-1])
                writer.append(name, np.concatenate(values))
                writer.append(f"{name}.bounds", bounds)
            for name in numbers:
                writer.append(name, [example[name] for example in examples])
        if not writer.length("record"):
            raise DataError(f"there is no example for '{folder.name}'; check the source")
        return {
            "examples": writer.length("record"),
            "records": count,
            "skipped": skipped,
            "arrays": list(arrays),
            "numbers": list(numbers),
        }

    columns: dict = {"record": np.int64}
    columns |= {name: np.int32 for name in arrays} | {f"{n}.bounds": np.int64 for n in arrays}
    build_once(folder, columns | {name: np.float64 for name in numbers}, write)
    return ExampleStore(folder)


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    records = iter(records)
    while chunk := list(itertools.islice(records, _CHUNK)):
        yield chunk
