"""``pretune study --plan``: what a study will take, before anything is trained.

FLOPs are counted in the traced step of every kind of run; seconds follow from them by the speed of
a short probe of each family on this device (a few steps of its first stage, compiled). What is not
in the estimate: reading data, evaluation, side effects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from train.study import costs, equal, plan
from train.study.plan import Run
from train.study.wording import clock


@dataclass(frozen=True)
class Estimate:
    """The runs of one kind together.

    Attributes:
      runs: how many; `missing` of them have no record yet.
      steps: of each kind of run, from the smallest budget to the largest.
      flops: of all.
      seconds: of those that are missing, by the family's probe.
      disk: bytes that stay.
    """

    family: str
    name: str
    runs: int
    missing: int
    steps: tuple[int, ...]
    flops: float
    seconds: float
    disk: int


def estimates(study: ConfigDict, runs: Sequence[Run], done: set[str]) -> list[Estimate]:
    """One Estimate for each family's arms and configs of stages, in the plan's order."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault((run.family, plan.kind(study, run)), []).append(run)
    firsts = {run.family: (*run.before, run)[0].config for run in reversed(runs)}
    probes = {family: costs.probe(config) for family, config in firsts.items()}
    found = []
    for (family, name), some in kinds.items():
        probe = probes[family]
        flops = [run.config.steps * costs.flops(run.config) for run in some]
        missing = sum(f for f, run in zip(flops, some, strict=True) if run.key not in done)
        count = sum(run.key not in done for run in some)
        seconds = missing * probe.seconds / probe.flops
        seconds += probe.compile_seconds if count else 0.0  # once for all runs of a kind
        found.append(
            Estimate(
                family, name, len(some), count,
                tuple(sorted({run.config.steps for run in some})),
                float(sum(flops)), seconds, sum(map(disk, some)) if stays(study, some[0]) else 0,
            )
        )  # fmt: skip
    return found


def stays(study: ConfigDict, run: Run) -> bool:
    """Whether the run's checkpoints are kept."""
    return not run.last or study.keep


def disk(run: Run) -> int:
    """Bytes of the checkpoints that a run leaves: its newest ones, and the best."""
    program = costs.program(run.config)
    state = jax.eval_shape(program.init, jax.random.key(0))
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf.dtype, "itemsize")]
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return size * (run.config.checkpoint.keep + 1)


def show(study: ConfigDict, runs: Sequence[Run], done: set[str], console: Console) -> None:
    """Prints the plan."""
    found = estimates(study, runs, done)
    table = Table(title=f"{study.title} (plan)", title_justify="left")
    for name in ("family", "runs of"):
        table.add_column(name, no_wrap=True)
    for name in ("runs", "missing", "steps", "training FLOPs", "time", "disk"):
        table.add_column(name, justify="right")
    for one in found:
        steps = f"{one.steps[0]:,}" + (f"–{one.steps[-1]:,}" if len(one.steps) > 1 else "")
        table.add_row(
            one.family, one.name, str(one.runs), str(one.missing), steps, f"{one.flops:.3g}",
            clock(one.seconds), f"{one.disk / 2**20:,.0f} MiB" if one.disk else "–",
        )  # fmt: skip
    console.print(table)
    together = [sum(getattr(e, name) for e in found) for name in ("runs", "missing", "seconds")]
    count, missing, seconds = together
    console.print(
        f"{count} runs, {missing} of them missing: {sum(e.flops for e in found):.3g} training FLOPs"
        f" in all, about {clock(seconds)} of training and compiling on this "
        f"{jax.devices()[0].device_kind} (data, evaluation and side effects come on top), "
        f"{sum(e.disk for e in found) / 2**20:,.0f} MiB of checkpoints.",
        highlight=False,
    )  # fmt: skip
    console.print(equal.shown(study), highlight=False)
    if any(run.config.epochs for run in runs):
        console.print("Runs that count epochs are planned by their config's steps.")
