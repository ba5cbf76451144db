"""Multi-head attention, its masks and its cache, for every family.

Legend: B batch, T query tokens, S key tokens, D width, H heads, K head size.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.dropout import dropout
from model.errors import ModelError
from model.layers import Linear
from model.products import accumulator
from model.sharding import constrain

# Finite, so that a row without any key (padding) becomes uniform instead of NaN.
MASKED = -1e30


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far, for incremental decoding; each [B, S, H, K]."""

    key: jax.Array
    value: jax.Array


class Visible(NamedTuple):
    """What attention may look at.

    mask: [B or 1, 1, T, S] bool, True where a query sees a key; None: everything.
    start: the slot of the cache at which the T new tokens are written; None without a cache.
    """

    mask: jax.Array | None
    start: jax.Array | None = None


def segment_mask(query_BT: jax.Array, key_BS: jax.Array) -> jax.Array:
    """[B, 1, T, S]: True where both tokens belong to the same document (0 is padding)."""
    same = query_BT[:, :, None] == key_BS[:, None, :]
    return (same & (key_BS[:, None, :] > 0))[:, None]


def causal_mask(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """[1, 1, T, S] from slot numbers [T] and [S]: True where the key is not later."""
    return (keys[None, :] <= queries[:, None])[None, None]


def check_attention_type(name: str) -> None:
    """ModelError unless tokens see all others ("bi") or the earlier ones ("uni")."""
    if name not in ("bi", "uni"):
        raise ModelError(f"config.model.attention_type is {name!r}; it must be 'bi' or 'uni'.")


def attend(
    q_BTHK: jax.Array,
    k_BSHK: jax.Array,
    v_BSHK: jax.Array,
    mask: jax.Array | None,
    dropout_rate: float,
    rng: jax.Array | None,
    *,
    scale: float | None = None,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), softmax in float32.

    Args:
      q_BTHK: queries.
      k_BSHK: keys.
      v_BSHK: values.
      mask: [B or 1, 1, T, S] bool, True where a query sees a key; None: everything.
      dropout_rate: of the weights.
      rng: a key for dropout; None turns it off.
      scale: factor on the scores; None: 1/sqrt(K).
      bias: [B or 1, H, T, S], added to the scaled scores.

    Returns:
      [B, T, H, K] in the dtype of the queries.
    """
    accumulate = accumulator(q_BTHK.dtype)
    scale = 1 / math.sqrt(q_BTHK.shape[-1]) if scale is None else scale
    scores_BHTS = jnp.einsum(
        "bthk,bshk->bhts", q_BTHK * scale, k_BSHK, preferred_element_type=accumulate
    )
    if bias is not None:
        scores_BHTS += bias.astype(accumulate)
    if mask is not None:
        scores_BHTS = jnp.where(mask, scores_BHTS, MASKED)
    weights_BHTS = jax.nn.softmax(scores_BHTS, axis=-1).astype(q_BTHK.dtype)
    weights_BHTS = dropout(weights_BHTS, dropout_rate, rng)
    out = jnp.einsum("bhts,bshk->bthk", weights_BHTS, v_BSHK, preferred_element_type=accumulate)
    return out.astype(q_BTHK.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection: [B, T, D] -> [B, T, D]."""

    heads: int
    std: float
    output_std: float
    dropout_rate: float

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, visible: Visible, cache: Cache | None, rng: jax.Array | None
    ) -> tuple[jax.Array, Cache | None]:
        """Returns the output and, where a cache came in, the cache with the new tokens in it."""
        width = x_BTD.shape[-1]
        shape = (3, self.heads, width // self.heads)
        fused = Linear(shape, (None, "heads", None), ("width",), self.std, name="query_key_value")
        qkv = constrain(fused(x_BTD), "batch", "sequence", None, "heads", None)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if cache is not None:
            write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
                old, new.astype(old.dtype), visible.start, axis=1
            )
            k, v = cache = Cache(write(cache.key, k), write(cache.value, v))
        out = attend(q, k, v, visible.mask, self.dropout_rate, rng)
        out = constrain(out, "batch", "sequence", "heads", None)
        project = Linear((width,), ("width",), ("heads", None), self.output_std, name="out")
        return project(out), cache


class MLP(nn.Module):
    """The feed-forward block of Vaswani et al. 2017, section 3.3: [B, T, D] -> [B, T, D]."""

    hidden: int
    activation: Callable[[jax.Array], jax.Array]
    std: float
    output_std: float

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Applies up-projection, activation, down-projection."""
        up = Linear((self.hidden,), ("mlp",), ("width",), self.std, name="up")
        h_BTF = constrain(self.activation(up(x_BTD)), "batch", "sequence", "mlp")
        width = x_BTD.shape[-1]
        return Linear((width,), ("width",), ("mlp",), self.output_std, name="down")(h_BTF)
