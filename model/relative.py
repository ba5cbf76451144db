"""Attention over relative distances with a sine table (Dai et al. 2019, section 3.3; XLNet).

Legend: B batch, T tokens, P predicted positions, Q queries of one stream (T or P), S keys (the
memory's and the T tokens), R distances (S + T), G reading directions, D width, H heads,
K head size.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.attention import MASKED
from model.dropout import dropout, split
from model.layers import Projection
from model.products import accumulator
from model.sharding import constrain


class Stream(NamedTuple):
    """What the queries of one stream look at.

    mask: [B or 1, 1, Q, S] bool, True where a query sees a key.
    differs: [B, 1, Q, S] bool, True where both are of different segments; None: all of one.
    positions: [B, Q], where in the row the queries stand; None: query t stands at token t.
    """

    mask: jax.Array
    differs: jax.Array | None
    positions: jax.Array | None


class View(NamedTuple):
    """What all layers share.

    streams: the streams; all take their keys from the first.
    table_GRD: vectors of the distances S, S - 1, ..., 1 - T; one table a reading direction.
    backward_B: which of the two tables a row reads; None: there is one.
    biases: of all layers; None where each has its own.
    """

    streams: tuple[Stream, ...]
    table_GRD: jax.Array
    backward_B: jax.Array | None
    biases: dict[str, jax.Array] | None


def sine_table(length: int, keys: int, width: int, clamp: int, signs: Any, dtype: Any) -> jax.Array:
    """Sines, then cosines, of each relative distance: [G, R, D].

    Args:
      length: T; a key lies at most T - 1 ahead of a query.
      keys: S; and at most S - 1 behind it. (Distance S is there for `align`.)
      width: D, even.
      clamp: larger distances count as this one; 0: none do.
      signs: one a reading direction: -1 where what comes later in the row is earlier text.
      dtype: of the result; angles are in float32 at least.
    """
    kind = accumulator(jnp.dtype(dtype))
    distance_R = jnp.arange(keys, -length, -1, dtype=kind)
    if clamp:
        distance_R = jnp.clip(distance_R, -clamp, clamp)
    frequency = 1 / 10000 ** (jnp.arange(0, width, 2, dtype=kind) / width)
    distance_GR = jnp.asarray(signs, kind)[:, None] * distance_R[None]
    angle = distance_GR[:, :, None] * frequency[None, None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1).astype(dtype)


def align(scores_BHQR: jax.Array, keys: int, positions_BQ: jax.Array | None) -> jax.Array:
    """From scores by distance to scores by key: [B, H, Q, R] -> [B, H, Q, S].

    Key j of the query at token t has the distance number T - t + j: a window of S numbers, one
    further to the left for each token.
    """
    rows, heads, _, distances = scores_BHQR.shape
    length = distances - keys
    if positions_BQ is None:
        # Read with rows one shorter, the flat array is shifted by one more in each row.
        shape = (rows, heads, distances, length)
        shifted = scores_BHQR.reshape(shape)[:, :, 1:].reshape(rows, heads, length, distances - 1)
        return shifted[..., :keys]

    def window(scores_HR: jax.Array, position: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(scores_HR, length - position, keys, axis=1)

    return jax.vmap(jax.vmap(window, (1, 0), 1))(scores_BHQR, positions_BQ)


class RelativeBiases(nn.Module):
    """What is added to the queries for each kind of score (published as r_w, r_r, r_s)."""

    heads: int
    size: int
    std: float

    @nn.compact
    def __call__(self) -> dict[str, jax.Array]:
        """`content_bias`, `position_bias` and `segment_bias`, each [H, K]."""
        init = nn.with_partitioning(nn.initializers.normal(self.std), ("heads", None))
        names = ("content_bias", "position_bias", "segment_bias")
        return {n: self.param(n, init, (self.heads, self.size), jnp.float32) for n in names}


class RelativeAttention(nn.Module):
    """Attention of several streams to the same keys: [B, Q, D] each -> [B, Q, D] each."""

    heads: int
    std: float
    dropout_rate: float

    @nn.compact
    def __call__(
        self,
        streams: tuple[jax.Array, ...],
        keys_BSD: jax.Array,
        biases: dict[str, jax.Array],
        view: View,
        rng: jax.Array | None,
    ) -> list[jax.Array]:
        """Each score is the sum of three products (XLNet, sections 2.4 and 2.5), then scaled."""
        width = keys_BSD.shape[-1]
        size = width // self.heads
        heads = ((self.heads, size), ("heads", None), ("width",), self.std)
        query = Projection(*heads, name="query")
        key_BSHK = constrain(Projection(*heads, name="key")(keys_BSD), *_HEADS)
        value_BSHK = constrain(Projection(*heads, name="value")(keys_BSD), *_HEADS)
        distance_GRHK = Projection(*heads, name="position")(view.table_GRD)
        if view.backward_B is not None:
            distance_GRHK = distance_GRHK[view.backward_B]
        init = nn.with_partitioning(nn.initializers.normal(self.std), (None, "heads", None))
        segment_2HK = self.param("segments", init, (2, self.heads, size), jnp.float32)
        segment_2HK = segment_2HK.astype(keys_BSD.dtype)
        out = Projection((width,), ("width",), ("heads", None), self.std, name="out")

        attended = []
        for x, look, own_rng in zip(streams, view.streams, split(rng, len(streams)), strict=True):
            q_BQHK = constrain(query(x), *_HEADS)
            by = lambda name, q=q_BQHK: _scaled(q, biases[name])  # noqa: E731
            scores = _products("bqhk,bshk->bhqs", by("content_bias"), key_BSHK)
            near = _products("bqhk,brhk->bhqr", by("position_bias"), distance_GRHK)
            scores += align(near, scores.shape[-1], look.positions)
            if look.differs is not None:
                same, other = _products("bqhk,ghk->gbhq", by("segment_bias"), segment_2HK)
                scores += jnp.where(look.differs, other[..., None], same[..., None])
            weights = jax.nn.softmax(jnp.where(look.mask, scores, MASKED), axis=-1).astype(x.dtype)
            weights = dropout(weights, self.dropout_rate, own_rng)
            h_BQHK = _products("bhqs,bshk->bqhk", weights, value_BSHK).astype(x.dtype)
            # A query without any key would see all of them alike, what it predicts included.
            h_BQHK = jnp.where(look.mask.any(-1).swapaxes(1, 2)[..., None], h_BQHK, 0)
            attended.append(out(constrain(h_BQHK, *_HEADS)))
        return attended


_HEADS = ("batch", "sequence", "heads", None)


def _scaled(q_BQHK: jax.Array, bias_HK: jax.Array) -> jax.Array:
    return (q_BQHK + bias_HK.astype(q_BQHK.dtype)[None, None]) / math.sqrt(q_BQHK.shape[-1])


def _products(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(spec, x, y, preferred_element_type=accumulator(x.dtype))
