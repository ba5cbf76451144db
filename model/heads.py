"""What sits on a backbone: which heads an objective asks for, and those that all families share.

Legend: B batch, T tokens, D width, P predicted positions, C classes.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.dropout import dropout, split
from model.layers import Linear
from model.products import accumulator

# Ways to predict tokens. A family's Config has those of its models (`predicts`), an objective the
# one that it trains ("" for none).
WAYS = {
    "in_place": "predicts tokens in place, without a decoder",
    "causal": "sees earlier tokens only (but for gpt, with config.model.attention_type=uni)",
    "permuted": "has a query stream (xlnet)",
    "decoder": "predicts tokens in a decoder beside its encoder",
}


@dataclasses.dataclass(frozen=True)
class Heads:
    """The heads of a model: their parameters live under ``params["head"]``.

    Attributes:
      lm: predict tokens (`logits`), at `target_positions` where the batch has them.
      next_sentence: two classes from the pooled state (`next_sentence_logits`).
      num_labels: classify the pooled state into so many classes (`class_logits`); 0: no such head.
      pooling: what is classified: "own", the family's pooled state, or "mean", of all tokens.
      span: where an answer begins and ends, two scores a token (`qa_logits` [B, T, 2]).
      num_token_labels: classify each token into so many classes (`token_logits` [B, T, C]).
      permuted: tokens are predicted in the batch's `factorization_order` (XLNet's query stream).
    """

    lm: bool = False
    next_sentence: bool = False
    num_labels: int = 0
    pooling: str = "own"
    span: bool = False
    num_token_labels: int = 0
    permuted: bool = False

    @property
    def decodes(self) -> bool:
        """Whether an encoder-decoder needs its decoder: not for tokens' classes or a mean."""
        return self.lm or self.span or bool(self.num_labels and self.pooling == "own")


class Backbone(NamedTuple):
    """What a backbone returns: states [B, T, D], pooled [B, D], and what it keeps of the tokens.

    Of an encoder-decoder, these are the decoder's; without it the encoder's, and None pooled.

    predicted_BPD: the states at `target_positions`, where these are not among hidden_BTD.
    """

    hidden_BTD: jax.Array
    pooled_BD: jax.Array | None
    caches: Any
    predicted_BPD: jax.Array | None = None


def last_token(hidden_BTD: jax.Array, segments_BT: jax.Array | None) -> jax.Array:
    """The state [B, D] of each row's last token that is not padding."""
    if segments_BT is None:
        return hidden_BTD[:, -1]
    slots = jnp.arange(segments_BT.shape[1])[None]
    last_B = jnp.max(jnp.where(segments_BT > 0, slots, 0), axis=1)
    return jnp.take_along_axis(hidden_BTD, last_B[:, None, None], axis=1)[:, 0]


def mean_token(hidden_BTD: jax.Array, segments_BT: jax.Array | None) -> jax.Array:
    """The mean state [B, D] of each row's tokens, padding left out."""
    if segments_BT is None:
        return hidden_BTD.mean(1)
    weights_BT = (segments_BT > 0).astype(hidden_BTD.dtype)
    total_BD = jnp.einsum("btd,bt->bd", hidden_BTD, weights_BT)
    return total_BD / jnp.maximum(weights_BT.sum(1), 1)[:, None]


def gather_positions(hidden_BTD: jax.Array, positions_BP: jax.Array) -> jax.Array:
    """The states [B, P, D] at the given positions: a head only costs where there is a target."""
    return jnp.take_along_axis(hidden_BTD, positions_BP[:, :, None], axis=1)


class Classifier(nn.Module):
    """Dropout and one linear map on a state: [..., D] -> [..., C] (BERT, sections 4.1 to 4.3)."""

    classes: int
    std: float
    dropout_rate: float

    @nn.compact
    def __call__(self, states: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Returns logits in float32."""
        h = dropout(states, self.dropout_rate, rng)
        logits = Linear((self.classes,), (None,), ("width",), self.std, name="linear")(h)
        return logits.astype(accumulator(logits.dtype))


class TanhClassifier(nn.Module):
    """Linear and tanh, then the linear classifier, dropout before both: [B, D] -> [B, C]."""

    classes: int
    std: float
    dropout_rate: float

    @nn.compact
    def __call__(self, pooled_BD: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Returns logits in float32."""
        dense_rng, linear_rng = split(rng, 2)
        dense = Linear((pooled_BD.shape[-1],), (None,), ("width",), self.std, name="dense")
        h_BD = jnp.tanh(dense(dropout(pooled_BD, self.dropout_rate, dense_rng)))
        linear = Linear((self.classes,), (None,), ("width",), self.std, name="linear")
        logits = linear(dropout(h_BD, self.dropout_rate, linear_rng))
        return logits.astype(accumulator(logits.dtype))
