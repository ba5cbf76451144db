"""Cached decoding against whole forward passes, and the ways to draw a token."""

import jax
import numpy as np
import pytest

from model.api import build
from model.decode import Sampling, generate
from model.errors import ModelError
from model.heads import Heads
from model.sampling import sample

GREEDY = Sampling(0)


@pytest.fixture(scope="module")
def gpt(tiny, noise):
    config = tiny("gpt", {"model.max_length": 12}).model
    model = build(config, Heads(lm=True))
    params = noise(model)
    width = config.width  # without this the last norm's bias decides every token
    ones, zeros = np.ones(width, "float32"), np.zeros(width, "float32")
    params["backbone"]["norm"] = {"scale": ones, "bias": zeros}
    params["backbone"]["positions"]["table"] *= 10
    forward = jax.jit(lambda batch: model.apply(params, batch)["logits"])

    def run(prompts, new_tokens, sampling=GREEDY, seed=0, stop=()):
        out = generate(
            model, config, params, prompts, new_tokens=new_tokens, sampling=sampling, seed=seed,
            stop=stop,
        )  # fmt: skip
        return [row.tolist() for row in out]

    def slow(prompt, new_tokens):
        """Greedy, a whole forward pass a token, rows filled up at the end (causal: unseen)."""
        text, table, context = list(prompt), 12, list(prompt)
        for _ in range(new_tokens):
            if len(context) == table:
                context = text[-table // 2 :]
            row = np.zeros((1, table), np.int32)
            row[0, : len(context)] = context
            token = int(np.argmax(forward({"tokens": row})[0, len(context) - 1]))
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
    warm = Sampling(2.0)
    assert run([PROMPT], 7, warm, seed=1) == run([PROMPT], 7, warm, seed=1)
    assert run([PROMPT], 7, warm, seed=1) != run([PROMPT], 7, warm, seed=2)


def drawn(probabilities, sampling, count=4000):
    logits = np.log(np.tile(np.asarray(probabilities, np.float32), (count, 1)))
    tokens = np.asarray(sample(logits, sampling, jax.random.split(jax.random.key(0), count)))
    return np.bincount(tokens, minlength=len(probabilities)) / count


def test_draws_follow_the_probabilities():
    np.testing.assert_allclose(drawn([0.5, 0.3, 0.2], Sampling(1.0)), [0.5, 0.3, 0.2], atol=0.04)
    # p^(1/0.5) = p^2, normalised: 25, 9, 4 of 38
    expected = np.asarray([25, 9, 4]) / 38
    np.testing.assert_allclose(drawn([0.5, 0.3, 0.2], Sampling(0.5)), expected, atol=0.04)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, top_k=2), [0.5 / 0.8, 0.3 / 0.8, 0]),
        (Sampling(1.0, top_k=9), [0.5, 0.3, 0.2]),
        (Sampling(1.0, top_p=0.6), [0.5 / 0.8, 0.3 / 0.8, 0]),  # 0.5 is short of 0.6, 0.8 is not
        (Sampling(1.0, top_p=0.4), [1, 0, 0]),
        (Sampling(0.0), [1, 0, 0]),
    ],
)
def test_top_k_and_top_p(sampling, expected):
    np.testing.assert_allclose(drawn([0.5, 0.3, 0.2], sampling), expected, atol=0.04)


def test_errors(gpt, tiny):
    run, _ = gpt
    with pytest.raises(ModelError, match="Prompt 1 is empty"):
        run([[]], 3)
    with pytest.raises(ModelError, match="Prompt 1 has 12 tokens"):
        run([list(range(12))], 3)
    with pytest.raises(ModelError, match="top_p"):
        Sampling(top_p=0)
    with pytest.raises(ModelError, match="'bert' does not generate"):
        generate(
            None, tiny("bert").model, None, [PROMPT], new_tokens=1, sampling=GREEDY, seed=0
        )  # fmt: skip
