"""Small maps that train on top of linear maps that do not: LoRA and bottleneck adapters.

They are parameters of their own, ``params["adapters"]``, at the paths of the backbone's linear maps
that they sit on; model/layers.py calls `lora` and `bottleneck` for each of its maps.

Legend: *I inputs of a map, *O its outputs, r rank, M bottleneck.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.activations import activation
from model.dropout import dropout
from model.errors import ModelError
from model.products import matmul

COLLECTION = DROPOUT = "adapters"  # Linen's names for their variables and their dropout key
# Maps that are several in one: the names of the parts, along the first output dimension.
FUSED = {"query_key_value": ("query", "key", "value"), "key_value": ("key", "value")}


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Which adapters a model has: the values of ``config.adapters`` (configs/base.py).

    Targets are names of linear maps in the backbone; for LoRA also of parts of fused ones.
    """

    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ()
    bottleneck: int = 0
    bottleneck_targets: tuple[str, ...] = ()
    bottleneck_activation: str = "gelu"

    @property
    def any(self) -> bool:
        """Whether there are adapters at all."""
        return bool(self.lora_rank or self.bottleneck)

    @property
    def scale(self) -> float:
        """The factor on LoRA's product."""
        return self.lora_alpha / self.lora_rank


def from_config(config: Any) -> Adapters:
    """The Adapters of ``config.adapters`` (None: none); ModelError on impossible values."""
    if config is None:
        return Adapters()
    spec = Adapters(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Adapters)})
    for name in ("lora_rank", "bottleneck"):
        if getattr(spec, name) < 0:
            raise ModelError(
                f"config.adapters.{name} is {getattr(spec, name)}; it must be 0 (off) or more."
            )
    if not 0 <= spec.lora_dropout < 1:
        raise ModelError(
            f"config.adapters.lora_dropout is {spec.lora_dropout}; it must be at least 0 and below "
            "1."
        )
    if spec.lora_rank and spec.lora_alpha <= 0:
        raise ModelError(
            f"config.adapters.lora_alpha is {spec.lora_alpha}, which leaves LoRA without effect; "
            "it must be positive."
        )
    activation(spec.bottleneck_activation)
    if not spec.any:
        return Adapters()
    return dataclasses.replace(
        spec,
        lora_targets=tuple(spec.lora_targets) if spec.lora_rank else (),
        bottleneck_targets=tuple(spec.bottleneck_targets) if spec.bottleneck else (),
    )


def targets_of(name: str) -> tuple[str, ...]:
    """The names under which LoRA may be put on the map `name`: its parts' or its own."""
    return FUSED.get(name, (name,))


def check(spec: Adapters, backbone: dict[str, Any]) -> None:
    """ModelError for a target that no linear map of the backbone has, naming those there are."""
    maps = set(_maps(backbone))
    for key, asked, known in (
        ("lora_targets", spec.lora_targets, {t for name in maps for t in targets_of(name)}),
        ("bottleneck_targets", spec.bottleneck_targets, maps - FUSED.keys()),
    ):
        for target in asked:
            if target not in known:
                raise ModelError(
                    f"config.adapters.{key} has {target!r}, which no linear map of this model is "
                    f"called; choose from {', '.join(sorted(known))}."
                )
    for key, size, asked in (
        ("lora_targets", spec.lora_rank, spec.lora_targets),
        ("bottleneck_targets", spec.bottleneck, spec.bottleneck_targets),
    ):
        if size and not asked:
            raise ModelError(f"config.adapters.{key} is empty; name the maps to put adapters on.")


def _maps(tree: dict[str, Any]) -> Iterator[str]:
    """The names of the linear maps in a tree of parameters."""
    for name, part in tree.items():
        if isinstance(part, dict):
            if "kernel" in part:
                yield name
            yield from _maps(part)


_ACTIVE: ContextVar[Adapters] = ContextVar("adapters", default=Adapters())  # noqa: B039  frozen


@contextlib.contextmanager
def use(spec: Adapters) -> Iterator[None]:
    """Puts adapters on the maps that are traced inside: the backbone's, not the heads'."""
    token = _ACTIVE.set(spec)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def _variable(
    module: nn.Module, name: str, init: Any, shape: tuple[int, ...], names: tuple[str | None, ...]
) -> jax.Array:
    """A parameter among the adapters, with a name for each dimension."""
    boxed = nn.with_partitioning(init, names)
    start = lambda: boxed(module.make_rng("params"), shape, jnp.float32)  # noqa: E731
    return module.variable(COLLECTION, name, start).value


def lora(module: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Adds (alpha / r) drop(x) A B to the product of a map (Hu et al. 2021, section 4.1).

    A begins normal, as in the paper, with the variance of PEFT's uniform draws, 1 / (3 inputs);
    B begins at zero. Parts of a fused map have an A and a B each; the others cost nothing.

    Args:
      module: the Projection.
      x: its input [..., *I].
      y: its product [..., *O].
    """
    spec, fused = _ACTIVE.get(), module.name in FUSED
    inputs = x.shape[-len(module.input_names) :]
    for number, part in enumerate(targets_of(module.name)):
        if part not in spec.lora_targets:
            continue
        prefix, shape, names = f"{part}_" if fused else "", module.shape, module.names
        if fused:
            shape, names = shape[1:], names[1:]
        draw, zeros = nn.initializers.normal((3 * math.prod(inputs)) ** -0.5), nn.initializers.zeros
        rank = spec.lora_rank
        a = _variable(module, f"{prefix}lora_a", draw, (*inputs, rank), (*module.input_names, None))
        b = _variable(module, f"{prefix}lora_b", zeros, (rank, *shape), (None, *names))
        rng = module.make_rng(DROPOUT) if module.has_rng(DROPOUT) else None
        h = matmul(dropout(x, spec.lora_dropout, rng), a, len(inputs))
        delta = matmul(h, b) * spec.scale
        where = (..., number, *[slice(None)] * len(shape)) if fused else ...
        y = y.at[where].add(delta)
    return y


def bottleneck(module: Any, y: jax.Array) -> jax.Array:
    """Adds up(activation(down(y))) to the output of a map (Houlsby et al. 2019, section 2.1).

    `up` begins at zero, so that the model begins as it was. It comes before the dropout of the
    residual branch, where the published code has it after.

    Args:
      module: the Projection.
      y: its output [..., *O].
    """
    spec = _ACTIVE.get()
    if module.name not in spec.bottleneck_targets:
        return y
    size, outputs, names = spec.bottleneck, module.shape, module.names
    zeros, draw = nn.initializers.zeros, nn.initializers.normal(0.01)  # as published
    row = lambda v, like: v.astype(like.dtype).reshape((1,) * (like.ndim - v.ndim) + v.shape)  # noqa: E731
    down = _variable(module, "bottleneck_down", draw, (*outputs, size), (*names, None))
    down_bias = _variable(module, "bottleneck_down_bias", zeros, (size,), (None,))
    up = _variable(module, "bottleneck_up", zeros, (size, *outputs), (None, *names))
    up_bias = _variable(module, "bottleneck_up_bias", zeros, outputs, names)
    h = matmul(y, down, len(outputs))
    h = activation(spec.bottleneck_activation)(h + row(down_bias, h))
    h = matmul(h, up)
    return y + h + row(up_bias, h)
