"""Primitives against plain numpy and autodiff, in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from model.activations import activation
from model.attention import attend, causal_mask, segment_mask
from model.dropout import dropout
from model.errors import ModelError
from model.heads import gather_positions, last_token, mean_token
from model.layers import LayerNorm
from model.products import matmul, unembed
from model.stack import apply_layers


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("x", "w", "contracted", "formula"),
    [
        ((2, 3, 4), (4, 5), 1, "abi,io->abo"),
        ((2, 3, 4), (4, 3, 2, 5), 1, "abi,ihkl->abhkl"),
        ((2, 3, 2, 4), (2, 4, 5), 2, "abhk,hko->abo"),
        ((3, 4), (4, 5), 1, "ai,io->ao"),
    ],
)
def test_matmul_and_its_gradients_are_einsum(x, w, contracted, formula):
    x, w = draw(*x), draw(*w, seed=1)
    expected = jnp.einsum(formula, x, w)
    g = draw(*expected.shape, seed=2)
    np.testing.assert_allclose(matmul(x, w, contracted), expected, atol=1e-12)
    ours = jax.grad(lambda x, w: (matmul(x, w, contracted) * g).sum(), (0, 1))(x, w)
    theirs = jax.grad(lambda x, w: (jnp.einsum(formula, x, w) * g).sum(), (0, 1))(x, w)
    for got, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_matmul_weight_gradient_is_float32_for_bfloat16_activations():
    x = jnp.asarray(draw(64, 8), jnp.bfloat16)
    w, g = jnp.asarray(draw(8, 4), jnp.float32), jnp.asarray(draw(64, 4), jnp.bfloat16)
    dw = jax.vjp(matmul, x, w)[1](g)[1]
    assert dw.dtype == jnp.float32
    expected = np.asarray(x, np.float64).T @ np.asarray(g, np.float64)
    np.testing.assert_allclose(dw, expected, rtol=1e-5, atol=1e-5)


def test_unembed_and_its_gradients_are_einsum():
    x, table, g = draw(2, 3, 4), draw(7, 4, seed=1), draw(2, 3, 7, seed=2)
    ours = jax.value_and_grad(lambda x, t: (unembed(x, t) * g).sum(), (0, 1))(x, table)
    theirs = jax.value_and_grad(lambda x, t: (jnp.einsum("bpd,vd->bpv", x, t) * g).sum(), (0, 1))(
        x, table
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)


def test_layer_norm():
    x, scale, bias = 3 + 2 * draw(2, 5, 8), draw(8, seed=1), draw(8, seed=2)
    got = LayerNorm(1e-3).apply({"params": {"scale": scale, "bias": bias}}, x)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(
        got, (x - mean) / np.sqrt(variance + 1e-3) * scale + bias, atol=1e-12
    )


def test_activations():
    x = np.linspace(-4, 4, 41)
    exact = x * 0.5 * (1 + scipy.special.erf(x / math.sqrt(2)))
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(activation("gelu")(x), exact, atol=1e-12)
    np.testing.assert_allclose(activation("gelu_tanh")(x), tanh, atol=1e-12)
    np.testing.assert_allclose(activation("relu")(x), np.maximum(x, 0))
    assert np.abs(exact - tanh).max() > 1e-4  # the two forms are told apart


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked):
    q, k, v = draw(2, 5, 3, 4), draw(2, 6, 3, 4, seed=1), draw(2, 6, 3, 4, seed=2)
    mask = np.random.default_rng(3).random((2, 1, 5, 6)) < 0.6 if masked else None
    if masked:
        mask[..., 0] = True  # every query sees something
    got = attend(q, k, v, mask, 0.0, None)
    for b in range(2):
        for h in range(3):
            scores = q[b, :, h] @ k[b, :, h].T / math.sqrt(4)
            if masked:
                scores[~mask[b, 0]] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            np.testing.assert_allclose(got[b, :, h], weights @ v[b, :, h], atol=1e-12)


def test_masks_by_hand():
    segments = np.asarray([[1, 1, 2, 0]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(
        segment_mask(segments, segments)[0, 0], np.asarray(expected, bool)
    )
    np.testing.assert_array_equal(
        causal_mask(np.asarray([1, 2]), np.arange(4))[0, 0],
        [[True, True, False, False], [True, True, True, False]],
    )


def test_a_row_of_padding_gives_no_nan():
    zeros = np.zeros((1, 2), np.int32)
    q = draw(1, 2, 1, 4)
    gradient = jax.grad(lambda q: attend(q, q, q, segment_mask(zeros, zeros), 0.0, None).sum())(q)
    assert np.isfinite(gradient).all()


def test_dropout_keeps_the_mean_and_the_rate():
    x = np.ones((400, 500), np.float32)
    out = np.asarray(dropout(x, 0.3, jax.random.key(0)))
    assert abs((out == 0).mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_allclose(out[out != 0], 1 / 0.7, rtol=1e-4)
    assert dropout(x, 0.3, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_last_token_and_gather():
    hidden = draw(3, 4, 2)
    segments = np.asarray([[1, 1, 1, 1], [1, 2, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(
        last_token(hidden, segments), [hidden[0, 3], hidden[1, 1], hidden[2, 0]]
    )
    np.testing.assert_array_equal(last_token(hidden, None), hidden[:, 3])
    means = [hidden[0].mean(0), hidden[1, :2].mean(0), np.zeros(2)]
    np.testing.assert_allclose(mean_token(hidden, segments), means, rtol=1e-6)
    np.testing.assert_allclose(mean_token(hidden, None), hidden.mean(1), rtol=1e-6)
    got = gather_positions(hidden, np.asarray([[3, 0], [1, 1], [2, 3]]))
    np.testing.assert_array_equal(got[2], hidden[2, 2:])
    np.testing.assert_array_equal(got[0], hidden[0, [3, 0]])


def test_unknown_remat_policy_is_refused():
    with pytest.raises(ModelError, match="remat is 'some'"):
        apply_layers([None], None, None, [None], scan=False, remat="some")
