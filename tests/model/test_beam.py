"""Beam search on the device against a search over lists, and against all texts there are."""

import itertools

import jax
import numpy as np
import pytest

from model.api import build
from model.decode import Beams, Sampling, generate
from model.errors import ModelError
from model.heads import Heads

TABLE, VOCAB = 16, 7
PROMPTS = [[3, 1, 4, 1, 5], [2], [6, 6, 0]]


@pytest.fixture(scope="module")
def gpt(tiny, noise):
    sizes = {"model.max_length": TABLE, "model.vocab_size": VOCAB, "model.num_layers": 1}
    config = tiny("gpt", sizes).model
    model = build(config, Heads(lm=True))
    params = noise(model, seed=3)
    params["backbone"]["positions"]["table"] *= 3
    forward = jax.jit(lambda batch: jax.nn.log_softmax(model.apply(params, batch)["logits"]))
    known = {}

    def log_probs(text):
        """Of the token after a text, from a whole forward pass; remembered."""
        if text not in known:
            row = np.zeros((1, TABLE), np.int32)
            row[0, : len(text)] = text
            known[text] = np.asarray(forward({"tokens": row})[0, len(text) - 1], np.float64)
        return known[text]

    def run(beams, **more):
        more = {"new_tokens": 8, "seed": 0, "stop": [2], **more}
        out = generate(model, config, params, PROMPTS, sampling=beams, **more)
        return [tuple(row.tolist()) for row in out]

    return run, log_probs


def searched(log_probs, prompt, beams, limit, stop, minimum=0):
    """The search written over lists: every open text in the order of its log-probability."""
    open_texts, complete = [(0.0, ())], []
    for length in range(1, limit + 1):
        candidates = []
        for score, text in open_texts:
            scores = log_probs((*prompt, *text)).copy()
            for token in {*prompt, *text}:
                scores[token] *= beams.repetition_penalty  # log-probabilities are negative
            for token, add in enumerate(scores):
                if token not in stop or length > minimum:
                    candidates.append((score + add, (*text, token)))
        candidates = sorted(candidates, reverse=True)[: max(2, 1 + len(stop)) * beams.size]
        ends = lambda text, n=length: text[-1] in stop or n == limit  # noqa: E731
        complete += [
            (score / length**beams.length_penalty, text)
            for score, text in candidates[: beams.size]
            if ends(text)
        ]
        complete = sorted(complete, reverse=True)[: beams.size]
        open_texts = [c for c in candidates if not ends(c[1])][: beams.size]
        full = len(complete) == beams.size
        if not open_texts or (full and beams.early_stopping):
            break
        if full and open_texts[0][0] / length**beams.length_penalty <= complete[-1][0]:
            break
    return [text[:-1] if text[-1] in stop else text for _, text in complete]


@pytest.mark.parametrize(
    ("beams", "more"),
    [
        (Beams(1), {}),
        (Beams(3), {}),
        (Beams(3, length_penalty=3.0), {}),
        (Beams(4, early_stopping=True), {}),
        (Beams(3, repetition_penalty=1.7), {}),
        (Beams(2, length_penalty=0.5), {"stop": [2, 5], "min_new_tokens": 3}),
        (Beams(2), {"stop": []}),
    ],
)
def test_equals_the_search_over_lists(gpt, beams, more):
    run, log_probs = gpt
    stop, minimum = more.get("stop", [2]), more.get("min_new_tokens", 0)
    expected = [searched(log_probs, p, beams, 8, stop, minimum) for p in PROMPTS]
    found = run(beams, num_samples=beams.size, **more)
    assert found == list(itertools.chain.from_iterable(expected))
    if beams == Beams(3):
        assert len({len(text) for text in found}) > 2  # some ended before others


def test_settings_matter(gpt):
    run, _ = gpt
    ways = [Beams(1), Beams(3), Beams(3, 3.0), Beams(3, 0.0), Beams(3, repetition_penalty=1.7)]
    assert len({str(run(way)) for way in ways}) >= 4
    assert run(Beams(1), stop=[]) == run(Sampling(0), stop=[])


def test_wide_beams_find_the_best_of_all_texts(gpt):
    run, log_probs = gpt
    every = [
        text
        for length in (1, 2, 3)
        for text in itertools.product(range(VOCAB), repeat=length)
        if 2 not in text[:-1] and (length == 3 or text[-1] == 2)
    ]
    for prompt, found in zip(PROMPTS, run(Beams(VOCAB**2), new_tokens=3), strict=True):

        def score(text, prompt=prompt):
            steps = [log_probs((*prompt, *text[:i]))[token] for i, token in enumerate(text)]
            return sum(steps) / len(text)

        best = max(every, key=score)
        assert found == (best[:-1] if best[-1] == 2 else best)


@pytest.mark.parametrize(
    ("beams", "more", "message"),
    [
        (Beams(2), {"new_tokens": 12}, "leaves room for 11 new tokens"),
        (Beams(2), {"num_samples": 3}, "finds no 3 texts"),
        (Beams(2), {"stop": [7]}, "Stop token 7"),
    ],
)
def test_errors(gpt, beams, more, message):
    run, _ = gpt
    with pytest.raises(ModelError, match=message):
        run(beams, **more)


def test_errors_of_the_settings():
    with pytest.raises(ModelError, match="at least one beam"):
        Beams(0)
    with pytest.raises(ModelError, match="repetition penalty is 0"):
        Beams(2, repetition_penalty=0)
