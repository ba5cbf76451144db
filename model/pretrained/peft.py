"""LoRA in the layout of PEFT: adapter_config.json and adapter_model.safetensors.

PEFT keeps, for each published linear map, `lora_A` [r, inputs] and `lora_B` [outputs, r]. A map
that is fused in ours and several in the published model has one of each for each part. GPT-2's is
fused there too: our parts' A and B become one LoRA of a higher rank, B in blocks; a single A that
comes in is given to each part.
"""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from model.adapters import Adapters, targets_of
from model.errors import ModelError
from model.pretrained import files
from model.pretrained.mapping import (
    Architecture,
    Entry,
    Layout,
    Published,
    flatten,
    published_names,
)

CONFIG, WEIGHTS, BEFORE = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
Pair = tuple[np.ndarray, np.ndarray]  # A [inputs, r], B [r, outputs]


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What a folder of PEFT's holds.

    Attributes:
      spec: which adapters a model of ours needs for it.
      pairs: (path of the map, part) -> A and B, at the spec's rank and scale.
      others: names and tensors beside LoRA's: a head, without copies of tied weights.
      task: PEFT's word for the task; "" without.
    """

    spec: Adapters
    pairs: dict[tuple[str, str], Pair]
    others: dict[str, np.ndarray]
    task: str

    def tree(self, shapes: Any) -> Any:
        """Parameters of the given shapes; maps that the folder leaves out have zeros: no effect."""

        def leaf(path: Any, like: Any) -> np.ndarray:
            *place, name = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
            *part, _, letter = name.split("_")
            pair = self.pairs.get(("/".join(place), part[0] if part else place[-1]))
            if pair is None:
                return np.zeros(like.shape, like.dtype)
            return pair["ab".index(letter)].reshape(like.shape).astype(like.dtype)

        return jax.tree.map_with_path(leaf, shapes)


def save(
    folder: pathlib.Path,
    layout: Layout,
    config: Any,
    params: Any,
    spec: Adapters,
    architecture: Architecture,
    base: str = "",
) -> int:
    """Writes LoRA, and the heads as modules that are saved with it.

    Args:
      folder: exists.
      layout: the family's.
      config: ``config.model``.
      params: the model's, with "adapters".
      spec: the adapters; LoRA only.
      architecture: the published class on which PEFT will load it.
      base: what the run started from, for the reader.

    Returns:
      How many published maps have one.

    Raises:
      ModelError: a map that is no module in the published model.
    """
    entries = {entry.ours: entry for entry in layout.entries(config)}
    tensors, ranks, alphas, modules = {}, {}, {}, []
    for path, own in _maps(jax.device_get(params["adapters"])):
        names = published_names(entries[f"backbone/{path}/kernel"], layout, architecture)
        for name, (a, b), count in _published(path, own, names):
            if not name.endswith(".weight"):
                raise ModelError(
                    f"The published model keeps {name} as a bare tensor, on which PEFT puts no "
                    "LoRA; export the run with LoRA merged, or choose other "
                    "config.adapters.lora_targets."
                )
            module = name.removesuffix(".weight")
            modules.append(module)
            if count > 1:
                last = module.rsplit(".", 1)[-1]
                ranks[last], alphas[last] = count * spec.lora_rank, count * spec.lora_alpha
            tensors[f"{BEFORE}{module}.lora_A.weight"] = a.T
            tensors[f"{BEFORE}{module}.lora_B.weight"] = b.T
    head = _heads(layout, entries.values(), params, architecture)
    tensors |= {BEFORE + name: part for name, part in head.items()}
    values = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": spec.lora_rank,
        "lora_alpha": spec.lora_alpha,
        "lora_dropout": spec.lora_dropout,
        "target_modules": modules,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "fan_in_fan_out": layout.inputs_first,
        "modules_to_save": sorted({name.split(".")[0] for name in head}) or None,
        "bias": "none",
        "inference_mode": True,
    }
    # safetensors writes wrong values, silently, for a strided array.
    whole = {name: np.ascontiguousarray(part, np.float32) for name, part in tensors.items()}
    files.write_file(folder / WEIGHTS, whole)
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return len(modules)


def _heads(
    layout: Layout, entries: Collection[Entry], params: Any, architecture: Architecture
) -> dict[str, np.ndarray]:
    """The published tensors of the heads, whole modules: with the copies of tied weights."""
    leaves, every, found = flatten({"head": params["head"]}), flatten(params), {}
    homes = {name: (entry, i) for entry in entries for i, name in enumerate(entry.theirs)}
    tensor = lambda entry, i: entry.transform.split(jax.device_get(every[entry.ours]))[i]  # noqa: E731
    for entry in entries:
        if entry.ours in leaves:
            for i, name in enumerate(published_names(entry, layout, architecture)):
                found[name] = tensor(entry, i)
    modules = {name.split(".")[0] for name in found}
    for pattern, original in layout.copies:
        name = pattern.strip("^$").replace("\\.", ".")
        if name.split(".")[0] in modules:
            found[name] = tensor(*homes[original])
    return found


def _maps(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, arrays) of each map with adapters."""
    if any(not isinstance(part, dict) for part in tree.values()):
        yield before.removesuffix("/"), tree
        return
    for name, part in tree.items():
        yield from _maps(part, f"{before}{name}/")


def _published(
    path: str, own: dict[str, np.ndarray], names: list[str]
) -> Iterator[tuple[str, Pair, int]]:
    """(name, A and B, how many of ours they hold) of each published map under one of ours."""
    parts = targets_of(path.rsplit("/", 1)[-1])
    pairs = {}
    for number, part in enumerate(parts):
        prefix = f"{part}_" if len(parts) > 1 else ""
        if f"{prefix}lora_a" in own:
            a, b = own[f"{prefix}lora_a"], own[f"{prefix}lora_b"]
            pairs[number] = a.reshape(-1, a.shape[-1]), b.reshape(b.shape[0], -1)
    if len(names) == len(parts):
        for number, pair in pairs.items():
            yield names[number], pair, 1
        return
    rank, size = next(iter(pairs.values()))[1].shape
    blocks = np.zeros((len(pairs), rank, len(parts), size), np.float32)
    for row, (number, (_, b)) in enumerate(pairs.items()):
        blocks[row, :, number] = b
    a = np.concatenate([a for a, _ in pairs.values()], axis=1)
    yield names[0], (a, blocks.reshape(len(pairs) * rank, -1)), len(pairs)


def load(folder: pathlib.Path, layout: Layout, config: Any) -> Adapter:
    """Reads a folder of PEFT's for a model.

    Args:
      folder: with adapter_config.json and adapter_model.safetensors.
      layout: the family's.
      config: ``config.model``.

    Raises:
      ModelError: not LoRA, or on maps that this model does not have, or of other sizes.
    """
    settings = Published(str(folder / CONFIG), files.read_json(folder / CONFIG))
    if "peft_type" not in settings.values:
        raise ModelError(f"{folder / CONFIG} has no peft_type; it is not an adapter of PEFT's.")
    settings.require(peft_type="LORA", use_dora=False, bias="none", lora_bias=False)
    with files.open_file(folder, WEIGHTS) as file:
        tensors = {name.removeprefix(BEFORE): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    homes = {
        name: (entry, number)
        for entry in layout.entries(config)
        if entry.ours.startswith("backbone/") and entry.ours.endswith("/kernel")
        for number, name in enumerate(entry.theirs)
    }
    found: dict[tuple[str, str], tuple[Pair, float]] = {}
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = name.removesuffix(".lora_A.weight")
        home = homes.get(layout.canonical(f"{module}.weight", homes.keys()))
        if home is None or f"{module}.lora_B.weight" not in tensors:
            raise ModelError(
                f"{folder / WEIGHTS} has LoRA on {module}, which is no linear map of the base "
                "model; give the run of the model that it was trained on."
            )
        a, b = tensors.pop(name), tensors.pop(f"{module}.lora_B.weight")
        scale = _scale(settings, module, len(a))
        for key, pair in _ours(*home, np.float32(a.T), np.float32(b.T)):
            found[key] = pair, scale
    if not found:
        raise ModelError(f"{folder / WEIGHTS} holds no LoRA; check the path.")
    rank = max(a.shape[1] for (a, _), _ in found.values())
    scale = next(iter(found.values()))[1]
    spec = Adapters(
        lora_rank=rank,
        lora_alpha=scale * rank,
        lora_dropout=settings.number("lora_dropout", 0.0),
        lora_targets=tuple(sorted({part for _, part in found})),
    )
    pairs = {
        key: (_padded(a, rank, 1), _padded(b * (own / scale), rank, 0))
        for key, ((a, b), own) in found.items()
    }
    copies = [pattern for pattern, _ in layout.copies]
    others = {
        name: tensor
        for name, tensor in tensors.items()
        if not any(re.search(pattern, name) for pattern in copies)
    }
    return Adapter(spec, pairs, others, settings.values.get("task_type") or "")


def _scale(settings: Published, module: str, rank: int) -> float:
    """Alpha / r of one module, or alpha / sqrt(r) (rank-stabilised, Kalajdzievski 2023)."""
    alpha = settings.number("lora_alpha", 8.0)
    patterns = settings.values.get("alpha_pattern") or {}
    try:
        for pattern, value in patterns.items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                alpha = float(value)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise ModelError(
            f"{settings.where} has alpha_pattern = {patterns!r:.60}, which must be an object of "
            f"patterns and numbers ({error})."
        ) from None
    return alpha / (math.sqrt(rank) if settings.flag("use_rslora", False) else rank)


def _ours(
    entry: Entry, number: int, a: np.ndarray, b: np.ndarray
) -> Iterator[tuple[tuple[str, str], Pair]]:
    """(path, part) and pair of each part of ours that a published map's LoRA is on.

    Of a map that is fused there too, each part keeps what of A its own outputs use.
    """
    path = entry.ours.removeprefix("backbone/").removesuffix("/kernel")
    parts = targets_of(path.rsplit("/", 1)[-1])
    if len(entry.theirs) == len(parts):
        yield (path, parts[number]), (a, b)
        return
    blocks = b.reshape(len(b), len(parts), -1)
    for index, part in enumerate(parts):
        used = blocks[:, index].any(axis=1) | (not b.any())
        if used.any():
            yield (path, part), (a[:, used], blocks[used, index])


def _padded(array: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Zeros up to a common rank."""
    sizes = [(0, 0), (0, 0)]
    sizes[axis] = (0, rank - array.shape[axis])
    return np.pad(array, sizes)
