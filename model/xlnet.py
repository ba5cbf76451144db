"""XLNet (Yang et al. 2019, "Generalized Autoregressive Pretraining for Language Understanding").

What it does differently from BERT (Devlin et al. 2019):
  it predicts tokens in a random order, each from those before it in that order (section 2.2), so
  no [MASK] enters the input. Two streams share all parameters (section 2.3): the content stream
  sees its own token, the query stream, which begins as one learned vector and exists at the
  predicted positions only, does not. Attention scores add content, relative distance (sines, not
  trained) and whether two tokens are of one segment (sections 2.4 and 2.5, Dai et al. 2019, 3.3);
  keys and values also come from a memory of the text before (section 2.4). No biases in attention.

Legend: B batch, T tokens, P predicted positions, Q queries of one stream (T or P), M memory, S keys
(M + T), R relative distances (S + T), D width, H heads, K head size, V vocabulary.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.activations import activation
from model.attention import MLP, check_attention_type
from model.dropout import dropout, split
from model.errors import ModelError
from model.heads import Backbone, last_token
from model.layers import Embedding, LayerNorm, Linear
from model.products import accumulator, unembed
from model.relative import RelativeAttention, RelativeBiases, Stream, View, sine_table
from model.sharding import constrain
from model.stack import apply_layers


@dataclasses.dataclass(frozen=True)
class Config:
    """The keys of ``config.model`` that XLNet reads (see configs/base.py)."""

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    mem_len: int
    reuse_len: int
    attention_type: str
    clamp_length: int
    untie_biases: bool
    dropout: float
    activation: str
    layer_norm_epsilon: float
    initializer_std: float
    dtype: str
    remat: str
    scan_layers: bool

    def __post_init__(self) -> None:
        check_attention_type(self.attention_type)
        for name in ("mem_len", "reuse_len", "clamp_length"):
            if getattr(self, name) < 0:
                raise ModelError(
                    f"config.model.{name} is {getattr(self, name)}; it must be 0 (off) or more."
                )
        if self.width % 2:
            raise ModelError(
                f"config.model.width is {self.width}; the sine table of XLNet needs an even one."
            )

    @property
    def predicts(self) -> tuple[str, ...]:
        """See `WAYS` in model/heads.py."""
        return ("in_place", "permuted") + ("causal",) * (self.attention_type == "uni")


class Block(nn.Module):
    """One post-LN layer on every stream: norm(x + attention(x)), then norm(x + mlp(x))."""

    config: Config

    @nn.compact
    def __call__(
        self, streams: tuple[jax.Array, ...], view: View, own: dict[str, Any]
    ) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
        """Content stream [B, T, D] and, while pre-training, query stream [B, P, D].

        `own` holds the layer's dropout key (`rng`) and its memory [B, M, D] or None (`memory`);
        also returned is the layer's next memory.
        """
        c = self.config
        std = c.initializer_std
        attention = RelativeAttention(c.num_heads, std, c.dropout, name="attention")
        attention_norm = LayerNorm(c.layer_norm_epsilon, name="attention_norm")
        mlp = MLP(c.mlp_width, activation(c.activation), std, std, name="mlp")
        mlp_norm = LayerNorm(c.layer_norm_epsilon, name="mlp_norm")
        biases = view.biases
        if c.untie_biases:
            biases = RelativeBiases(c.num_heads, c.width // c.num_heads, std, name="biases")()

        attention_rng, *rngs = split(own["rng"], 1 + 2 * len(streams))
        content_BTD, memory_BMD = streams[0], own["memory"]
        keys_BSD = content_BTD
        if memory_BMD is not None:
            keys_BSD = jnp.concatenate([memory_BMD, content_BTD], axis=1)
        attended = attention(streams, keys_BSD, biases, view, attention_rng)
        outs = []
        for x, h, first, second in zip(streams, attended, rngs[::2], rngs[1::2], strict=True):
            x = attention_norm(x + dropout(h, c.dropout, first))
            x = mlp_norm(x + dropout(mlp(x), c.dropout, second))
            outs.append(constrain(x, "batch", "sequence", None))
        if memory_BMD is not None:
            kept = c.reuse_len or content_BTD.shape[1]
            memory_BMD = keys_BSD[:, kept : kept + memory_BMD.shape[1]]
        return tuple(outs), memory_BMD


class XLNet(nn.Module):
    """The backbone: token ids to hidden states of one stream or of both."""

    config: Config

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        std = c.initializer_std
        self.tokens = Embedding(c.vocab_size, c.width, "vocab", std)
        init = nn.with_partitioning(nn.initializers.normal(std), ("width",))
        self.mask_embedding = self.param("mask_embedding", init, (c.width,), jnp.float32)
        if not c.untie_biases:
            self.biases = RelativeBiases(c.num_heads, c.width // c.num_heads, std)
        self.layers = [Block(c, name=f"layer_{i}") for i in range(c.num_layers)]

    def __call__(
        self,
        batch: dict[str, jax.Array],
        rng: jax.Array | None = None,
        caches: dict[str, jax.Array] | None = None,
    ) -> Backbone:
        """Runs the stack.

        Args:
          batch: `tokens` [B, T]; optional `segment_ids`, `token_types` [B, T], `backward` [B] (1
            where a row is read from the text's end to its beginning) and `continues` [B] (0 where
            the memory is not of the text before the row). With `factorization_order` [B, T] there
            are two streams: a token's state depends on tokens of a rank up to its own, and what
            is predicted at `target_positions` [B, P] on tokens of lower rank. Targets have ranks
            of their own; tokens that are not predicted share one, below the targets that may see
            them. Without it every token sees every other (`attention_type` "bi") or the earlier
            ones ("uni").
          rng: a key for dropout; None turns it off.
          caches: the memory, as `empty_memory` makes it; it belongs to segment 1.

        Returns:
          Backbone with hidden_BTD, the last token's state, the next memory and, with two streams,
          predicted_BPD.
        """
        c = self.config
        tokens_BT = batch["tokens"]
        rows, length = tokens_BT.shape
        targets_BP = batch["target_positions"] if "factorization_order" in batch else None
        filled_B = None if caches is None else caches["filled"]
        if filled_B is not None and "continues" in batch:
            filled_B = jnp.where(batch["continues"] > 0, filled_B, 0)
        memory = 0 if caches is None else caches["layer_0"].shape[1]

        embed_rng, query_rng, table_rng, out_rng, *layer_rngs = split(rng, 4 + c.num_layers)
        content_BTD = dropout(self.tokens(tokens_BT, c.dtype), c.dropout, embed_rng)
        streams = (constrain(content_BTD, "batch", "sequence", None),)
        looks = (look(c, batch, memory, filled_B, None),)
        if targets_BP is not None:
            shape = (rows, targets_BP.shape[1], c.width)
            query_BPD = jnp.broadcast_to(self.mask_embedding.astype(c.dtype)[None, None], shape)
            streams += (dropout(query_BPD, c.dropout, query_rng),)
            looks += (look(c, batch, memory, filled_B, targets_BP),)
        signs = (1, -1) if "backward" in batch else (1,)
        table = sine_table(length, memory + length, c.width, c.clamp_length, signs, c.dtype)
        view = View(
            streams=looks,
            table_GRD=dropout(table, c.dropout, table_rng),
            backward_B=batch.get("backward"),
            biases=None if c.untie_biases else self.biases(),
        )
        own = [
            {"rng": key, "memory": None if caches is None else caches[f"layer_{i}"]}
            for i, key in enumerate(layer_rngs)
        ]
        streams, memories = apply_layers(
            self.layers, streams, view, own, scan=c.scan_layers, remat=c.remat
        )
        if caches is not None:
            caches = {f"layer_{i}": states for i, states in enumerate(memories)}
            caches["filled"] = jnp.minimum(filled_B + (c.reuse_len or length), memory)
        rates = [c.dropout] * len(streams)
        hidden_BTD, *predicted = map(dropout, streams, rates, split(out_rng, len(streams)))
        pooled_BD = last_token(hidden_BTD, batch.get("segment_ids"))
        return Backbone(hidden_BTD, pooled_BD, caches, *predicted)


def look(
    c: Config,
    batch: dict[str, jax.Array],
    memory: int,
    filled_B: jax.Array | None,
    targets_BP: jax.Array | None,
) -> Stream:
    """What one stream looks at: the only place where an order becomes a mask.

    Args:
      c: the model's config.
      batch: as the backbone gets it.
      memory: M.
      filled_B: how many of the memory's slots, counted from its end, hold a token.
      targets_BP: where the query stream stands; None: the content stream.
    """
    slots_1T = jnp.arange(batch["tokens"].shape[1], dtype=jnp.int32)[None]
    at_queries = lambda values_BT: (  # noqa: E731
        values_BT if targets_BP is None else jnp.take_along_axis(values_BT, targets_BP, axis=1)
    )
    slots_BQ = slots_1T if targets_BP is None else targets_BP
    mask = jnp.ones((*slots_BQ.shape, slots_1T.shape[1]), bool)
    if c.attention_type == "uni":
        mask = mask & (slots_1T[:, None, :] <= slots_BQ[:, :, None])
    if "factorization_order" in batch:
        rank_BT = batch["factorization_order"]
        # Content sees itself and its equals; the query stream must not see what it predicts.
        last_BQ = rank_BT if targets_BP is None else at_queries(rank_BT) - 1
        mask = mask & (rank_BT[:, None, :] <= last_BQ[:, :, None])
    past_BQ = jnp.ones((1, 1), bool)
    if "segment_ids" in batch:
        segments_BT = batch["segment_ids"]
        segments_BQ = at_queries(segments_BT)
        same = segments_BQ[:, :, None] == segments_BT[:, None, :]
        mask = mask & same & (segments_BT[:, None, :] > 0)
        past_BQ = segments_BQ == 1
    differs = None
    if "token_types" in batch:
        types_BT = batch["token_types"]
        types_BQ = at_queries(types_BT)
        differs = types_BQ[:, :, None] != types_BT[:, None, :]
    if filled_B is not None:
        shape = (filled_B.shape[0], slots_BQ.shape[1], memory)
        held_BM = jnp.arange(memory, dtype=jnp.int32)[None] >= memory - filled_B[:, None]
        held = jnp.broadcast_to(held_BM[:, None, :] & past_BQ[:, :, None], shape)
        mask = jnp.broadcast_to(mask, (*shape[:2], slots_1T.shape[1]))
        mask = jnp.concatenate([held, mask], axis=-1)
        if differs is not None:  # the memory is of the first segment: type 0
            other = jnp.broadcast_to(types_BQ[:, :, None] != 0, shape)
            differs = jnp.concatenate([other, differs], axis=-1)
    return Stream(mask[:, None], None if differs is None else differs[:, None], targets_BP)


def empty_memory(c: Config, rows: int) -> dict[str, jax.Array]:
    """The memory before the first step; {} for a model without memory.

    `layer_i` [B, M, D] are the inputs of layer i for the last M tokens, `filled` [B] how many of
    the slots, counted from the end, hold one.
    """
    if not c.mem_len:
        return {}
    states = jnp.zeros((rows, c.mem_len, c.width), c.dtype)
    memory = {f"layer_{i}": states for i in range(c.num_layers)}
    return {**memory, "filled": jnp.zeros((rows,), jnp.int32)}


class LMHead(nn.Module):
    """States to logits through the tied embedding, with a bias for each token."""

    config: Config

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
        """[B, P, D] -> [B, P, V]."""
        init: Any = nn.with_partitioning(nn.initializers.zeros, ("vocab",))
        bias_V = self.param("bias", init, (self.config.vocab_size,), jnp.float32)
        logits = unembed(hidden_BPD, table_VD)
        logits += bias_V[None, None].astype(logits.dtype)
        return constrain(logits, "batch", "sequence", "vocab")


class ClassificationHead(nn.Module):
    """A tanh layer, dropout and one linear map: [B, D] -> [B, C] (XLNet's published code)."""

    classes: int
    std: float
    dropout_rate: float

    @nn.compact
    def __call__(self, pooled_BD: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Returns logits in float32."""
        summary = Linear(pooled_BD.shape[-1:], (None,), ("width",), self.std, name="summary")
        h_BD = dropout(jnp.tanh(summary(pooled_BD)), self.dropout_rate, rng)
        logits = Linear((self.classes,), (None,), ("width",), self.std, name="linear")(h_BD)
        return logits.astype(accumulator(logits.dtype))
