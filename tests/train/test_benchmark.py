"""Counted operations by hand; the command's table, JSON and --serve."""

import io
import json
import pathlib
import statistics

import pytest

from model.flops import forward_flops, training_flops
from model.heads import Heads
from train import benchmark, cli, peak

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_flops_of_gpt_by_hand(tiny):
    config = tiny("gpt").model  # 2 layers, width 16, feed-forward 32, vocabulary 32
    length = 8
    query_key_value = 2 * length * 16 * 48
    scores_and_sum = 2 * (2 * length * length * 16)
    out = 2 * length * 16 * 16
    feed_forward = 2 * (2 * length * 16 * 32)
    logits = 2 * length * 16 * 32
    expected = 2 * (query_key_value + scores_and_sum + out + feed_forward) + logits
    assert forward_flops(config, Heads(lm=True), length, length) == expected
    assert training_flops(config, Heads(lm=True), length, length) == 3 * expected


def test_flops_of_bert_heads_by_hand(tiny):
    config = tiny("bert").model
    trunk = forward_flops(config, Heads(), 8, 0)
    masked = forward_flops(config, Heads(lm=True, next_sentence=True), 8, 2)
    transform, logits, pooler, order = 2 * 2 * 16 * 16, 2 * 2 * 16 * 32, 2 * 16 * 16, 2 * 16 * 2
    assert masked - trunk == transform + logits + pooler + order
    assert forward_flops(config, Heads(num_labels=3), 8, 0) - trunk == pooler + 2 * 16 * 3


def test_flops_of_xlnet_by_hand(tiny):
    """Two streams of 8 and 2 queries, 8 + 4 keys, 20 distances, two segments; two layers."""
    config = tiny("xlnet", {"model.mem_len": 4}).model
    query_out, key_value = 2 * (2 * 10 * 16 * 16), 2 * (2 * 12 * 16 * 16)
    scores = 2 * 10 * 16 * (12 + 20 + 2)
    values = 2 * 10 * 12 * 16
    feed_forward = 2 * (2 * 10 * 16 * 32)
    layer = query_out + key_value + scores + values + feed_forward
    logits = 2 * 2 * 16 * 32
    assert forward_flops(config, Heads(lm=True, permuted=True), 8, 2) == 2 * layer + logits
    one_stream = 4 * (2 * 8 * 16 * 16) + 2 * 8 * 16 * (8 + 16 + 2 + 8) + 2 * (2 * 8 * 16 * 32)
    summary = 2 * 16 * 16 + 2 * 16 * 3
    assert forward_flops(config, Heads(num_labels=3), 8, 0) == 2 * one_stream + summary


@pytest.fixture
def arguments(monkeypatch):
    monkeypatch.setitem(peak.SIZE, "cpu", 128)
    return [
        "benchmark", f"--config={ROOT}/configs/gpt.py:size=shakespeare_char_cpu", "--steps=3",
        "--config.model.num_layers=1", "--config.model.width=16", "--config.model.num_heads=2",
        "--config.model.mlp_width=32", "--config.model.max_length=24", "--config.length=16",
        "--config.batch_size=8", "--config.mesh.data=1", "--config.compilation_cache=",
        "--config.model.vocab_size=32",
    ]  # fmt: skip


def test_command_prints_and_writes_json_and_serves(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("2\n\n3\n"))
    path = tmp_path / "figures.json"
    assert cli.main([*arguments, "--decode_tokens=3", f"--json={path}", "--serve"]) == 0
    out = capsys.readouterr().out.splitlines()
    figures = json.loads(path.read_text())
    assert [line.split()[0] for line in out[: len(figures)]] == list(figures)
    ready, *served = out[len(figures) :]
    assert ready == "ready"
    times = [json.loads(line) for line in served]
    assert [len(t) for t in times] == [2, 3]
    assert all(0 < second < 10 for t in times for second in t)

    projections = 2 * 16 * (4 * 16 * 16 + 2 * 16 * 32)
    forward = projections + 4 * 16 * 16 * 16 + 2 * 16 * 16 * 32
    assert figures["model_gflops_per_step"] == pytest.approx(8 * 3 * forward / 1e9)
    attention, feed_forward, norm = 4 * (16 * 16 + 16), 2 * 16 * 32 + 32 + 16, 2 * 16
    tables = 32 * 16 + 24 * 16
    assert figures["parameters"] == tables + attention + feed_forward + 3 * norm
    seconds = figures["step_ms_median"] / 1e3
    assert figures["tokens_per_second"] == pytest.approx(8 * 16 / seconds)
    achieved = figures["gflops_per_second"]
    assert achieved == pytest.approx(figures["model_gflops_per_step"] / seconds)
    assert figures["model_flops_utilisation"] == pytest.approx(
        achieved / figures["matrix_peak_gflops_per_second"]
    )
    low, high = figures["step_ms_quartiles"]
    assert low <= figures["step_ms_median"] <= high
    assert figures["compile_seconds"] > 0
    assert figures["peak_memory_mib"] > 0
    assert figures["decode_tokens_per_second_batch_8"] > 0


def test_figures_take_the_median_and_quartiles():
    class Timer(benchmark.StepTimer):
        def __init__(self):
            mesh = type("Mesh", (), {"size": 2})
            model = type("Model", (), {"num_params": 5})
            self.program = type("Program", (), {"flops_per_step": 40, "mesh": mesh, "model": model})
            self.config = type("Config", (), {"batch_size": 3, "length": 4})
            self.compile_seconds = 1.0

        def peak_bytes(self):
            return 2**20

    seconds = [1.0, 2.0, 4.0, 8.0, 100.0]
    figures = Timer().figures(seconds, peak=10.0)
    assert figures["step_ms_median"] == 4000
    quarters = statistics.quantiles(seconds, n=4)
    assert figures["step_ms_quartiles"] == [1e3 * quarters[0], 1e3 * quarters[2]]
    assert figures["tokens_per_second"] == 3
    assert figures["model_flops_utilisation"] == (40 / 4) / (10 * 2)
