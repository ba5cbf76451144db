"""Generation from an autoregressive model with a key/value cache.

A family takes part with a class `Decoder` in its file: see model/decoder.py.

Legend: B texts, P prompt slots, N slots for new tokens, V vocabulary.
Prompts of different lengths are aligned at their ends, so that every row writes the same slot.
P and N are rounded up to a few sizes, so that few programs serve prompts of any length.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from model.api import FAMILIES, Model, family_config
from model.beam import Beams, search
from model.decoder import Decoder
from model.errors import ModelError
from model.sampling import Plan, Sampling, advance, begin

# Given the new ids of each text so far, and which texts are complete; says which ones to end.
Watch = Callable[[Sequence[Sequence[int]], np.ndarray], Sequence[bool]]


def decoder_of(model: Model, config: Any) -> Decoder:
    """The decoder of a model with an LM head; ModelError where its family has none."""
    family = FAMILIES[config.family][0] if config.family in FAMILIES else None
    if not hasattr(family, "Decoder"):
        able = sorted(name for name, (file, _) in FAMILIES.items() if hasattr(file, "Decoder"))
        raise ModelError(
            f"Family {config.family!r} does not generate text; use a model of {' or '.join(able)}."
        )
    return family.Decoder(family_config(config), model.apply)


def align(prompts: Sequence[Sequence[int]], slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts [B][*] -> tokens [B, slots] and segment ids (1; 0 for the padding in front)."""
    tokens = np.zeros((len(prompts), slots), np.int32)
    segments = np.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, slots - len(prompt) :] = prompt
        segments[row, slots - len(prompt) :] = 1
    return tokens, segments


def rounded(count: int, most: int | None) -> int:
    """The next of 16, 24, 32, 48, 64, 96 ...; at most `most`: what is compiled for `count`."""
    size = max(16, 1 << (count - 1).bit_length())
    size = size * 3 // 4 if size > 16 and count <= size * 3 // 4 else size
    return size if most is None else min(size, most)


def check_prompts(decoder: Decoder, prompts: Sequence[Sequence[int]], vocab: int) -> None:
    """ModelError on a prompt that is empty, too long, or of other ids than the model's."""
    for number, prompt in enumerate(prompts, 1):
        if not len(prompt):
            raise ModelError(f"Prompt {number} is empty; give at least one token of text.")
        if decoder.max_tokens is not None and len(prompt) >= decoder.max_tokens:
            raise ModelError(
                f"Prompt {number} has {len(prompt)} tokens, but the model's position table only "
                f"{decoder.max_tokens}; shorten it to leave room for at least one new token."
            )
        if not 0 <= min(prompt) <= max(prompt) < vocab:
            raise ModelError(f"Prompt {number} has an id that is not among the model's {vocab}.")


def generate(
    model: Model,
    config: Any,
    params: Any,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    sampling: Sampling | Beams,
    seed: int,
    stop: Sequence[int] = (),
    min_new_tokens: int = 0,
    num_samples: int = 1,
    first_row: int = 0,
    vocab: int | None = None,
    watch: Watch | None = None,
    every: int = 1,
) -> list[np.ndarray]:
    """Continues prompts; an encoder-decoder answers them.

    A text that outgrows the position table goes on from its own last half-table of tokens, so that
    `new_tokens` may be any number (beam search does not slide). A text does not depend on the
    others in its batch, up to the rounding of sums that are taken in another order.

    Args:
      model: built with an LM head.
      config: its ``config.model``.
      params: its parameters.
      prompts: token ids of each prompt, of any lengths up to the position table less one.
      new_tokens: tokens to add at most.
      sampling: how to draw them, or how to search for the best.
      seed: of the draws; the same seed gives the same texts.
      stop: tokens that end a text.
      min_new_tokens: tokens to add before one of `stop`.
      num_samples: texts for each prompt; of beam search, the best ones.
      first_row: the number of the first text; texts are numbered on, and the number keys the draws.
      vocab: ids from here on are never taken (a table larger than its tokenizer); None: all are.
      watch: called after every `every` tokens; not by beam search, which has no text until its end.
      every: see `watch`.

    Returns:
      The new ids of each text, up to and without a stop token; the texts of a prompt together.

    Raises:
      ModelError: a prompt that is empty or fills the position table; a family without a decoder;
        a stop token that does not exist; settings that exclude each other.
    """
    decoder = decoder_of(model, config)
    vocab = config.vocab_size if vocab is None else vocab
    _check(decoder, prompts, sampling, new_tokens, num_samples, stop, vocab)
    stop = np.asarray(stop, np.int32)
    texts = [list(prompt) for prompt in prompts]
    if isinstance(sampling, Beams):
        slots = rounded(new_tokens, decoder.max_tokens)
        found, lengths, _ = search(
            params, *align(texts, _prompt_slots(decoder, texts)),
            _seen(decoder, sampling, texts, [[]] * len(texts), vocab), np.int32(new_tokens),
            np.int32(min_new_tokens), stop, decoder=decoder, beams=sampling, slots=slots,
            vocab=vocab,
        )  # fmt: skip
        found, lengths = np.asarray(found), np.asarray(lengths)
        best = [(row, beam) for row in range(len(texts)) for beam in range(num_samples)]
        return [found[at][: lengths[at]] for at in best]
    texts = [text for text in texts for _ in range(num_samples)]
    plan = Plan(
        jax.random.key(seed), np.arange(first_row, first_row + len(texts), dtype=np.int32),
        None, None, stop, np.int32(min_new_tokens),
    )  # fmt: skip
    run = functools.partial(_round, params, decoder, sampling, vocab, watch, every)
    new, ended = [[] for _ in texts], np.zeros(len(texts), bool)
    while not ended.all():
        ended = run(texts, new, ended, new_tokens, plan)
    return [np.asarray(ids, np.int32) for ids in new]


def _round(
    params: Any, decoder: Decoder, sampling: Sampling, vocab: int, watch: Watch | None, every: int,
    prompts: list[list[int]], new: list[list[int]], ended: np.ndarray, new_tokens: int, plan: Plan,
) -> np.ndarray:  # fmt: skip
    """Adds to `new` until each text is complete or has filled the position table; who ended."""
    contexts, table = prompts, decoder.max_tokens
    left_B = np.asarray([new_tokens - len(ids) for ids in new], np.int32)
    if table is not None:
        contexts = [[*prompt, *ids] for prompt, ids in zip(prompts, new, strict=True)]
        contexts = [text if len(text) < table else text[-(table // 2) :] for text in contexts]
        left_B = np.minimum(left_B, [table - len(text) for text in contexts]).astype(np.int32)
    limit_B = np.where(ended, np.int32(0), left_B)
    made = [len(ids) for ids in new]
    plan = plan._replace(made_B=np.asarray(made, np.int32), limit_B=limit_B)
    slots = rounded(int(limit_B.max()), table)
    settings = {"decoder": decoder, "sampling": sampling, "vocab": vocab}
    texts, fixed = begin(
        params, *align(contexts, _prompt_slots(decoder, contexts)),
        _seen(decoder, sampling, prompts, new, vocab), plan, slots=slots, **settings,
    )  # fmt: skip
    until = slots if watch is None else 1
    while True:
        texts = advance(params, fixed, texts, np.int32(until), plan, **settings)
        out_BN, count_B, done_B = jax.device_get((texts.out_BN, texts.count_B, texts.done_B))
        for ids, start, row, count in zip(new, made, out_BN, count_B, strict=True):
            ids[start:] = row[:count].tolist()
        # A text is complete at a stop token, which is not counted, or with all its tokens.
        ended = ended | (done_B & (count_B < limit_B)) | [len(ids) >= new_tokens for ids in new]
        if watch is not None:
            ended = ended | np.asarray(watch(new, ended), bool)
            texts = texts._replace(done_B=texts.done_B | ended)
        if (ended | done_B).all():
            return ended
        until += every


def _prompt_slots(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> int:
    return rounded(max(map(len, prompts)), decoder.max_tokens)


def _seen(
    decoder: Decoder, how: Sampling | Beams, prompts: Any, new: Any, vocab: int
) -> np.ndarray | None:
    """The tokens of each text so far [B, V]; None where nobody asks."""
    if how.repetition_penalty == 1:
        return None
    seen_BV = np.zeros((len(prompts), vocab), bool)
    for row, prompt, ids in zip(seen_BV, prompts, new, strict=True):
        row[[*(prompt if decoder.first is None else [decoder.first]), *ids]] = True
    return seen_BV


def _check(
    decoder: Decoder, prompts: Sequence[Sequence[int]], how: Sampling | Beams,
    new_tokens: int, num_samples: int, stop: Sequence[int], vocab: int,
) -> None:  # fmt: skip
    check_prompts(decoder, prompts, vocab)
    if not len(prompts) or new_tokens < 1 or num_samples < 1:
        raise ModelError(
            "Generation needs at least one prompt, one new token and one sample; got "
            f"{len(prompts)}, {new_tokens} and {num_samples}."
        )
    if unknown := [token for token in stop if not 0 <= token < vocab]:
        raise ModelError(f"Stop token {unknown[0]} is not among the vocabulary's {vocab} ids.")
    if isinstance(how, Beams):
        room = None if decoder.max_tokens is None else decoder.max_tokens - max(map(len, prompts))
        if room is not None and new_tokens > room:
            raise ModelError(
                f"Beam search cannot go beyond the position table of {decoder.max_tokens}, which "
                f"leaves room for {room} new tokens after the longest prompt, not {new_tokens}; "
                "ask for fewer, or draw tokens instead."
            )
        if num_samples > how.size:
            raise ModelError(
                f"Beam search with {how.size} beams finds no {num_samples} texts; use more beams."
            )
    elif how.temperature == 0 and num_samples > 1:
        raise ModelError(
            "At temperature 0 all samples of a prompt are the same; use a higher temperature, "
            "beam search, or one sample."
        )
