"""A tiny corpus and the config of a run on it that takes seconds."""

import json

import numpy as np
import pytest

TIMINGS = ("seconds", "per_second", "per_step", "utilisation")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A text of short words with a rule in it, so that there is something to learn."""
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "and"]
    lines = [" ".join(rng.choice(words, 8)) + "." for _ in range(200)]
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def run_config(tiny, corpus):
    """``run_config(family="gpt", {...}) -> config`` of 12 steps on characters."""

    def make(family="gpt", changes=None):
        return tiny(
            family,
            {
                "data.source": str(corpus),
                "tokenizer.kind": "char" if family == "gpt" else "wordpiece",
                "tokenizer.vocab_size": 60,
                "model.vocab_size": 0,
                "model.num_layers": 1,
                "model.dropout": 0.1,
                "steps": 12,
                "optimizer.warmup_steps": 2,
                "evaluation.every": 4,
                "evaluation.max_rows": 16,
                "checkpoint.every": 4,
                "logging.every": 2,
                "logging.tensorboard": False,
                **(changes or {}),
            },
        )

    return make


@pytest.fixture(scope="session")
def lines():
    """``lines(workdir)``: metrics.jsonl as dicts, without what depends on the clock."""

    def read(workdir):
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if not k.endswith(TIMINGS)} for row in rows]

    return read
