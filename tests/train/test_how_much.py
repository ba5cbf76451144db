"""Runs that train a part: adapters, averaged weights, fresh layers, an end by patience."""

import json
import os
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from configs import regimes
from tests.train.test_loop import assert_same_state, saved
from train import cli, loop, peak
from train.checkpoint import Checkpoints
from train.errors import UserError
from train.import_adapter import import_adapter
from train.loop import run
from train.mesh import to_devices
from train.program import make_program
from train.random_rows import random_batch
from train.selection import new_best, patience_is_over
from train.setup import check, complete, initial_state, set_up

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(run_config, tmp_path_factory):
    """A pre-trained GPT."""
    workdir = tmp_path_factory.mktemp("source") / "w"
    run(run_config("gpt", {"steps": 2, "evaluation.every": 0}), workdir, progress=False)
    return workdir


def lora(run_config, source, **changes):
    c = run_config("gpt", {"init_from": str(source), "steps": 4, **changes})
    regimes.apply(c, "lora")
    return c


@pytest.fixture(scope="module")
def adapted(run_config, source, tmp_path_factory):
    """A LoRA run from it, and its config."""
    workdir = tmp_path_factory.mktemp("lora") / "w"
    config = lora(run_config, source)
    return workdir, config, run(config, workdir, progress=False)


def test_a_lora_run_leaves_the_backbone_and_has_a_part_of_its_own(source, adapted):
    workdir, _, _ = adapted
    before, after = saved(source, 2), saved(workdir, 4)
    for name, array in before.items():
        if name.startswith("['backbone']"):
            assert array.tobytes() == after[name].tobytes(), name
    own = {name: array for name, array in after.items() if name.startswith("['adapters']")}
    assert own
    assert all(np.abs(array).max() > 0 for array in own.values())
    assert (workdir / "checkpoints" / "00000004" / "adapters").is_dir()


def test_evaluate_and_generate_take_a_run_with_lora(adapted, capsys):
    workdir, _, result = adapted
    assert cli.main(["evaluate", f"--workdir={workdir}"]) == 0
    loss = float(capsys.readouterr().out.split("eval/loss")[1].split()[0])
    best = result["best"]
    assert loss == pytest.approx(best["value"], abs=1e-3)
    args = [f"--workdir={workdir}", "--prompt=the", "--new_tokens=4", "--temperature=0"]
    assert cli.main(["generate", *args]) == 0
    assert capsys.readouterr().out.startswith("the")


def test_the_next_run_takes_adapters_along_or_merges_them(run_config, adapted, tmp_path):
    workdir, _, _ = adapted
    again = lora(run_config, workdir)
    setup = set_up(complete(again), tmp_path / "a")
    state = initial_state(setup, jax.random.key(0))
    there = saved(workdir, 4)
    got = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path({"adapters": state.params["adapters"]})
    }
    assert_same_state(got, {k: v for k, v in there.items() if k in got})
    plain = set_up(complete(run_config("gpt", {"init_from": str(workdir)})), tmp_path / "b")
    params = initial_state(plain, jax.random.key(0)).params
    assert "adapters" not in params
    batch = to_devices(random_batch(plain.config, plain.program.objective), plain.program.mesh)
    logits = [
        np.asarray(program.model.apply(values, batch)["logits"])
        for program, values in ((setup.program, state.params), (plain.program, params))
    ]
    np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-5)


def test_bottlenecks_do_not_merge(run_config, source, tmp_path):
    config = run_config("gpt", {"init_from": str(source), "steps": 1})
    regimes.apply(config, "adapters")
    run(config, tmp_path / "w", progress=False)
    with pytest.raises(UserError, match="has bottleneck adapters, which cannot be merged"):
        run(run_config("gpt", {"init_from": str(tmp_path / "w")}), tmp_path / "x", progress=False)
    with pytest.raises(UserError, match="has bottleneck adapters, which PEFT's model has not"):
        import_adapter(tmp_path / "peft", tmp_path / "w", tmp_path / "y")


def test_fresh_layers(run_config, source, tmp_path):
    changes = {"init_from": str(source), "reinit": ("/layer_-0/", "positions")}
    setup = set_up(complete(run_config("gpt", changes)), tmp_path / "w")
    got = initial_state(setup, jax.random.key(5)).params["backbone"]
    fresh = setup.program.init(jax.random.key(5)).params["backbone"]
    there = saved(source, 2)
    np.testing.assert_array_equal(got["positions"]["table"], fresh["positions"]["table"])
    np.testing.assert_array_equal(got["norm"]["scale"], 1.0)
    assert np.abs(there["['backbone']['norm']['scale']"] - 1.0).max() > 0
    np.testing.assert_array_equal(got["tokens"]["table"], there["['backbone']['tokens']['table']"])


AVERAGED = {"optimizer.ema_decay": 0.9, "evaluation.every": 4}


@pytest.fixture(scope="module")
def averaged(run_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("average") / "w"
    return workdir, run(run_config(changes=AVERAGED), workdir, progress=False)


def test_the_average_is_evaluated_and_saved_and_the_raw_weights_go_on(
    run_config, averaged, tmp_path
):
    workdir, _ = averaged
    last = saved(workdir, 12)
    raw = {k: v for k, v in last.items() if k.startswith("['training']['raw']")}
    assert raw
    plain = tmp_path / "plain"
    run(run_config(), plain, progress=False)
    without = saved(plain, 12)
    for name, array in raw.items():
        name = name.removeprefix("['training']['raw']")
        np.testing.assert_allclose(array, without[name], rtol=1e-4, atol=1e-6, err_msg=name)
    name = "['backbone']['layer_0']['mlp']['up']['kernel']"
    assert not np.array_equal(last[name], without[name])


def test_the_average_by_hand(tiny):
    config = tiny("gpt", {"optimizer.ema_decay": 0.3})
    program = make_program(config, 0)
    batch = to_devices(random_batch(config, program.objective), program.mesh)
    state = program.init(jax.random.key(0))
    leaf = lambda tree: np.asarray(tree["backbone"]["layer_0"]["mlp"]["up"]["kernel"])  # noqa: E731
    expected = leaf(state.params)
    for step in range(6):
        state, _ = program.train_step(state, batch, jax.random.key(1), np.float32(0.1))
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * leaf(state.params)
        np.testing.assert_allclose(leaf(state.average), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(leaf(state.evaluated), leaf(state.average))


def test_a_run_with_averages_resumes_bit_for_bit(
    run_config, averaged, tmp_path, monkeypatch, lines
):
    """Stopped after step 7; and what is evaluated again is what was saved."""
    workdir, original = tmp_path / "w", loop.to_devices
    count = -1  # one batch is drawn to count its operations

    def to_devices(batch, mesh):
        nonlocal count
        count += 1
        if count == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(batch, mesh)

    monkeypatch.setattr(loop, "to_devices", to_devices)
    assert run(run_config(changes=AVERAGED), workdir, progress=False)["stopped"]
    monkeypatch.undo()
    run(run_config(changes=AVERAGED), workdir, progress=False)
    assert_same_state(saved(workdir, 12), saved(averaged[0], 12))
    rows = [row for row in lines(workdir) if "eval/loss" in row and row["step"] != 7]
    assert rows == [row for row in lines(averaged[0]) if "eval/loss" in row]


PATIENT = {
    "steps": 40, "evaluation.every": 2, "evaluation.patience": 3, "checkpoint.every": 5,
    "evaluation.metric": "eval/accuracy", "evaluation.higher_is_better": True,
    "optimizer.learning_rate": 0.0, "checkpoint.keep": 1,
}  # fmt: skip


def test_patience_ends_a_run_which_then_is_complete(run_config, tmp_path, lines, capsys):
    """At a rate of 0 the first evaluation stays the best; three more without a better one."""
    workdir = tmp_path / "w"
    config = run_config(changes=PATIENT)
    result = run(config, workdir)
    assert (result["step"], result["early"], result["stopped"]) == (8, True, False)
    assert result["best"]["step"] == 2
    assert (
        "ended at step 8: 3 evaluations without a better eval/accuracy" in capsys.readouterr().err
    )
    with Checkpoints(workdir, 1) as checkpoints:
        assert checkpoints.steps() == [2, 8]  # the best and the last
    before = lines(workdir)
    again = run(config, workdir, progress=False)
    assert (again["step"], again["early"]) == (8, True)
    assert again["eval"] == result["eval"]
    assert [row for row in lines(workdir) if "train/loss" in row] == [
        row for row in before if "train/loss" in row
    ]
    more = run_config(changes={**PATIENT, "evaluation.patience": 4})
    assert run(more, workdir, progress=False, force=True)["step"] == 10


def test_a_resumed_run_ends_where_it_would_have(run_config, tmp_path):
    """From the checkpoint of step 5, after the best one and before the patience is over."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    changes = {**PATIENT, "checkpoint.keep": 9}
    run(run_config(changes=changes), whole, progress=False)
    shutil.copytree(whole, part)
    with Checkpoints(part, 9) as checkpoints:
        assert checkpoints.steps() == [2, 5, 8]
        checkpoints._remove(8)
    result = run(run_config(changes=changes), part, progress=False)
    assert (result["step"], result["early"]) == (8, True)
    assert_same_state(saved(part, 8), saved(whole, 8))
    assert json.loads((part / "checkpoints" / "best.json").read_text())["step"] == 2


class Rule:
    metric, higher_is_better, every, patience = "eval/loss", False, 10, 2


def test_best_and_patience_by_hand():
    best = None
    for step, loss, over in ((10, 3.0, 0), (20, 2.0, 0), (30, 2.5, 0), (40, 2.0, 1)):
        best = new_best(Rule, {"eval/loss": loss}, step, best) or best
        assert patience_is_over(Rule, step, best) == bool(over), step
    assert best == {"step": 20, "metric": "eval/loss", "value": 2.0}
    assert not patience_is_over(Rule, 45, best)  # between two evaluations nothing is decided
    # The best by another metric says nothing: the next evaluation is the first by this one.
    other = {"step": 20, "metric": "eval/accuracy", "value": 0.1}
    assert new_best(Rule, {"eval/loss": 3.0}, 30, other)["value"] == 3.0


def test_several_processes_do_not_generate(run_config, monkeypatch):
    """It is said before training, not after it."""
    config = complete(run_config("t5", {"objective.name": "text_to_text", "mesh.data": 8}))
    config.evaluation.generate = 4
    check(config)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"generate needs a single process; .* --generate=N"):
        check(config)


@pytest.mark.parametrize("changes", [{"evaluation.every": 0}, {"checkpoint.every": 0}])
def test_patience_needs_evaluations_and_checkpoints(run_config, changes):
    config = run_config(changes={**PATIENT, **changes})
    with pytest.raises(UserError, match=r"config.evaluation.patience is 3; .* checkpoint.every"):
        check(complete(config))


def test_bad_rules_and_targets_end_in_a_sentence_before_anything_is_written(
    corpus, tmp_path, capsys
):
    base = [
        "train", "--config=configs/gpt.py:size=tiny", f"--config.data.source={corpus}",
        f"--workdir={tmp_path / 'w'}",
    ]  # fmt: skip
    for more, words in (
        (["--config.optimizer.rules=(('atention','decay'),('','decay'))"], "attention"),
        (["--config.adapters.lora_rank=2", "--config.adapters.lora_targets=('qury',)"], "query"),
        (["--config.reinit=('layer_9',)"], "matches no parameter"),
    ):
        assert cli.main([*base, *more]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert message.count("\n") == 1
        assert not (tmp_path / "w").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "adafactor", "muon"])
def test_eight_devices_are_one(tiny, name):
    """Adapters, moments and averages split as their parameters are."""
    losses = {}
    for sizes in ((1, 1, 1, 1), (2, 2, 1, 2)):
        axes = zip(("data", "fsdp", "sequence", "tensor"), sizes, strict=True)
        changes = {f"mesh.{axis}": size for axis, size in axes}
        config = tiny("gpt", {**changes, "model.num_layers": 1, "optimizer.ema_decay": 0.5})
        if name == "lora":
            config.adapters.bottleneck = 4
            regimes.apply(config, "lora")
        else:
            config.optimizer.name = name
        program = make_program(config, 0)
        batch = to_devices(random_batch(config, program.objective), program.mesh)
        state, losses[sizes] = program.init(jax.random.key(0)), []
        for _ in range(4):
            state, metrics = program.train_step(state, batch, jax.random.key(1), np.float32(0.02))
            losses[sizes].append(float(metrics["loss"][0] / metrics["loss"][1]))
    one, eight = losses.values()
    assert one[-1] < one[0] - 0.01
    np.testing.assert_allclose(eight, one, rtol=5e-5)
    share = lambda leaf: leaf.addressable_shards[0].data.size / leaf.size  # noqa: E731
    if name == "lora":
        b = state.params["adapters"]["layer_0"]["attention"]["query_key_value"]["query_lora_b"]
        assert share(b) == 0.5  # by heads
        kept = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == b.shape]
    else:
        kernel = state.params["backbone"]["layer_0"]["mlp"]["up"]["kernel"]
        kept = [state.average["backbone"]["layer_0"]["mlp"]["up"]["kernel"]]
        assert share(kernel) == 0.25
        if name == "muon":
            kept += [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
            assert len(kept) == 2
    assert kept
    assert all(share(leaf) < 1 for leaf in kept)


@pytest.fixture(scope="module")
def classifier(corpus, run_config, tmp_path_factory):
    """A BERT and a LoRA run from it that tells texts apart."""
    folder = tmp_path_factory.mktemp("classifier")
    run(run_config("bert", {"steps": 2, "evaluation.every": 0}), folder / "base", progress=False)
    (folder / "train.tsv").write_text("text\tlabel\n" + "the cat sat\tx\na dog ran\ty\n" * 30)
    config = run_config(
        "bert",
        {
            "objective.name": "classification",
            "init_from": str(folder / "base"),
            "data.source": str(folder / "train.tsv"),
            "evaluation.metric": "eval/accuracy",
            "steps": 4,
        },
    )
    regimes.apply(config, "lora")
    run(config, folder / "lora", progress=False)
    return folder


def test_export_merges_lora_or_writes_it_for_peft_and_import_reads_it(classifier, tmp_path, capsys):
    from safetensors.numpy import load_file

    run_, base = classifier / "lora", classifier / "base"
    assert cli.main(["export", f"--workdir={run_}", f"--to={tmp_path / 'merged'}"]) == 0
    assert cli.main(["export", f"--workdir={run_}", f"--to={tmp_path / 'peft'}", "--adapter"]) == 0
    assert "LoRA of rank 8 on 2 published maps" in capsys.readouterr().out
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    there = saved(run_, 4)
    module = "bert.encoder.layer.0.attention.self.query"
    a, b = (tensors[f"base_model.model.{module}.lora_{x}.weight"] for x in "AB")
    kernel = there["['backbone']['layer_0']['attention']['query_key_value']['kernel']"]
    expected = kernel[:, 0].reshape(16, 16).T + 2 * b @ a
    np.testing.assert_allclose(merged[f"{module}.weight"], expected, rtol=1e-4, atol=1e-6)

    to = tmp_path / "again"
    given = [f"--from={tmp_path / 'peft'}", f"--base={base}", f"--to={to}"]
    assert cli.main(["import", *given]) == 0
    again = saved(to, 0)
    names = [name for name in there if not name.startswith("['training']")]
    assert_same_state({n: again[n] for n in names}, {n: there[n] for n in names})
    assert cli.main(["evaluate", f"--workdir={run_}"]) == 0  # with its adapters
    assert "eval/accuracy" in capsys.readouterr().out


def test_an_adapter_of_another_model_or_a_run_without_lora_is_refused(
    classifier, source, tmp_path, capsys
):
    run_, base = classifier / "lora", classifier / "base"
    assert cli.main(["export", f"--workdir={base}", f"--to={tmp_path / 'x'}", "--adapter"]) == 2
    assert "has no LoRA" in capsys.readouterr().err
    assert cli.main(["export", f"--workdir={run_}", f"--to={tmp_path / 'p'}", "--adapter"]) == 0
    given = [f"--from={tmp_path / 'p'}", f"--base={source}", f"--to={tmp_path / 'y'}"]
    assert cli.main(["import", *given]) == 2
    assert "no linear map of the base model" in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_an_adapter_beside_which_more_was_trained_is_refused(classifier, tmp_path, capsys):
    """PEFT's files would not hold it."""
    more = tmp_path / "more"
    shutil.copytree(classifier / "lora", more)
    config = json.loads((more / "config.json").read_text())
    config["optimizer"]["rules"].insert(0, ["norm/(bias|scale)$", "no_decay"])
    (more / "config.json").write_text(json.dumps(config))
    assert cli.main(["export", f"--workdir={more}", f"--to={tmp_path / 'x'}", "--adapter"]) == 2
    error = capsys.readouterr().err
    assert "also trained backbone/layer_0, backbone/" in error
    assert not (tmp_path / "x").exists()


def test_benchmark_takes_the_architecture_of_init_from(classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(peak.SIZE, "cpu", 128)
    path = tmp_path / "figures.json"
    assert cli.main([
        "benchmark", f"--config={ROOT}/configs/finetune_classification.py:regime=head_only",
        f"--config.init_from={classifier / 'base'}", "--steps=1", f"--json={path}",
        "--config.length=16", "--config.compilation_cache=", "--config.mesh.data=1",
    ]) == 0  # fmt: skip
    figures = json.loads(path.read_text())
    assert figures["trained"] == 16 * 16 + 16 + 16 * 2 + 2  # the pooler and two classes
    assert figures["parameters"] > figures["trained"]
