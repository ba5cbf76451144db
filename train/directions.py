"""Six optimizers as directions of a step: what is left of them at a learning rate of 1.

Each is ``(config, axes, shapes) -> (kind -> optax's transformation, tree of kinds)``: `axes` and
`shapes` are of the parameters at hand (model/api.py), the tree says which kind of transformation is
whose. Weight decay, the trust ratio of LAMB and the learning rate follow in train/optimizer.py.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

Direction = optax.GradientTransformation
Kinds = tuple[dict[str, Direction], Any]


def sides(axes: tuple[str | None, ...]) -> tuple[int, int]:
    """How many of a kernel's first dimensions are inputs, and how many after them number parts.

    By the names of the dimensions: only a map that reads heads has two inputs (heads and their
    size), and the parts of a fused map (queries, keys, values) come before the heads.
    """
    inputs = 2 if axes[0] == "heads" else 1
    return inputs, int(axes[inputs : inputs + 2] == (None, "heads"))


def _one(kind: str, direction: Direction, shapes: Any) -> Kinds:
    return {kind: direction}, jax.tree.map(lambda _: kind, shapes)


def _adam(config: Any) -> Direction:
    return optax.scale_by_adam(config.b1, config.b2, config.epsilon)


def adamw(config: Any, axes: Any, shapes: Any) -> Kinds:
    """Loshchilov & Hutter 2019, algorithm 2."""
    del axes
    return _one("adam", _adam(config), shapes)


def lamb(config: Any, axes: Any, shapes: Any) -> Kinds:
    """You et al. 2020, algorithm 2; train/optimizer.py applies the trust ratio."""
    return adamw(config, axes, shapes)


def lion(config: Any, axes: Any, shapes: Any) -> Kinds:
    """Chen et al. 2023, algorithm 2."""
    del axes
    return _one("lion", optax.scale_by_lion(config.b1, config.b2), shapes)


def sgd(config: Any, axes: Any, shapes: Any) -> Kinds:
    """Gradient descent with momentum; 0: none is kept."""
    del axes
    momentum = optax.trace(config.momentum) if config.momentum else optax.identity()
    return _one("sgd", momentum, shapes)


def muon(config: Any, axes: Any, shapes: Any) -> Kinds:
    """Jordan et al. 2024 for the kernels of the backbone, Adam for all else.

    Updates have the size of AdamW's (Liu et al. 2025, section 2.2: an RMS of 0.2), so that one
    learning rate serves both. The queries', keys' and values' parts of a fused map are matrices by
    themselves.
    """

    def numbers(own: tuple[str | None, ...]) -> contrib.MuonDimensionNumbers:
        inputs, parts = sides(own)
        outputs = range(inputs + parts, len(own))
        return contrib.MuonDimensionNumbers(tuple(range(inputs)), tuple(outputs))

    def sized(update: jax.Array, own: contrib.MuonDimensionNumbers) -> jax.Array:
        sizes = (math.prod(update.shape[i] for i in dims) for dims in own)
        return update * (0.2 * math.sqrt(max(sizes)))

    kinds = jax.tree.map_with_path(
        lambda path, _: "muon" if _is_kernel(path, "backbone") else "adam", shapes
    )
    kernels = _kernels(axes, numbers, "backbone")
    directions = {"adam": _adam(config)}
    if kernels:
        directions["muon"] = optax.chain(
            contrib.scale_by_muon(beta=config.momentum, weight_dimension_numbers=kernels),
            optax.stateless(lambda updates, _: jax.tree.map(sized, updates, kernels)),
        )
    return {name: directions[name] for name in sorted(set(jax.tree.leaves(kinds)))}, kinds


def adafactor(config: Any, axes: Any, shapes: Any) -> Kinds:
    """Shazeer & Stern 2018, algorithm 4, without momentum: steps relative to a parameter's size.

    Statistics are factored for matrices with 128 or more rows and columns, as in the published
    code; kernels count as matrices [inputs, outputs], whose heads would else be dimensions.
    """
    del config
    steps = (
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )
    return _one("adafactor", as_published(optax.chain(*steps), axes), shapes)


def part_axis(path: Any, axes: tuple[str | None, ...]) -> int | None:
    """Which dimension of a parameter numbers the parts of a fused map; None where none does."""
    if str(path[-1].key) == "bias":
        return 0 if axes[:2] == (None, "heads") else None
    inputs, parts = sides(axes)
    return inputs if parts else None


def as_published(inner: Direction, axes: Any) -> Direction:
    """`inner` on the arrays of the published model: each part of a fused map is one by itself.

    Kernels are matrices [inputs, outputs] there, and the biases of maps vectors.
    """

    def divide(path: Any, x: jax.Array, names: tuple[str | None, ...]) -> Any:
        part, kernel = part_axis(path, names), str(path[-1].key) == "kernel"
        if part is not None:
            found = [x.take(i, axis=part) for i in range(x.shape[part])]
            sizes = math.prod(x.shape[:part])
            return {str(i): own.reshape(sizes, -1) if kernel else own.ravel()
                    for i, own in enumerate(found)}  # fmt: skip
        return x.reshape(math.prod(x.shape[: sides(names)[0]]), -1) if kernel else x

    def join(path: Any, like: jax.Array, names: tuple[str | None, ...], own: Any) -> jax.Array:
        part = part_axis(path, names)
        if part is None:
            return own.reshape(like.shape)
        shape = like.shape[:part] + like.shape[part + 1 :]
        parts = [own[str(i)].reshape(shape) for i in range(like.shape[part])]
        return jnp.stack(parts, axis=part)

    def divided(tree: Any) -> Any:
        return jax.tree.map_with_path(divide, tree, axes)

    def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, after = inner.update(divided(grads), state, divided(params))
        return jax.tree.map_with_path(join, grads, axes, updates), after

    return optax.GradientTransformation(lambda params: inner.init(divided(params)), update)


def _is_kernel(path: Any, room: str) -> bool:
    names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
    return names[-1] == "kernel" and names[0].startswith(room)


def _kernels(axes: Any, value: Any, room: str) -> Any:
    """The tree of the kernels in a part of the model ("": anywhere), with ``value(axes)`` each."""

    def within(tree: Any, inside: bool) -> Any:
        found = {}
        for key, part in tree.items():
            if not isinstance(part, dict):
                if inside and key == "kernel":
                    found[key] = value(part)
            elif own := within(part, inside or key == room):
                found[key] = own
        return found

    return within(axes, not room)


DIRECTIONS = {
    "adamw": adamw,
    "adafactor": adafactor,
    "lamb": lamb,
    "lion": lion,
    "muon": muon,
    "sgd": sgd,
}
