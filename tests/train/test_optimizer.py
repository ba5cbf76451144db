"""AdamW, its groups, its schedules and clipping against numpy written from the papers."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from configs.base import ConfigError
from train.errors import UserError
from train.optimizer import learning_rates, make_optimizer


def optimizer_config(**changes):
    c = base.get_config().optimizer
    c.update({"warmup_steps": 0, "schedule": "constant", "clip_norm": 0.0, **changes})
    return c


def values(steps, **changes):
    rates = learning_rates(optimizer_config(learning_rate=2.0, **changes), steps)
    assert rates.shape == (steps,)
    assert rates.dtype == np.float32
    return rates


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, [0.5, 1, 1.5, 2, 2, 2, 2, 2, 2]),
        ({"schedule": "linear"}, [0.5, 1, 1.5, 2, 2, 1.5, 1, 0.5, 0]),
        ({"schedule": "linear", "end_factor": 0.5}, [0.5, 1, 1.5, 2, 2, 1.75, 1.5, 1.25, 1]),
        (
            {"schedule": "cosine"},
            [0.5, 1, 1.5, 2, 2, *(1 + math.cos(math.pi * i / 4) for i in (1, 2, 3, 4))],
        ),
        (
            {"schedule": "cosine", "end_factor": 0.1},
            [
                0.5, 1, 1.5, 2, 2,
                *(0.2 + 1.8 * (1 + math.cos(math.pi * i / 4)) / 2 for i in (1, 2, 3, 4)),
            ],
        ),
        (
            {"schedule": "rsqrt"},
            [0.5, 1, 1.5, 2, 2, *(2 * math.sqrt(4 / step) for step in (5, 6, 7, 8))],
        ),
    ],
)  # fmt: skip
def test_schedules(changes, expected):
    """Warmup over 4 of 8 steps: the first step already learns, the fourth is at the peak."""
    np.testing.assert_allclose(
        values(8, warmup_steps=4, **changes), expected[:8], rtol=1e-6, atol=1e-7
    )


def test_schedule_without_warmup():
    np.testing.assert_allclose(values(4, schedule="linear"), [2, 1.5, 1, 0.5])
    np.testing.assert_allclose(values(2), [2, 2])


def test_unknown_schedule_is_named():
    with pytest.raises(ConfigError, match="'linaer' \\(did you mean 'linear'"):
        values(4, schedule="linaer")


PARAMS = {
    "backbone": {"dense": {"kernel": [[0.5, -1.0]], "bias": [0.3]}, "norm": {"scale": [2.0]}},
    "head": {"kernel": [1.0]},
}
is_list = lambda x: isinstance(x, list)  # noqa: E731
PARAMS = jax.tree.map(lambda x: np.asarray(x, "float32"), PARAMS, is_leaf=is_list)


def gradients(step):
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype("float32"), PARAMS)


def run(config, steps=3):
    """Parameters after some steps, and the optimizer's state."""
    optimizer = make_optimizer(config, PARAMS)
    params, state = jax.tree.map(jnp.asarray, PARAMS), optimizer.init(PARAMS)
    update = jax.jit(optimizer.update)
    for step in range(steps):
        updates, state = update(gradients(step), state, params)
        params = optax.apply_updates(params, optax.tree.scale(config.learning_rate, updates))
    return params, state


def adamw(name, rate, decay, clip=lambda gradients: 1.0, steps=3):
    """Loshchilov & Hutter 2019, algorithm 2, for one parameter, in float64."""
    pick = lambda tree: np.float64(functools.reduce(operator.getitem, name.split("/"), tree))  # noqa: E731
    x, m, v = pick(PARAMS), 0.0, 0.0
    for step in range(steps):
        g = pick(gradients(step)) * clip(gradients(step))
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.99 ** (step + 1))
        x = x - rate * (m_hat / (np.sqrt(v_hat) + 1e-3) + decay * x)
    return x


ADAM = {"learning_rate": 0.1, "b2": 0.99, "epsilon": 1e-3, "weight_decay": 0.5}


def test_adamw_by_hand_without_decay_of_biases_and_norms():
    params, _ = run(optimizer_config(**ADAM))
    expected = {
        "backbone": {
            "dense": {
                "kernel": adamw("backbone/dense/kernel", 0.1, 0.5),
                "bias": adamw("backbone/dense/bias", 0.1, 0.0),
            },
            "norm": {"scale": adamw("backbone/norm/scale", 0.1, 0.0)},
        },
        "head": {"kernel": adamw("head/kernel", 0.1, 0.5)},
    }
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, expected
    )


def norm(tree):
    return math.sqrt(
        sum(float((leaf.astype("float64") ** 2).sum()) for leaf in jax.tree.leaves(tree))
    )


def test_clipping_by_the_global_norm():
    params, _ = run(optimizer_config(clip_norm=0.25, **ADAM))
    scale = lambda tree: min(1.0, 0.25 / norm(tree))  # noqa: E731
    assert scale(gradients(0)) < 0.5
    expected = adamw("backbone/dense/kernel", 0.1, 0.5, scale)
    np.testing.assert_allclose(
        params["backbone"]["dense"]["kernel"], expected, rtol=1e-5, atol=1e-6
    )
    far, _ = run(optimizer_config(clip_norm=1e6, **ADAM))
    expected = adamw("backbone/dense/kernel", 0.1, 0.5)
    np.testing.assert_allclose(far["backbone"]["dense"]["kernel"], expected, rtol=1e-5, atol=1e-6)


def test_groups_have_their_own_rate_and_frozen_ones_do_not_move_or_keep_moments():
    config = optimizer_config(**ADAM)
    config.rules = (("^backbone/norm", "frozen"), ("^head", "head"), ("", "decay"))
    with config.unlocked():
        config.groups = {"decay": (1.0, 1.0), "head": (2.0, 0.0), "frozen": (0.0, 0.0)}
    params, state = run(config)
    np.testing.assert_array_equal(params["backbone"]["norm"]["scale"], [2.0])
    np.testing.assert_allclose(
        params["head"]["kernel"], adamw("head/kernel", 0.2, 0), rtol=1e-5, atol=1e-6
    )
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    trained = sum(leaf.size for leaf in jax.tree.leaves(PARAMS)) - 1
    assert sum(leaf.size for leaf in moments) == 2 * trained


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"rules": (("bias", "decay"),)}, UserError, "No pattern of .* matches the parameter"),
        ({"rules": (("typo", "decay"), ("", "decay"))}, UserError, "'typo' .* for no parameter"),
        ({"rules": (("", "dcay"),)}, ConfigError, "did you mean 'decay'"),
        ({"name": "adamx"}, ConfigError, "did you mean 'adamw'"),
        ({"clip_norm": -1.0}, UserError, "clip_norm"),
    ],
)
def test_errors(changes, error, words):
    with pytest.raises(error, match=words):
        make_optimizer(optimizer_config(**changes), PARAMS)
