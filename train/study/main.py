"""``pretune study``: many runs, their statistics and a report.

pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart
pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart --plan

--plan says how many runs there are, what they cost, how long they take here and what they leave on
disk, and trains nothing. Runs that are done are not done again: the same command continues a study
that was stopped, and is quick on a finished one. Started several times, also on several machines
that share the folder, the processes divide the runs among them; --jobs=2 starts two, each with its
share of the processor's cores. Exit code 1: some runs failed (the report says which).

Below are a study's own keys. Those of a stage (pretune train --help) are
--config.family.NAME.STAGE.KEY=VALUE, those of an arm --config.arm.NAME.KEY=VALUE.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from train.cli import command, define_config
from train.interrupts import Terminated


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    define_config(values, argv)
    own = {"flag_values": values}
    flags.DEFINE_string("workdir", None, "folder of the study", **own)
    flags.DEFINE_bool("plan", False, "say what it will take, and train nothing", **own)
    flags.DEFINE_integer("jobs", 1, "processes that share the runs", 1, **own)
    flags.DEFINE_bool("report", True, "write the report; --noreport: another process does", **own)
    for name in ("config", "workdir"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues, argv: Sequence[str]) -> int:
    from rich.console import Console

    from train.study import checks, estimate, plan, runner, summary
    from train.study.live import Progress

    console, workdir, study = Console(), Path(values.workdir), values.config
    checks.check(study)
    if values.plan:
        runs = plan.make(study, workdir)
        checks.metric(study, runs[-1].config)
        estimate.show(study, runs, runner.done(study, runs, workdir), console)
        return 0
    try:
        with _helpers(values.jobs, argv):  # before the device is asked for
            runs = plan.make(study, workdir)
            checks.metric(study, runs[-1].config)
            scale, _ = summary.scale_of(study.metric)
            with Progress(study, runs, console, scale) as progress:
                records = runner.run_study(study, workdir, runs, _train, progress)
    except KeyboardInterrupt:
        console.print("The same command goes on from here.")
        raise
    if not values.report:
        return int(any(record["status"] == "failed" for record in records))
    from train.study import report  # draws: slow to import

    figures = summary.summarise(study, records)
    report.write(study, figures, runs, records, workdir)
    report.show(study, figures, runs, records, workdir, console)
    return 1 if figures.failed else 0


def _train(*args: Any, **how: Any) -> dict[str, Any]:
    """train.loop.run, but SIGTERM, on which that returns, ends the study as it does elsewhere."""
    from train import loop

    outcome = loop.run(*args, **how)
    if outcome["stopped"] == signal.SIGTERM:
        raise Terminated
    return outcome


@contextlib.contextmanager
def _helpers(jobs: int, argv: Sequence[str]) -> Iterator[None]:
    """Within it, the other processes of --jobs work; each, and this one, on its share of the cores.

    Args:
      jobs: processes, this one included.
      argv: the arguments of this one.
    """
    cores = _cores()
    shares = [cores[index::jobs] or cores for index in range(jobs)]
    call = [sys.executable, "-m", "train.study.main", *argv, "--jobs=1", "--noreport"]
    started: list[subprocess.Popen] = []
    try:
        for share in shares[1:]:
            _pin(share)  # which the child inherits
            started.append(subprocess.Popen(call, stdout=subprocess.DEVNULL))
        _pin(shares[0])
        yield
    finally:
        for helper in started:
            helper.terminate()
        for helper in started:
            helper.wait()
        _pin(cores)


def _cores() -> list[int]:
    """The processor's cores that this process may use; none where they cannot be chosen (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(cores: Sequence[int]) -> None:
    """Keeps this process, and those that it starts, to these cores; none: to no particular ones."""
    if cores:
        os.sched_setaffinity(0, cores)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a study; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    run = lambda values: _run(values, given)  # noqa: E731
    return command(run, given, _define, __doc__, keys="configs.studies.base")


if __name__ == "__main__":
    sys.exit(main())
