"""Runs of T5: text with tasks mixed in, fine-tuning from it, eight devices, bad configs."""

import json

import jax
import numpy as np
import pytest

from configs.base import ConfigError
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer
from train import cli, generate
from train.loop import run
from train.mesh import to_devices
from train.objectives import prefix_lm
from train.program import make_program
from train.random_rows import random_batch
from train.setup import check

T5 = {
    "model.activation": "relu",
    "model.head_size": 4,
    "model.layer_norm_epsilon": 1e-6,
    "model.num_layers": 1,
    "model.vocab_size": 64,
    "objective.name": "span_corruption",
    "objective.z_loss": 1e-4,
    "optimizer.rules": ((r"", "decay"),),
}


@pytest.fixture(scope="module")
def pretrained(run_config, corpus, tmp_path_factory):
    """Twelve steps of version 1.1 on text with a task mixed in."""
    folder = tmp_path_factory.mktemp("t5")
    records = [{"n": i % 7, "word": "cat" if i % 2 else "dog"} for i in range(60)]
    path = folder / "task.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    tasks = ((str(path), "count: {n}", "{word}"),)
    changes = {
        **T5,
        "model.activation": "gated_gelu_tanh",
        "model.tie_embeddings": False,
        "objective.name": "multitask",
        "data.tasks": tasks,
        "tokenizer.kind": "unigram",
        "tokenizer.sentinels": 8,
        "optimizer.learning_rate": 0.01,
    }
    result = run(run_config("t5", changes), folder / "run", progress=False)
    return folder, tasks, result, changes


def test_text_with_tasks(pretrained, lines):
    folder, _, result, _ = pretrained
    found = lines(folder / "run")
    losses = [line["train/loss"] for line in found if "train/loss" in line]
    assert losses[-1] < losses[0] - 0.1
    last = result["eval"]
    assert last["eval/loss"] == pytest.approx(last["eval/cross_entropy"] + last["eval/z_loss"])
    names = {key.split("/")[1] for key in last if key.count("/") == 2}
    assert len(names) == 2  # the text and the task are evaluated each
    record = json.loads((folder / "run" / "lineage.json").read_text())
    assert [s["weight"] for s in record["summary"]["sources"]] == pytest.approx(
        [s["rows"] / sum(r["rows"] for r in record["summary"]["sources"])
         for s in record["summary"]["sources"]]
    )  # fmt: skip


def test_fine_tuning_on_the_task_keeps_the_output_weights(pretrained, run_config):
    from train.setup import complete, initial_state, set_up

    folder, tasks, _, changes = pretrained
    changes = {
        **changes, "objective.name": "text_to_text", "objective.target_length": 4,
        "init_from": str(folder / "run"), "model.family": "", "data.tasks": tasks,
    }  # fmt: skip
    config = complete(run_config("t5", changes))
    check(config)
    setup = set_up(config, folder / "tuned")
    state = initial_state(setup, jax.random.key(5))
    fresh = setup.program.init(jax.random.key(5))
    table = lambda s: np.asarray(s.params["head"]["lm"]["table"])  # noqa: E731
    assert np.abs(table(state) - table(fresh)).max() > 0.01


def test_a_prompt_is_read_as_a_source_was_in_training(pretrained):
    tokenizer = load_tokenizer(pretrained[0] / "run" / "tokenizer")
    words = lambda text: tokenizer.encode(text).tolist()  # noqa: E731
    assert generate._source(tokenizer, "a cat", True) == [*words("a cat"), tokenizer.eos_id]
    assert generate._source(tokenizer, "a cat", prefix_lm.Objective.source_ends) == words("a cat")
    found = generate._source(tokenizer, "a <extra_id_0> sat <extra_id_1> <extra_id_9>", True)
    first, second = tokenizer.sentinels[:2].tolist()
    end = [*words("<extra_id_9>"), tokenizer.eos_id]  # there are eight
    assert found == [*words("a"), first, *words("sat"), second, *end]
    assert generate._stop_tokens(tokenizer, []) == [tokenizer.eos_id]
    pieces = train_tokenizer("wordpiece", ["a cat sat"] * 9, 40, lowercase=False)
    assert generate._stop_tokens(pieces, []) == [pieces.sep_id]  # which ended its documents


def test_sentinels_keep_the_spans_of_an_answer_apart(pretrained, capsys):
    tokenizer = load_tokenizer(pretrained[0] / "run" / "tokenizer")
    for text in ("<extra_id_0> a cat <extra_id_1> sat", "a dog", "<extra_id_0> <extra_id_1>", ""):
        ids = generate._source(tokenizer, text, ends=True)
        assert generate._answer(tokenizer, ids) == text
        for count in range(len(ids)):  # it only ever grows
            assert text.startswith(generate._answer(tokenizer, ids[:count]))
    command = ["generate", f"--workdir={pretrained[0]}/run", "--new_tokens=3"]
    assert cli.main(command) == 2
    assert "answers a text: give it with --prompt" in capsys.readouterr().err
    assert cli.main([*command, "--prompt=a <extra_id_0> sat", "--temperature=0"]) == 0
    assert capsys.readouterr().out.endswith("\n")


def losses(tiny, sizes):
    axes = ("data", "fsdp", "sequence", "tensor")
    mesh = {f"mesh.{axis}": size for axis, size in zip(axes, sizes, strict=True)}
    config = tiny("t5", {**T5, "model.dropout": 0.1, **mesh})
    program = make_program(config, 0)
    host = random_batch(config, program.objective)
    host["weights"] = host["weights"] * (np.arange(8) % 3 != 0)[:, None]
    batch = to_devices(host, program.mesh)
    state, found = program.init(jax.random.key(0)), []
    for _ in range(4):
        state, metrics = program.train_step(state, batch, jax.random.key(1), 0.01)
        found.append([float(metrics[n][0] / metrics[n][1]) for n in program.objective.losses])
    return np.asarray(found), state


@pytest.mark.slow
def test_eight_devices_are_one(tiny):
    expected, one = losses(tiny, (1, 1, 1, 1))
    assert expected[-1, 0] < expected[0, 0] - 0.05
    got, eight = losses(tiny, (2, 2, 1, 2))
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4)  # noqa: E731
    jax.tree.map(close, eight.params, one.params)
    kernel = eight.params["backbone"]["decoder"]["layer_0"]["cross_attention"]["query"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size / 4


def test_a_misspelt_objective_and_a_length_without_a_table(tiny):
    check(tiny("t5", {**T5, "objective.name": "classification", "length": 600}))
    with pytest.raises(ConfigError, match="did you mean 'prefix_lm'"):
        check(tiny("t5", {**T5, "objective.name": "prefixlm"}))
