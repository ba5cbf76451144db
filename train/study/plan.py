"""The runs of a study: which they are, what config each has, where each lives.

A run goes through its arm's stages. Each stage is named by the hash of its config and of the stage
before it, so a pre-training that several arms or families, or a later study, ask for in the same
words is one run, in one folder of the store. The runs of one family, budget and seed differ in
nothing but the arm: same labelled examples, tokenizer, order and architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ml_collections import ConfigDict

from configs import regimes
from model.api import architecture
from train.errors import UserError
from train.study import checks, equal
from train.study.results import config_hash
from train.workdir import read_config


@dataclass(frozen=True)
class Run:
    """One training run: a stage that others build on, or (with an arm and a budget) a last one.

    Attributes:
      stage: its name in the family.
      family: likewise in the study; of a run that several share, the first.
      arm: whose run it is; "" for a stage that arms share.
      budget: labelled examples; None where `arm` is "".
      seed: of the run.
      config: complete but for what `train.setup.complete` takes from `init_from`.
      key: hash of what decides its results.
      folder: where it lives.
      before: the stages that it went through, first to last.
      needs: the run whose tokenizer (and, where it is in `before`, parameters) it takes.
      builders: family and arm of the last runs that have it in `before`.
    """

    stage: str
    family: str
    arm: str
    budget: int | None
    seed: int
    config: ConfigDict
    key: str
    folder: Path
    before: "tuple[Run, ...]"
    needs: "Run | None"
    builders: tuple[tuple[str, str], ...] = ()

    @property
    def last(self) -> bool:
        """Whether it is what the study measures."""
        return bool(self.arm)


def budget_name(budget: int) -> str:
    """The number of labels with thousands separated; "all" for 0."""
    return f"{budget:,}" if budget else "all"


def kind(study: ConfigDict, run: Run) -> str:
    """What a run is a run of, for people: an arm, or a stage that arms share.

    Runs of a family are of one kind where they differ in nothing but labels and seed: a stage that
    not all arms share names those that do ("pretrain of no NSP"), and other families that do.
    """
    if run.last:
        return study.arm[run.arm].label
    arms = [arm for family, arm in run.builders if family == run.family]
    having = [arm for arm in study.arms if run.stage in study.arm[arm].stages[:-1]]
    of = f" of {listed([study.arm[arm].label for arm in arms])}" if arms != having else ""
    others = dict.fromkeys(family for family, _ in run.builders if family != run.family)
    return run.stage + of + (f" (also for {listed(list(others))})" if others else "")


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def title(study: ConfigDict, run: Run) -> str:
    """What a run is, for people."""
    parts = [run.family, kind(study, run)]
    if run.last:
        parts += [f"{budget_name(run.budget)} labels", f"seed {run.seed}"]
    else:
        parts += [f"seed {one.seed}" for one in (*run.before, run) if anew(study, one)][:1]
    return ", ".join(parts)


def anew(study: ConfigDict, run: Run) -> bool:
    """Whether the run's stage is one that is done anew for each seed."""
    return run.stage in study.seeded


def comparisons(study: ConfigDict) -> list[tuple[str, str]]:
    """The pairs of arms that are compared: those asked for of the arms that run."""
    there = list(study.arms)
    asked = [tuple(pair) for pair in study.comparisons]
    asked = asked or [(there[0], other) for other in there[1:]]
    return [pair for pair in asked if set(pair) <= set(there)]


def store(study: ConfigDict, workdir: Path) -> Path:
    """Where the stages before the last are kept."""
    return Path(study.store) if study.store else workdir.parent / "store"


def make(study: ConfigDict, workdir: Path) -> list[Run]:
    """All runs in an order in which each follows what it needs.

    Folders are named by hashes in which neither the study's folder nor the store counts: both may
    move, and a changed config gets new runs beside the old ones. A path that a config itself names
    (data.source, init_from) counts as text.

    Raises:
      UserError, ConfigError: the grid is empty, repeats itself or asks the impossible.
    """
    checks.check(study)
    grid = [
        (family, arm, budget, seed)
        for family in study.families
        for budget in study.budgets
        for seed in study.seeds
        for arm in study.arms
    ]
    steps = {}
    if study.equal.stages:
        steps = equal.steps(study, workdir, lambda *cell: stages(study, *cell))
    return merged([chain(study, workdir, cell, steps) for cell in grid])


def merged(chains: Sequence[Sequence[Run]]) -> list[Run]:
    """The runs of all chains, each once, in order: what is the same in two chains is one run."""
    builders: dict[str, dict[tuple[str, str], None]] = {}
    for *_, last in chains:
        for run in last.before:
            builders.setdefault(run.key, {})[last.family, last.arm] = None
    runs: dict[str, Run] = {}
    for run in (run for one in chains for run in one):
        if run.key not in runs:
            before = tuple(runs[earlier.key] for earlier in run.before)
            needs = run.needs and runs[run.needs.key]
            by = tuple(builders.get(run.key, ()))
            runs[run.key] = replace(run, before=before, needs=needs, builders=by)
    return list(runs.values())


def stages(
    study: ConfigDict, family: str, arm: str, budget: int, seed: int
) -> list[tuple[str, ConfigDict]]:
    """The configs of a run's stages, without what one takes from another."""
    found = []
    spec = study.arm[arm]
    for stage in spec.stages:
        config = study.family[family][stage].copy_and_resolve_references()
        last = stage == spec.stages[-1]
        if last and not config.model.family and config.init_from:
            theirs = read_config(Path(config.init_from)).model
            config.model.update(architecture(theirs))
            config.model.vocab_size = theirs.vocab_size
        elif last and not config.model.family:
            first = first_config(study, family, arm)
            config.model.update(architecture(first.model))
            config.tokenizer.update(first.tokenizer)
        if last:
            with config.unlocked():
                regimes.apply(config, spec.regime, spec.layers)
            config.data.budget = budget
            if study.budget_steps:
                config.steps = study.budget_steps[list(study.budgets).index(budget)]
                config.epochs = 0  # which would decide the steps
        change(config, spec, arm, stage)
        if last or stage in study.seeded:
            config.seed = seed
        found.append((stage, config))
    return found


def change(config: ConfigDict, spec: ConfigDict, arm: str, stage: str) -> None:
    """Sets what the arm changes in this stage."""
    if stage in spec.changes:
        try:
            config.update(spec.changes[stage])
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            reason = str(error).strip("\"'").splitlines()[0]
            raise UserError(
                f"config.arm.{arm}.changes.{stage} does not fit the config ({reason}); name keys "
                "of configs/base.py, with values of their type."
            ) from error


def first_config(study: ConfigDict, family: str, arm: str) -> ConfigDict:
    """The config of the first stage of this arm; for scratch, of the first arm that has several."""
    longer = [name for name in (arm, *study.arms, *study.arm) if len(study.arm[name].stages) > 1]
    if not longer:
        raise UserError(
            f"config.family.{family} leaves its model's family empty and no arm has a stage "
            "before the last; name the family and its sizes there, or a run in init_from."
        )
    spec = study.arm[longer[0]]
    config = study.family[family][spec.stages[0]].copy_and_resolve_references()
    change(config, spec, longer[0], spec.stages[0])
    return config


def chain(
    study: ConfigDict, workdir: Path, cell: tuple[str, str, int, int], steps: dict
) -> list[Run]:
    """The stages of one cell of the grid as runs, the last one last."""
    family, arm, budget, seed = cell
    runs: list[Run] = []
    for stage, config in stages(study, *cell):
        last = stage == study.arm[arm].stages[-1]
        needs = runs[-1] if runs else (lender(study, workdir, cell, steps) if last else None)
        config.steps = steps.get((family, arm, budget if last else None, stage), config.steps)
        key = config_hash(needs.key if needs else "", f"{family} {arm}" if last else "", config)
        where = store(study, workdir)
        config.data.cache_dir = config.data.cache_dir or str(where / "cache")
        if needs:
            config.tokenizer.path = str(needs.folder / "tokenizer")
        if runs:
            config.init_from = str(needs.folder)
        if last:
            name = f"{family}-{arm}-{budget or 'all'}-seed{seed}-{key[:8]}"
            folder, place = workdir / "runs" / name, (arm, budget)
        else:
            folder, place = where / store_name(config, key), ("", None)
        runs.append(
            Run(stage, family, *place, config.seed, config, key, folder, tuple(runs), needs)
        )
    if len(runs) == 1 and runs[0].needs:
        return [runs[0].needs, *runs]
    return runs


def store_name(config: ConfigDict, key: str) -> str:
    """The folder of a stage in the store: by its config alone, whatever a study calls it."""
    return "-".join(filter(None, (config.model.family, config.objective.name, key[:12])))


def lender(
    study: ConfigDict, workdir: Path, cell: tuple[str, str, int, int], steps: dict
) -> Run | None:
    """The pre-training whose tokenizer a run from scratch takes: the first arm's that has one."""
    family, _, budget, seed = cell
    for other in study.arms:
        if len(study.arm[other].stages) > 1:
            return chain(study, workdir, (family, other, budget, seed), steps)[0]
    return None
