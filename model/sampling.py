"""Texts whose tokens are drawn: greedy, temperature, top-k, top-p.

Legend: B texts, P prompt slots, N slots for new tokens, V vocabulary, K stop tokens.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from model.decoder import Decoder
from model.errors import ModelError
from model.logits import check_penalty, forbid, mark, penalise


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
      temperature: divides the logits; 0 takes the most likely token.
      top_k: only the k most likely tokens (Fan et al. 2018, section 5.4); 0: all.
      top_p: only the smallest set of tokens with this probability (Holtzman et al. 2020, section
        3.1), at the temperature and of the top k; 1: all.
      repetition_penalty: see `penalise`; 1: none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ModelError(
                "Sampling needs temperature >= 0, top_k >= 0 and 0 < top_p <= 1; "
                f"got {self.temperature}, {self.top_k}, {self.top_p}."
            )
        check_penalty(self.repetition_penalty)


def narrow(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Divides by the temperature and makes what top-k and top-p leave out impossible."""
    logits_BV = logits_BV / sampling.temperature
    if sampling.top_k:
        smallest = jax.lax.top_k(logits_BV, min(sampling.top_k, logits_BV.shape[-1]))[0][:, -1:]
        logits_BV = jnp.where(logits_BV < smallest, -jnp.inf, logits_BV)
    if sampling.top_p < 1:
        ordered = jnp.sort(logits_BV, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered, axis=-1)
        # A token stays if those before it do not reach top_p yet; the first one always does.
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        stays = before < sampling.top_p
        smallest = jnp.min(jnp.where(stays, ordered, jnp.inf), -1, keepdims=True)
        # Of tokens equal to the last one that stays, those with higher ids rank first.
        last = logits_BV == smallest
        room = jnp.sum(stays & (ordered == smallest), -1, keepdims=True)
        later = jnp.cumsum(last[:, ::-1], axis=-1)[:, ::-1]
        stays = (logits_BV > smallest) | (last & (later <= room))
        logits_BV = jnp.where(stays, logits_BV, -jnp.inf)
    return logits_BV


def sample(logits_BV: jax.Array, sampling: Sampling, keys_B: jax.Array) -> jax.Array:
    """Draws token ids [B] from logits [B, V], each row with its own key."""
    if sampling.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    draw = jax.vmap(jax.random.categorical)
    return draw(keys_B, narrow(logits_BV, sampling)).astype(jnp.int32)


class Plan(NamedTuple):
    """What decides a round of texts besides the model and the way to draw."""

    key: jax.Array
    row_B: Any  # numbers that key the draws
    made_B: Any  # new tokens from earlier rounds
    limit_B: Any  # new tokens of this round at most
    stop_K: Any
    minimum: Any  # new tokens before a stop token


class Texts(NamedTuple):
    """The state of a round."""

    index: Any  # new tokens so far, where a text is not done
    token_B: jax.Array
    caches: Any
    seen_BV: jax.Array | None
    out_BN: jax.Array
    count_B: jax.Array  # without the stop token
    done_B: jax.Array


def _draw(texts: Texts, logits_BV: jax.Array, plan: Plan, sampling: Sampling) -> Texts:
    step_B = plan.made_B + texts.index
    logits_BV = penalise(logits_BV, texts.seen_BV, sampling.repetition_penalty)
    logits_BV = forbid(logits_BV, plan.stop_K, step_B < plan.minimum)
    # A draw depends on the seed, the row's number and the step, not on who shares the batch.
    key_of = lambda row, step: jax.random.fold_in(jax.random.fold_in(plan.key, row), step)  # noqa: E731
    token_B = sample(logits_BV, sampling, jax.vmap(key_of)(plan.row_B, step_B))
    stopped_B = jnp.any(token_B[:, None] == plan.stop_K[None], axis=1)
    count_B = texts.count_B + (~texts.done_B & ~stopped_B).astype(jnp.int32)
    index = texts.index + 1
    return Texts(
        index, token_B, texts.caches, mark(texts.seen_BV, token_B),
        texts.out_BN.at[:, texts.index].set(token_B), count_B,
        texts.done_B | stopped_B | (index >= plan.limit_B),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("decoder", "sampling", "slots", "vocab"))
def begin(
    params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, seen_BV: jax.Array | None,
    plan: Plan, *, decoder: Decoder, sampling: Sampling, slots: int, vocab: int,
) -> tuple[Texts, Any]:  # fmt: skip
    """Reads the prompts and draws the first token; also what stays fixed."""
    logits_BV, fixed, caches = decoder.prefill(params, tokens_BP, segments_BP, slots)
    zeros = jnp.zeros(len(tokens_BP), jnp.int32)
    out_BN = jnp.zeros((len(tokens_BP), slots), jnp.int32)
    texts = Texts(jnp.int32(0), zeros, caches, seen_BV, out_BN, zeros, plan.limit_B <= 0)
    return _draw(texts, logits_BV[:, :vocab], plan, sampling), fixed


@functools.partial(
    jax.jit, static_argnames=("decoder", "sampling", "vocab"), donate_argnames="texts"
)
def advance(
    params: Any, fixed: Any, texts: Texts, until: jax.Array, plan: Plan,
    *, decoder: Decoder, sampling: Sampling, vocab: int,
) -> Texts:  # fmt: skip
    """Draws on, until the texts have `until` tokens or are all done."""

    def unfinished(texts: Texts) -> jax.Array:
        return (texts.index < until) & ~jnp.all(texts.done_B)

    def extend(texts: Texts) -> Texts:
        logits_BV, caches = decoder.step(
            params, texts.token_B, texts.index - 1, fixed, texts.caches
        )
        return _draw(texts._replace(caches=caches), logits_BV[:, :vocab], plan, sampling)

    return jax.lax.while_loop(unfinished, extend, texts)
