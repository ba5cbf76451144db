"""Primitives shared by the families: activations, linear maps, norms, embeddings.

Legend: D width; *I inputs, *O outputs. Every parameter dimension carries a logical name
(sharding.py).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from model import adapters
from model.products import accumulator, matmul


class Projection(nn.Module):
    """A linear map from the last dimensions of `x` to `shape`: [..., *I] -> [..., *O].

    Adapters (model/adapters.py) on a map of its name are part of it.
    """

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
        y = matmul(x, self.param("kernel", kernel, shape, jnp.float32), contracted)
        return adapters.bottleneck(self, self.shift(adapters.lora(self, x, y)))

    def shift(self, y: jax.Array) -> jax.Array:
        """What is added to the product: nothing."""
        return y


class Linear(Projection):
    """A projection and a bias: [..., *I] -> [..., *O]."""

    def shift(self, y: jax.Array) -> jax.Array:
        """Adds the bias."""
        bias = nn.with_partitioning(nn.initializers.zeros, self.names)
        b = self.param("bias", bias, self.shape, jnp.float32)
        # Rank promotion is an error in the tests: broadcast by an explicit shape.
        return y + b.astype(y.dtype).reshape((1,) * (y.ndim - b.ndim) + self.shape)


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
