"""One training step: micro-batches, denominators, metrics, dropout's key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from model.api import build
from train import objectives
from train.optimizer import make_optimizer
from train.random_rows import random_batch
from train.state import start
from train.step import eval_step, train_step

SGD = base.get_config().optimizer
SGD.update({"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0})
sgd = functools.cache(lambda model: make_optimizer(SGD, model))
# Compiled once for each model, whichever test asks first.
one_step = jax.jit(train_step, static_argnums=(0, 1, 2, 3))


def setting(tiny, noise, name, dropout=0.0):
    """A model, its objective and a batch whose rows have very different numbers of targets."""
    family = "gpt" if name == "causal_lm" else "bert"
    changes = {"objective.name": name, "model.num_layers": 1, "model.dropout": dropout}
    config = tiny(family, changes)
    objective = objectives.build(config, num_labels=2)
    model = build(config.model, objective.head())
    batch = random_batch(config, objective)
    weights = np.random.default_rng(0).random((8, 1)) < np.linspace(0.1, 1, 8)[:, None]
    for key in ("weights", "label_weights"):
        if key in batch:
            batch[key] = batch[key] * weights.reshape((8,) + (1,) * (batch[key].ndim - 1))
    if "weights" in batch:
        batch["weights"][1] = 0
        batch["weights"][1, :1] = 1
    return model, objective, batch, noise(model)


def step(model, objective, batch, params, accumulate, key=0):
    """Gradients (one SGD step of rate 1) and metrics."""
    fixed = (model, objective, sgd(model), accumulate)
    before = start(model, sgd(model), params)
    after, metrics = one_step(*fixed, before, batch, jax.random.key(key), 1.0)
    return jax.tree.map(lambda old, new: old - new, params, after.params), metrics, after


@pytest.mark.parametrize("name", ["causal_lm", "masked_lm_nsp"])
def test_accumulation_is_one_large_batch(tiny, noise, name):
    model, objective, batch, params = setting(tiny, noise, name)
    sums = batch["weights"].reshape(-1, 4, batch["weights"].shape[1]).sum((0, 2))
    assert len(set(sums.tolist())) > 1  # micro-batches of unequal weight
    whole = step(model, objective, batch, params, 1)
    parts = step(model, objective, batch, params, 4)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)  # noqa: E731
    jax.tree.map(close, parts[0], whole[0])
    jax.tree.map(close, parts[1], whole[1])
    assert set(whole[1]) > set(objective.losses)


def test_gradient_is_of_the_sum_of_means(tiny, noise):
    """Both terms over their own weights: autodiff of the formula itself."""
    model, objective, batch, params = setting(tiny, noise, "masked_lm_nsp")

    def loss(params):
        out = model.apply(params, batch)
        picked = jnp.take_along_axis(
            jax.nn.log_softmax(out["logits"]), batch["targets"][..., None], 2
        )
        masked = -(picked[..., 0] * batch["weights"]).sum() / batch["weights"].sum()
        order = jax.nn.log_softmax(out["next_sentence_logits"])[np.arange(8), batch["labels"]]
        return masked - (order * batch["label_weights"]).sum() / batch["label_weights"].sum()

    expected = jax.jit(jax.grad(loss))(params)
    got, metrics, _ = step(model, objective, batch, params, 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), got, expected)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(expected)))
    np.testing.assert_allclose(metrics["gradient_norm"][0], norm, rtol=1e-4)


def test_dropout_is_keyed_by_run_and_step(tiny, noise):
    model, objective, batch, params = setting(tiny, noise, "causal_lm", dropout=0.3)
    first, again = (step(model, objective, batch, params, 1)[1]["loss"][0] for _ in range(2))
    other = step(model, objective, batch, params, 1, key=1)[1]["loss"][0]
    plain = jax.jit(lambda p, b: eval_step(model, objective, p, b, {})[0])(params, batch)["loss"][0]
    assert first == again
    assert len({float(first), float(other), float(plain)}) == 3


def test_step_counts_and_the_next_step_draws_anew(tiny, noise):
    model, objective, batch, params = setting(tiny, noise, "causal_lm", dropout=0.3)
    state, losses = start(model, sgd(model), params), []
    for _ in range(2):  # at a rate of 0 parameters stay: only the step's number differs
        fixed = (model, objective, sgd(model), 1)
        state, metrics = one_step(*fixed, state, batch, jax.random.key(0), 0.0)
        losses.append(float(metrics["loss"][0]))
    assert int(state.step) == 2
    assert losses[0] != losses[1]


def test_rows_without_weight_do_not_count(tiny, noise):
    """What evaluation fills its last batch with changes neither sums nor weights."""
    model, objective, batch, params = setting(tiny, noise, "masked_lm_nsp")
    real = {key: value[:5] for key, value in batch.items()}
    filled = {
        key: np.concatenate([value[:5], np.zeros_like(value[:3])]) for key, value in batch.items()
    }
    run = jax.jit(lambda p, b: eval_step(model, objective, p, b, {})[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        run(params, real),
        run(params, filled),
    )
