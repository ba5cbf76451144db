"""A real study, small: several processes, a kill in the middle, side effects."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from train.study import results

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIG = """
from configs import bert, finetune_classification
from configs.studies import base as studies


def get_config():
    c = bert.get_config("size=tiny")
    c.data.source, c.data.document, c.data.holdout = "FOLDER/text.txt", "line", 0.2
    c.tokenizer.vocab_size = 120
    c.steps, c.batch_size, c.length = 20, 8, 16
    c.model.width, c.model.mlp_width = 16, 32
    c.evaluation.every = 0
    f = finetune_classification.get_config()
    f.data.source = f.data.eval_source = "FOLDER/task.jsonl"
    f.steps, f.batch_size, f.length = 6, 8, 16
    f.evaluation.every, f.checkpoint.every = 3, 0
    for one in (c, f):
        one.logging.every, one.logging.tensorboard = 2, False
        one.evaluation.batch_size = 16
    arms = {
        "full": studies.arm("full"),
        "scratch": studies.scratch(),
        "lora": studies.arm("LoRA", regime="lora"),
        "more": studies.arm("more", stages=("pretrain", "adapt", "finetune"), adapt={"steps": 5}),
    }
    stages = {"pretrain": c, "adapt": c, "finetune": f}
    study = studies.get_config({"bert": stages}, arms)
    study.budgets, study.seeds = (16, 0), (0, 1)
    study.effects.score, study.effects.seeds = ("crows_pairs:FOLDER/pairs.csv",), (1,)
    return study
"""
WORDS = ("red", "blue", "green", "one", "two", "three", "cat", "dog", "runs", "sleeps")


@pytest.fixture
def command(tmp_path):
    line = lambda n: " ".join(WORDS[(n * k + k) % 10] for k in range(1, 9))  # noqa: E731
    (tmp_path / "text.txt").write_text("\n".join(line(n) for n in range(400)))
    records = ({"text": line(n), "label": "ab"[n % 2]} for n in range(64))
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    pairs = "\n".join(
        f"{n},the cat {w} runs,the dog {w} runs,stereo,age" for n, w in enumerate(WORDS)
    )
    (tmp_path / "pairs.csv").write_text(
        f",sent_more,sent_less,stereo_antistereo,bias_type\n{pairs}\n"
    )
    (tmp_path / "study.py").write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return [
        sys.executable, "-W", "ignore", "-m", "train.study.main", f"--config={tmp_path}/study.py",
        f"--workdir={tmp_path}/runs/study", "--jobs=2",
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_and_continued_by_two_processes(command, tmp_path):
    workdir = tmp_path / "runs" / "study"
    first = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(list(workdir.glob("runs/*/record.json"))) < 4:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait(60) == 130
    before = {p: p.read_text() for p in tmp_path.glob("runs/*/*/record.json")}
    assert 4 <= len([p for p in workdir.glob("runs/*/record.json")]) < 16
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    records = results.read(workdir / "results.jsonl")
    assert [r["stage"] for r in records].count("finetune") == 16
    assert {r["stage"]: r["status"] for r in records if not r["arm"]} == {
        "pretrain": "done", "adapt": "done",
    }  # fmt: skip
    assert len({r["key"] for r in records}) == 18
    assert {r["status"] for r in records} == {"done"}
    for path, text in before.items():
        assert path.read_text() == text  # nothing that was there was done again
    for record in records:
        tuned = record["arm"] not in ("", "scratch")
        assert ("forgetting" in record) == tuned
        assert ("scores" in record) == (tuned and record["seed"] == 1)
        assert set(record.get("correct", "0")) <= {"0", "1"}
        assert (
            not record["arm"] or not (workdir / "runs" / record["folder"] / "checkpoints").exists()
        )
    lora = next(r for r in records if r["arm"] == "lora")
    assert lora["num_trained"] < 0.5 * lora["num_params"]
    assert abs(lora["forgetting"]["before"] - records[0]["eval"]["eval/loss"]) < 1e-9
    assert (workdir / "report.html").exists()
    assert (workdir / "report.md").exists()
