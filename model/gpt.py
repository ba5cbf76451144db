"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

What it does differently from the Transformer of Vaswani et al. 2017:
  decoder only, causal; layer norm moved to the input of each sub-block and one more at the end
  (section 2.3); learned positions; output weights tied to the token embedding; residual
  projections start smaller by 1/sqrt(2 L) (section 2.3); GELU in its tanh form; dropout after the
  embedding, on attention weights and at the end of each sub-block.

Legend: B batch, T tokens, D width, V vocabulary, P predicted positions, L layers.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.activations import activation
from model.attention import MLP, Cache, SelfAttention, Visible, causal_mask, segment_mask
from model.dropout import dropout, split
from model.heads import Backbone, last_token
from model.layers import Embedding, LayerNorm
from model.products import accumulator, matmul, unembed
from model.sharding import constrain
from model.stack import apply_layers

ABOVE = ("norm",)  # what lies between the last layer and the heads


@dataclasses.dataclass(frozen=True)
class Config:
    """The keys of ``config.model`` that GPT reads (see configs/base.py)."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    max_length: int
    dropout: float
    activation: str
    layer_norm_epsilon: float
    initializer_std: float
    dtype: str
    remat: str
    scan_layers: bool
    predicts: ClassVar[tuple[str, ...]] = ("in_place", "causal")


class Block(nn.Module):
    """One pre-LN layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    config: Config

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, visible: Visible, own: dict[str, Any]
    ) -> tuple[jax.Array, Cache | None]:
        """[B, T, D] -> [B, T, D], and the layer's cache."""
        c = self.config
        attention_rng, output_rng, mlp_rng = split(own["rng"], 3)
        residual_std = c.initializer_std / math.sqrt(2 * c.num_layers)
        attention = SelfAttention(
            c.num_heads, c.initializer_std, residual_std, c.dropout, name="attention"
        )
        mlp = MLP(
            c.mlp_width, activation(c.activation), c.initializer_std, residual_std, name="mlp"
        )

        h, cache = attention(
            LayerNorm(c.layer_norm_epsilon, name="attention_norm")(x_BTD),
            visible, own["cache"], attention_rng,
        )  # fmt: skip
        x_BTD = constrain(x_BTD + dropout(h, c.dropout, output_rng), "batch", "sequence", None)
        h = mlp(LayerNorm(c.layer_norm_epsilon, name="mlp_norm")(x_BTD))
        x_BTD = constrain(x_BTD + dropout(h, c.dropout, mlp_rng), "batch", "sequence", None)
        return x_BTD, cache


class GPT(nn.Module):
    """The backbone: token ids to hidden states after the final norm."""

    config: Config

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        self.tokens = Embedding(c.vocab_size, c.width, "vocab", c.initializer_std)
        self.positions = Embedding(c.max_length, c.width, None, c.initializer_std)
        self.layers = [Block(c, name=f"layer_{i}") for i in range(c.num_layers)]
        self.norm = LayerNorm(c.layer_norm_epsilon)

    def __call__(
        self,
        batch: dict[str, jax.Array],
        rng: jax.Array | None = None,
        caches: list[Cache] | None = None,
    ) -> Backbone:
        """Runs the stack.

        Args:
          batch: `tokens` [B, T]; optional `segment_ids`, `positions` [B, T]. With caches also
            `cache_segments` [B, S] (which slots of the cache hold a token, the new ones
            included) and `cache_start` [] (the slot of the first new token).
          rng: a key for dropout; None turns it off.
          caches: one a layer, for incremental decoding.

        Returns:
          Backbone with hidden_BTD and, pooled, the last token's state (GPT-1, section 3.2).
        """
        c = self.config
        tokens_BT = batch["tokens"]
        length = tokens_BT.shape[1]
        segments_BT = batch.get("segment_ids")
        positions = batch.get("positions", jnp.arange(length)[None])
        embedding_rng, *layer_rngs = split(rng, c.num_layers + 1)
        x_BTD = self.tokens(tokens_BT, c.dtype) + self.positions(positions, c.dtype)
        x_BTD = constrain(dropout(x_BTD, c.dropout, embedding_rng), "batch", "sequence", None)

        if caches is None:
            slots = jnp.arange(length)
            mask = causal_mask(slots, slots)
            if segments_BT is not None:
                mask &= segment_mask(segments_BT, segments_BT)
            visible = Visible(mask)
        else:
            start, filled_BS = batch["cache_start"], batch["cache_segments"]
            slots = jnp.arange(filled_BS.shape[1])
            mask = causal_mask(start + jnp.arange(length), slots) & (filled_BS > 0)[:, None, None]
            visible = Visible(mask, start)

        own = [
            {"rng": key, "cache": cache}
            for key, cache in zip(layer_rngs, caches or [None] * c.num_layers, strict=True)
        ]
        x_BTD, caches = apply_layers(
            self.layers, x_BTD, visible, own, scan=c.scan_layers, remat=c.remat
        )
        hidden_BTD = self.norm(x_BTD)
        return Backbone(hidden_BTD, last_token(hidden_BTD, segments_BT), caches)


class LMHead(nn.Module):
    """Hidden states to logits through the tied embedding; it has no parameters of its own."""

    config: Config

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, V]."""
        return constrain(unembed(hidden_BPD, table_VD), "batch", "sequence", "vocab")


class ClassificationHead(nn.Module):
    """One linear map without a bias on the last state: [B, D] -> [B, C] (GPT-1, equation 3)."""

    classes: int
    std: float
    dropout_rate: float

    @nn.compact
    def __call__(self, pooled_BD: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Returns logits in float32."""
        init = nn.with_partitioning(nn.initializers.normal(self.std), ("width", None))
        kernel = self.param("kernel", init, (pooled_BD.shape[-1], self.classes), jnp.float32)
        logits = matmul(dropout(pooled_BD, self.dropout_rate, rng), kernel)
        return logits.astype(accumulator(logits.dtype))


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Generation as model/decoder.py asks for it: prompt and text share one cache a layer."""

    config: Config
    apply: Callable[..., dict[str, Any]]
    first = None

    @property
    def max_tokens(self) -> int:
        """The position table."""
        return self.config.max_length

    def prefill(
        self, params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, slots: int
    ) -> tuple[jax.Array, jax.Array, list[Cache]]:
        """One pass over the prompts; fixed is `segments_BP`."""
        c = self.config
        rows, length = tokens_BP.shape
        shape = (rows, length + slots, c.num_heads, c.width // c.num_heads)
        caches = [Cache(jnp.zeros(shape, c.dtype), jnp.zeros(shape, c.dtype))] * c.num_layers
        positions_BP = jnp.maximum(jnp.cumsum(segments_BP, axis=1) - 1, 0)
        start = jnp.int32(0)
        logits_BV, caches = self._run(params, tokens_BP, positions_BP, start, segments_BP, caches)
        return logits_BV, segments_BP, caches

    def step(
        self, params: Any, token_B: jax.Array, index: jax.Array, fixed: Any, caches: list[Cache]
    ) -> tuple[jax.Array, list[Cache]]:
        """One token a row, into the slot `index` after the prompt's."""
        positions_B = fixed.sum(axis=1) + index
        start = fixed.shape[1] + index
        return self._run(params, token_B[:, None], positions_B[:, None], start, fixed, caches)

    def _run(
        self, params: Any, tokens_BT: jax.Array, positions_BT: jax.Array, start: jax.Array,
        segments_BP: jax.Array, caches: list[Cache],
    ) -> tuple[jax.Array, list[Cache]]:  # fmt: skip
        rows, length = tokens_BT.shape
        slots = caches[0].key.shape[1] - segments_BP.shape[1]
        batch = {
            "tokens": tokens_BT,
            "positions": positions_BT,
            "cache_segments": jnp.pad(segments_BP, ((0, 0), (0, slots)), constant_values=1),
            "cache_start": start,
            "target_positions": jnp.full((rows, 1), length - 1),
        }
        out = self.apply(params, batch, caches=caches)
        return out["logits"][:, 0], out["caches"]
