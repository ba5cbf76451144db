"""The command's table, JSON and --serve."""

import io
import json
import pathlib
import statistics

import pytest

from train import benchmark, cli, peak
from train.program import Compiled

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
            parts = {"num_trained": 3, "mesh": mesh, "model": model}
            self.program = type("Program", (), parts)
            self.config = type("Config", (), {"batch_size": 3, "length": 4})
            self.compiled = Compiled(None, flops=40, peak_bytes=2**20, seconds=1.0)

    seconds = [1.0, 2.0, 4.0, 8.0, 100.0]
    figures = Timer().figures(seconds, peak=10.0)
    assert figures["step_ms_median"] == 4000
    quarters = statistics.quantiles(seconds, n=4)
    assert figures["step_ms_quartiles"] == [1e3 * quarters[0], 1e3 * quarters[2]]
    assert figures["tokens_per_second"] == 3
    assert figures["model_flops_utilisation"] == (40 / 4) / (10 * 2)
