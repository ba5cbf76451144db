"""AdamW, its groups, its schedules and clipping against numpy; the others against optax's own."""

import functools
import math
import operator
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import base
from configs.base import ConfigError
from model.depth import depths
from train.errors import UserError
from train.optimizer import learning_rates, make_optimizer
from train.trees import replace


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


AXES = {
    "backbone": {
        "dense": {"kernel": ("width", None), "bias": (None,)},
        "norm": {"scale": ("norm",)},
    },
    "head": {"kernel": ("width",)},
}
# What the optimizer reads of a model.
MODEL = types.SimpleNamespace(shapes=PARAMS, axes=AXES, depths={**depths(PARAMS, ("norm",))})


def run(config, steps=3):
    """Parameters after some steps, and the optimizer's state."""
    optimizer = make_optimizer(config, MODEL)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(optimizer.trained(params))
    update = jax.jit(optimizer.update)
    for step in range(steps):
        trained = optimizer.trained(params)
        grads = optimizer.learning(optimizer.trained(gradients(step)), step)
        updates, state = update(grads, state, trained, step)
        trained = optax.apply_updates(trained, optax.tree.scale(config.learning_rate, updates))
        params = replace(params, trained)
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
        (
            {"rules": (("norm/sacle", "decay"), ("", "decay"))},
            UserError,
            "'norm/sacle' of config.optimizer.rules matches no parameter; the nearest are "
            "backbone/norm/scale",
        ),
        (
            {"rules": (("", "decay"), ("bias$", "no_decay"))},
            UserError,
            "bias.* decides for no",
        ),
        ({"rules": (("(", "decay"), ("", "decay"))}, UserError, "no regular expression"),
        ({"rules": (("", "frozen"),)}, UserError, "freezes every parameter"),
        ({"layer_decay": 0.0}, UserError, "layer_decay is 0.0"),
        ({"unfreeze_every": -1}, UserError, "unfreeze_every -1"),
        ({"ema_decay": 1.0}, UserError, "ema_decay is 1.0"),
        ({"rules": (("", "dcay"),)}, ConfigError, "did you mean 'decay'"),
        ({"rules": ("bias", "decay")}, UserError, "'bias', which is no .PATTERN, GROUP. pair"),
        ({"rules": ((3, "decay"),)}, UserError, "no .PATTERN, GROUP. pair"),
        ({"learning_rate": -0.1}, UserError, "learning_rate is -0.1; it must be 0 or more"),
        ({"warmup_steps": -3}, UserError, "warmup_steps is -3"),
        ({"epsilon": -1.0}, UserError, "epsilon is -1.0"),
        ({"b1": 1.5}, UserError, "b1 is 1.5; it must be 0 or more, and below 1"),
        ({"momentum": 1.5}, UserError, "momentum is 1.5"),
        ({"name": "adamx"}, ConfigError, "did you mean 'adamw'"),
        ({"clip_norm": -1.0}, UserError, "clip_norm"),
    ],
)
def test_errors(changes, error, words):
    config = optimizer_config(**changes)
    with config.unlocked():
        config.groups.frozen = (0.0, 0.0)
    with pytest.raises(error, match=words):
        make_optimizer(config, MODEL)


@pytest.mark.parametrize("numbers", [(1.0,), (1.0, -1.0), (1.0, 1.0, 1, 1)])
def test_groups_of_other_numbers_are_refused(numbers):
    config = optimizer_config()
    config.groups.decay = numbers
    with pytest.raises(UserError, match=r"groups.decay is .* two numbers of 0 or more"):
        make_optimizer(config, MODEL)


COMPLETE = {
    "lamb": ({}, lambda: optax.lamb(0.1, 0.9, 0.99, 1e-3, weight_decay=0.5)),
    "lion": ({}, lambda: optax.lion(0.1, 0.9, 0.99, weight_decay=0.5)),
    "sgd": ({"weight_decay": 0.0, "momentum": 0.8}, lambda: optax.sgd(0.1, 0.8)),
    # optax decays by the rate itself, where ours is a share of the learning rate.
    "adafactor": ({}, lambda: optax.adafactor(0.1, weight_decay_rate=0.05)),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_other_optimizers_are_optax_own(name):
    """On the rank-2 tree above, and with all parameters decayed, as optax does by itself."""
    changes, make = COMPLETE[name]
    config = optimizer_config(name=name, **{**ADAM, **changes})
    config.rules = (("", "decay"),)
    ours, _ = run(config, steps=4)
    theirs, params = make(), jax.tree.map(jnp.asarray, PARAMS)
    state = theirs.init(params)
    for step in range(4):
        updates, state = theirs.update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, params)
    assert not np.allclose(ours["head"]["kernel"], PARAMS["head"]["kernel"], atol=1e-3)


KERNELS = {  # axes and shape of a map, and its matrices' inputs and outputs
    "up": (("width", "mlp"), (6, 8), (6, 8)),
    "out": (("heads", None, "width"), (2, 3, 6), (6, 6)),
    "query": (("width", "heads", None), (6, 2, 3), (6, 6)),
    "fused": (("width", None, "heads", None), (6, 3, 2, 4), (6, 8)),
}


def kernels():
    rng = np.random.default_rng(1)
    draw = lambda shape: rng.standard_normal(shape).astype("float32")  # noqa: E731
    params = {name: {"kernel": draw(shape)} for name, (_, shape, _) in KERNELS.items()}
    axes = {name: {"kernel": names} for name, (names, _, _) in KERNELS.items()}
    params = {"backbone": params, "head": {"linear": {"kernel": draw((6, 2))}}}
    axes = {"backbone": axes, "head": {"linear": {"kernel": ("width", None)}}}
    return types.SimpleNamespace(shapes=params, axes=axes, depths=depths(params, ()))


def steps_of(config, model, count=3):
    """All updates of a few steps with drawn gradients, which come back too."""
    optimizer = make_optimizer(config, model)
    params = jax.tree.map(jnp.asarray, model.shapes)
    state, rng, found = optimizer.init(params), np.random.default_rng(2), []
    for step in range(count):
        grads = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype("float32"), model.shapes)
        updates, state = optimizer.update(grads, state, params, step)
        found.append((grads, updates))
    return found, state


def matrix_parts(name, array):
    """An array of a kernel as its matrices: one, or one for each part of the fused map."""
    _, shape, size = KERNELS[name]
    if name != "fused":
        return [array.reshape(size)]
    return [array[:, part].reshape(size) for part in range(shape[1])]


def test_muon_orthogonalises_kernels_as_matrices_and_leaves_the_rest_to_adam():
    """Against optax's complete Muon, given each matrix by itself."""
    config = optimizer_config(
        **{**ADAM, "name": "muon", "weight_decay": 0.0, "rules": (("", "decay"),)}
    )
    found, state = steps_of(config, kernels())
    assert set(state) == {"adam", "muon"}
    theirs = optax.contrib.muon(1.0, adam_b2=0.99, eps=1e-8, consistent_rms=0.2)
    for name in KERNELS:
        for part in range(len(matrix_parts(name, found[0][0]["backbone"][name]["kernel"]))):
            state = None
            for grads, updates in found:
                grad = matrix_parts(name, grads["backbone"][name]["kernel"])[part]
                state = theirs.init({"x": grad}) if state is None else state
                expected, state = theirs.update({"x": grad}, state, {"x": grad})
                ours = matrix_parts(name, updates["backbone"][name]["kernel"])[part]
                np.testing.assert_allclose(ours, expected["x"], rtol=1e-4, atol=1e-5)
    adam = optax.adam(1.0, 0.9, 0.99, 1e-3)
    state = adam.init(found[0][0]["head"])
    for grads, updates in found:
        expected, state = adam.update(grads["head"], state)
        np.testing.assert_allclose(
            updates["head"]["linear"]["kernel"], expected["linear"]["kernel"], rtol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("lamb", optax.lamb(1.0, 0.9, 0.99, 1e-3)), ("adafactor", optax.adafactor(1.0))],
)
def test_parts_of_a_fused_map_are_parameters_by_themselves(name, theirs):
    """As in the published models: optax's own on queries, keys and values, of unlike sizes.

    For Adafactor [128, 3, 8, 16] has no two dimensions of 128, but three matrices of 128 x 128.
    """
    rng = np.random.default_rng(0)
    parts, out = rng.standard_normal((3, 128, 128)), rng.standard_normal((3, 128))
    sizes = np.asarray([1.0, 10.0, 0.1])
    parts, out = parts * sizes[:, None, None], out * sizes[:, None]

    def fused(kernels, biases):
        kernel = np.stack(kernels, axis=1).reshape(128, 3, 8, 16)
        bias = np.stack(biases).reshape(3, 8, 16)
        tree = {"kernel": kernel.astype("float32"), "bias": bias.astype("float32")}
        return {"backbone": {"fused": tree}, "head": {}}

    params = fused(parts, out)
    names = {"kernel": ("width", None, "heads", None), "bias": (None, "heads", None)}
    model = types.SimpleNamespace(
        shapes=params, axes={"backbone": {"fused": names}, "head": {}}, depths=depths(params, ())
    )
    config = optimizer_config(**{**ADAM, "name": name, "weight_decay": 0.0})
    config.rules = (("", "decay"),)
    optimizer = make_optimizer(config, model)
    trained = optimizer.trained(params)
    state = optimizer.init(trained)
    if name == "adafactor":
        kept = sum(leaf.size for leaf in jax.tree.leaves(state))
        assert kept < 3 * (128 + 128) + 3 * 128 + 20
    grads, theirs_grads = rng.standard_normal((3, 128, 128)), rng.standard_normal((3, 128))
    updates, _ = optimizer.update(optimizer.trained(fused(grads, theirs_grads)), state, trained, 0)
    got = updates["backbone"]["fused"]
    for part in range(3):
        own = {"kernel": jnp.float32(parts[part]), "bias": jnp.float32(out[part])}
        grad = {"kernel": jnp.float32(grads[part]), "bias": jnp.float32(theirs_grads[part])}
        expected, _ = theirs.update(grad, theirs.init(own), own)
        kernel = got["kernel"][:, part].reshape(128, 128)
        np.testing.assert_allclose(kernel, expected["kernel"], rtol=2e-4)
        np.testing.assert_allclose(got["bias"][part].ravel(), expected["bias"], rtol=2e-4)


def test_a_held_parameter_begins_its_adam_when_it_starts():
    """Two steps held, one taken: as if it had been the first, without decay before."""
    config = optimizer_config(**ADAM)
    config.rules = (("^head", "late"), ("", "decay"))
    with config.unlocked():
        config.groups.late = (1.0, 1.0, 2)
    before, _ = run(config, steps=2)
    np.testing.assert_array_equal(before["head"]["kernel"], PARAMS["head"]["kernel"])
    after, _ = run(config, steps=3)
    x, g = PARAMS["head"]["kernel"], gradients(2)["head"]["kernel"]
    expected = x - 0.1 * (g / (np.abs(g) + 1e-3) + 0.5 * x)  # Adam's first step
    np.testing.assert_allclose(after["head"]["kernel"], expected, rtol=1e-5)
    other = adamw("backbone/dense/kernel", 0.1, 0.5)
    np.testing.assert_allclose(after["backbone"]["dense"]["kernel"], other, rtol=1e-5, atol=1e-6)


def test_clipping_is_by_what_learns():
    """The gradient of a frozen or held parameter does not make the others smaller."""
    config = optimizer_config(clip_norm=0.25, **ADAM)
    config.rules = (("^head", "late"), ("norm", "frozen"), ("", "decay"))
    with config.unlocked():
        config.groups.late, config.groups.frozen = (1.0, 1.0, 9), (0.0, 0.0)
    params, _ = run(config)
    dense = lambda tree: tree["backbone"]["dense"]  # noqa: E731
    scale = lambda tree: min(1.0, 0.25 / norm(dense(tree)))  # noqa: E731
    expected = adamw("backbone/dense/kernel", 0.1, 0.5, scale)
    np.testing.assert_allclose(dense(params)["kernel"], expected, rtol=1e-5, atol=1e-6)


def test_layer_decay_is_a_power_of_the_depth():
    config = optimizer_config(layer_decay=0.5, rules=(("", "decay"),))
    layer = {"kernel": np.zeros(2, "float32")}
    params = {
        "backbone": {"tokens": {"table": np.zeros(3)}, "layer_0": layer, "layer_1": layer},
        "head": {"kernel": np.zeros(1)},
    }
    axes = jax.tree.map(lambda _: ("width",), params)
    model = types.SimpleNamespace(shapes=params, axes=axes, depths=depths(params, ()))
    paces = make_optimizer(config, model).paces
    rates = jax.tree.map(lambda pace: pace.rate, paces)
    assert rates == {
        "backbone": {
            "tokens": {"table": 0.125}, "layer_0": {"kernel": 0.25}, "layer_1": {"kernel": 0.5},
        },
        "head": {"kernel": 1.0},
    }  # fmt: skip


def test_the_average_follows_the_weights():
    config = optimizer_config(ema_decay=0.5)
    optimizer = make_optimizer(config, MODEL)
    tree = lambda value: {"x": jnp.full(2, value)}  # noqa: E731
    early = optimizer.averaged(tree(0.0), tree(1.0), 0)  # (1 + 0) / (10 + 0) of the old
    np.testing.assert_allclose(early["x"], 0.9, rtol=1e-6)
    late = optimizer.averaged(tree(0.0), tree(1.0), 1000)
    np.testing.assert_allclose(late["x"], 0.5, rtol=1e-6)
