"""T5's sub-layers: relative position buckets, attention and feed-forward block without biases.

Initial scales are those of the published code (Mesh TensorFlow): every map by its own inputs.

Legend: B batch, T tokens, S keys, D width, H heads, K head size, F feed-forward width, R buckets.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from model.activations import activation
from model.attention import Cache, attend
from model.dropout import dropout
from model.errors import ModelError
from model.layers import Projection
from model.sharding import constrain

GATED = "gated_"  # before the name of an activation


class DecoderCache(NamedTuple):
    """A layer's keys and values: of its tokens, and of the source (None until it was seen)."""

    own: Cache
    encoded: Cache | None = None


class Shared(NamedTuple):
    """What all layers of a stack read; the last four in the decoder only.

    bias: [1, H, T, S] from relative positions, for self-attention.
    mask: [B or 1, 1, T, S] bool for self-attention; None: everything is seen.
    encoded: [B, S, D], the encoder's states; None where the caches hold their keys and values.
    encoded_mask: [B, 1, T or 1, S] bool for cross-attention; None: everything is seen.
    related: [B, T, 1] bool, whether a token sees any source; None: all do.
    start: the slot of the cache at which the T new tokens are written; None without a cache.
    """

    bias: jax.Array
    mask: jax.Array | None
    encoded: jax.Array | None = None
    encoded_mask: jax.Array | None = None
    related: jax.Array | None = None
    start: jax.Array | None = None


def bucket_of(distances: np.ndarray, buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance >= 0 (section 2.1).

    The first half of the buckets holds one distance each, the second half grows logarithmically
    up to `max_distance`, beyond which all share the last.
    """
    exact = buckets // 2
    if not 0 < exact < max_distance:
        raise ModelError(
            "config.model.relative_buckets must be 4 or more, and relative_max_distance larger "
            f"than half of it; got {exact} buckets of one distance up to {max_distance}."
        )
    ratio = np.log(np.maximum(distances, 1) / exact) / np.log(max_distance / exact)
    coarse = exact + np.floor(ratio * (buckets - exact)).astype(np.int32)
    return np.where(distances < exact, distances, np.minimum(coarse, buckets - 1)).astype(np.int32)


def relative_bias(
    table_RH: jax.Array, queries: jax.Array, keys: jax.Array, both_ways: bool, max_distance: int
) -> jax.Array:
    """The position bias [1, H, T, S] of queries in slots [T] and keys in slots [S].

    Slots serve as well as positions: tokens of one document lie next to each other, and attention
    never leaves the document. `both_ways`: later keys have half of the buckets to themselves;
    otherwise they are taken as being at distance 0, and must be masked.
    """
    buckets = table_RH.shape[0] // (2 if both_ways else 1)
    lookup = bucket_of(np.arange(max_distance + 1), buckets, max_distance)
    back = queries[:, None] - keys[None, :]
    distance = jnp.abs(back) if both_ways else jnp.maximum(back, 0)
    index_TS = jnp.asarray(lookup)[jnp.minimum(distance, max_distance)]
    if both_ways:
        index_TS += buckets * (back < 0).astype(index_TS.dtype)
    # As a product: the gradient of a lookup would be a scatter of T x S rows into R.
    one_hot_TSR = jax.nn.one_hot(index_TS, table_RH.shape[0], dtype=table_RH.dtype)
    return jnp.einsum("tsr,rh->hts", one_hot_TSR, table_RH)[None]


class Attention(nn.Module):
    """Multi-head attention without scale and biases, on tokens' own or other states."""

    width: int
    heads: int
    head_size: int
    dropout_rate: float

    def setup(self) -> None:
        """Names the parts; the queries' scale makes up for the missing 1/sqrt(K)."""
        inner, names, std = (self.heads, self.head_size), ("heads", None), self.width**-0.5
        self.query = Projection(inner, names, ("width",), std * self.head_size**-0.5)
        self.key_value = Projection((2, *inner), (None, *names), ("width",), std)
        out_std = (self.heads * self.head_size) ** -0.5
        self.out = Projection((self.width,), ("width",), names, out_std)

    def remember(self, states_BSD: jax.Array) -> Cache:
        """The keys and values of states."""
        both = constrain(self.key_value(states_BSD), "batch", "sequence", None, "heads", None)
        return Cache(both[:, :, 0], both[:, :, 1])

    def __call__(
        self, x_BTD: jax.Array, memory: Cache, mask: Any, bias: Any, rng: jax.Array | None
    ) -> jax.Array:
        """[B, T, D] -> [B, T, D]: attends from `x_BTD` to what `remember` gave."""
        q_BTHK = constrain(self.query(x_BTD), "batch", "sequence", "heads", None)
        out = attend(q_BTHK, *memory, mask, self.dropout_rate, rng, scale=1.0, bias=bias)
        return self.out(constrain(out, "batch", "sequence", "heads", None))


class FeedForward(nn.Module):
    """Up, activation, down; or, gated, (activation of the gate) * up, down (Shazeer 2020)."""

    hidden: int
    activation: str
    dropout_rate: float

    @nn.compact
    def __call__(self, x_BTD: jax.Array, rng: jax.Array | None) -> jax.Array:
        """[B, T, D] -> [B, T, D]."""
        width = x_BTD.shape[-1]
        project = lambda name: Projection(  # noqa: E731
            (self.hidden,), ("mlp",), ("width",), width**-0.5, name=name
        )(x_BTD)
        act = activation(self.activation.removeprefix(GATED))
        if self.activation.startswith(GATED):
            h_BTF = act(project("gate")) * project("up")
        else:
            h_BTF = act(project("up"))
        h_BTF = dropout(constrain(h_BTF, "batch", "sequence", "mlp"), self.dropout_rate, rng)
        return Projection((width,), ("width",), ("mlp",), self.hidden**-0.5, name="down")(h_BTF)
