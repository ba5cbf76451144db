"""``pretune train``: pre-train or fine-tune one model.

pretune train --config=configs/bert.py:size=tiny --config.data.source='books/*.txt' --workdir=runs/x

The same command again goes on where it stopped. A pre-trained run is the start of another with
--config.init_from=WORKDIR (see configs/finetune_*.py).
"""

import os
import sys
from collections.abc import Sequence

from absl import flags

from train.cli import command, define_config


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    define_config(values, argv)
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    flags.DEFINE_bool(
        "force_config", False, "go on in a workdir that holds another config", flag_values=values
    )
    flags.DEFINE_string(
        "coordinator", "", "HOST:PORT of process 0, when there are several", flag_values=values
    )
    flags.DEFINE_integer("num_processes", 1, "how many processes train", flag_values=values)
    flags.DEFINE_integer("process_id", 0, "which one this is", flag_values=values)
    for name in ("config", "workdir"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues) -> int:
    import jax

    from train.loop import run

    if values.coordinator:
        jax.distributed.initialize(values.coordinator, values.num_processes, values.process_id)
    elif "TPU_WORKER_HOSTNAMES" in os.environ and "," in os.environ["TPU_WORKER_HOSTNAMES"]:
        jax.distributed.initialize()  # a TPU pod describes itself
    result = run(values.config, values.workdir, force=values.force_config)
    if jax.process_index() == 0:
        print(report(result, values.workdir))
    return 0


def report(result: dict, workdir: str) -> str:
    """One line for the terminal about a finished or stopped run."""
    how = "stopped" if result["stopped"] else "done early" if result["early"] else "done"
    parts = [f"{how}: step {result['step']}"]
    parts += [f"{name} {value:.4f}" for name, value in result["eval"].items() if "/" in name]
    parts += [f"{result['seconds']:.0f} s", f"{result['flops']:.3g} training FLOPs", workdir]
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
