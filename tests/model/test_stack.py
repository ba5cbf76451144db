"""Ways to run the same stack: rematerialised, scanned, in bfloat16, with dropout."""

import jax
import jax.ad_checkpoint
import numpy as np
import pytest

from model.api import build
from model.heads import Heads

REMAT, SCAN = ("none", "dots", "full"), (False, True)


def setting(tiny, noise, remat="none", scan=False, dtype="float32", dropout=0.2):
    changes = {"model.remat": remat, "model.scan_layers": scan, "model.dtype": dtype}
    model = build(tiny("gpt", {**changes, "model.dropout": dropout}).model, Heads(lm=True))
    tokens = np.random.default_rng(0).integers(0, 32, (2, 8)).astype(np.int32)

    def loss(params):
        rng = jax.random.key(0) if dropout else None
        return (model.apply(params, {"tokens": tokens}, rng)["logits"] ** 2).mean()

    return loss, noise(model)


def products(jaxpr):
    """How many matrix products a program contains, inner programs included."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "dot_general"
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            count += products(inner) if hasattr(inner, "eqns") else 0
    return count


@pytest.fixture(scope="module")
def plain(tiny, noise):
    loss, params = setting(tiny, noise)
    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(("remat", "scan"), [("dots", False), ("none", True), ("full", True)])
def test_loss_and_gradients_do_not_depend_on_it(tiny, noise, plain, remat, scan):
    loss, params = setting(tiny, noise, remat, scan)
    got = jax.jit(jax.value_and_grad(loss))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, plain)


@pytest.mark.parametrize("scan", SCAN)
def test_remat_changes_what_the_backward_pass_computes(tiny, noise, scan):
    counts = []
    for remat in REMAT:
        loss, params = setting(tiny, noise, remat, scan)
        counts.append(products(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
    none, dots, full = counts
    assert none < dots < full, counts


def test_remat_saves_less(tiny, noise, capsys):
    sizes = []
    for remat in REMAT:
        loss, params = setting(tiny, noise, remat)
        jax.ad_checkpoint.print_saved_residuals(loss, params)
        sizes.append(len(capsys.readouterr().out.splitlines()))
    none, dots, full = sizes
    assert none > dots > full, sizes


def test_scan_is_a_scan(tiny, noise):
    for scan in SCAN:
        loss, params = setting(tiny, noise, scan=scan)
        assert ("scan[" in str(jax.make_jaxpr(loss)(params))) == scan


def test_bfloat16_is_close_to_float32(tiny, noise):
    params, losses, gradients = None, [], []
    for dtype in ("float32", "bfloat16"):
        loss, params = setting(tiny, noise, dtype=dtype, dropout=0.0)
        value, gradient = jax.jit(jax.value_and_grad(loss))(params)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(gradient))
        losses.append(float(value))
        gradients.append(
            np.concatenate([np.ravel(g) / np.abs(g).max() for g in jax.tree.leaves(gradient)])
        )
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[1] != losses[0]
    assert np.corrcoef(gradients)[0, 1] > 0.999


def test_dropout_needs_a_key_and_follows_it(tiny, noise):
    config = tiny("bert", {"model.dropout": 0.5, "model.num_layers": 1}).model
    model = build(config, Heads(num_labels=2))
    params = noise(model)
    batch = {"tokens": np.ones((2, 4), np.int32)}
    apply = jax.jit(model.apply)
    off = apply(params, batch)["class_logits"]
    on = [apply(params, batch, jax.random.key(i))["class_logits"] for i in (1, 1, 2)]
    np.testing.assert_array_equal(on[0], on[1])
    assert np.abs(on[0] - on[2]).max() > 1e-4
    assert np.abs(on[0] - off).max() > 1e-4


def test_one_model_for_the_same_values(tiny):
    """So that what was compiled for it is found again; another value is another model."""
    first = build(tiny("gpt").model, Heads(lm=True))
    assert build(tiny("gpt").model, Heads(lm=True)) is first
    assert build(tiny("gpt", {"model.dropout": 0.5}).model, Heads(lm=True)) is not first
    assert build(tiny("gpt").model, Heads()) is not first
