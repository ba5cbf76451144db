"""What the runs of a study took, and would cost elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from train.study import plan
from train.study.plan import Run
from train.study.results import Record, read_curve


@dataclass(frozen=True)
class Cost:
    """What one run of an arm takes on average, at one label budget (or a shared stage: no budget).

    Attributes:
      name: of the arm, or of the stage (train/study/plan.py: kind).
      runs: how many finished.
      num_params, num_trained: numbers in the model, and those that train.
      flops: of training, counted in the program (train/flops.py).
      peak_bytes: of a training step on one device, as the compiler plans it.
      seconds: of the loop, evaluation and compilation included.
      compile_share: of the wall time of these runs, in all that they did.
      before_flops, before_seconds: of the stages before, each counted in full.
    """

    family: str
    name: str
    budget: int | None
    runs: int
    num_params: int
    num_trained: int
    steps: float
    tokens: float
    flops: float
    peak_bytes: int
    seconds: float
    compile_share: float
    before_flops: float
    before_seconds: float

    def dollars(self, peak: float, price: float, utilisation: float) -> float:
        """Of this and the stages before, on an accelerator of `peak` FLOP/s at `price` an hour."""
        return (self.flops + self.before_flops) / (peak * utilisation) / 3600 * price


def costs(study: ConfigDict, runs: Sequence[Run], records: Sequence[Record]) -> list[Cost]:
    """A Cost for each config of a shared stage, then for each family, budget and arm.

    Runs that differ in their seed alone count together; those that have no finished run: not.
    """
    done = {r["key"]: r for r in records if r["status"] == "done"}
    kinds: dict[tuple[str, str, int | None, str], list[Record]] = {}
    for run in sorted(runs, key=lambda run: run.last):
        at = run.family, plan.kind(study, run), run.budget, run.arm
        rows = kinds.setdefault(at, [])
        if run.key in done:
            rows.append(done[run.key])
    return [cost(*at[:3], rows, done) for at, rows in kinds.items() if rows]


def cost(
    family: str, name: str, budget: int | None, rows: list[Record], done: dict[str, Record]
) -> Cost:
    """The means of some finished runs of one kind."""

    def mean(key: str) -> float:
        return float(np.mean([r[key] for r in rows]))

    def before(key: str) -> float:
        return float(np.mean([sum(done[k][key] for k in r["before"] if k in done) for r in rows]))

    first = rows[0]
    return Cost(
        family, name, budget, len(rows), first["num_params"], first["num_trained"],
        mean("steps"), mean("tokens"), mean("flops"), max(r["peak_bytes"] for r in rows),
        mean("seconds"), mean("compile_seconds") / mean("wall_seconds"),
        before("flops"), before("seconds"),
    )  # fmt: skip


@dataclass(frozen=True)
class Total:
    """Sums over all finished runs: wall time, and the shares of it that are not training."""

    runs: int
    wall_seconds: float
    compile_seconds: float
    effects_seconds: float
    flops: float


def total(records: Sequence[Record]) -> Total:
    """What the whole study took (a stage that an earlier study has done counts as well)."""
    done = [r for r in records if r["status"] == "done"]
    keys = ("wall_seconds", "compile_seconds", "effects_seconds", "flops")
    return Total(len(done), *(float(sum(r[key] for r in done)) for key in keys))


@dataclass(frozen=True)
class Reach:
    """How soon an arm reaches the other's final quality, both at one budget.

    Attributes:
      target: the other arm's mean at its last step.
      seconds: of training, on average over seeds, at the first evaluation where this arm's mean is
        as good; None where it is not reached.
      other_seconds: until the other arm's last step.
    """

    family: str
    budget: int
    arms: tuple[str, str]
    target: float
    seconds: float | None
    other_seconds: float


def reaches(study: ConfigDict, runs: Sequence[Run], metric: str, higher: bool) -> list[Reach]:
    """For each comparison, how soon its first arm reaches the second's quality.

    Args:
      study: the study.
      runs: those that are done.
      metric: of the study.
      higher: whether more of it is better.
    """
    curves = timed_curves(runs, metric)
    found = []
    for family in study.families:
        for budget in study.budgets:
            for pair in plan.comparisons(study):
                both = [curves.get((family, arm, budget)) for arm in pair]
                if not all(both):
                    continue
                (seconds, values), (other_seconds, other) = map(mean_curve, both)
                if not len(values) or not len(other):
                    continue
                target = other[-1]
                enough = values >= target if higher else values <= target
                first = float(seconds[np.argmax(enough)]) if enough.any() else None
                found.append(
                    Reach(family, budget, pair, float(target), first, float(other_seconds[-1]))
                )
    return found


@dataclass(frozen=True)
class Timed:
    """What a run measured while it trained.

    Attributes:
      pace: seconds of a step of training, without evaluation and compilation.
      values: of the metric, by step.
    """

    pace: float
    values: dict[int, float]


def timed_curves(runs: Sequence[Run], name: str) -> dict[tuple[str, str, int], list[Timed]]:
    """The curves of a metric in the last stage, of the runs of each family, arm and budget."""
    curves: dict[tuple[str, str, int], list[Timed]] = {}
    for run in runs:
        steps, values = read_curve(run.folder, name)
        _, pace = read_curve(run.folder, "train/seconds_per_step")
        if run.last and pace and steps:
            timed = Timed(float(np.median(pace)), dict(zip(steps, values, strict=True)))
            curves.setdefault((run.family, run.arm, run.budget), []).append(timed)
    return curves


def mean_curve(curves: list[Timed]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and the mean over seeds, at the evaluations that all have (there may be none)."""
    steps = sorted(set.intersection(*(set(one.values) for one in curves)))
    seconds = np.mean([one.pace for one in curves]) * np.asarray(steps, np.float64)
    return seconds, np.mean([[one.values[step] for step in steps] for one in curves], axis=0)
