"""The study of a state that one has: configs/studies/checkpoint.py, on a run trained here."""

import json

import pytest

from configs import bert
from configs.studies import checkpoint
from train import cli, loop
from train.errors import UserError
from train.study import plan, results

WORDS = ("red", "blue", "green", "one", "two", "three", "cat", "dog", "runs", "sleeps")


def line(number):
    return " ".join(WORDS[(number * k + k) % 10] for k in range(1, 9))


def test_a_state_that_is_not_there(tmp_path):
    study = checkpoint.get_config(f"state={tmp_path}/nothing")
    with pytest.raises(UserError, match="nothing holds no run"):
        plan.make(study, tmp_path / "study")


@pytest.mark.slow
def test_what_a_state_buys(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("\n".join(map(line, range(400))))
    rows = [{"text": line(n), "label": "ab"[n % 2]} for n in range(64)]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    c = bert.get_config("size=tiny")
    c.data.source, c.data.document = str(tmp_path / "text.txt"), "line"
    c.tokenizer.vocab_size = 120
    c.steps, c.batch_size, c.length = 10, 8, 16
    c.model.width, c.model.mlp_width = 16, 32
    c.logging.tensorboard = False
    loop.run(c, tmp_path / "state", progress=False)
    stage = "--config.family.bert.finetune."
    command = [
        "study", f"--config=configs/studies/checkpoint.py:state={tmp_path}/state,family=bert",
        f"--workdir={tmp_path}/runs/study", f"{stage}data.source={tmp_path}/task.jsonl",
        f"{stage}data.eval_source={tmp_path}/task.jsonl", f"{stage}length=16",
        "--config.budgets=(16,0)", "--config.budget_steps=(3,5)", "--config.seeds=(0,1)",
    ]  # fmt: skip
    assert cli.main([*command, "--plan"]) == 0
    assert "16 runs, 16 of them missing" in " ".join(capsys.readouterr().out.split())
    assert cli.main(command) == 0
    found = results.read(tmp_path / "runs" / "study" / "results.jsonl")
    assert {(r["arm"], r["budget"], r["steps"]) for r in found} == {
        (arm, *size) for arm in ("full", "head", "lora", "scratch") for size in ((16, 3), (0, 5))
    }
    for record in found:
        assert record["sources"][-1] == ["state", results.state_hash(str(tmp_path / "state"))]
    # The head alone trains on what the state knows; from scratch nothing of the state is left.
    trained = {r["arm"]: r["num_trained"] for r in found}
    assert trained["head"] < trained["lora"] < trained["full"] == trained["scratch"]
    losses = {(r["arm"], r["budget"], r["seed"]): r["eval"]["eval/loss"] for r in found}
    assert all(losses["full", b, s] != losses["scratch", b, s] for b in (16, 0) for s in (0, 1))
