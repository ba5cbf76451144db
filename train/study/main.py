"""``pretune study``: many runs, their statistics and a report.

pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart
pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart --plan

--plan says how many runs there are, what they cost, how long they take here and what they leave on
disk, and trains nothing. Runs that are done are not done again: the same command continues a study
that was stopped, and is quick on a finished one. Started several times, also on several machines
that share the folder, the processes divide the runs among them; --jobs=2 starts two, each with its
share of the processor's cores. Exit code 1: some runs failed (the report says which).
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from train.cli import command, define_config


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    define_config(values, argv)
    own = {"flag_values": values}
    flags.DEFINE_string("workdir", None, "folder of the study", **own)
    flags.DEFINE_bool("plan", False, "say what it will take, and train nothing", **own)
    flags.DEFINE_integer("jobs", 1, "processes that share the runs", 1, **own)
    for name in ("config", "workdir"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues) -> int:
    from rich.console import Console

    from train import loop
    from train.study import estimate, plan, runner, summary
    from train.study.live import Progress

    console, workdir, study = Console(), Path(values.workdir), values.config
    plan.check(study)
    helpers = [] if values.plan else _helpers(values.jobs)  # before the device is asked for
    runs = plan.make(study, workdir)
    if values.plan:
        estimate.show(study, runs, runner.done(runs, workdir), console)
        return 0
    scale, _ = summary.scale_of(study.metric)
    try:
        with Progress(study, runs, console, scale) as progress:
            records = runner.run_study(study, workdir, runs, loop.run, progress)
    except KeyboardInterrupt:
        console.print("The same command goes on from here.")
        raise
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()
    from train.study import report  # draws: slow to import

    figures = summary.summarise(study, records)
    report.write(study, figures, runs, records, workdir)
    report.show(study, figures, runs, records, workdir, console)
    return 1 if figures.failed else 0


def _helpers(jobs: int) -> list[subprocess.Popen]:
    """Starts the other processes of --jobs and gives each, and this one, its share of the cores."""
    if jobs == 1:
        return []
    cores = sorted(os.sched_getaffinity(0))
    shares = [cores[index::jobs] or cores for index in range(jobs)]
    arguments = [arg for arg in sys.argv[1:] if arg != "study"]
    call = [sys.executable, "-m", "train.study.main", *arguments, "--jobs=1"]
    found = []
    for share in shares[1:]:
        os.sched_setaffinity(0, share)  # which the child inherits
        found.append(subprocess.Popen(call, stdout=subprocess.DEVNULL))
    os.sched_setaffinity(0, shares[0])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a study; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
