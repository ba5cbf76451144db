"""A stand-in for the training loop, and a small study for it."""

import json
from pathlib import Path

import numpy as np

from configs.studies import base, quickstart

GAIN = {64: 0.1, 256: 0.05, 0: 0.0}


def small_study(**arms):
    """BERT, pre-trained and from scratch (and other arms), three budgets, three seeds."""
    stages = {"pretrain": quickstart.pretraining(), "finetune": quickstart.finetuning()}
    arms = {"pretrained": base.arm("pre-trained"), "scratch": base.scratch(), **arms}
    study = base.get_config({"bert": stages}, arms)
    study.resamples, study.seeds = 2000, (0, 1, 2)
    study.effects.forgetting = False
    return study


class FakeLoop:
    """Accuracies by a rule: base by budget, a gain for what was pre-trained, a wobble by seed."""

    def __init__(self, failing=(), examples=0):
        self.failing, self.examples, self.calls = dict(failing), examples, []

    def __call__(self, config, workdir, *, progress, force):
        assert force
        assert not progress
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        self.calls.append((folder.name, config))
        last = config.objective.name == "classification"
        for name, error in self.failing.items():
            if name in folder.name:
                raise error
        lineage = {"revision": "abc", "device": "cpu", "command": ["pretune", "a b"],
                   "versions": {"jax": "1"}, "summary": {}, "labels": []}  # fmt: skip
        (folder / "lineage.json").write_text(json.dumps(lineage))
        value = 0.5 + 0.01 * (config.seed % 3)
        if last:
            value += GAIN[config.data.budget] * bool(config.init_from)
        if self.examples and last:
            correct = np.arange(self.examples) < round(value * self.examples)
            np.savez(
                folder / "predictions.npz", correct=correct, labels=np.arange(self.examples) % 3
            )
        rows = [
            {"step": s, "train/loss": 2 - s / 100, "train/seconds_per_step": 0.1,
             "eval/accuracy": value * s / 100}
            for s in (50, 100)
        ]  # fmt: skip
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "step": config.steps, "seconds": 10.0, "flops": 1e9,
            "tokens": 1000, "num_params": 100, "num_trained": 100, "peak_bytes": 2**20,
            "eval": {"eval/loss": 1.0, "eval/accuracy": value}, "stopped": False,
        }  # fmt: skip
