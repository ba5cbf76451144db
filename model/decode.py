"""Generation from an autoregressive model with a key/value cache.

Legend: B prompts, P prompt slots, N new tokens, S = P + N cache slots, V vocabulary.
Prompts of different lengths are aligned at their ends, so that every row writes the same slot.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from model.api import Model, family_config
from model.attention import Cache
from model.errors import ModelError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
      temperature: divides the logits; 0 takes the most likely token.
      top_k: only the k most likely tokens (Fan et al. 2018); 0: all.
      top_p: only the smallest set of tokens with this probability (Holtzman et al. 2020); 1: all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ModelError(
                "Sampling needs temperature >= 0, top_k >= 0 and 0 < top_p <= 1; "
                f"got {self.temperature}, {self.top_k}, {self.top_p}."
            )


def sample(logits_BV: jax.Array, sampling: Sampling, rng: jax.Array) -> jax.Array:
    """Draws token ids [B] from logits [B, V]."""
    if sampling.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logits_BV = logits_BV / sampling.temperature
    if sampling.top_k:
        smallest = jax.lax.top_k(logits_BV, min(sampling.top_k, logits_BV.shape[-1]))[0][:, -1:]
        logits_BV = jnp.where(logits_BV < smallest, -jnp.inf, logits_BV)
    if sampling.top_p < 1:
        ordered = jnp.sort(logits_BV, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered, axis=-1)
        # A token stays if those before it do not reach top_p yet; the first one always does.
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        smallest = jnp.min(jnp.where(before < sampling.top_p, ordered, jnp.inf), -1, keepdims=True)
        logits_BV = jnp.where(logits_BV < smallest, -jnp.inf, logits_BV)
    return jax.random.categorical(rng, logits_BV).astype(jnp.int32)


def empty_caches(config: Any, rows: int, slots: int) -> list[Cache]:
    """A cache of zeros for each layer."""
    shape = (rows, slots, config.num_heads, config.width // config.num_heads)
    zeros = jnp.zeros(shape, config.dtype)
    return [Cache(zeros, zeros) for _ in range(config.num_layers)]


def align(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts [B][*] -> tokens [B, P] and segment ids [B, P] (1; 0 for the padding in front)."""
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ModelError("A prompt is empty; give at least one token of text to continue.")
    length = max(map(len, prompts))
    tokens = np.zeros((len(prompts), length), np.int32)
    segments = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, length - len(prompt) :] = prompt
        segments[row, length - len(prompt) :] = 1
    return tokens, segments


def positions_of(segments_BS: jax.Array) -> jax.Array:
    """Positions within the text, from 0 at the first slot that is not padding."""
    return jnp.maximum(jnp.cumsum(segments_BS, axis=1) - 1, 0)


@functools.partial(jax.jit, static_argnames=("model", "config", "new_tokens", "sampling", "stop"))
def _generate(
    params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, rng: jax.Array,
    *, model: Model, config: Any, new_tokens: int, sampling: Sampling, stop: int,
) -> jax.Array:  # fmt: skip
    rows, length = tokens_BP.shape
    segments_BS = jnp.pad(segments_BP, ((0, 0), (0, new_tokens)), constant_values=1)
    positions_BS = positions_of(segments_BS)

    def forward(tokens: jax.Array, start: Any, caches: list[Cache]) -> tuple[jax.Array, Any]:
        width = tokens.shape[1]
        batch = {
            "tokens": tokens,
            "positions": jax.lax.dynamic_slice_in_dim(positions_BS, start, width, axis=1),
            "cache_segments": segments_BS,
            "cache_start": start,
            "target_positions": jnp.full((rows, 1), width - 1),
        }
        out = model.apply(params, batch, caches=caches)
        return out["logits"][:, 0], out["caches"]

    def unfinished(carry: Any) -> jax.Array:
        index, _, _, done_B, _ = carry
        return (index < new_tokens) & ~jnp.all(done_B)

    def next_token(carry: Any) -> Any:
        index, logits_BV, caches, done_B, out_BN = carry
        token_B = sample(logits_BV, sampling, jax.random.fold_in(rng, index))
        token_B = jnp.where(done_B, stop, token_B)
        out_BN = out_BN.at[:, index].set(token_B)
        logits_BV, caches = forward(token_B[:, None], length + index, caches)
        return index + 1, logits_BV, caches, done_B | (token_B == stop), out_BN

    logits_BV, caches = forward(tokens_BP, 0, empty_caches(config, rows, length + new_tokens))
    done_B = jnp.zeros(rows, bool)
    out_BN = jnp.full((rows, new_tokens), stop, jnp.int32)
    carry = (0, logits_BV, caches, done_B, out_BN)
    return jax.lax.while_loop(unfinished, next_token, carry)[4]


def generate(
    model: Model,
    config: Any,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int = -1,
) -> list[np.ndarray]:
    """Continues prompts.

    A text that outgrows the position table goes on from its own last half-table of tokens, so that
    `new_tokens` may be any number.

    Args:
      model: built with an LM head.
      config: its ``config.model``.
      params: its parameters.
      prompts: token ids of each prompt, of any lengths up to the position table less one.
      new_tokens: tokens to add.
      sampling: how to draw them.
      seed: of the draws; the same seed gives the same text.
      stop: a token that ends a text; -1: none does.

    Returns:
      The new ids of each prompt, up to and without `stop`.

    Raises:
      ModelError: an empty prompt, one that fills the position table, a family without a decoder.
    """
    if config.family != "gpt":
        raise ModelError(f"Family {config.family!r} does not generate text; use a gpt model.")
    table = config.max_length
    longest = max(map(len, prompts), default=0)
    if longest >= table:
        raise ModelError(
            f"A prompt has {longest} tokens, but the model's position table only {table}; "
            "shorten it to leave room for at least one new token."
        )
    own, key = family_config(config), jax.random.key(seed)
    texts = [list(prompt) for prompt in prompts]
    made = 0
    while made < new_tokens:
        context = texts if made == 0 else [text[-(table // 2) :] for text in texts]
        tokens, segments = align(context)
        count = min(new_tokens - made, table - tokens.shape[1])
        new = _generate(
            params, tokens, segments, jax.random.fold_in(key, made), model=model, config=own,
            new_tokens=count, sampling=sampling, stop=stop,
        )  # fmt: skip
        texts = [text + row.tolist() for text, row in zip(texts, np.asarray(new), strict=True)]
        made += count
        if all(stop in text[-count:] for text in texts):
            break
    return [
        _until(np.asarray(text[len(prompt) :], np.int32), stop)
        for text, prompt in zip(texts, prompts, strict=True)
    ]


def _until(ids: np.ndarray, stop: int) -> np.ndarray:
    ends = np.flatnonzero(ids == stop)
    return ids[: ends[0]] if len(ends) else ids
