"""The runs of a study: which they are, what config each has, where each lives.

A study is a grid: label budgets x seeds x arms, after one pre-training. The runs of one budget and
seed differ in nothing but the arm: same data subset, tokenizer, order, steps and architecture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from configs.base import choose
from model.api import architecture
from train.errors import UserError
from train.study.results import config_hash


def pretrained(config: ConfigDict, pretraining: Path) -> None:
    """Starts from the backbone of the pre-training run."""
    config.init_from = str(pretraining)


def scratch(config: ConfigDict, pretraining: Path) -> None:
    """Starts from random parameters."""
    del pretraining
    config.init_from = ""


ARMS: dict[str, Callable[[ConfigDict, Path], None]] = {"pretrained": pretrained, "scratch": scratch}
LABELS = {"pretrained": "pre-trained", "scratch": "scratch"}


@dataclass(frozen=True)
class Run:
    """One training run; `arm`, `budget` and `seed` are None, None and its own for pre-training."""

    role: str  # pretrain | finetune
    arm: str | None
    budget: int | None
    seed: int
    config: ConfigDict
    config_hash: str
    folder: Path

    @property
    def title(self) -> str:
        """What the run is, for people."""
        if self.role == "pretrain":
            return "pre-training"
        return f"{LABELS[self.arm]}, {budget_name(self.budget)} labels, seed {self.seed}"


def budget_name(budget: int) -> str:
    """The number of labels with thousands separated; "all" for 0."""
    return f"{budget:,}" if budget else "all"


def make(study: ConfigDict, workdir: Path) -> tuple[Run, list[Run]]:
    """The pre-training run and the fine-tuning runs, in the order in which they are run.

    Folders are named by the hash of the config, which names no path: a study moves with its
    workdir, and a changed config gets new runs beside the old ones.
    """
    check(study)
    pretrain = resolved(study.pretrain)
    key = config_hash(pretrain)
    base = Run(
        "pretrain", None, None, pretrain.seed, pretrain, key, workdir / f"pretrain-{key[:8]}"
    )
    use_cache(pretrain, workdir)
    runs = [
        finetuning(study, base, arm, budget, seed, workdir)
        for budget in study.budgets
        for seed in study.seeds
        for arm in study.arms
    ]
    return base, runs


def finetuning(
    study: ConfigDict, base: Run, arm: str, budget: int, seed: int, workdir: Path
) -> Run:
    """One cell's run: the study's fine-tuning config with the arm's start, the budget, the seed."""
    config = resolved(study.finetune)
    if not config.model.family:
        config.model.update(architecture(base.config.model))
    config.seed = seed
    config.data.budget = budget
    if study.budget_steps:
        config.steps = study.budget_steps[list(study.budgets).index(budget)]
    key = config_hash(base.config_hash, config, arm)
    config.tokenizer.path = str(base.folder / "tokenizer")
    use_cache(config, workdir)
    ARMS[arm](config, base.folder)
    folder = workdir / f"{arm}-{budget or 'all'}-seed{seed}-{key[:8]}"
    return Run("finetune", arm, budget, seed, config, key, folder)


def resolved(config: ConfigDict) -> ConfigDict:
    """A copy that shares nothing with the original, locked like it."""
    return config.copy_and_resolve_references()


def use_cache(config: ConfigDict, workdir: Path) -> None:
    """Tokenised text is shared by the runs of a study."""
    config.data.cache_dir = config.data.cache_dir or str(workdir / "cache")


def check(study: ConfigDict) -> None:
    """UserError (or ConfigError) if the grid is empty, repeats itself or asks the impossible."""
    for name in ("arms", "budgets", "seeds"):
        values = list(study[name])
        if not values or len(set(values)) < len(values):
            raise UserError(f"config.{name} is {tuple(values)}: give at least one, each once.")
    if min(study.budgets) < 0:
        raise UserError(f"config.budgets is {tuple(study.budgets)}: none may be negative (0: all).")
    if study.budget_steps and len(study.budget_steps) != len(study.budgets):
        raise UserError(
            f"config.budget_steps is {tuple(study.budget_steps)}, but there are "
            f"{len(study.budgets)} budgets; give one number for each, or ()."
        )
    for arm in study.arms:
        choose("arm of a study", arm, ARMS)
    if not study.metric.startswith("eval/"):
        raise UserError(f"config.metric is {study.metric!r}: name one such as eval/accuracy.")
