"""What is carried from step to step: XLNet's memory in a step, on a mesh, across a restart."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from input_pipeline.dataset import Prepared
from model.api import build
from tests.train.test_step import one_step, sgd
from train import objectives
from train.evaluate import evaluate
from train.loop import run
from train.mesh import to_devices
from train.program import make_program
from train.random_rows import random_batch
from train.setup import Setup
from train.state import start

SIZES = {
    "model.mem_len": 12, "model.reuse_len": 8, "objective.span_context": 3, "model.num_layers": 1,
}  # fmt: skip


def parts(tiny, noise, changes=None):
    config = tiny("xlnet", {**SIZES, "length": 24, **(changes or {})})
    objective = objectives.build(config, 0)
    model = build(config.model, objective.head())
    batch = random_batch(config, objective)
    batch["weights"] = batch["weights"] * (np.arange(8) % 3 != 0)[:, None]
    batch["backward"] = (np.arange(8) >= 4).astype(np.int32)
    return model, objective, batch, noise(model)


def close(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


def test_accumulation_is_one_large_batch_and_keeps_each_rows_memory(tiny, noise):
    model, objective, batch, params = parts(tiny, noise)
    batch["continues"] = (np.arange(8) % 2).astype(np.int32)
    memory = np.random.default_rng(0).standard_normal((8, 12, 16)).astype("float32")
    carry = {"layer_0": memory, "filled": np.arange(8, dtype=np.int32)}
    state = dataclasses.replace(start(model, sgd(model), params), carry=carry)
    (whole, metrics), (pieces, same) = (
        one_step(model, objective, sgd(model), k, state, batch, jax.random.key(0), 0.1)
        for k in (1, 4)
    )
    close(pieces.params, whole.params, rtol=2e-4, atol=2e-6)
    close(same, metrics, rtol=2e-4, atol=2e-6)
    close(pieces.carry, whole.carry, rtol=1e-5, atol=1e-6)
    filled = np.where(np.arange(8) % 2, np.arange(8), 0) + 8
    np.testing.assert_array_equal(whole.carry["filled"], np.minimum(filled, 12))
    # The first eight tokens enter; what they push out is gone.
    table = params["backbone"]["tokens"]["table"]
    np.testing.assert_array_equal(whole.carry["layer_0"][:, 4:], table[batch["tokens"][:, :8]])
    np.testing.assert_array_equal(whole.carry["layer_0"][:, :4], memory[:, 8:])


def test_the_step_uses_the_memory(tiny, noise):
    model, objective, batch, params = parts(tiny, noise)
    state = start(model, sgd(model), params, rows=8)

    def step(state, batch):  # at a rate of 0: parameters stay
        return one_step(model, objective, sgd(model), 1, state, batch, jax.random.key(0), 0.0)

    first, before = step(state, batch)
    _, after = step(first, batch)
    _, fresh = step(first, {**batch, "continues": np.zeros(8, np.int32)})
    assert before["loss"][0] != after["loss"][0]
    assert before["loss"][0] == fresh["loss"][0]


@pytest.mark.slow
def test_eight_devices_are_one(tiny):
    found = []
    for sizes in ((1, 1, 1, 1), (2, 2, 1, 2)):
        axes = zip(("data", "fsdp", "sequence", "tensor"), sizes, strict=True)
        mesh = {f"mesh.{axis}": size for axis, size in axes}
        config = tiny("xlnet", {**SIZES, "length": 24, "model.dropout": 0.1, **mesh})
        program = make_program(config, 0)
        batch = to_devices(random_batch(config, program.objective), program.mesh)
        state, losses = program.init(jax.random.key(0)), []
        for _ in range(4):
            state, metrics = program.train_step(state, batch, jax.random.key(1), 0.01)
            losses.append(float(metrics["loss"][0]))
        memory = state.carry["layer_0"]
        ways = sizes[0] * sizes[1]
        assert memory.addressable_shards[0].data.shape == (8 // ways, 12, 16)
        found.append((losses, jax.device_get(state.carry)))
    assert found[0][0][-1] < found[0][0][0] - 0.01
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=2e-5)
    close(found[1][1], found[0][1], atol=1e-3)


def test_evaluation_carries_its_own_memory(tiny, noise):
    """Two batches in a row are not twice the first: the second one remembers."""
    config = tiny("xlnet", {**SIZES, "length": 24})
    program = make_program(config, 0)
    data = Prepared([], [], {}, ([], []), (), list, "", {})
    setup = Setup(config, None, data, program, None)
    params = noise(program.model)
    batch = random_batch(config, program.objective)
    alone = {**batch, "continues": np.zeros(8, np.int32)}
    once, twice, fresh = (
        evaluate(setup, params, {"eval": lambda b=batches: b}).metrics["eval/loss"]
        for batches in ([batch], [batch, batch], [batch, alone])
    )
    assert once == fresh
    assert abs(once - twice) > 1e-4


@pytest.fixture(scope="module")
def xlnet_config(run_config):
    def make(changes=None):
        own = {
            **SIZES, "length": 24, "objective.name": "permutation_lm", "steps": 8,
            "tokenizer.kind": "wordpiece", "evaluation.every": 4, "checkpoint.every": 3,
        }  # fmt: skip
        return run_config("xlnet", {**own, **(changes or {})})

    return make


@pytest.fixture(scope="module")
def uninterrupted(xlnet_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("xlnet") / "w"
    return workdir, run(xlnet_config(), workdir, progress=False)


def saved(workdir, step):
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax: no shardings were given
        return ocp.load_checkpointables(workdir / "checkpoints" / f"{step:08d}")


def test_resumed_run_is_uninterrupted(xlnet_config, uninterrupted, tmp_path, lines, monkeypatch):
    """Stopped after step 6 and gone on with, bit for bit, memory included."""
    from train import loop

    original, count = loop.to_devices, -1  # one batch is drawn to count its operations

    class Stopped(Exception):  # noqa: N818
        pass

    def to_devices(batch, mesh):
        nonlocal count
        count += 1
        if count == 8:
            raise Stopped
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", to_devices)
    workdir = tmp_path / "w"
    with pytest.raises(Stopped):
        run(xlnet_config(), workdir, progress=False)
    monkeypatch.undo()
    assert not (workdir / "checkpoints" / "00000008").exists()
    result = run(xlnet_config(), workdir, progress=False)
    assert result["step"] == 8
    assert lines(workdir) == lines(uninterrupted[0])
    first, second = (saved(path, 8) for path in (workdir, uninterrupted[0]))
    carry = first["training"]["carry"]
    assert carry["filled"].min() > 0
    assert np.abs(carry["layer_0"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_fine_tuning_takes_the_backbone_and_no_memory(run_config, uninterrupted, tmp_path):
    source, _ = uninterrupted
    examples = tmp_path / "train.tsv"
    examples.write_text("text\tlabel\n" + "the cat sat\tx\na dog ran\ty\n" * 30)
    config = run_config(
        "xlnet",
        {
            "model.family": "", "objective.name": "classification", "init_from": str(source),
            "data.source": str(examples), "evaluation.metric": "eval/accuracy", "steps": 2,
            "evaluation.every": 0, "model.num_layers": 1,
        },
    )  # fmt: skip
    result = run(config, tmp_path / "w", progress=False)
    assert result["step"] == 2
    assert 0 <= result["eval"]["eval/accuracy"] <= 1
    assert (tmp_path / "w" / "predictions.npz").exists()
