"""T5 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning", JMLR 21).

What it does differently from the Transformer of Vaswani et al. 2017 (section 2.1):
  encoder and decoder with pre-norm blocks; the norm only rescales (no mean, no bias), and no map
  has a bias; no position embedding, but a learned scalar for each head and bucket of distances,
  added to the attention scores and shared by the layers of a stack; no 1/sqrt(K) on the scores,
  which the initialiser of the queries takes up; dropout also within the feed-forward block and
  after the last norm. Version 1.0: ReLU, output weights tied to the embedding, with the states
  scaled by 1/sqrt(D). Version 1.1 (published code; Shazeer 2020): gated GELU, untied output.

Legend: B batch, T tokens, S keys or slots, D width, H heads, V vocabulary, P predicted positions.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.attention import Cache, causal_mask, segment_mask
from model.dropout import dropout, split
from model.heads import Backbone, last_token
from model.heads import TanhClassifier as ClassificationHead
from model.layers import Embedding, RMSNorm
from model.products import unembed
from model.sharding import constrain
from model.stack import apply_layers
from model.t5_layers import Attention, DecoderCache, FeedForward, Shared, relative_bias

__all__ = ["T5", "ClassificationHead", "Config", "Decoder", "LMHead", "reread"]
START = 0  # the decoder begins with the id of padding
ABOVE = ("norm",)  # what lies between the last layer and the heads


@dataclasses.dataclass(frozen=True)
class Config:
    """The keys of ``config.model`` that T5 reads (see configs/base.py).

    `initializer_std` is a classification head's; T5 scales every other map by its own inputs.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    head_size: int
    mlp_width: int
    relative_buckets: int
    relative_max_distance: int
    tie_embeddings: bool
    dropout: float
    activation: str
    layer_norm_epsilon: float
    initializer_std: float
    dtype: str
    remat: str
    scan_layers: bool
    predicts: ClassVar[tuple[str, ...]] = ("decoder",)

    def __post_init__(self) -> None:
        """Fills in the sizes that follow from others."""
        object.__setattr__(self, "num_decoder_layers", self.num_decoder_layers or self.num_layers)
        object.__setattr__(self, "head_size", self.head_size or self.width // self.num_heads)


class Block(nn.Module):
    """One pre-norm layer: x + attention, in the decoder + cross-attention, + feed-forward."""

    config: Config
    decodes: bool

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, shared: Shared, own: dict[str, Any]
    ) -> tuple[jax.Array, DecoderCache | None]:
        """[B, T, D] -> [B, T, D], and the layer's cache where one came in."""
        c, cache = self.config, own["cache"]
        rngs = iter(split(own["rng"], 6))
        norm = lambda name: RMSNorm(c.layer_norm_epsilon, name=f"{name}_norm")(x_BTD)  # noqa: E731
        attend = lambda name: Attention(  # noqa: E731
            c.width, c.num_heads, c.head_size, c.dropout, name=name
        )

        def add(x_BTD: jax.Array, h_BTD: jax.Array) -> jax.Array:
            h_BTD = dropout(h_BTD, c.dropout, next(rngs))
            return constrain(x_BTD + h_BTD, "batch", "sequence", None)

        attention = attend("attention")
        h_BTD = norm("attention")
        memory = attention.remember(h_BTD)
        if cache is not None:
            write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
                old, new.astype(old.dtype), shared.start, axis=1
            )
            memory = Cache(*map(write, cache.own, memory))
        x_BTD = add(x_BTD, attention(h_BTD, memory, shared.mask, shared.bias, next(rngs)))

        if self.decodes:
            attention = attend("cross_attention")
            source = cache.encoded if shared.encoded is None else attention.remember(shared.encoded)
            cache = None if cache is None else DecoderCache(memory, source)
            h_BTD = norm("cross_attention")
            h_BTD = attention(h_BTD, source, shared.encoded_mask, None, next(rngs))
            if shared.related is not None:
                h_BTD = jnp.where(shared.related, h_BTD, 0)
            x_BTD = add(x_BTD, h_BTD)

        mlp = FeedForward(c.mlp_width, c.activation, c.dropout, name="mlp")
        return add(x_BTD, mlp(norm("mlp"), next(rngs))), cache


class Stack(nn.Module):
    """Layers, the position biases that they share, and the last norm."""

    config: Config
    num_layers: int
    decodes: bool

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        init = nn.with_partitioning(nn.initializers.normal(c.width**-0.5), (None, "heads"))
        self.relative = self.param("relative", init, (c.relative_buckets, c.num_heads), jnp.float32)
        self.layers = [Block(c, self.decodes, name=f"layer_{i}") for i in range(self.num_layers)]
        self.norm = RMSNorm(c.layer_norm_epsilon)

    def bias(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        """The position bias [1, H, T, S] of queries and keys in these slots."""
        distance = self.config.relative_max_distance
        return relative_bias(self.relative, queries, keys, not self.decodes, distance)

    def __call__(
        self, x_BTD: jax.Array, shared: Shared, caches: list[Any] | None, rng: jax.Array | None
    ) -> tuple[jax.Array, list[Any]]:
        """Embedded tokens [B, T, D] -> states [B, T, D], and each layer's cache."""
        c = self.config
        first_rng, last_rng, *layer_rngs = split(rng, self.num_layers + 2)
        own = [
            {"rng": key, "cache": cache}
            for key, cache in zip(layer_rngs, caches or [None] * self.num_layers, strict=True)
        ]
        x_BTD = constrain(dropout(x_BTD, c.dropout, first_rng), "batch", "sequence", None)
        x_BTD, caches = apply_layers(
            self.layers, x_BTD, shared, own, scan=c.scan_layers, remat=c.remat
        )
        return dropout(self.norm(x_BTD), c.dropout, last_rng), caches


class T5(nn.Module):
    """The backbone: token ids to the decoder's states, or to the encoder's where that is all."""

    config: Config

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        self.tokens = Embedding(c.vocab_size, c.width, "vocab", 1.0)
        self.encoder = Stack(c, c.num_layers, False)
        self.decoder = Stack(c, c.num_decoder_layers, True)

    def __call__(
        self,
        batch: dict[str, jax.Array],
        rng: jax.Array | None = None,
        caches: list[DecoderCache] | None = None,
    ) -> Backbone:
        """Runs both stacks, or the one for which the batch has tokens.

        Args:
          batch: `tokens` [B, T] for the encoder, optional `segment_ids` [B, T]; `decoder_tokens`
            [B, S] for the decoder, optional `decoder_segment_ids` [B, S]. With caches also
            `cache_segments` and `cache_start`, as GPT's; the first call has `tokens`, later ones
            find the source in the caches and need only its `segment_ids`.
          rng: a key for dropout; None turns it off.
          caches: one a decoder layer, for incremental decoding (see `Decoder`).

        Returns:
          Backbone with the decoder's hidden_BTD and, pooled, the state of its last token; without
          `decoder_tokens` the encoder's, and nothing pooled.
        """
        c = self.config
        encoder_rng, decoder_rng = split(rng, 2)
        segments_BT = batch.get("segment_ids")
        encoded_BTD = None
        if "tokens" in batch:
            slots = jnp.arange(batch["tokens"].shape[1])
            mask = None if segments_BT is None else segment_mask(segments_BT, segments_BT)
            shared = Shared(self.encoder.bias(slots, slots), mask)
            x_BTD = self.tokens(batch["tokens"], c.dtype)
            encoded_BTD, _ = self.encoder(x_BTD, shared, None, encoder_rng)
            if "decoder_tokens" not in batch:
                return Backbone(encoded_BTD, None, None)

        shared = self._decoder_view(batch, encoded_BTD, caches is not None)
        x_BTD = self.tokens(batch["decoder_tokens"], c.dtype)
        hidden_BTD, caches = self.decoder(x_BTD, shared, caches, decoder_rng)
        pooled_BD = last_token(hidden_BTD, batch.get("decoder_segment_ids"))
        return Backbone(hidden_BTD, pooled_BD, caches)

    def _decoder_view(self, batch: Any, encoded_BSD: jax.Array | None, cached: bool) -> Shared:
        """What the decoder's layers see of their own tokens and of the source."""
        slots = jnp.arange(batch["decoder_tokens"].shape[1])
        own, source = batch.get("decoder_segment_ids"), batch.get("segment_ids")
        encoded_mask = related = start = None
        if cached:
            start, filled_BS = batch["cache_start"], batch["cache_segments"]
            queries, keys = start + slots, jnp.arange(filled_BS.shape[1])
            mask = causal_mask(queries, keys) & (filled_BS > 0)[:, None, None]
        else:
            queries = keys = slots
            mask = causal_mask(slots, slots)
            if own is not None:
                mask &= segment_mask(own, own)
        if source is not None and own is None:
            encoded_mask = (source > 0)[:, None, None]
        elif source is not None:
            encoded_mask = segment_mask(own, source)
            related = jnp.any(encoded_mask, axis=-1)[:, 0, :, None]
        bias = self.decoder.bias(queries, keys)
        return Shared(bias, mask, encoded_BSD, encoded_mask, related, start)


def reread(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Has the decoder read the encoder's text once more, behind START, as in the published classes.

    A text's class is then read off the last token, an answer's ends off each.
    """
    before = batch["tokens"][:, :-1]
    moved = jnp.pad(before, ((0, 0), (1, 0)), constant_values=START)
    found = {**batch, "decoder_tokens": moved}
    if "segment_ids" in batch:
        found["decoder_segment_ids"] = batch["segment_ids"]
    return found


class LMHead(nn.Module):
    """The decoder's states to logits: through the embedding, or through weights of its own."""

    config: Config

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, V]."""
        c = self.config
        if c.tie_embeddings:
            hidden_BPD *= c.width**-0.5
        else:
            init = nn.with_partitioning(nn.initializers.normal(c.width**-0.5), ("vocab", "width"))
            table_VD = self.param("table", init, (c.vocab_size, c.width), jnp.float32)
        return constrain(unembed(hidden_BPD, table_VD), "batch", "sequence", "vocab")


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Generation as model/decoder.py asks for it: the encoder reads the prompt, once."""

    config: Config
    apply: Callable[..., dict[str, Any]]
    max_tokens = None
    first = START

    def prefill(
        self, params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, slots: int
    ) -> tuple[jax.Array, Any, list[Cache]]:
        """Both stacks; fixed is `segments_BP` and each layer's keys and values of the prompt."""
        c, rows = self.config, tokens_BP.shape[0]
        zeros = jnp.zeros((rows, slots + 1, c.num_heads, c.head_size), c.dtype)
        caches = [DecoderCache(Cache(zeros, zeros))] * c.num_decoder_layers
        first_B = jnp.full(rows, self.first, jnp.int32)
        batch = {"tokens": tokens_BP, "segment_ids": segments_BP}
        logits_BV, caches = self._run(params, first_B, jnp.int32(0), batch, caches)
        fixed = segments_BP, [cache.encoded for cache in caches]
        return logits_BV, fixed, [cache.own for cache in caches]

    def step(
        self, params: Any, token_B: jax.Array, index: jax.Array, fixed: Any, caches: list[Cache]
    ) -> tuple[jax.Array, list[Cache]]:
        """One token a row, into the slot after `index`: the first one holds `first`."""
        segments_BP, encoded = fixed
        caches = [DecoderCache(*both) for both in zip(caches, encoded, strict=True)]
        batch = {"segment_ids": segments_BP}
        logits_BV, caches = self._run(params, token_B, index + 1, batch, caches)
        return logits_BV, [cache.own for cache in caches]

    def _run(
        self, params: Any, token_B: jax.Array, start: jax.Array, batch: Any, caches: Any
    ) -> tuple[jax.Array, list[DecoderCache]]:
        rows, slots = token_B.shape[0], caches[0].own.key.shape[1]
        filled_BS = jnp.ones((rows, slots), jnp.int32)  # later slots are masked as the future is
        own = {"decoder_tokens": token_B[:, None], "cache_start": start}
        out = self.apply(params, batch | own | {"cache_segments": filled_BS}, caches=caches)
        return out["logits"][:, 0], out["caches"]
