"""BERT (Devlin et al. 2019, "Pre-training of Deep Bidirectional Transformers").

What it does differently from the Transformer of Vaswani et al. 2017:
  encoder only, every token sees every other of its document; learned positions and sentence A/B
  embeddings, summed and normalised (section 3, figure 2); exact GELU; a tanh pooler on the first
  token; a masked-LM head with one more layer and the tied embedding (appendix A.1, and the
  published code for the head). Post-LN, as the Transformer had it.
With `attention_type` "uni" a token sees the earlier ones only, in fine-tuning too: the model "LTR &
No NSP" of section 5.1 and table 5, pre-trained by causal_lm. There [CLS], the first token, has seen
nothing of the text; so the state of the last token goes into the pooler. (The paper does not say
what it classifies.)

Legend: B batch, T tokens, D width, V vocabulary, P predicted positions, L layers.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.activations import activation
from model.attention import (
    MLP,
    SelfAttention,
    Visible,
    causal_mask,
    check_attention_type,
    segment_mask,
)
from model.dropout import dropout, split
from model.heads import Backbone, last_token
from model.layers import Embedding, LayerNorm, Linear
from model.products import unembed
from model.sharding import constrain
from model.stack import apply_layers

ABOVE = ("pooler",)  # what lies between the last layer and the heads


@dataclasses.dataclass(frozen=True)
class Config:
    """The keys of ``config.model`` that BERT reads (see configs/base.py)."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    max_length: int
    num_token_types: int
    attention_type: str
    dropout: float
    activation: str
    layer_norm_epsilon: float
    initializer_std: float
    dtype: str
    remat: str
    scan_layers: bool

    def __post_init__(self) -> None:
        check_attention_type(self.attention_type)

    @property
    def predicts(self) -> tuple[str, ...]:
        """See `WAYS` in model/heads.py."""
        return ("in_place",) + ("causal",) * (self.attention_type == "uni")


class Block(nn.Module):
    """One post-LN layer: norm(x + attention(x)), then norm(x + mlp(x))."""

    config: Config

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, visible: Visible, own: jax.Array | None
    ) -> tuple[jax.Array, None]:
        """[B, T, D] -> [B, T, D]; `own` is the layer's dropout key."""
        c = self.config
        std = c.initializer_std
        attention_rng, output_rng, mlp_rng = split(own, 3)
        attention = SelfAttention(c.num_heads, std, std, c.dropout, name="attention")
        mlp = MLP(c.mlp_width, activation(c.activation), std, std, name="mlp")

        h, _ = attention(x_BTD, visible, None, attention_rng)
        norm = LayerNorm(c.layer_norm_epsilon, name="attention_norm")
        x_BTD = norm(x_BTD + dropout(h, c.dropout, output_rng))
        x_BTD = constrain(x_BTD, "batch", "sequence", None)
        norm = LayerNorm(c.layer_norm_epsilon, name="mlp_norm")
        x_BTD = norm(x_BTD + dropout(mlp(x_BTD), c.dropout, mlp_rng))
        return constrain(x_BTD, "batch", "sequence", None), None


class BERT(nn.Module):
    """The backbone: token ids to hidden states, with the pooler."""

    config: Config

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        std = c.initializer_std
        self.tokens = Embedding(c.vocab_size, c.width, "vocab", std)
        self.positions = Embedding(c.max_length, c.width, None, std)
        self.token_types = Embedding(c.num_token_types, c.width, None, std)
        self.norm = LayerNorm(c.layer_norm_epsilon)
        self.layers = [Block(c, name=f"layer_{i}") for i in range(c.num_layers)]
        self.pooler = Linear((c.width,), (None,), ("width",), std)

    def __call__(self, batch: dict[str, jax.Array], rng: jax.Array | None = None) -> Backbone:
        """Runs the stack.

        Args:
          batch: `tokens` [B, T]; optional `segment_ids`, `positions`, `token_types` [B, T].
          rng: a key for dropout; None turns it off.

        Returns:
          Backbone with hidden_BTD and, pooled, tanh of a linear map of the state of the token that
          has seen all others (`summary`).
        """
        positions = batch.get("positions", jnp.arange(batch["tokens"].shape[1])[None])
        types = batch.get("token_types", jnp.zeros((1, 1), jnp.int32))
        x_BTD = encode(self, batch, positions, types, rng)
        return Backbone(x_BTD, jnp.tanh(self.pooler(summary(self.config, x_BTD, batch))), None)


def encode(
    parts: Any,
    batch: dict[str, jax.Array],
    positions: jax.Array,
    types: jax.Array,
    rng: jax.Array | None,
) -> jax.Array:
    """Embeds and runs the stack: final states [B, T, D].

    Args:
      parts: a module with config, tokens, positions, token_types, norm and layers.
      batch: `tokens` [B, T]; optional `segment_ids` [B, T].
      positions: rows of the position table, [B or 1, T].
      types: rows of the token type table, [B or 1, T or 1].
      rng: a key for dropout; None turns it off.
    """
    c = parts.config
    segments_BT = batch.get("segment_ids")
    embedding_rng, *layer_rngs = split(rng, c.num_layers + 1)
    x_BTD = parts.tokens(batch["tokens"], c.dtype) + parts.positions(positions, c.dtype)
    x_BTD = parts.norm(x_BTD + parts.token_types(types, c.dtype))
    x_BTD = constrain(dropout(x_BTD, c.dropout, embedding_rng), "batch", "sequence", None)

    mask = None if segments_BT is None else segment_mask(segments_BT, segments_BT)
    if c.attention_type == "uni":
        slots = jnp.arange(x_BTD.shape[1])
        earlier = causal_mask(slots, slots)
        mask = earlier if mask is None else mask & earlier
    x_BTD, _ = apply_layers(
        parts.layers, x_BTD, Visible(mask), layer_rngs, scan=c.scan_layers, remat=c.remat
    )
    return x_BTD


def summary(c: Config, hidden_BTD: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """The state [B, D] of a token that sees the row: the first; from left to right, the last."""
    if c.attention_type == "uni":
        return last_token(hidden_BTD, batch.get("segment_ids"))
    return hidden_BTD[:, 0]


class LMHead(nn.Module):
    """The masked-LM head: linear, activation, norm, tied embedding, a bias for each token."""

    config: Config

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, V]."""
        c = self.config
        transform = Linear((c.width,), (None,), ("width",), c.initializer_std, name="transform")
        h_BPD = activation(c.activation)(transform(hidden_BPD))
        h_BPD = LayerNorm(c.layer_norm_epsilon, name="norm")(h_BPD)
        init: Any = nn.with_partitioning(nn.initializers.zeros, ("vocab",))
        bias_V = self.param("bias", init, (c.vocab_size,), jnp.float32)
        logits = unembed(h_BPD, table_VD)
        logits += bias_V[None, None].astype(logits.dtype)
        return constrain(logits, "batch", "sequence", "vocab")
