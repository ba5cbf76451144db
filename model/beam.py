"""Beam search with a length penalty, on the device.

Legend: B prompts, P prompt slots, K beams, C candidates, N new tokens, V vocabulary.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from model.decoder import Decoder
from model.errors import ModelError
from model.logits import check_penalty, forbid, mark, penalise


@dataclasses.dataclass(frozen=True)
class Beams:
    """The most likely texts, by beam search, in place of drawing tokens.

    Attributes:
      size: how many texts are kept open (K).
      length_penalty: a text's score is its log-probability divided by its length to this power
        (the plain form of Wu et al. 2016, section 7); above 0 favours long texts.
      early_stopping: end as soon as K texts are complete; otherwise only once no open text, as it
        stands, scores better than the worst of them.
      repetition_penalty: as `Sampling` has it, on log-probabilities; 1: none.
    """

    size: int
    length_penalty: float = 1.0
    early_stopping: bool = False
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ModelError(f"Beam search needs at least one beam; got {self.size}.")
        if not math.isfinite(self.length_penalty):
            raise ModelError(f"The length penalty is {self.length_penalty}; it must be finite.")
        check_penalty(self.repetition_penalty)


class _State(NamedTuple):
    """The search so far; texts are in the order of their scores, best first."""

    index: Any  # tokens that the open texts have
    caches: Any
    seen: jax.Array | None  # [B K, V]
    token: jax.Array  # [B, K], the last one of each open text
    open_texts: jax.Array  # [B, K, N]
    open_scores: jax.Array  # [B, K], log-probabilities
    texts: jax.Array  # [B, K, N], complete ones
    lengths: jax.Array  # [B, K], without the stop token
    scores: jax.Array  # [B, K], with the length penalty; -inf: no such text yet
    going: jax.Array  # [B], whether an open text may still enter


def _take(array: jax.Array, order_BK: jax.Array) -> jax.Array:
    """Rows of axis 1 of [B, C, ...] -> [B, K, ...]."""
    return jax.vmap(lambda row, order: row[order])(array, order_BK)


def _choose(
    state: _State, logits: jax.Array, limit: Any, minimum: Any, stop: jax.Array, beams: Beams
) -> _State:
    """Extends each open text by one token and sorts out what is complete."""
    rows, size = state.token.shape
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    log_probs = penalise(log_probs, state.seen, beams.repetition_penalty)
    log_probs = forbid(log_probs, stop, jnp.full(rows * size, state.index < minimum))
    vocab = log_probs.shape[-1]
    totals = (log_probs + state.open_scores.reshape(-1, 1)).reshape(rows, size * vocab)
    # Each open text can stop in `len(stop)` ways: so many that `size` others remain.
    count = min(max(2, 1 + len(stop)) * size, size * vocab)
    score_BC, flat_BC = jax.lax.top_k(totals, count)
    parent_BC, token_BC = flat_BC // vocab, (flat_BC % vocab).astype(jnp.int32)
    text_BCN = _take(state.open_texts, parent_BC).at[:, :, state.index].set(token_BC)
    stopped_BC = jnp.any(token_BC[:, :, None] == stop[None, None], axis=-1)
    length = state.index + 1
    complete_BC = stopped_BC | (length >= limit)

    open_scores, order = jax.lax.top_k(jnp.where(complete_BC, -jnp.inf, score_BC), size)
    parent_B = (_take(parent_BC, order) + jnp.arange(rows)[:, None] * size).reshape(-1)
    token = _take(token_BC, order)
    caches, seen = jax.tree.map(lambda leaf: leaf[parent_B], (state.caches, state.seen))

    divisor = length.astype(score_BC.dtype) ** beams.length_penalty
    # Of the complete ones only those that are among the best `size` of all candidates.
    enters = complete_BC & (jnp.arange(count) < size)[None] & state.going[:, None]
    entering = jnp.where(enters, score_BC / divisor, -jnp.inf)
    scores, best = jax.lax.top_k(jnp.concatenate([state.scores, entering], axis=1), size)
    texts = _take(jnp.concatenate([state.texts, text_BCN], axis=1), best)
    length_BC = length - stopped_BC.astype(jnp.int32)
    lengths = _take(jnp.concatenate([state.lengths, length_BC], axis=1), best)
    going = state.going & (open_scores[:, 0] / divisor > scores[:, -1])
    if beams.early_stopping:
        going &= scores[:, -1] == -jnp.inf
    return _State(
        length, caches, mark(seen, token.reshape(-1)), token, _take(text_BCN, order), open_scores,
        texts, lengths, scores, going,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("decoder", "beams", "slots", "vocab"))
def search(
    params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, seen_BV: jax.Array | None,
    limit: jax.Array, minimum: jax.Array, stop: jax.Array,
    *, decoder: Decoder, beams: Beams, slots: int, vocab: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """The K best texts of each prompt.

    Every prompt's texts are its own: those that end sooner wait, unchanged.

    Args:
      params: of the model.
      tokens_BP: prompts, aligned at their ends.
      segments_BP: 1; 0 for the padding in front.
      seen_BV: the tokens to penalise from the start; None without a penalty.
      limit: new tokens at most; up to `slots`.
      minimum: new tokens before a stop token.
      stop: ids that complete a text.
      decoder: the family's.
      beams: how to search.
      slots: N.
      vocab: ids from here on are never taken.

    Returns:
      Texts [B, K, N], their lengths [B, K] without the stop token, and scores [B, K], best first.
    """
    size = beams.size
    logits_BV, fixed, caches = decoder.prefill(params, tokens_BP, segments_BP, slots)
    rows = len(tokens_BP)
    logits, fixed, caches, seen = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, size, axis=0), (logits_BV, fixed, caches, seen_BV)
    )
    nothing = jnp.full((rows, size), -jnp.inf, logits.dtype)
    texts = jnp.zeros((rows, size, slots), jnp.int32)
    zeros = jnp.zeros((rows, size), jnp.int32)
    # The beams of a prompt are equal as yet: only the first one counts.
    state = _State(
        jnp.int32(0), caches, seen, zeros, texts, nothing.at[:, 0].set(0), texts, zeros, nothing,
        jnp.ones(rows, bool),
    )  # fmt: skip
    state = _choose(state, logits[:, :vocab], limit, minimum, stop, beams)

    def unfinished(state: _State) -> jax.Array:
        return (state.index < limit) & jnp.any(state.going)

    def extend(state: _State) -> _State:
        logits, caches = decoder.step(
            params, state.token.reshape(-1), state.index - 1, fixed, state.caches
        )
        state = state._replace(caches=caches)
        return _choose(state, logits[:, :vocab], limit, minimum, stop, beams)

    state = jax.lax.while_loop(unfinished, extend, state)
    return state.texts, state.lengths, state.scores
