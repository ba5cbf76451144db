"""The training loop: one for pre-training and fine-tuning.

The life of a run: complete the config, prepare data, compile, find the state (own checkpoint, else
`init_from`, else scratch), then step, log, evaluate and save until the last step.
"""

import dataclasses
import json
import logging
import math
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from input_pipeline.pipeline import train_batches
from train import metrics
from train import workdir as folders
from train.checkpoint import Checkpoints, abstract
from train.errors import Diverged
from train.evaluate import Found, check_metric, evaluate, held_out
from train.mesh import to_devices
from train.optimizer import learning_rates
from train.peak import matrix_peak
from train.progress import Bar
from train.selection import new_best, patience_is_over
from train.setup import Setup, check, complete, enable_compilation_cache, initial_state, set_up
from train.state import State


def run(
    config: ConfigDict, workdir: str | pathlib.Path, *, progress: bool = True, force: bool = False
) -> dict[str, Any]:
    """Trains until ``config.steps``, going on from the newest good checkpoint in `workdir`.

    Args:
      config: all keys of configs/base.py.
      workdir: the run's folder; made if absent, locked while running.
      progress: show the bar and the sentences on stderr.
      force: accept a workdir with another config.

    Returns:
      `step`, `seconds` (of the loop, compilation and earlier sessions of the run included),
      `tokens` (seen in all), `flops` (of all steps, train/flops.py), `peak_bytes` (of a step on one
      device), `num_params`, `num_trained`, `eval` (the last values), `best`, `stopped` (the
      number of the signal that did, or 0), `early` (where the patience of the evaluation ended it).

    Raises:
      UserError and its like in the other rooms: bad input, before anything is written; Diverged.
    """
    workdir = pathlib.Path(workdir)
    config = complete(config)
    check(config)
    enable_compilation_cache(config.compilation_cache)
    folders.check_config(workdir, config, force)
    with folders.locked(workdir):
        asked = config.to_json(indent=1, sort_keys=True)
        setup = set_up(config, workdir)
        if jax.process_index() == 0:
            folders.write_text(workdir / "config.json", asked)
            record = folders.lineage(
                config, setup.data.fingerprint, setup.tokenizer.fingerprint
            ) | {"summary": setup.data.summary, "labels": list(setup.data.label_names)}
            folders.write_text(workdir / "lineage.json", json.dumps(record, indent=1))
        with Checkpoints(workdir, config.checkpoint.keep) as checkpoints, _StopFlag() as stop:
            return _Run(setup, workdir, checkpoints, stop, progress).train()


class _StopFlag:
    """Set by SIGTERM or Ctrl-C: the loop ends after its step, with a checkpoint."""

    def __enter__(self) -> "_StopFlag":
        self.signal = 0
        try:
            self._old = {s: signal.signal(s, self._set) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # signals reach the main thread only; a run elsewhere has no handler
            self._old = {}
        return self

    def _set(self, number: int, _: Any) -> None:
        self.signal = number

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


@dataclasses.dataclass
class _Run:
    """One run in progress."""

    setup: Setup
    workdir: pathlib.Path
    checkpoints: Checkpoints
    stop: _StopFlag
    progress: bool

    def train(self) -> dict[str, Any]:
        config, program = self.setup.config, self.setup.program
        main = jax.process_index() == 0
        state, start = self._first_state()
        self.splits = held_out(self.setup)
        self.last_eval: dict[str, float] = {}
        self.found: Found | None = None
        check_metric(self.setup, state.params, self.splits)
        self.rates = learning_rates(config.optimizer, config.steps)
        self.key = jax.random.fold_in(jax.random.key(config.seed), 1)  # 0 is initialisation
        self.peak = program.mesh.size * matrix_peak(config.model.dtype)
        self.bar = Bar(str(self.workdir), start, config.steps, self.progress and main)
        self.clock = time.perf_counter()
        self.began = self.clock - (metrics.truncate(self.workdir, start) if main else 0)
        self.writer = metrics.Writer(self.workdir, config.logging.tensorboard and main, main)
        self.bar.say(
            f"{config.model.family}, {program.model.num_params:,} parameters, "
            f"{program.num_trained:,} of them trained, "
            f"{program.mesh.size} {jax.default_backend()} device(s), from step {start}"
        )
        for line in self.setup.described("training", "evaluation"):
            self.bar.say(line)
        try:
            # Of the first batch, as every batch has the same shapes.
            (batch,) = self._batches(0, 1, prefetch=0)
            self.compiled = program.compiled(state, batch, self.key, self.rates[0])
            rule, step = config.evaluation, start
            if not patience_is_over(rule, start, self.checkpoints.best()):
                state, step = self._steps(state, start)
            best = self.checkpoints.best()
            early = step < config.steps and patience_is_over(rule, step, best)
            if (early or step == config.steps) and not self.last_eval:
                self._evaluate(step, state)
            if early:
                self.bar.say(
                    f"ended at step {step}: {rule.patience} evaluations without a "
                    f"better {best['metric']} than {best['value']:.4f} at step {best['step']}"
                )
            if main and self.found:
                self.found.save(self.workdir)
        finally:
            self.writer.close()
            self.bar.close()
        self.checkpoints.wait()
        return {
            "step": step,
            "seconds": time.perf_counter() - self.began,
            "tokens": step * config.batch_size * config.length,
            "flops": step * self.compiled.flops,
            "peak_bytes": self.compiled.peak_bytes,
            "num_params": program.model.num_params,
            "num_trained": program.num_trained,
            "eval": self.last_eval,
            "best": self.checkpoints.best(),
            "stopped": self.stop.signal,
            "early": early,
        }

    def _first_state(self) -> tuple[State, int]:
        """Own newest good checkpoint; else `init_from`; else scratch."""
        program = self.setup.program
        step, passed_over = self.checkpoints.newest_good()
        for sentence in passed_over:
            logging.warning(sentence)
        key = jax.random.key(self.setup.config.seed)
        if step is None:
            return initial_state(self.setup, key), 0
        aim = abstract(jax.eval_shape(program.init, key), program.shardings)
        return self.checkpoints.restore(step, aim), step

    def _batches(self, start: int, stop: int, prefetch: int) -> Iterator[dict[str, jax.Array]]:
        """The global batches of steps [start, stop), on the devices."""
        config = self.setup.config
        batches = train_batches(
            self.setup.data.train,
            self.setup.data.weights,
            self.setup.features,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start,
            num_steps=stop,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            prefetch=prefetch,
        )
        return (to_devices(batch, self.setup.program.mesh) for batch in batches)

    def _steps(self, state: State, start: int) -> tuple[State, int]:
        config = self.setup.config
        pending: list[metrics.Metrics] = []
        self.clock, step = time.perf_counter(), start
        batches = self._batches(start, config.steps, config.data.prefetch)
        for step, batch in enumerate(batches, start + 1):
            state, values = self.compiled.call(state, batch, self.key, self.rates[step - 1])
            pending.append(values)
            # Read once: the flag may be set again while a checkpoint is being saved.
            last = step == config.steps or self._stopping()
            # What is evaluated or saved was seen to be finite.
            periods = (config.logging.every, config.checkpoint.every, config.evaluation.every)
            if any(_due(every, step, last) for every in periods):
                self._log(step, pending)
                pending = []
            evaluate_now = _due(config.evaluation.every, step, last)
            best = self._evaluate(step, state) if evaluate_now else None
            if not _due(config.evaluation.every, step, step == config.steps):
                best = None  # an evaluation that only a signal brought about decides nothing
            marked = best or self.checkpoints.best()
            last = last or patience_is_over(config.evaluation, step, marked)
            if config.checkpoint.every and (best or _due(config.checkpoint.every, step, last)):
                self.checkpoints.save(step, state, best)
            if last:
                break
        return state, step

    def _stopping(self) -> bool:
        """Whether any process was told to stop; all of them must leave at the same step."""
        flag = bool(self.stop.signal)
        if jax.process_count() > 1:
            from jax.experimental.multihost_utils import process_allgather

            flag = bool(np.any(process_allgather(np.asarray(flag))))
        return flag

    def _log(self, step: int, pending: list[metrics.Metrics]) -> None:
        """Writes the means since the last call; Diverged if a loss in them is not finite."""
        config, program = self.setup.config, self.setup.program
        fetched = jax.device_get(pending)
        watched = (*program.objective.losses, "gradient_norm")
        bad = [
            step - len(fetched) + 1 + index
            for index, values in enumerate(fetched)
            if not all(math.isfinite(values[name][0]) for name in watched)
        ]
        if bad:
            good, _ = self.checkpoints.newest_good()
            saved = f"the last good checkpoint is {self.checkpoints.path(good)}" if good else None
            raise Diverged(
                f"The loss or its gradient is not finite at step {bad[0]} of {self.workdir}; "
                f"{saved or 'no checkpoint was saved'}; lower the learning rate or lengthen the "
                "warmup."
            )
        now = time.perf_counter()
        seconds, self.clock = (now - self.clock) / len(fetched), now
        values = metrics.means(metrics.add(fetched), "train", program.objective.losses)
        values |= {
            "train/learning_rate": float(self.rates[step - 1]),
            "train/seconds": now - self.began,
            "train/seconds_per_step": seconds,
            "train/tokens_per_second": config.batch_size * config.length / seconds,
            "train/flops_per_second": self.compiled.flops / seconds,
            "train/flops_utilisation": self.compiled.flops / seconds / self.peak,
        }
        self.writer.write(step, values)
        self.bar.update(step, values)

    def _evaluate(self, step: int, state: State) -> dict[str, Any] | None:
        """Evaluates and writes; returns the mark of a new best, if it is one."""
        if not self.splits:
            return None
        began = time.perf_counter()
        self.found = evaluate(self.setup, state.evaluated, self.splits)
        self.last_eval = self.found.metrics
        self.writer.write(step, self.last_eval)
        self.clock += time.perf_counter() - began
        main = {
            k: v for k, v in self.last_eval.items() if k.startswith("eval/") and k.count("/") == 1
        }
        shown = ", ".join(f"{k} {metrics.shown(v)}" for k, v in main.items())
        self.bar.say(f"step {step}: {shown}")
        rule = self.setup.config.evaluation
        return new_best(rule, self.last_eval, step, self.checkpoints.best())


def _due(every: int, step: int, last: bool) -> bool:
    """Whether something with this period happens after `step`; 0 means at the last step only."""
    return last or bool(every and step % every == 0)
