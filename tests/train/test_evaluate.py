"""`pretune evaluate`: the loss of a finished run, and what it is worth."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from train import baselines, cli
from train.loop import run


class Spelling:
    """A tokenizer of three pieces, one of which is special."""

    def decode(self, ids):
        return "".join(["", "é", "ab"][i] for i in ids)


BATCH = {
    "targets": np.array([[1, 2, 0], [2, 2, 1]], np.int32),
    "weights": np.array([[1, 1, 1], [1, 1, 0]], np.float32),
}


def test_counts_leave_out_what_has_no_weight():
    counts = baselines.count_targets([BATCH, BATCH], vocab_size=4)
    np.testing.assert_array_equal(counts, [2, 2, 6, 0])


def test_unigram_loss_by_hand():
    """Frequencies 3/8, 5/8 after one more of each; three of the first are predicted, one not."""
    loss = baselines.unigram_loss(np.array([2.0, 4.0]), np.array([3.0, 1.0]))
    assert loss == pytest.approx(-(3 * math.log(3 / 8) + math.log(5 / 8)) / 4)


def test_bits_per_byte_by_hand():
    """Five tokens at 2 nats spell é ab ab ab: eight bytes; the special one spells nothing."""
    bits = baselines.bits_per_byte(2.0, [BATCH], Spelling())
    assert bits == pytest.approx(5 * 2.0 / math.log(2) / 8)


@pytest.fixture(scope="module")
def trained(run_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "w"
    run(run_config(changes={"steps": 4, "evaluation.max_rows": 0}), workdir, progress=False)
    return workdir


def figures(workdir, tmp_path, *more):
    path = tmp_path / "figures.json"
    assert cli.main(["evaluate", f"--workdir={workdir}", f"--json={path}", *more]) == 0
    return json.loads(path.read_text())


def test_evaluates_as_training_did(trained, lines, tmp_path, capsys):
    before = sorted(path.name for path in trained.iterdir())
    found = figures(trained, tmp_path)
    logged = [row for row in lines(trained) if "eval/loss" in row][-1]
    assert found["eval/loss"] == pytest.approx(logged["eval/loss"], rel=1e-6)
    assert found["eval/accuracy"] == pytest.approx(logged["eval/accuracy"], rel=1e-6)
    # Characters of ASCII: a token is a byte.
    bits = found["eval/loss"] / math.log(2)
    assert found["eval/bits_per_byte"] == pytest.approx(bits, rel=1e-6)
    assert f"{found['eval/loss']:.4f}" in capsys.readouterr().out
    assert sorted(path.name for path in trained.iterdir()) == before


def test_another_text_against_the_frequencies_of_training(trained, corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("a mat and a cat " * 20)
    found = figures(trained, tmp_path, f"--source={other}", "--max_rows=0")
    counts = Counter(corpus.read_text())
    total = counts.total()
    text = other.read_text()
    want = -sum(math.log(counts[c] / total) for c in text) / len(text)
    assert found["eval/unigram_loss"] == pytest.approx(want, abs=0.02)


def test_classes_have_no_unigram(run_config, tmp_path):
    data = tmp_path / "train.tsv"
    data.write_text("text\tlabel\n" + "the cat sat\tyes\na dog ran\tno\n" * 20)
    changes = {
        "objective.name": "classification", "data.source": str(data), "steps": 1,
        "evaluation.metric": "eval/accuracy",
    }  # fmt: skip
    run(run_config("bert", changes), tmp_path / "w", progress=False)
    assert figures(tmp_path / "w", tmp_path).keys() == {
        "eval/accuracy", "eval/loss", "eval/f1", "eval/matthews"
    }  # fmt: skip


def test_refusals(trained, run_config, tmp_path, capsys):
    def sentence(*argv):
        assert cli.main(["evaluate", *argv]) == 2
        return capsys.readouterr().err

    assert "holds no run" in sentence(f"--workdir={tmp_path}/none")
    assert "none.txt" in sentence(f"--workdir={trained}", "--source=none.txt")
    run(run_config(changes={"steps": 1, "data.holdout": 0.0}), tmp_path / "w", progress=False)
    assert "--source" in sentence(f"--workdir={tmp_path}/w")
