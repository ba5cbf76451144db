"""Generation token for token as transformers' `generate`, and from the cache as without it."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from model.decode import Beams, Sampling, align, decoder_of, generate
from tests.parity.frame import Imported, Row, import_reference, numpy, output, precise, randomise

STOP, PAD, NEW, VOCAB = 9, 0, 14, 13
PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [12], [7, 7, 10], [11, 12, 3, 4, 5, 6, 7, 8, 9]]


@dataclasses.dataclass(frozen=True)
class Way:
    """How to generate: for ours, for transformers, the tokens that end a text, and the fewest."""

    ours: Sampling | Beams
    theirs: dict[str, Any]
    stop: Sequence[int]
    minimum: int = 0


def greedy(penalty: float, minimum: int) -> Way:
    """The most likely token each time."""
    settings = {"repetition_penalty": penalty}
    return Way(Sampling(0, 0, 1.0, penalty), settings, [STOP, 5], minimum)


def beams(
    size: int,
    length: float,
    early: bool,
    stop: Sequence[int],
    penalty: float = 1.0,
    fewest: int = 0,
) -> Way:
    """All of the texts that the search keeps."""
    settings = {
        "num_beams": size, "num_return_sequences": size, "length_penalty": length,
        "early_stopping": early, "repetition_penalty": penalty,
    }  # fmt: skip
    return Way(Beams(size, length, early, penalty), settings, stop, fewest)


WAYS = [
    greedy(1.0, 0),
    greedy(1.4, 0),
    greedy(0.8, 6),
    beams(2, 1.0, False, [STOP]),
    beams(2, 1.0, True, [STOP]),
    beams(3, 0.0, False, [STOP, 5, 10]),
    beams(3, 2.5, True, [STOP, 5, 10]),
    beams(4, -1.0, False, [STOP, 5]),
    beams(5, 2.5, False, [STOP, 5, 10]),
    beams(5, 1.0, False, []),
    beams(3, 1.0, False, [STOP, 5], penalty=1.5, fewest=5),
]


def generation_rows(reference: Any, models: int = 3) -> Iterator[Row]:
    """How many tokens differ, over some random models.

    Args:
      reference: of transformers, in float32, with VOCAB ids and room for NEW after PROMPTS.
      models: so many.
    """
    ours = None
    lengths: dict[str, set[int]] = {}
    for seed in range(models):
        randomise(reference, seed)
        imported = import_reference(reference, "float32")
        # One model for all: it is compiled once for each way.
        ours = imported if ours is None else dataclasses.replace(ours, params=imported.params)
        for way in WAYS:
            # transformers takes the padding in front for text, and penalises it: one at a time.
            alone = way.theirs["repetition_penalty"] != 1
            name = "beam search" if isinstance(way.ours, Beams) else "greedy"
            differ = 0
            for prompts in [[prompt] for prompt in PROMPTS] if alone else [PROMPTS]:
                got, want = answers(ours, way, prompts), their_answers(reference, way, prompts)
                differ += differing(got, want)
                lengths.setdefault(name, set()).update(map(len, want))
            yield Row(f"{name}: tokens that differ", "float32", differ, 0)
    for name, found in lengths.items():
        assert len(found) > 1, f"{name}: no text ended at a stop token"


def differing(got: list[list[int]], want: list[list[int]]) -> int:
    """In how many places texts differ; a token that only one of them has is a difference."""
    pairs = zip(got, want, strict=True)
    return sum(a != b for one, two in pairs for a, b in itertools.zip_longest(one, two))


def answers(ours: Imported, way: Way, prompts: list[list[int]]) -> list[list[int]]:
    """By our model."""
    samples = way.ours.size if isinstance(way.ours, Beams) else 1
    found = generate(
        ours.model, ours.config, ours.params, prompts, new_tokens=NEW, sampling=way.ours, seed=0,
        stop=way.stop, min_new_tokens=way.minimum, num_samples=samples,
    )  # fmt: skip
    return [ids.tolist() for ids in found]


def their_answers(reference: Any, way: Way, prompts: list[list[int]]) -> list[list[int]]:
    """By transformers."""
    tokens, mask = map(torch.tensor, align(prompts, max(map(len, prompts))))
    given = 1 if reference.config.is_encoder_decoder else tokens.shape[1]
    out = reference.generate(
        tokens.long(), attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD,
        eos_token_id=list(way.stop) or None, min_new_tokens=way.minimum or None, **way.theirs,
    )  # fmt: skip
    rows = out[:, given:].tolist()
    return [list(itertools.takewhile(lambda token: token not in way.stop, row)) for row in rows]


def cached_rows(reference: Any, precision: str) -> Iterator[Row]:
    """Logits from the cache, token by token, as the reference's without one.

    Args:
      reference: of transformers, with VOCAB ids and room for NEW after PROMPTS.
      precision: its type.
    """
    randomise(reference, seed=0)
    tokens, segments = align(PROMPTS, max(map(len, PROMPTS)))
    text = np.random.default_rng(0).integers(1, VOCAB, (len(PROMPTS), NEW)).astype(np.int32)
    with precise(precision):
        ours = import_reference(reference, precision)
        decoder = decoder_of(ours.model, ours.config)
        prefill = jax.jit(decoder.prefill, static_argnums=3)
        logits, fixed, caches = prefill(ours.params, tokens, segments, NEW)
        found, step = [logits], jax.jit(decoder.step)
        for index in range(NEW - 1):
            logits, caches = step(ours.params, text[:, index], jnp.int32(index), fixed, caches)
            found.append(logits)
    batch = {"attention_mask": torch.tensor(segments).long(), "use_cache": False}
    if reference.config.is_encoder_decoder:
        first = np.full_like(text[:, :1], decoder.first)
        given = np.concatenate([first, text[:, :-1]], axis=1)
        batch |= {"input_ids": torch.tensor(tokens), "decoder_input_ids": torch.tensor(given)}
    else:
        given = np.concatenate([tokens, text[:, :-1]], axis=1)
        mask = np.concatenate([segments, np.ones_like(text[:, :-1])], axis=1)
        places = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        batch |= {"input_ids": torch.tensor(given), "position_ids": torch.tensor(places)}
        batch["attention_mask"] = torch.tensor(mask)
    want = numpy(reference(**batch).logits)[:, -NEW:]
    yield output("logits from the cache", precision, np.stack(found, axis=1), want)
