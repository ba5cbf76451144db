"""Cached decoding against whole forward passes; texts that do not depend on their neighbours."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model import api
from model.api import build
from model.decode import Beams, Sampling, align, decoder_of, generate, rounded
from model.errors import ModelError
from model.heads import Heads

GREEDY, WARM = Sampling(0), Sampling(1.5, 9, 0.95, 1.2)


@pytest.fixture(scope="module")
def gpt(tiny, noise):
    # One layer: test_cached_logits_are_uncached_logits has the caches of two.
    config = tiny("gpt", {"model.max_length": 12, "model.num_layers": 1}).model
    model = build(config, Heads(lm=True))
    params = noise(model)
    width = config.width  # without this the last norm's bias decides every token
    ones, zeros = np.ones(width, "float32"), np.zeros(width, "float32")
    params["backbone"]["norm"] = {"scale": ones, "bias": zeros}
    params["backbone"]["positions"]["table"] *= 10
    forward = jax.jit(lambda batch: model.apply(params, batch)["logits"])

    def run(prompts, new_tokens, sampling=GREEDY, seed=0, **more):
        out = generate(
            model, config, params, prompts, new_tokens=new_tokens, sampling=sampling, seed=seed,
            **more,
        )  # fmt: skip
        return [row.tolist() for row in out]

    def slow(prompt, new_tokens, penalty=1.0):
        """Greedy, a whole forward pass a token, rows filled up at the end (causal: unseen)."""
        text, table, context = list(prompt), 12, list(prompt)
        for _ in range(new_tokens):
            if len(context) == table:
                context = text[-table // 2 :]
            row = np.zeros((1, table), np.int32)
            row[0, : len(context)] = context
            scores = np.asarray(forward({"tokens": row})[0, len(context) - 1])
            lower = np.where(scores > 0, scores / penalty, scores * penalty)
            token = int(np.argmax(np.where(np.isin(np.arange(len(scores)), text), lower, scores)))
            text.append(token)
            context.append(token)
        return text[len(prompt) :]

    return run, slow


PROMPT = [3, 1, 4, 1, 5]


def test_cached_is_uncached(gpt):
    run, slow = gpt
    expected = slow(PROMPT, 7)
    assert run([PROMPT], 7) == [expected]
    assert len(set(expected)) > 1  # a model that repeats itself would prove nothing


def test_prompts_of_different_lengths_equal_each_alone(gpt):
    run, slow = gpt
    prompts = [PROMPT, [9], [7, 2, 6]]
    assert run(prompts, 7) == [slow(prompt, 7) for prompt in prompts]


def test_longer_than_the_position_table_slides(gpt):
    run, slow = gpt
    assert run([PROMPT], 20) == [slow(PROMPT, 20)]


def test_stop_token_ends_a_text_and_only_that_one(gpt):
    run, slow = gpt
    texts = [slow(PROMPT, 7), slow([9], 7)]
    stop = next(token for token in texts[0] if token not in texts[1])
    assert run([PROMPT, [9]], 7, stop=[stop]) == [texts[0][: texts[0].index(stop)], texts[1]]


def test_top_k_of_one_is_greedy(gpt):
    run, _ = gpt
    assert run([PROMPT], 7, Sampling(1.0, top_k=1)) == run([PROMPT], 7)


def test_seed_decides(gpt):
    run, _ = gpt
    assert run([PROMPT], 7, WARM, seed=1) == run([PROMPT], 7, WARM, seed=1)
    assert run([PROMPT], 7, WARM, seed=1) != run([PROMPT], 7, WARM, seed=2)


def test_texts_slide_each_at_its_own_time(gpt):
    run, slow = gpt
    prompts = [PROMPT, [9], [7, 2, 6], list(range(11))]
    assert run(prompts, 20) == [slow(prompt, 20) for prompt in prompts]


def test_draws_do_not_depend_on_the_neighbours(gpt):
    run, _ = gpt
    new_tokens = 20
    prompts = [PROMPT, [9], [9], list(range(11))]
    together = run(prompts, new_tokens, WARM)
    alone = [run([p], new_tokens, WARM, first_row=row)[0] for row, p in enumerate(prompts)]
    assert together == alone
    assert together[1] != together[2]  # the same prompt in another row
    assert run([[9]], new_tokens, WARM, num_samples=4)[1:3] == together[1:3]


def test_the_penalty_sees_the_prompt_and_the_text(gpt):
    run, slow = gpt
    found = run([PROMPT, [9]], 20, Sampling(0, repetition_penalty=1.3))
    # Not even the slide loses sight of the first tokens.
    assert found == [slow(PROMPT, 20, 1.3), slow([9], 20, 1.3)]
    assert found != [slow(PROMPT, 20), slow([9], 20)]


def test_several_stop_tokens_and_a_minimum(gpt):
    run, slow = gpt
    text = slow(PROMPT, 7)
    assert text[4] not in text[:4]
    stops = [text[4], next(token for token in range(32) if token not in text)]
    assert run([PROMPT], 7, stop=stops) == [text[:4]]
    assert run([PROMPT], 7, stop=stops, min_new_tokens=4) == [text[:4]]
    late = run([PROMPT], 7, stop=stops, min_new_tokens=6)[0]
    assert late[:4] == text[:4]
    assert len(late) >= 6
    assert not set(stops) & set(late[:6])


def test_ids_beyond_the_tokenizer_are_never_taken(gpt):
    run, slow = gpt
    top = max(slow(PROMPT, 7))
    assert max(run([PROMPT], 7, vocab=top)[0]) < top
    assert max(run([PROMPT], 7, Beams(2), vocab=top)[0]) < top


@pytest.mark.parametrize(("new_tokens", "every"), [(7, 1), (20, 1), (20, 3)])
def test_watching_shows_each_text_grow_and_may_end_it(gpt, new_tokens, every):
    run, slow = gpt
    prompts, seen = [PROMPT, [9]], []

    def watch(new, ended):
        seen.append(([list(ids) for ids in new], list(ended)))
        return [False, len(new[1]) >= 3]

    found = run(prompts, new_tokens, watch=watch, every=every)
    assert found[0] == slow(PROMPT, new_tokens)
    assert found[1] == slow([9], new_tokens)[: 3 if every == 1 else 4]
    assert seen[0][0] == [text[:1] for text in found]  # the first token at once
    lengths = [len(new[0]) for new, _ in seen]
    assert lengths == sorted(lengths)
    assert all(new[0] == found[0][: len(new[0])] for new, _ in seen)
    assert [ended[0] for _, ended in seen] == [n == new_tokens for n in lengths]
    if every == 1:
        assert lengths[:5] == [1, 2, 3, 4, 5]


def test_rounded():
    sizes = [rounded(n, None) for n in (1, 16, 17, 24, 25, 33, 48, 49, 200)]
    assert sizes == [16, 16, 24, 24, 32, 48, 48, 64, 256]
    assert rounded(17, 20) == 20


def test_prompts_of_many_lengths_compile_once(tiny, noise):
    config = tiny("gpt", {"model.max_length": 40, "model.num_layers": 1}).model
    model = build(config, Heads(lm=True))
    params, traced = noise(model), []

    def apply(*args, **caches):
        traced.append(1)
        return model.apply(*args, **caches)

    counting = dataclasses.replace(model, apply=apply)

    def run(lengths, new_tokens, sampling, **more):
        generate(
            counting, config, params, [list(range(n)) for n in lengths], new_tokens=new_tokens,
            sampling=sampling, seed=new_tokens, **more,
        )  # fmt: skip
        return len(traced)

    warm = Sampling(1.0, top_k=3)
    first = run([3, 5], 7, warm, watch=lambda new, ended: ended)
    assert 2 <= first <= 4  # the prompts and a step (a loop may be traced twice)
    assert run([16, 1], 16, warm) == first
    assert run([2, 9], 3, warm, min_new_tokens=2) == first
    assert run([17, 1], 16, warm) > first
    searched = run([3, 5], 7, Beams(2))
    assert run([16, 1], 16, Beams(2)) == searched


def test_cached_logits_are_uncached_logits(tiny, noise):
    config = tiny("gpt", {"model.max_length": 12}).model
    model = build(config, Heads(lm=True))
    params = noise(model)
    decoder = decoder_of(model, config)
    texts = np.asarray([[5, 9, 2, 6, 5, 3, 5], [31, 0, 4, 4, 8, 1, 7]], np.int32)
    whole = jax.jit(model.apply)(params, {"tokens": texts})["logits"]
    tokens, segments = align([texts[0, :4], texts[1, :2]], 5)
    prefill = jax.jit(decoder.prefill, static_argnums=3)
    logits, fixed, caches = prefill(params, tokens, segments, 3)
    step = jax.jit(decoder.step)
    for index in range(3):
        expected = [whole[0, 3 + index], whole[1, 1 + index]]
        np.testing.assert_allclose(logits, expected, rtol=2e-4, atol=2e-4)
        token = jnp.asarray([texts[0, 4 + index], texts[1, 2 + index]])
        logits, caches = step(params, token, jnp.int32(index), fixed, caches)


@dataclasses.dataclass(frozen=True)
class Toy:
    """An encoder-decoder in three lines: the last 3 tokens and the prompt's sum decide the next."""

    config: object
    apply: object
    max_tokens, first = None, 0

    def prefill(self, params, tokens_BP, segments_BP, slots):
        fixed = {"sum": (tokens_BP * segments_BP).sum(axis=1)}
        caches = {"text": [jnp.zeros((len(tokens_BP), 3), jnp.int32)]}
        logits, caches = self.step(params, jnp.zeros(len(tokens_BP), jnp.int32), -1, fixed, caches)
        return logits, fixed, caches

    def step(self, params, token_B, index, fixed, caches):
        text = jnp.concatenate([caches["text"][0][:, 1:], token_B[:, None]], axis=1)
        hashed = (text @ jnp.asarray([7, 5, 3]) + fixed["sum"]) % len(params)
        return jnp.asarray(params)[hashed], {"text": [text]}


def test_any_tree_of_caches_and_a_prompt_that_is_not_the_text(monkeypatch, tiny):
    monkeypatch.setitem(api.FAMILIES, "toy", (types.SimpleNamespace(Decoder=Toy), None))
    monkeypatch.setattr("model.decode.family_config", lambda config: None)
    config, vocab = tiny("gpt", {"model.family": "toy", "model.vocab_size": 9}).model, 9
    table = 5 + np.random.default_rng(0).random((101, vocab), np.float32) * 4
    model = types.SimpleNamespace(apply=None)
    prompts = [list(range(1, 9)) * 9, [4, 4]]

    def scores(prompt, text):
        hashed = (np.asarray([0, 0, 0, *text])[-3:] @ [7, 5, 3] + sum(prompt)) % len(table)
        row = table[hashed].astype(np.float64)
        return row - np.log(np.exp(row).sum())

    greedy, best = [], []
    for prompt in prompts:
        text = []
        for _ in range(40):
            text.append(int(scores(prompt, text).argmax()))
        greedy.append(text)
        beams = [(0.0, [])]
        for _ in range(40):
            longer = [(s + a, [*t, v]) for s, t in beams for v, a in enumerate(scores(prompt, t))]
            beams = sorted(longer, reverse=True)[:3]
        best.append(beams[0][1])
    make = lambda way, **more: [  # noqa: E731
        row.tolist()
        for row in generate(
            model, config, table, prompts, new_tokens=40, sampling=way, seed=0, **more
        )
    ]
    assert make(GREEDY) == greedy
    assert make(Beams(3)) == best != greedy
    # The prompt is no text: it is not penalised, but the token that the text begins with is.
    once = make(Sampling(0, repetition_penalty=1e6), min_new_tokens=8)
    assert all(set(text[:8]) == set(range(1, 9)) for text in once)


def test_errors(gpt, tiny):
    run, _ = gpt
    with pytest.raises(ModelError, match="Prompt 1 is empty"):
        run([[]], 3)
    with pytest.raises(ModelError, match="Prompt 1 has 12 tokens"):
        run([list(range(12))], 3)
    for prompts, new, way, more, match in [
        ([[3, 32]], 3, GREEDY, {}, "Prompt 1 has an id"),
        ([], 3, GREEDY, {}, "at least one prompt"),
        ([PROMPT], 0, GREEDY, {}, "one new token"),
        ([PROMPT], 3, GREEDY, {"num_samples": 2}, "all samples of a prompt are the same"),
        ([PROMPT], 3, GREEDY, {"stop": [32]}, "Stop token 32"),
    ]:
        with pytest.raises(ModelError, match=match):
            run(prompts, new, way, **more)
    with pytest.raises(ModelError, match="'bert' does not generate"):
        generate(
            None, tiny("bert").model, None, [PROMPT], new_tokens=1, sampling=GREEDY, seed=0
        )  # fmt: skip
