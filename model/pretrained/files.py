"""Folders of safetensors: read tensor by tensor, written in shards and read back."""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import ml_dtypes  # noqa: F401  gives numpy the bfloat16 that safetensors asks it for
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from model.errors import ModelError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
Shape = tuple[int, ...]


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object; ModelError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; check the path.") from None
    except ValueError as error:
        raise ModelError(f"{path} is not readable JSON ({error}); copy it again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object; copy it again.")
    return found


class TensorFolder:
    """The tensors of a folder, from `model.safetensors` or the shards of its index.

    Attributes:
      names: of all tensors.
    """

    def __init__(self, folder: pathlib.Path, stack: contextlib.ExitStack):
        """Opens the files until `stack` closes; ModelError if they cannot be used."""
        self.folder = folder
        if (folder / INDEX).exists():
            weight_map = read_json(folder / INDEX).get("weight_map", {})
            files = sorted(set(weight_map.values()))
        elif (folder / SINGLE).exists():
            weight_map, files = None, [SINGLE]
        else:
            raise ModelError(_why_nothing(folder))
        self._file_of: dict[str, Any] = {}
        for name in files:
            file = stack.enter_context(open_file(folder, name))
            for tensor in file.keys():  # noqa: SIM118  a handle, not a dict
                self._file_of[tensor] = file
        absent = sorted((weight_map or {}).keys() - self._file_of.keys())
        if absent:
            raise ModelError(
                f"{folder / INDEX} promises the tensor {absent[0]} (of {len(absent)}), which its "
                "file does not hold; download the folder again."
            )
        self.names = set(self._file_of)

    def shape(self, name: str) -> Shape:
        """The shape, from the header."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The format's own word: F32, BF16 ..."""
        return self._file_of[name].get_slice(name).get_dtype()

    def read(self, name: str) -> np.ndarray:
        """One tensor."""
        return self._file_of[name].get_tensor(name)


def open_file(folder: pathlib.Path, name: str) -> Any:
    """A safetensors file, to be used as a context; ModelError if it is not whole."""
    path = folder / name
    if pathlib.PurePath(name).name != name:
        raise ModelError(f"{folder / INDEX} names a file outside the folder ({name}); refused.")
    if not path.exists():
        raise ModelError(f"{folder} lacks the file {name}; download it.")
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({error}): it was cut off or damaged; copy or "
            "download it again."
        ) from None


def _why_nothing(folder: pathlib.Path) -> str:
    if not folder.is_dir():
        return f"{folder} is no folder; give the one that holds config.json and {SINGLE}."
    other = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if other:
        return (
            f"{folder} holds its weights as {other[0]}, not as safetensors; a pickle can run any "
            "code when it is read, so it is refused: convert it where you trust it, with "
            "transformers' from_pretrained(...).save_pretrained(..., safe_serialization=True)."
        )
    return f"{folder} has neither {SINGLE} nor {INDEX}; check the path."


def write(
    folder: pathlib.Path,
    plan: list[list[tuple[str, Shape]]],
    groups: Iterable[list[np.ndarray]],
    max_bytes: int,
) -> None:
    """Writes groups of float32 tensors into shards of at most `max_bytes`, and reads them back.

    Args:
      folder: exists.
      plan: names and shapes of each group's tensors; a group is never split.
      groups: the tensors of each group, in the order of the plan; read one group at a time.
      max_bytes: of a file; a larger group gets a file of its own.
    """
    size = lambda group: sum(4 * int(np.prod(shape)) for _, shape in group)  # noqa: E731
    shards: list[list[list[tuple[str, Shape]]]] = [[]]
    for group in plan:
        if shards[-1] and sum(map(size, shards[-1])) + size(group) > max_bytes:
            shards.append([])
        shards[-1].append(group)
    arrays, weight_map = iter(groups), {}
    for number, shard in enumerate(shards, 1):
        name = (
            SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        write_file(folder / name, dict(_named(shard, arrays)))
        weight_map |= {tensor: name for group in shard for tensor, _ in group}
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(map(size, plan))}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _named(
    shard: list[list[tuple[str, Shape]]], arrays: Iterator[list[np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    for group in shard:
        for (name, _), array in zip(group, next(arrays), strict=True):
            # safetensors 0.8 writes wrong values, silently, for a strided array.
            yield name, np.ascontiguousarray(array, np.float32)


def write_file(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    """Writes contiguous tensors and reads them back to compare."""
    save_file(tensors, path, metadata={"format": "pt"})  # transformers asks for this word
    with safe_open(path, framework="np") as file:
        for name, array in tensors.items():
            # Bytes, so that a NaN equals itself.
            if not np.array_equal(file.get_tensor(name).view(np.uint8), array.view(np.uint8)):
                raise ModelError(f"{path} reads back another {name} than was written; try again.")
