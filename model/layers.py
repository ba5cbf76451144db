"""Primitives shared by the families: linear maps, norms, embeddings, dropout, the layer stack.

Legend: B batch, T tokens, D width, H heads, K head size, F feed-forward width, V vocabulary,
P predicted positions, L layers. Every parameter dimension carries a logical name (sharding.py).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from model.errors import ModelError

Init = Callable[..., jax.Array]


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU (Hendrycks & Gimpel 2016): x times the normal distribution function at x.

    Through `erf`, which XLA has as one fast instruction sequence; jax.nn.gelu goes through `erfc`,
    whose branches cost several times as much on a CPU.
    """
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
REMAT_POLICIES = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The activation called `name`; ModelError if there is none."""
    if name not in ACTIVATIONS:
        raise ModelError(
            f"config.model.activation is {name!r}; it must be one of {sorted(ACTIVATIONS)}."
        )
    return ACTIVATIONS[name]


def accumulator(dtype: Any) -> Any:
    """The dtype of sums and statistics over `dtype`: float32, float64 for float64 itself."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _contract(x: jax.Array, y: jax.Array, x_dims: range, y_dims: range) -> jax.Array:
    dims = ((tuple(x_dims), tuple(y_dims)), ((), ()))
    return lax.dot_general(x, y, dims, preferred_element_type=accumulator(x.dtype))


def _weight_gradient(x: jax.Array, g: jax.Array, rows: int) -> jax.Array:
    """``x^T g`` over the first `rows` dimensions, in one product that accumulates in float32.

    XLA:CPU contracts a single leading dimension as it lies, and transposes a copy of `x` to
    contract several. In float32 the copy costs more than it brings. In bfloat16 it is what brings
    the fast matrix units into play, and a single dimension is not supported at all.
    """
    if x.dtype == jnp.float32:
        x, g, rows = x.reshape(-1, *x.shape[rows:]), g.reshape(-1, *g.shape[rows:]), 1
    elif rows == 1:
        x, g = x.astype(accumulator(x.dtype)), g.astype(accumulator(x.dtype))
    return _contract(x, g, range(rows), range(rows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, w: jax.Array, contracted: int = 1) -> jax.Array:
    """Contracts the last `contracted` dimensions of `x` with the first ones of `w`.

    Args:
      x: [..., *I].
      w: [*I, *O], of any float dtype; it is cast to that of `x`.
      contracted: the number of dimensions in I.

    Returns:
      [..., *O] in the dtype of `x`. Products accumulate in float32 (at least). The weight's
      gradient is formed as ``x^T g`` in one product and never leaves float32; what autodiff emits
      instead transposes the large result, which costs a third of a GPT-2 step on a CPU.
    """
    return _product(x, w, contracted)


def _product(x: jax.Array, w: jax.Array, contracted: int) -> jax.Array:
    last = range(x.ndim - contracted, x.ndim)
    return _contract(x, w.astype(x.dtype), last, range(contracted)).astype(x.dtype)


def _matmul_forward(x: jax.Array, w: jax.Array, contracted: int) -> tuple[jax.Array, Any]:
    # Not by way of `matmul`: a remat policy does not see products behind a custom gradient.
    return _product(x, w, contracted), (x, w)


def _matmul_backward(contracted: int, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    rows = x.ndim - contracted
    dx = _contract(g, w.astype(x.dtype), range(rows, g.ndim), range(contracted, w.ndim))
    dw = _weight_gradient(x, g, rows)
    return dx.astype(x.dtype), dw.astype(w.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def unembed(x_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
    """Logits [B, P, V], float32 at least, from the rows of an embedding table.

    Both gradients come out in their own layout, without a transposed copy of [V, D].
    """
    return _contract(x_BPD, table_VD.astype(x_BPD.dtype), range(2, 3), range(1, 2))


def _unembed_backward(saved: Any, g_BPV: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, table = saved
    g_BPV = g_BPV.astype(x.dtype)
    dx = _contract(g_BPV, table.astype(x.dtype), range(2, 3), range(1))
    dtable = _weight_gradient(g_BPV, x, 2)
    return dx.astype(x.dtype), dtable.astype(table.dtype)


unembed.defvjp(lambda x, table: (unembed(x, table), (x, table)), _unembed_backward)


class Projection(nn.Module):
    """A linear map from the last dimensions of `x` to `shape`: [..., *I] -> [..., *O]."""

    shape: tuple[int, ...]
    names: tuple[str | None, ...]
    input_names: tuple[str | None, ...]
    std: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the map in the dtype of `x`."""
        contracted = len(self.input_names)
        kernel = nn.with_partitioning(
            nn.initializers.normal(self.std), self.input_names + self.names
        )
        shape = x.shape[-contracted:] + self.shape
        return matmul(x, self.param("kernel", kernel, shape, jnp.float32), contracted)


class Linear(Projection):
    """A projection and a bias: [..., *I] -> [..., *O]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the map in the dtype of `x`."""
        y = super().__call__(x)
        bias = nn.with_partitioning(nn.initializers.zeros, self.names)
        b = self.param("bias", bias, self.shape, jnp.float32)
        # Rank promotion is an error in the tests: broadcast by an explicit shape.
        return y + b.astype(x.dtype).reshape((1,) * (y.ndim - b.ndim) + self.shape)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) over the last dimension, statistics in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D] in the dtype of `x`."""
        shape = x.shape[-1:]
        row = (1,) * (x.ndim - 1) + shape
        scale = nn.with_partitioning(nn.initializers.ones, ("norm",))
        bias = nn.with_partitioning(nn.initializers.zeros, ("norm",))
        scale = self.param("scale", scale, shape, jnp.float32).reshape(row)
        bias = self.param("bias", bias, shape, jnp.float32).reshape(row)
        y = x.astype(accumulator(x.dtype))
        mean = y.mean(-1, keepdims=True)
        variance = jnp.square(y - mean).mean(-1, keepdims=True)
        y = (y - mean) * lax.rsqrt(variance + self.epsilon)
        y = y * scale.astype(y.dtype) + bias.astype(y.dtype)
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """Layer norm without mean and bias (Zhang & Sennrich 2019), statistics in float32."""

    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D] in the dtype of `x`."""
        scale = nn.with_partitioning(nn.initializers.ones, ("norm",))
        scale = self.param("scale", scale, x.shape[-1:], jnp.float32)
        y = x.astype(accumulator(x.dtype))
        y *= lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        return (y * scale.reshape((1,) * (x.ndim - 1) + scale.shape).astype(y.dtype)).astype(
            x.dtype
        )


class Embedding(nn.Module):
    """A table of `size` rows of `width`; ids must lie in [0, size): nothing checks them here."""

    size: int
    width: int
    name_of_rows: str | None
    std: float

    def setup(self) -> None:
        """Creates the table [size, width]."""
        init = nn.with_partitioning(nn.initializers.normal(self.std), (self.name_of_rows, "width"))
        self.table = self.param("table", init, (self.size, self.width), jnp.float32)

    def __call__(self, ids: jax.Array, dtype: Any) -> jax.Array:
        """Ids [...] -> vectors [..., D]."""
        return self.table[ids].astype(dtype)


def dropout(x: jax.Array, rate: float, rng: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and rescales the rest; identity without a key.

    16 random bits an element: half the cost of a float draw, and the probability is off by less
    than 1e-5; the rescaling uses the probability that is really drawn.
    """
    if rng is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    keep = jax.random.bits(rng, x.shape, jnp.uint16) >= threshold
    return jnp.where(keep, x * (65536 / (65536 - threshold)), 0).astype(x.dtype)


def split(rng: jax.Array | None, count: int) -> Sequence[jax.Array | None]:
    """`count` keys from one, or that many Nones: no key means no dropout."""
    return [None] * count if rng is None else list(jax.random.split(rng, count))


def apply_layers(
    layers: Sequence[nn.Module],
    x: jax.Array,
    shared: Any,
    per_layer: Sequence[Any],
    *,
    scan: bool,
    remat: str,
) -> tuple[jax.Array, list[Any]]:
    """Runs a stack of equal layers ``layer(x, shared, own) -> (x, out)``.

    Parameters are always stored layer by layer, so that checkpoints, freezing and import do not
    depend on how the stack is run. With `scan` they are stacked inside the step: a copy, against
    a compile time that no longer grows with depth.

    Args:
      layers: bound Linen modules of one class and one configuration.
      x: activations [B, T, D].
      shared: a pytree that every layer reads (masks).
      per_layer: a pytree for each layer (dropout key, cache).
      scan: run as one `lax.scan`.
      remat: "none"; "dots" keeps the products' results; "full" keeps only each layer's input.

    Returns:
      Final activations and each layer's `out`.
    """
    if remat != "none" and remat not in REMAT_POLICIES:
        raise ModelError(
            f"config.model.remat is {remat!r}; it must be one of {['none', *REMAT_POLICIES]}."
        )
    if layers[0].is_initializing():
        outs = []
        for layer, own in zip(layers, per_layer, strict=True):
            x, out = layer(x, shared, own)
            outs.append(out)
        return x, outs

    module = layers[0].clone(parent=None, name=None)

    def run(x: jax.Array, params: Any, own: Any) -> tuple[jax.Array, Any]:
        return module.apply({"params": params}, x, shared, own)

    if remat != "none":
        run = jax.checkpoint(run, policy=REMAT_POLICIES[remat], prevent_cse=not scan)
    params = [layer.variables["params"] for layer in layers]
    if not scan:
        outs = []
        for own_params, own in zip(params, per_layer, strict=True):
            x, out = run(x, own_params, own)
            outs.append(out)
        return x, outs
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    x, stacked = lax.scan(lambda x, xs: run(x, *xs), x, (stack(params), stack(per_layer)))
    return x, [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(len(layers))]
