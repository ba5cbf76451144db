"""A finished study whose runs never ran: folders and records by a rule."""

import json

import numpy as np

from configs import bert, finetune_classification, gpt
from configs.studies import base
from train.study import plan, report, results, summary

FAMILIES = ("bert", "gpt", "roberta", "xlnet", "t5")
ARMS = {
    "full": base.arm("full"),
    "scratch": base.scratch(),
    "lora": base.arm("LoRA", regime="lora"),
    "cont": base.arm("continued + full", stages=("pretrain", "adapt", "finetune")),
    "head": base.arm("head <only> & | `more`", regime="head_only"),
    "bias": base.arm("BitFit", regime="bias_only"),
}
LINEAGE = {
    "revision": "abc", "config_hash": "c0ffee", "data": "d" * 64, "tokenizer": "e" * 64,
    "device": "cpu", "versions": {"jax": "1"}, "command": ["pretune", "a <b>"],
}  # fmt: skip


def study(families=2, arms=4, budgets=(64, 0), seeds=(0, 1, 2)):
    """The first so many families and arms; expectations, accelerators and all."""
    stages = {}
    for index, name in enumerate(FAMILIES[:families]):
        module = (bert, gpt)[index % 2]
        pretrain = module.get_config("size=tiny")
        finetune = finetune_classification.get_config()
        finetune.data.source = "tfds:pydocs/area"
        stages[name] = {"pretrain": pretrain, "adapt": pretrain.copy_and_resolve_references(),
                        "finetune": finetune}  # fmt: skip
    own = {name: arm.copy_and_resolve_references() for name, arm in list(ARMS.items())[:arms]}
    c = base.get_config(stages, own)
    c.title, c.budgets, c.seeds, c.resamples = "A <b> & c", budgets, seeds, 500
    c.published.expected = (("full", "scratch"),)
    if arms > 2:
        c.published.source = "Nobody et al. <2026>"
        c.published.columns, c.published.rows = ("acc",), (("full", 80.25), ("scratch", 70.5))
    return c


def records(study, workdir, failing=(), curve=4, scored=True, measured=True):
    """A record for each run, with its curves in its folder.

    Args:
      study: of `study`.
      workdir: its folder.
      failing: parts of folders' names of runs that fail.
      curve: lines of metrics.jsonl.
      scored: before and after, on a task of bias.
      measured: forgetting.
    """
    rng = np.random.default_rng(0)
    found = []
    for run in plan.make(study, workdir):
        record = {
            "key": run.key, "stage": run.stage, "family": run.family, "arm": run.arm,
            "budget": run.budget, "seed": run.seed, "folder": run.folder.name,
            "before": [r.key for r in run.before], "started": "2026-01-01T00:00:00+00:00",
            "finished": "2026-01-01T00:01:00+00:00", "wall_seconds": 12.5,
        }  # fmt: skip
        found.append(record)
        if any(part in run.folder.name for part in failing):
            record |= {"status": "failed", "error": "Diverged: NaN <3> | `x`"}
            continue
        arm = list(study.arms).index(run.arm) if run.last else 0
        budget = list(study.budgets).index(run.budget) if run.last else 0
        final = 0.45 + 0.12 * budget - 0.04 * arm + 0.03 * rng.standard_normal()
        write_curve(run, final, curve, study.metric)
        record |= {
            "status": "done", "steps": 100, "tokens": 51200, "flops": 1e12 * (2 - 0.2 * arm),
            "num_params": 1000, "num_trained": 1000 - 100 * arm, "peak_bytes": 2**25 + arm,
            "seconds": 10.0 + arm + rng.random(), "compile_seconds": 2.0, "effects_seconds": 1.0,
            "eval": {study.metric: final, "eval/loss": 1.0, "eval/matthews": float("nan")},
            "sources": [["a.txt", 3]], "lineage": LINEAGE | {"seed": run.seed},
        }  # fmt: skip
        if run.last:
            record |= {"metric": study.metric, "value": final, "majority": 0.3}
            if run.before and measured:
                record["forgetting"] = {"before": 2.0, "after": 2.1 + 0.1 * rng.random()}
            if run.before and scored:
                estimates = {"before": (60.0, 4.0), "after": (63.0, 4.0), "difference": (3.0, 2.0)}
                named = {
                    name: {"n": 50, "value": value + run.seed, "standard_error": error}
                    for name, (value, error) in estimates.items()
                }
                record["scores"] = [
                    {"task": "crows_pairs", "metric": "stereotype preferred", "unit": "%", **named}
                ]
    return found


def write_curve(run, final, lines, metric):
    """metrics.jsonl of a run."""
    run.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(1, lines + 1):
        step = 100 * index // lines
        rows.append({"step": step, "train/loss": 2 - index / lines, "train/seconds_per_step": 0.1})
        if run.last:
            rows.append({"step": step, metric: final * index / lines})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.folder / "metrics.jsonl").write_text(text)


def write(study, found, workdir):
    """results.jsonl and the report; returns the summary."""
    workdir.mkdir(parents=True, exist_ok=True)
    results.write(workdir / "results.jsonl", found)
    figures = summary.summarise(study, found)
    report.write(study, figures, plan.make(study, workdir), found, workdir)
    return figures
