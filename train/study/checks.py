"""Whether a study asks for what can be done: all that is known before anything is trained."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs.base import choose
from train.errors import UserError
from train.study import costs, equal


def check(study: ConfigDict) -> None:
    """UserError (or ConfigError) if the study asks for what is not there or cannot be."""
    grid(study)
    comparisons(study)
    numbers(study)
    if not study.metric.startswith("eval/"):
        raise UserError(f"config.metric is {study.metric!r}: name one such as eval/accuracy.")
    equal.check(study)


def grid(study: ConfigDict) -> None:
    """Families, arms, their stages, budgets and seeds: each there, each once."""
    for name in ("families", "arms", "budgets", "seeds"):
        unique(f"config.{name}", study[name])
    for name in study.families:
        choose("family of this study", name, study.family)
    for name in study.arms:
        choose("arm of this study", name, study.arm)
    unique("the labels of config.arm", [study.arm[name].label for name in study.arms])
    for name in study.arms:
        for family in study.families:
            for stage in study.arm[name].stages:
                choose(f"stage of config.family.{family}", stage, study.family[family])
        unique(f"config.arm.{name}.stages", study.arm[name].stages)
    if min(study.budgets) < 0:
        raise UserError(f"config.budgets is {tuple(study.budgets)}: none may be negative (0: all).")
    if study.budget_steps and len(study.budget_steps) != len(study.budgets):
        raise UserError(
            f"config.budget_steps is {tuple(study.budget_steps)}, but there are "
            f"{len(study.budgets)} budgets; give one number for each, or ()."
        )
    stages = {stage for arm in study.arm.values() for stage in arm.stages[:-1]}
    for stage in study.seeded:
        choose("stage of config.seeded", stage, dict.fromkeys(sorted(stages)))
    if not set(study.effects.seeds) <= set(study.seeds):
        raise UserError(
            f"config.effects.seeds is {tuple(study.effects.seeds)}: name some of config.seeds, "
            f"{tuple(study.seeds)}, or () for all."
        )


def comparisons(study: ConfigDict) -> None:
    """What is compared is two different arms of the study, and not all of it is left out."""
    for pair in (*study.comparisons, *study.published.expected):
        if len(pair) != 2 or len(set(pair)) != 2:
            raise UserError(
                f"config.comparisons has {tuple(pair)}: each is of two different arms, as in "
                '(("full", "scratch"),).'
            )
        for name in pair:
            choose("arm of this study", name, study.arm)
    if study.comparisons and not any(set(pair) <= set(study.arms) for pair in study.comparisons):
        raise UserError(
            f"config.arms is {tuple(study.arms)}, which leaves out an arm of every one of "
            "config.comparisons; name others, or () for the first arm with each of the others."
        )


def numbers(study: ConfigDict) -> None:
    """Numbers with which nothing can be computed."""
    if study.resamples < 1:
        raise UserError(f"config.resamples is {study.resamples}: it must be at least 1.")
    if not 0 < study.utilisation <= 1:
        raise UserError(
            f"config.utilisation is {study.utilisation}: it is a share of the peak, above 0 and at "
            "most 1."
        )


def metric(study: ConfigDict, config: ConfigDict) -> None:
    """UserError if a last stage of this config does not measure the metric: its step is traced."""
    known = {f"eval/{name}" for name in costs.metrics(config)}
    if study.metric not in known and not config.data.eval_tasks:
        raise UserError(
            f"config.metric is {study.metric!r}, but the task measures {', '.join(sorted(known))}."
        )


def unique(name: str, values: Sequence[object]) -> None:
    """UserError if there is nothing, or something twice."""
    values = list(values)
    if not values or len(set(values)) < len(values):
        raise UserError(f"{name} is {tuple(values)}: give at least one, each once.")
