"""A whole GPT and a whole BERT against plain numpy written from the papers, in float64."""

import math

import jax
import numpy as np
import pytest
import scipy.special

from model.api import build
from model.errors import ModelError
from model.heads import Heads


def norm(x, p, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * p["scale"] + p["bias"]


def gelu(x):
    return 0.5 * x * (1 + scipy.special.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(x, p, heads, visible):
    """One row [T, D], head by head, query by query."""
    length, width = x.shape
    size = width // heads
    kernel, bias = p["query_key_value"]["kernel"], p["query_key_value"]["bias"]
    out = np.zeros((length, heads, size))
    for h in range(heads):
        q, k, v = (x @ kernel[:, i, h] + bias[i, h] for i in range(3))
        for t in range(length):
            scores = {s: q[t] @ k[s] / math.sqrt(size) for s in range(length) if visible[t, s]}
            total = sum(math.exp(score) for score in scores.values())
            for s, score in scores.items():
                out[t, h] += math.exp(score) / total * v[s]
    return out.reshape(length, width) @ p["out"]["kernel"].reshape(width, width) + p["out"]["bias"]


def mlp(x, p, act):
    return act(x @ p["up"]["kernel"] + p["up"]["bias"]) @ p["down"]["kernel"] + p["down"]["bias"]


def gpt(params, tokens, segments, positions, config):
    p = params["backbone"]
    x = p["tokens"]["table"][tokens] + p["positions"]["table"][positions]
    length, epsilon = len(tokens), config.layer_norm_epsilon
    visible = np.asarray(
        [[s <= t and segments[s] == segments[t] for s in range(length)] for t in range(length)]
    )
    for i in range(config.num_layers):
        b = p[f"layer_{i}"]
        h = norm(x, b["attention_norm"], epsilon)
        x = x + attention(h, b["attention"], config.num_heads, visible)
        x = x + mlp(norm(x, b["mlp_norm"], epsilon), b["mlp"], gelu_tanh)
    return norm(x, p["norm"], epsilon) @ p["tokens"]["table"].T


def bert(params, tokens, segments, types, targets, config):
    p, head = params["backbone"], params["head"]
    length, epsilon = len(tokens), config.layer_norm_epsilon
    x = p["tokens"]["table"][tokens] + p["positions"]["table"][:length]
    x = norm(x + p["token_types"]["table"][types], p["norm"], epsilon)
    visible = segments[:, None] == segments[None, :]
    for i in range(config.num_layers):
        b = p[f"layer_{i}"]
        h = attention(x, b["attention"], config.num_heads, visible)
        x = norm(x + h, b["attention_norm"], epsilon)
        x = norm(x + mlp(x, b["mlp"], gelu), b["mlp_norm"], epsilon)
    pooled = np.tanh(x[0] @ p["pooler"]["kernel"] + p["pooler"]["bias"])
    lm = head["lm"]
    h = gelu(x[targets] @ lm["transform"]["kernel"] + lm["transform"]["bias"])
    logits = norm(h, lm["norm"], epsilon) @ p["tokens"]["table"].T + lm["bias"]
    linear = {name: head[name]["linear"] for name in ("next_sentence", "classification")}
    classes = {name: pooled @ q["kernel"] + q["bias"] for name, q in linear.items()}
    return logits, classes


@pytest.mark.parametrize("scan", [False, True])
def test_gpt(tiny, noise, scan):
    config = tiny("gpt", {"model.dtype": "float64", "model.scan_layers": scan}).model
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 32, (2, 10)).astype(np.int32)
    segments = np.asarray([[1] * 10, [1] * 4 + [2] * 6], np.int32)
    positions = np.asarray([range(10), [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]], np.int32)
    with jax.enable_x64(True):
        model = build(config, Heads(lm=True))
        params = noise(model, dtype="float64")
        batch = {"tokens": tokens, "segment_ids": segments, "positions": positions}
        got = jax.jit(lambda p, b: model.apply(p, b)["logits"])(params, batch)
    assert got.dtype == np.float64
    params = jax.tree.map(np.asarray, params)
    for row in range(2):
        expected = gpt(params, tokens[row], segments[row], positions[row], config)
        np.testing.assert_allclose(got[row], expected, rtol=0, atol=1e-9)


def test_bert(tiny, noise):
    config = tiny("bert", {"model.dtype": "float64"}).model
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 32, (2, 10)).astype(np.int32)
    segments = np.asarray([[1] * 10, [1] * 4 + [2] * 6], np.int32)
    types = np.asarray([[0] * 5 + [1] * 5, [0, 1] * 5], np.int32)
    targets = np.asarray([[1, 7], [9, 0]], np.int32)
    batch = {
        "tokens": tokens, "segment_ids": segments, "token_types": types,
        "target_positions": targets,
    }  # fmt: skip
    with jax.enable_x64(True):
        model = build(config, Heads(lm=True, next_sentence=True, num_labels=3))
        params = noise(model, dtype="float64")
        out = jax.jit(model.apply)(params, batch)
    params = jax.tree.map(np.asarray, params)
    for row in range(2):
        logits, classes = bert(params, tokens[row], segments[row], types[row], targets[row], config)
        np.testing.assert_allclose(out["logits"][row], logits, rtol=0, atol=1e-9)
        for key, name in (
            ("next_sentence_logits", "next_sentence"),
            ("class_logits", "classification"),
        ):
            np.testing.assert_allclose(out[key][row], classes[name], rtol=0, atol=1e-9)


def test_mean_pooling_classifies_the_mean_state(tiny, noise):
    config = tiny("bert").model
    tokens = np.random.default_rng(0).integers(0, 32, (2, 10)).astype(np.int32)
    segments = np.asarray([[1] * 10, [1] * 4 + [0] * 6], np.int32)
    model = build(config, Heads(num_labels=3, pooling="mean"))
    params = noise(model)
    out = jax.jit(model.apply)(params, {"tokens": tokens, "segment_ids": segments})
    hidden = np.asarray(out["hidden"])
    q = params["head"]["classification"]["linear"]
    for row, length in enumerate((10, 4)):
        logits = hidden[row, :length].mean(0) @ np.asarray(q["kernel"]) + np.asarray(q["bias"])
        np.testing.assert_allclose(out["class_logits"][row], logits, rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="pooling is 'max'"):
        build(config, Heads(num_labels=3, pooling="max"))
