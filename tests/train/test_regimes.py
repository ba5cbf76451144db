"""How much to train: for each regime and family, which parameters moved and which did not."""

import itertools

import jax
import numpy as np
import pytest

from configs import regimes
from model.heads import Heads
from train.errors import UserError
from train.mesh import to_devices
from train.paces import matching
from train.program import make_program
from train.random_rows import random_batch
from train.setup import set_unfreezing

FAMILIES = ("bert", "gpt", "t5", "xlnet")
STEPS = 3


def finetuning(tiny, family, regime="everything", layers=1, **changes):
    """The config of a classifier of two layers under a regime."""
    c = tiny(family, {"objective.name": "classification", "steps": 20})
    if family == "t5":
        c.model.activation, c.optimizer.weight_decay = "relu", 0.1
    regimes.apply(c, regime, str(layers))
    if c.adapters.bottleneck:
        c.adapters.bottleneck = 4
    for key, value in changes.items():
        section, name = key.split("__")
        c[section][name] = value
    return c


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def train(config, steps=STEPS):
    """Parameters before and after each step, the program and its last state."""
    program = make_program(config, 2)
    batch = to_devices(random_batch(config, program.objective), program.mesh)
    rng = np.random.default_rng(0)  # zeros would not show that weight decay leaves them alone
    state = program.init(jax.random.key(0))
    params = jax.tree.map(
        lambda x: x + 0.05 * rng.standard_normal(x.shape).astype("float32"), state.params
    )
    state = program.reset(params)
    seen = [flat(jax.device_get(state.params))]
    for _ in range(steps):
        state, _ = program.train_step(state, batch, jax.random.key(1), np.float32(0.01))
        seen.append(flat(jax.device_get(state.params)))
    return seen, program, state


def moved(before, after):
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


# What a head's loss does not reach, whatever is trained: tokens of types and positions are drawn.
UNREACHED = ("segments", "segment_bias", "mask_embedding", "token_types")


def reached(names):
    return {name for name in names if not any(word in name for word in UNREACHED)}


def is_top(family, name, layers):
    """Written out for two layers: the last layers and what is above, by the papers' words."""
    above = {"bert": ("backbone/pooler/",), "gpt": ("backbone/norm/",), "xlnet": ()}.get(
        family, ("backbone/encoder/norm/", "backbone/decoder/norm/")
    )
    tops = [f"layer_{2 - k}/" for k in range(1, layers + 1)]
    return name.startswith(above) or any(f"/{top}" in name for top in tops)


HEAD = ("head/", "backbone/pooler/")  # BERT's
EXPECTED = {
    "everything": lambda family, name: True,
    "head_only": lambda family, name: name.startswith(HEAD),
    "last_layers": lambda family, name: name.startswith("head/") or is_top(family, name, 1),
    "bias_only": lambda family, name: name.startswith(HEAD) or name.endswith("bias"),
    "discriminative": lambda family, name: True,
    "layer_decay": lambda family, name: True,
    "lora": lambda family, name: name.startswith(("head/", "adapters/")),
    "adapters": lambda family, name: (
        name.startswith((*HEAD, "adapters/")) or "norm/" in name
    ),
    "reinit": lambda family, name: True,
}  # fmt: skip
# In the fast suite each regime has one family; the others are slow.
FAST = {
    "head_only": "t5", "last_layers": "gpt", "bias_only": "xlnet", "lora": "bert",
    "adapters": "gpt", "gradual": "bert", "gradual_t5": "gpt",
}  # fmt: skip


def cases(names):
    return [
        pytest.param(name, family, marks=[] if FAST.get(name) == family else [pytest.mark.slow])
        for name in names
        for family in FAMILIES
        if (name, family) != ("bias_only", "t5")
    ]


@pytest.mark.parametrize(("regime", "family"), cases(EXPECTED))
def test_which_parameters_moved(tiny, regime, family):
    seen, program, state = train(finetuning(tiny, family, regime), steps=2)
    names = set(seen[0])
    expected = {name for name in names if EXPECTED[regime](family, name)}
    assert expected
    got = moved(seen[0], seen[-1])
    assert got <= expected
    assert reached(got) == reached(expected)
    if regime not in ("everything", "discriminative", "layer_decay", "reinit"):
        assert len(got) < len(names)
    # A frozen parameter costs the optimizer nothing: only what trains has two moments.
    trained = sum(seen[0][name].size for name in expected)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * trained
    kept = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(state.opt_state)
        if leaf.ndim
    }
    assert all(any(name.endswith(own) for own in expected) for name in kept)
    assert program.train_step._cache_size() == 1


def test_t5_has_no_biases_to_train(tiny):
    with pytest.raises(UserError, match=r"bias\$' .* matches no parameter; the nearest are "):
        make_program(finetuning(tiny, "t5", "bias_only"), 2)


@pytest.mark.parametrize(("regime", "family"), cases(["gradual", "gradual_t5"]))
def test_gradual_unfreezing_from_the_top_in_one_compilation(tiny, family, regime):
    """One depth a step: head; last layers; first layers; embeddings."""
    config = finetuning(tiny, family, regime, optimizer__unfreeze_every=1)
    seen, program, _ = train(config, steps=4)
    assert program.train_step._cache_size() == 1
    stages = [
        lambda name: name.startswith("head/") or is_top(family, name, 0),
        lambda name: is_top(family, name, 1),
        lambda name: is_top(family, name, 2),
        lambda name: True,
    ]
    open_ = set()
    for stage, (before, after) in zip(stages, itertools.pairwise(seen), strict=True):
        open_ |= {name for name in before if stage(name)}
        if regime == "gradual_t5":
            open_.add("backbone/tokens/table")
        got = moved(before, after)
        assert got <= open_
        assert reached(got) == reached(open_)


@pytest.mark.parametrize(
    ("regime", "steps", "every"), [("gradual", 60, 10), ("gradual_t5", 120, 36)]
)
def test_all_depths_open_within_the_steps_of_the_run(tiny, regime, steps, every):
    """Of three depths below the head's, whatever the steps that the config had before."""
    config = finetuning(tiny, "bert", regime)
    config.steps = steps
    set_unfreezing(config, Heads(num_labels=2))
    assert config.optimizer.unfreeze_every == every
    assert 3 * every < steps
    config.optimizer.unfreeze_by, config.optimizer.unfreeze_every = 0.0, steps // 3
    with pytest.raises(UserError, match=f"would start to learn at step {steps} of {steps}"):
        set_unfreezing(config, Heads(num_labels=2))
    config.optimizer.unfreeze_by = 0.5
    with pytest.raises(UserError, match="0 where unfreeze_every is set"):
        set_unfreezing(config, Heads(num_labels=2))


def test_last_layers_count_in_each_stack(tiny):
    """An encoder of three layers, a decoder of two."""
    config = finetuning(tiny, "t5", "last_layers", layers=1)
    config.model.num_layers, config.model.num_decoder_layers = 3, 2
    trained = flat(make_program(config, 2).optimizer.paces)
    trained = [name for name, pace in trained.items() if pace.item().rate]
    layers = {"/".join(name.split("/")[1:3]) for name in trained if "layer_" in name}
    assert layers == {"encoder/layer_2", "decoder/layer_1"}


def test_discriminative_rates(tiny):
    """Adam's first step has the size of its rate."""
    config = finetuning(tiny, "gpt", "discriminative", optimizer__weight_decay=0.0)
    config.optimizer.clip_norm, config.optimizer.epsilon = 0.0, 1e-12
    seen, _, _ = train(config, steps=1)
    for name, depth in {
        "head/classification/kernel": 0,
        "backbone/norm/scale": 0,
        "backbone/layer_1/mlp/up/kernel": 1,
        "backbone/layer_0/mlp/up/kernel": 2,
        "backbone/positions/table": 3,
    }.items():
        step = np.abs(seen[1][name] - seen[0][name]).max()
        np.testing.assert_allclose(step, 0.01 / 2.6**depth, rtol=1e-3)


def arguments(program, config):
    """A state, a batch, a key and a rate of 0."""
    batch = to_devices(random_batch(config, program.objective), program.mesh)
    return program.init(jax.random.key(0)), batch, jax.random.key(1), np.float32(0)


def test_frozen_layers_cost_no_gradient(tiny):
    """FLOPs of compiled steps: one forward pass; with half of the backward pass; with all of it."""
    size = {"model__width": 32, "model__mlp_width": 128, "model__vocab_size": 16}
    flops = lambda program: program.compile().cost_analysis()["flops"]  # noqa: E731
    cost = {}
    for regime in ("everything", "last_layers", "head_only"):
        config = finetuning(tiny, "bert", regime, layers=1, **size)
        program = make_program(config, 2)
        given = arguments(program, config)
        cost[regime] = flops(program.train_step.lower(*given))
    forward = flops(program.eval_step.lower(given[0].params, given[1], {}))
    assert cost["head_only"] < 1.1 * forward
    assert 1.6 * forward < cost["last_layers"] < 2.2 * forward
    assert cost["everything"] > 2.5 * forward


def test_the_gradient_norm_is_of_what_learns(tiny):
    def norms(regime, every=0):
        """The step's squared norm, and by autodiff those of the head and of the pooler."""
        config = finetuning(tiny, "bert", regime, optimizer__unfreeze_every=every)
        config.model.num_layers = 1
        program = make_program(config, 2)
        state, batch, *more = arguments(program, config)
        grads = jax.jit(jax.grad(lambda params: loss(program, params, batch)))(state.params)
        square = lambda tree: sum(float((x**2).sum()) for x in jax.tree.leaves(tree))  # noqa: E731
        parts = square(grads["head"]), square(grads["backbone"]["pooler"])
        _, metrics = program.train_step(state, batch, *more)
        return float(metrics["gradient_norm"][0]) ** 2, *parts, square(grads)

    got, head, pooler, _ = norms("head_only")
    np.testing.assert_allclose(got, head + pooler, rtol=1e-4)
    got, head, pooler, everything = norms("gradual", every=5)  # in its first step
    np.testing.assert_allclose(got, head + pooler, rtol=1e-4)
    assert everything > got + 1e-3


def loss(program, params, batch):
    losses, _, _ = program.objective.loss(program.model.apply, params, batch, None, {})
    return losses["loss"][0] / losses["loss"][1]


@pytest.mark.slow
def test_accumulation_with_frozen_parameters_is_one_large_batch(tiny):
    """Held and frozen parameters included."""
    got = {}
    for accumulate in (1, 2):
        config = finetuning(tiny, "bert", "last_layers", optimizer__unfreeze_every=1)
        config.model.num_layers = 1
        config.accumulate, config.optimizer.epsilon = accumulate, 1e-3
        seen, _, _ = train(config, steps=2)
        got[accumulate] = seen[-1]
    for name, value in got[1].items():
        np.testing.assert_allclose(value, got[2][name], atol=2e-5, err_msg=name)


def test_reinit_patterns(tiny):
    program = make_program(finetuning(tiny, "gpt"), 2)
    chosen = flat(matching("config.reinit", (r"/layer_-(0|1)/",), program.model))
    assert {name for name, yes in chosen.items() if yes} == {
        name for name in chosen if is_top("gpt", name, 1)
    }
    with pytest.raises(UserError, match=r"'layer_7' of config.reinit matches no parameter"):
        matching("config.reinit", ("layer_7",), program.model)
