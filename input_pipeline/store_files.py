"""Folders of binary columns that appear on disk complete or not at all."""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

_STALE_SECONDS = 24 * 3600  # a partial folder untouched for so long belongs to a process that died
_META = "meta.json"


class StoreWriter:
    """Appends to one file a column, each with its dtype; keeps counts and sums."""

    def __init__(self, folder: Path, columns: Mapping[str, np.dtype]):
        self._types = {name: np.dtype(dtype) for name, dtype in columns.items()}
        self._files = {name: open(_path(folder, name), "wb") for name in columns}  # noqa: SIM115
        self._lengths = dict.fromkeys(columns, 0)
        self._totals = dict.fromkeys(columns, 0)

    def append(self, column: str, values: ArrayLike) -> None:
        """Append values to a column."""
        values = np.asarray(values).astype(self._types[column])
        self._files[column].write(values.tobytes())
        self._lengths[column] += len(values)
        self._totals[column] += int(values.sum(dtype=np.int64))

    def length(self, column: str) -> int:
        """Number of values in a column so far."""
        return self._lengths[column]

    def total(self, column: str) -> int:
        """Sum of the values in a column so far."""
        return self._totals[column]

    def description(self) -> dict:
        """Dtype and length of each column."""
        return {name: [dtype.name, self._lengths[name]] for name, dtype in self._types.items()}

    def close(self) -> None:
        """Bring every column to disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()


def _path(folder: Path, column: str) -> Path:
    return folder / f"{column}.bin"


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a store whose files have the sizes that its meta.json says."""
    try:
        columns = read_meta(folder)["columns"]
        return all(
            _path(folder, name).stat().st_size == np.dtype(dtype).itemsize * length
            for name, (dtype, length) in columns.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def read_meta(folder: Path) -> dict:
    """Read a store's meta.json."""
    return json.loads((folder / _META).read_text())


def read_column(folder: Path, name: str) -> np.ndarray:
    """Memory-map a column."""
    dtype, length = read_meta(folder)["columns"][name]
    if length == 0:  # mmap refuses an empty file
        return np.zeros(0, dtype)
    return np.memmap(_path(folder, name), dtype, "r", shape=(length,))


def _sweep(folder: Path) -> None:
    """Remove what processes that died while building `folder` have left beside it."""
    for partial in folder.parent.glob(f"{folder.name}.partial-*"):
        try:
            newest = max(file.stat().st_mtime for file in (partial, *partial.iterdir()))
        except OSError:  # another process is just removing or renaming it
            continue
        if time.time() - newest > _STALE_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)


def build_once(
    folder: Path, columns: Mapping[str, np.dtype], write: Callable[[StoreWriter], dict]
) -> None:
    """Make the store at `folder` unless it is there.

    It is written into a folder of this process's own and renamed when complete. Of two processes
    that build the same store, the first to finish wins, and the other takes the winner's.

    Args:
        folder: where the store goes.
        columns: name -> dtype.
        write: fills the columns and returns what meta.json says besides the columns.
    """
    if is_complete(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    partial = folder.with_name(f"{folder.name}.partial-{uuid.uuid4().hex}")
    partial.mkdir()
    try:
        writer = StoreWriter(partial, columns)
        try:
            meta = write(writer)
        finally:
            writer.close()
        meta["columns"] = writer.description()
        (partial / _META).write_text(json.dumps(meta, indent=1, sort_keys=True))
        _install(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _install(partial: Path, folder: Path) -> None:
    """Rename `partial` to `folder`; a complete store that is there already stays."""
    if folder.exists() and not is_complete(folder):  # damaged: set it aside, then remove it
        damaged = partial.with_name(partial.name + "-damaged")
        os.replace(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.replace(partial, folder)
    except OSError:
        if not is_complete(folder):
            raise
