"""LoRA as part of the weights that it sits on: merged for use, taken out again to train on.

Legend: *I inputs of a map, *O its outputs, r rank.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from model.adapters import Adapters, targets_of

Tree = dict[str, Any]


def merge(params: Tree, spec: Adapters) -> tuple[Tree, Adapters]:
    """Adds (alpha / r) A B to each kernel (Hu et al. 2021, section 4.1, "no additional latency").

    Returns:
      Parameters without LoRA that compute the same, and the adapters that are left.
    """
    if not spec.lora_rank:
        return params, spec
    adapters = params["adapters"]
    rest = dataclasses.replace(spec, lora_rank=0, lora_targets=(), lora_dropout=0.0)
    merged = {**params, "backbone": _add(params["backbone"], adapters, spec.scale)}
    del merged["adapters"]
    if not rest.any:
        return merged, Adapters()
    return {**merged, "adapters": _without(adapters)}, rest


def unmerge(params: Tree, adapters: Tree, spec: Adapters) -> Tree:
    """The inverse of `merge`: takes the product of `adapters` out of the kernels again."""
    backbone = _add(params["backbone"], adapters, -spec.scale)
    return {**params, "backbone": backbone, "adapters": adapters}


def _add(tree: Tree, adapters: Tree, scale: float) -> Tree:
    """A backbone's tree with `scale` A B on each kernel that has them."""
    found = {}
    for name, part in tree.items():
        own = adapters.get(name)
        if own is None:
            found[name] = part
        elif "kernel" in part:
            found[name] = {**part, "kernel": _added(name, part["kernel"], own, scale)}
        else:
            found[name] = _add(part, own, scale)
    return found


def _added(name: str, kernel: jax.Array, own: Tree, scale: float) -> jax.Array:
    parts = targets_of(name)
    for number, part in enumerate(parts):
        prefix = f"{part}_" if len(parts) > 1 else ""
        if f"{prefix}lora_a" not in own:
            continue
        a, b = own[f"{prefix}lora_a"], own[f"{prefix}lora_b"]
        where = (*[slice(None)] * (a.ndim - 1), *([number] if len(parts) > 1 else []))
        kernel = kernel.at[where].add(scale * jnp.tensordot(a, b, 1))
    return kernel


def _without(adapters: Tree) -> Tree:
    """The adapters that are not LoRA's."""
    found = {}
    for name, part in adapters.items():
        if isinstance(part, dict):
            if kept := _without(part):
                found[name] = kept
        elif not name.endswith(("lora_a", "lora_b")):
            found[name] = part
    return found
