"""Runs on a tiny corpus: what they write, how they stop, how they go on."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import loop, metrics
from train.checkpoint import Checkpoints, best_folder, load_parts
from train.errors import Diverged, UserError
from train.loop import run
from train.program import make_program
from train.setup import complete, initial_state, set_up
from train.state import State
from train.workdir import locked

ROOT = pathlib.Path(__file__).resolve().parents[2]


def saved(workdir, step):
    """Every array of a checkpoint, by part and path."""
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Orbax: no shardings were given
        tree = ocp.load_checkpointables(workdir / "checkpoints" / f"{step:08d}")
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name


@pytest.fixture(scope="module")
def uninterrupted(run_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    return workdir, run(run_config(), workdir, progress=False)


def test_result(uninterrupted, lines):
    workdir, result = uninterrupted
    assert result["step"] == 12
    assert not result["stopped"]
    assert result["tokens"] == 12 * 8 * 16
    last = [row for row in lines(workdir) if "eval/loss" in row][-1]
    assert result["eval"]["eval/loss"] == last["eval/loss"]
    assert result["num_params"] == sum(
        array.size
        for name, array in saved(workdir, 12).items()
        if name.startswith(("['backbone']", "['head']"))
    )


def test_metrics_file(uninterrupted):
    workdir, _ = uninterrupted
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if "train/loss" in row]
    evaluation = [row for row in rows if "eval/loss" in row]
    assert [row["step"] for row in train] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in evaluation] == [4, 8, 12]
    for name in (
        "loss", "accuracy", "gradient_norm", "learning_rate", "seconds", "tokens_per_second",
        "flops_utilisation",
    ):  # fmt: skip
        assert all(isinstance(row[f"train/{name}"], float) for row in train), name
    assert all(isinstance(value, int | float) for row in rows for value in row.values())
    assert rows[0]["train/learning_rate"] == pytest.approx(1e-3)
    assert evaluation[-1]["eval/loss"] < evaluation[0]["eval/loss"]


def test_workdir_tells_where_it_came_from(uninterrupted, run_config):
    workdir, _ = uninterrupted
    config = json.loads((workdir / "config.json").read_text())
    assert config == json.loads(run_config().to_json())
    lineage = json.loads((workdir / "lineage.json").read_text())
    assert {"revision", "config_hash", "data", "tokenizer", "seed", "versions"} <= set(lineage)
    assert "/" not in lineage["command"][0]
    assert (workdir / "tokenizer").is_dir()


def test_best_and_last_checkpoints_stay(run_config, tmp_path):
    config = run_config(changes={"evaluation.metric": "eval/accuracy", "checkpoint.keep": 1})
    config.optimizer.learning_rate = 0.0  # all evaluations are equal: the first stays the best
    result = run(config, tmp_path / "w", progress=False)
    folder = tmp_path / "w" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["00000004", "00000012"]
    assert sorted(p.name[:8] for p in folder.glob("*.sha256.json")) == ["00000004", "00000012"]
    assert result["best"]["step"] == 4
    assert json.loads((folder / "best.json").read_text())["metric"] == "eval/accuracy"
    assert best_folder(tmp_path / "w").name == "00000004"
    assert best_folder(tmp_path / "w", newest=True).name == "00000012"


def test_manifest_is_of_the_files(uninterrupted):
    workdir, _ = uninterrupted
    manifest = json.loads((workdir / "checkpoints" / "00000012.sha256.json").read_text())
    folder = workdir / "checkpoints" / "00000012"
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert manifest == {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()}


KILLED = """
import os, signal, sys
from ml_collections import ConfigDict
from train import loop
import json
config = ConfigDict(json.loads(sys.argv[1]))
count, original = -1, loop.to_devices  # one batch is drawn to count its operations
def to_devices(batch, mesh):
    global count
    count += 1
    if count == 11:  # ten steps are done
        os.kill(os.getpid(), signal.SIGKILL)
    return original(batch, mesh)
loop.to_devices = to_devices
loop.run(config, sys.argv[2], progress=False)
"""


def test_killed_and_run_again_is_uninterrupted(run_config, tmp_path, uninterrupted, lines):
    workdir = tmp_path / "w"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, run_config().to_json(), str(workdir)],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert lines(workdir)[-1]["step"] == 10  # beyond the checkpoint of step 8
    assert not (workdir / "checkpoints" / "00000012").exists()

    result = run(run_config(), workdir, progress=False)
    assert (result["step"], result["flops"]) == (12, uninterrupted[1]["flops"])
    assert lines(workdir) == lines(uninterrupted[0])
    assert_same_state(saved(workdir, 12), saved(uninterrupted[0], 12))


def test_sigterm_saves_and_stops(run_config, tmp_path, uninterrupted, lines, monkeypatch):
    workdir, original = tmp_path / "w", loop.to_devices
    count = -1  # one batch is drawn to count its operations

    def to_devices(batch, mesh):
        nonlocal count
        count += 1
        if count == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", to_devices)
    before = signal.getsignal(signal.SIGTERM)
    result = run(run_config(), workdir, progress=False)
    assert result["stopped"] == signal.SIGTERM
    assert result["step"] == 7
    assert (workdir / "checkpoints" / "00000007").is_dir()
    assert signal.getsignal(signal.SIGTERM) == before

    result = run(run_config(), workdir, progress=False)
    assert (result["step"], result["stopped"]) == (12, False)
    assert_same_state(saved(workdir, 12), saved(uninterrupted[0], 12))
    evaluations = [row for row in lines(workdir) if "eval/loss" in row and row["step"] != 7]
    assert evaluations == [row for row in lines(uninterrupted[0]) if "eval/loss" in row]


def flip_a_byte(folder):
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


def test_damaged_checkpoint_is_passed_over(run_config, tmp_path, uninterrupted, caplog):
    workdir = tmp_path / "w"
    run(run_config(), workdir, progress=False)
    flip_a_byte(workdir / "checkpoints" / "00000012")
    with Checkpoints(workdir, 2) as checkpoints:
        assert checkpoints.newest_good()[0] == 8
    result = run(run_config(), workdir, progress=False)
    assert result["step"] == 12
    (warning,) = [r.getMessage() for r in caplog.records if "Passed over" in r.getMessage()]
    assert "00000012" in warning
    assert "is damaged" in warning
    # What was trained again is saved again.
    with Checkpoints(workdir, 2) as checkpoints:
        assert checkpoints.newest_good() == (12, [])
    assert_same_state(saved(workdir, 12), saved(uninterrupted[0], 12))


def test_unfinished_checkpoint_is_passed_over(tmp_path):
    (tmp_path / "checkpoints" / "00000003").mkdir(parents=True)
    with Checkpoints(tmp_path, 2) as checkpoints:
        step, (sentence,) = checkpoints.newest_good()
    assert step is None
    assert "manifest is missing" in sentence


def test_retention(tmp_path):
    params = {"backbone": {"w": jnp.ones(3)}, "head": {}}
    state = State(jnp.zeros((), jnp.int32), params, {}, {})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 7):
            best = {"step": 2, "metric": "eval/loss", "value": 1.0} if step == 2 else None
            checkpoints.save(step, state, best)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.newest_good() == (6, [])


@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_init_from_takes_the_backbone_and_leaves_the_head_fresh(
    family, run_config, tmp_path, uninterrupted
):
    if family == "gpt":
        source, _ = uninterrupted
    else:
        source = tmp_path / "source"
        run(run_config("bert", {"steps": 2, "evaluation.every": 0}), source, progress=False)
    examples = tmp_path / "train.tsv"
    examples.write_text("text\tlabel\n" + "the cat sat\tx\na dog ran\ty\n" * 30)
    changes = {
        "objective.name": "classification",
        "init_from": str(source),
        "data.source": str(examples),
        "evaluation.metric": "eval/accuracy",
    }
    setup = set_up(complete(run_config(family, changes)), tmp_path / "w")
    state = jax.device_get(initial_state(setup, jax.random.key(5)))
    fresh = jax.device_get(setup.program.init(jax.random.key(5)))
    pretrained = saved(source, 12 if family == "gpt" else 2)
    flat, _ = jax.tree_util.tree_flatten_with_path({"backbone": state.params["backbone"]})
    assert len(flat) > 10
    for path, leaf in flat:
        assert leaf.tobytes() == pretrained[jax.tree_util.keystr(path)].tobytes(), path
    jax.tree.map(np.testing.assert_array_equal, state.params["head"], fresh.params["head"])
    assert set(state.params["head"]) == {"classification"}
    table = state.params["backbone"]["tokens"]["table"]
    assert not np.array_equal(table, fresh.params["backbone"]["tokens"]["table"])
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, fresh.opt_state)


def test_a_loss_that_is_no_number_stops_the_run(run_config, tmp_path):
    """Two good steps, then a rate that no weight survives."""
    config = run_config(changes={"checkpoint.every": 1, "evaluation.every": 0})
    config.optimizer.learning_rate = 1e30
    with pytest.raises(Diverged) as caught:
        run(config, tmp_path / "w", progress=False)
    message = str(caught.value)
    step = int(message.split("at step ")[1].split()[0])
    assert step >= 2
    good = tmp_path / "w" / "checkpoints" / f"{step - 1:08d}"
    assert str(good) in message
    assert good.is_dir()
    assert not (good.parent / f"{step:08d}").exists()


def test_lock_keeps_another_run_out(run_config, tmp_path):
    workdir = tmp_path / "w"
    with locked(workdir):
        before = sorted(p.name for p in workdir.iterdir())
        with pytest.raises(UserError, match=f"Another process .pid {os.getpid()}"):
            run(run_config(), workdir, progress=False)
        assert sorted(p.name for p in workdir.iterdir()) == before


def test_another_config_is_refused_and_force_goes_on(uninterrupted, run_config):
    workdir, _ = uninterrupted
    config = run_config(changes={"optimizer.learning_rate": 0.5, "logging.every": 3})
    with pytest.raises(UserError) as caught:
        run(config, workdir, progress=False)
    assert "optimizer.learning_rate: 0.001 there, 0.5 asked" in str(caught.value)
    assert "logging" not in str(caught.value)
    assert "--force_config" in str(caught.value)
    assert run(config, workdir, progress=False, force=True)["step"] == 12


def test_truncate_drops_what_came_after(tmp_path):
    rows = ['{"step": 1, "train/seconds": 2.5}', '{"step": 2, "train/loss": 1.0}', '{"step": 3}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + '\n{"step": 4, "tr')
    assert metrics.truncate(tmp_path, 2) == 2.5
    assert (tmp_path / "metrics.jsonl").read_text().splitlines() == rows[:2]


def test_what_is_not_finite_is_written_as_null(tmp_path):
    writer = metrics.Writer(tmp_path, tensorboard=False, main=True)
    writer.write(3, {"train/loss": float("nan"), "train/accuracy": 0.5})
    writer.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 3, "train/loss": None, "train/accuracy": 0.5}


def test_means_are_sums_over_weights():
    total = metrics.add([{"a": (6.0, 2.0), "b": (1.0, 1.0)}, {"a": (0.0, 4.0), "b": (3.0, 1.0)}])
    assert metrics.means(total, "eval", ("a", "b")) == {
        "eval/a": 1.0, "eval/b": 2.0, "eval/loss": 3.0,
    }  # fmt: skip


def test_backbone_of_another_shape_is_refused(uninterrupted, run_config):
    workdir, _ = uninterrupted
    config = run_config(changes={"model.vocab_size": 40, "model.width": 32})
    program = make_program(config, 0)
    shapes = jax.eval_shape(program.init, jax.random.key(0)).params["backbone"]
    from train.checkpoint import abstract

    aim = {"backbone": abstract(shapes, program.shardings.params["backbone"])}
    with pytest.raises(UserError, match="use the config that the checkpoint was made with"):
        load_parts(workdir, aim)
