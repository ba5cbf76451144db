"""What is held equal between the runs of a study, by way of their steps.

The reference is the first family's first arm that has the stage, with the steps of its config (at
each label budget, in the last stage). Every other run takes as many steps as cost the same: tokens,
training FLOPs (train/flops.py), or seconds by a probe on this device. With stages=("total",) the
last stage makes up for what earlier stages have cost, so that training from scratch gets what
pre-training and fine-tuning got together; there the reference is the first arm of each family, as
the steps of what it was pre-trained for are its own.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.base import choose
from train.errors import Busy, UserError
from train.study import costs
from train.workdir import locked, write_text

# Of one step of a config, for a study in this folder.
MEASURES: dict[str, Callable[[ConfigDict, Path], float]] = {
    "steps": lambda config, _: 1.0,
    "tokens": lambda config, _: float(config.batch_size * config.length),
    "flops": lambda config, _: float(costs.flops(config)),
    "seconds": lambda config, folder: probed(config, folder),
}
TOTAL = "total"
Cell = tuple[str, str, int | None, str]  # family, arm, budget (None before the last stage), stage


def check(study: ConfigDict) -> None:
    """UserError or ConfigError if it is not clear what is to be equal where."""
    choose("measure of config.equal.what", study.equal.what, MEASURES)
    known = {stage for arm in study.arm.values() for stage in arm.stages} | {TOTAL}
    for stage in study.equal.stages:
        choose("stage of config.equal.stages", stage, dict.fromkeys(sorted(known)))
    if TOTAL in study.equal.stages and len(study.equal.stages) > 1:
        raise UserError('config.equal.stages: "total" stands alone, for all stages together.')


def _check_fixed(config: ConfigDict, stage: str, family: str, arm: str) -> None:
    """UserError if how long a stage trains is known only when it runs."""
    lengths = {"epochs": config.epochs, "evaluation.patience": config.evaluation.patience}
    for key, asked in lengths.items():
        if asked:
            raise UserError(
                f"{key} is {asked} in stage {stage} of {family}, {arm}, but config.equal holds its "
                "cost equal by its steps: set it to 0, and `steps`."
            )


def probed(config: ConfigDict, folder: Path) -> float:
    """Seconds of a step, as first probed for this study: later sessions get the same steps."""
    path, key = folder / "probes.json", costs.shape(config)
    while True:
        try:
            with locked(folder, ".probe"):
                known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
                if key not in known:
                    known[key] = costs.probe(config).seconds
                    write_text(path, json.dumps(known, indent=1))
                return known[key]
        except Busy:
            time.sleep(0.5)


def steps(
    study: ConfigDict, workdir: Path, stages: Callable[..., list[tuple[str, ConfigDict]]]
) -> dict[Cell, int]:
    """The steps of each stage that differs from its config's.

    Args:
      study: the study.
      workdir: its folder.
      stages: ``stages(family, arm, budget, seed)``: names and configs of a run's stages.

    Raises:
      UserError: a run's earlier stages have cost more than the reference in all.
    """
    per_step = MEASURES[study.equal.what]
    measure = lambda config: per_step(config, workdir)  # noqa: E731
    asked = _total if TOTAL in study.equal.stages else _each
    found: dict[Cell, int] = {}
    for budget in study.budgets:
        reference: dict[str, float] = {}
        for family in study.families:
            reference.pop(TOTAL, None)
            for arm in study.arms:
                run = dict(stages(family, arm, budget, study.seeds[0]))
                last = list(run)[-1]
                for stage in run:
                    if stage in study.equal.stages or TOTAL in study.equal.stages:
                        _check_fixed(run[stage], stage, family, arm)
                for stage, cost in asked(study, run, measure, reference).items():
                    place = (family, arm, budget if stage == last else None, stage)
                    found[place] = _count(cost / measure(run[stage]), family, arm)
    return found


Measure = Callable[[ConfigDict], float]


def _each(
    study: ConfigDict, run: dict[str, ConfigDict], measure: Measure, reference: dict[str, float]
) -> dict[str, float]:
    """What each stage is to cost: what the first run that has it does."""
    return {
        stage: reference.setdefault(stage, run[stage].steps * measure(run[stage]))
        for stage in study.equal.stages
        if stage in run
    }


def _total(
    study: ConfigDict, run: dict[str, ConfigDict], measure: Measure, reference: dict[str, float]
) -> dict[str, float]:
    """What the last stage is to cost, for the whole run to cost what the first one does."""
    spent = {stage: config.steps * measure(config) for stage, config in run.items()}
    last, together = list(run)[-1], sum(spent.values())
    return {last: reference.setdefault(TOTAL, together) - together + spent[last]}


def _count(steps: float, family: str, arm: str) -> int:
    if steps < 1:
        raise UserError(
            f"config.equal leaves no step for the last stage of {family}, {arm}: what comes before "
            "costs more than the first arm in all; give the first arm more steps."
        )
    return round(steps)


def shown(study: ConfigDict) -> str:
    """One sentence on what is equal, for the report."""
    what: dict[str, Any] = {"flops": "training FLOPs", "seconds": "seconds (probed)"}
    if not study.equal.stages:
        return "Each run takes the steps of its config."
    where = " and ".join(study.equal.stages)
    return f"Held equal: {what.get(study.equal.what, study.equal.what)} of {where}."
