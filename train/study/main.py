"""``pretune study``: many runs, their statistics and a report.

pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart

Runs that are in the workdir's results.jsonl are not done again: the same command continues a study
that was stopped, and is quick on a finished one. Exit code 1: some runs failed (the report says
which).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from train.cli import command, define_config


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    define_config(values, argv)
    flags.DEFINE_string("workdir", None, "folder of the study", flag_values=values)
    for name in ("config", "workdir"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues) -> int:
    from rich.console import Console

    from train import loop
    from train.study import report, runner, summary

    console, workdir = Console(), Path(values.workdir)
    try:
        records = runner.run_study(values.config, workdir, loop.run, console)
    except KeyboardInterrupt:
        console.print("Stopped; the same command goes on from here.")
        return 130
    figures = summary.summarise(values.config, records)
    report.write(values.config, figures, records, workdir)
    report.show(values.config, figures, workdir, console)
    return 1 if figures.failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a study; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
