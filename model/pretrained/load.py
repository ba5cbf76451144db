"""Published tensors to parameters, one by one, each put in its place on the mesh.

float32 stays as it is, byte for byte. float16 and bfloat16 are widened to float32, which is exact.
float64 and quantised tensors are refused: float32 would lose part of them.
"""

import contextlib
import dataclasses
import pathlib
import re
from typing import Any

import jax
import numpy as np

from model.api import Model
from model.errors import ModelError
from model.pretrained import files
from model.pretrained.mapping import Entry, Layout, flatten, used_entries

# What widens to a float32 parameter without loss; tests keep float64 ones.
EXACT = {"float32": ("F32", "F16", "BF16"), "float64": ("F64", "F32", "F16", "BF16")}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load` gives.

    Attributes:
      params: the model's, each where its sharding says.
      ignored: published names that the model has no use for.
      fresh: our paths that the file lacks and may lack; they are initialised anew.
    """

    params: Any
    ignored: list[str]
    fresh: list[str]


def load(
    folder: pathlib.Path,
    layout: Layout,
    config: Any,
    model: Model,
    shardings: Any = None,
    lacks: str = "^$",
) -> Loaded:
    """Reads parameters tensor by tensor: the host holds one of them at a time.

    Args:
      folder: with `model.safetensors` or shards and their index.
      layout: the family's.
      config: ``config.model``.
      model: whose parameters are wanted.
      shardings: the tree of its parameters with a place for each, on which it is put as soon as it
        is read; None: the default device.
      lacks: pattern of our paths that the file may lack (`Architecture.lacks`).

    Returns:
      Loaded.

    Raises:
      ModelError: naming the tensors that are missing, unknown, misshapen or not finite.
    """
    shapes = flatten(model.shapes)
    places = flatten(shardings) if shardings is not None else dict.fromkeys(shapes)
    entries = used_entries(layout, config, shapes)
    with contextlib.ExitStack() as stack:
        tensors = files.TensorFolder(folder, stack)
        known = {name for entry in layout.entries(config) for name in entry.theirs}
        names = {layout.canonical(name, known): name for name in sorted(tensors.names)}
        fresh = [
            entry
            for entry in entries
            if (entry.optional or re.search(lacks, entry.ours))
            and not set(entry.theirs) & names.keys()
        ]
        entries = [entry for entry in entries if entry not in fresh]
        _check_headers(folder, layout, entries, known, names, tensors, shapes)
        _check_copies(folder, layout, known, names, tensors)
        found, damaged = {}, []
        for entry in entries:
            parts = [tensors.read(names[name]) for name in entry.theirs]
            damaged += [
                names[name]
                for name, part in zip(entry.theirs, parts, strict=True)
                if not np.isfinite(part).all()
            ]
            leaf = shapes[entry.ours]
            array = entry.transform.join(parts, leaf.shape).astype(leaf.dtype, copy=False)
            placed = jax.device_put(array, places[entry.ours], may_alias=False)
            # The host's copy lives until the transfer ends: they must not pile up.
            found[entry.ours] = jax.block_until_ready(placed)
        if damaged:
            raise ModelError(
                f"{folder}: {_some(damaged)} not finite (NaN or infinite numbers); the checkpoint "
                "is of a run that diverged, or damaged."
            )
    found |= _initialise(model, [entry.ours for entry in fresh], places)
    used = {name for entry in entries for name in entry.theirs}
    ignored = sorted(raw for name, raw in names.items() if name not in used)
    order = jax.tree.structure(model.shapes)
    params = jax.tree.unflatten(order, [found[path] for path in shapes])
    return Loaded(params, ignored, [entry.ours for entry in fresh])


def _initialise(model: Model, paths: list[str], places: dict[str, Any]) -> dict[str, jax.Array]:
    """A few fresh parameters; the rest of the initialisation is never computed."""
    if not paths:
        return {}
    start = lambda key: {path: flatten(model.init(key))[path] for path in paths}  # noqa: E731
    fresh = jax.jit(start)(jax.random.key(0))
    return {path: jax.device_put(leaf, places[path]) for path, leaf in fresh.items()}


def _some(names: list[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    verb = " are" if len(names) > 1 else " is"
    return ", ".join(names[:4]) + more + verb


def _check_headers(
    folder: pathlib.Path,
    layout: Layout,
    entries: list[Entry],
    known: set[str],
    names: dict[str, str],
    tensors: files.TensorFolder,
    shapes: dict[str, Any],
) -> None:
    """ModelError before anything is read, with all that is wrong."""
    missing, misshapen, formats = [], [], []
    for entry in entries:
        leaf = shapes[entry.ours]
        for name, shape in zip(entry.theirs, entry.transform.shapes(leaf.shape), strict=True):
            if name not in names:
                missing.append(name)
                continue
            raw = names[name]
            if tensors.shape(raw) != shape:
                misshapen.append(f"{raw} ({list(tensors.shape(raw))} instead of {list(shape)})")
            elif tensors.dtype(raw) not in EXACT[leaf.dtype.name]:
                formats.append(f"{raw} ({tensors.dtype(raw)})")
    permitted = [layout.ignored, *(pattern for pattern, _ in layout.copies)]
    extra = [
        raw
        for name, raw in names.items()
        if name not in known and not any(re.search(p, name) for p in permitted)
    ]
    problems = [
        f"{_some(found)} {word}"
        for found, word in (
            (missing, "missing"),
            (extra, "unknown"),
            (misshapen, "of another shape"),
            (formats, "of a format that float32 does not hold exactly"),
        )
        if found
    ]
    if problems:
        raise ModelError(
            f"{folder} does not fit its config.json: {'; '.join(problems)}; check that both are of "
            "the same model."
        )


def _check_copies(
    folder: pathlib.Path,
    layout: Layout,
    known: set[str],
    names: dict[str, str],
    tensors: files.TensorFolder,
) -> None:
    """ModelError where tied weights are there twice and differ."""
    for pattern, original in layout.copies:
        copies = {name for name in names.keys() - known if re.search(pattern, name)}
        for name in sorted(copies) if original in names else ():
            first, second = (tensors.read(names[n]) for n in (name, original))
            if not np.array_equal(first, second):
                raise ModelError(
                    f"{folder}: {names[name]} is not {names[original]}; Pretune ties them, so this "
                    "model cannot be imported."
                )
