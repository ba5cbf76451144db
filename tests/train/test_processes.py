"""Two real processes on this machine give what one gives."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(workdir, corpus, *more):
    """``python -m train.main`` with one device a process."""
    flags = [
        f"--config={ROOT}/configs/gpt.py:size=shakespeare_char_cpu",
        f"--config.data.source={corpus}", f"--workdir={workdir}", "--config.steps=6",
        "--config.model.num_layers=1", "--config.model.width=16", "--config.model.num_heads=2",
        "--config.model.mlp_width=32", "--config.model.max_length=16", "--config.length=16",
        "--config.batch_size=8", "--config.compilation_cache=", "--config.logging.every=1",
        "--config.logging.tensorboard=False", "--config.evaluation.every=3",
        "--config.evaluation.max_rows=12", "--config.checkpoint.every=3", *more,
    ]  # fmt: skip
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "train.main", *flags],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(processes):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(tmp_path, corpus, lines):
    one, two = tmp_path / "one", tmp_path / "two"
    finish([start(one, corpus)])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=localhost:{port}", "--num_processes=2"]
    finish([start(two, corpus, *together, f"--process_id={index}") for index in range(2)])
    expected, got = lines(one), lines(two)
    assert [row["step"] for row in got] == [row["step"] for row in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    names = {p.name for p in (two / "checkpoints").iterdir()}
    assert {"00000003", "00000006", "00000006.sha256.json"} <= names
