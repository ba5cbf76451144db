"""``pretune benchmark``: time the training step and decoding of any config on this device.

pretune benchmark --config=configs/gpt.py:size=small --config.batch_size=2 --config.length=256

Batches are random ids of the right shapes: no data is read, so only the step is timed. The
architecture of a fine-tuning config is that of --config.init_from. The device's matrix peak is
measured in the same process, by one large product in the model's dtype. --serve keeps the compiled
step and times N more steps for each line "N" read on standard input, so that two programs can be
timed in turn on a noisy machine.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from train.cli import command, define_config
from train.peak import matrix_peak, timed
from train.random_rows import random_batch

LABELS = 2  # classes of a classification objective without data


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    define_config(values, argv)
    flags.DEFINE_integer("steps", 20, "steps to time, after two to warm up", flag_values=values)
    flags.DEFINE_integer(
        "decode_tokens", 64, "tokens to generate (gpt); 0: none", flag_values=values
    )
    flags.DEFINE_string("json", "", "also write the figures to this file", flag_values=values)
    flags.DEFINE_bool("serve", False, "time N more steps per line of stdin", flag_values=values)
    flags.mark_flag_as_required("config", flag_values=values)


class StepTimer:
    """A compiled training step with its state, ready to be timed again and again."""

    def __init__(self, config: Any) -> None:
        """Builds, compiles (timed) and warms up."""
        from input_pipeline.tokenizers import load_tokenizer
        from train.mesh import to_devices
        from train.program import make_program
        from train.setup import complete

        config = complete(config)
        if not config.model.vocab_size:
            own = config.tokenizer
            size = load_tokenizer(own.path).vocab_size if own.path else own.vocab_size
            config.model.vocab_size = size
        self.config, self.program = config, make_program(config, LABELS)
        self.batch = to_devices(random_batch(config, self.program.objective), self.program.mesh)
        self.key = jax.random.key(config.seed)
        self.state = self.program.init(self.key)
        self.rate = np.float32(config.optimizer.learning_rate)
        given = (self.state, self.batch, self.key, self.rate)
        self.compiled = self.program.compiled(*given)
        timed(self.step, 2)

    def step(self) -> Any:
        """One more step."""
        self.state, metrics = self.compiled.call(self.state, self.batch, self.key, self.rate)
        return metrics

    def figures(self, seconds: list[float], peak: float) -> dict[str, Any]:
        """The step's figures from its timings and the device's matrix peak (FLOP/s)."""
        median = statistics.median(seconds)
        quarter = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median] * 3
        tokens = self.config.batch_size * self.config.length
        rate = self.compiled.flops / median
        return {
            "parameters": self.program.model.num_params,
            "trained": self.program.num_trained,
            "step_ms_median": 1e3 * median,
            "step_ms_quartiles": [1e3 * quarter[0], 1e3 * quarter[2]],
            "tokens_per_second": tokens / median,
            "model_gflops_per_step": self.compiled.flops / 1e9,
            "gflops_per_second": rate / 1e9,
            "matrix_peak_gflops_per_second": peak * self.program.mesh.size / 1e9,
            "model_flops_utilisation": rate / (peak * self.program.mesh.size),
            "compile_seconds": self.compiled.seconds,
            "peak_memory_mib": self.compiled.peak_bytes / 2**20,
        }


def decoding(timer: StepTimer, tokens: int) -> dict[str, float]:
    """Greedy decoding of one and of eight prompts of 16 tokens: new tokens a second."""
    from model.decode import Sampling, generate

    found = {}
    for rows in (1, 8):
        call = lambda rows=rows: generate(  # noqa: E731
            timer.program.model, timer.config.model, timer.state.params,
            [list(range(4, 20))] * rows, new_tokens=tokens, sampling=Sampling(0), seed=0,
        )  # fmt: skip
        call()
        median = statistics.median(timed(call, 3))
        found[f"decode_tokens_per_second_batch_{rows}"] = rows * tokens / median
    return found


def _run(values: flags.FlagValues) -> None:
    from train.setup import enable_compilation_cache

    enable_compilation_cache(values.config.compilation_cache)
    timer = StepTimer(values.config)
    peak = matrix_peak(values.config.model.dtype)
    figures = {
        "device": jax.devices()[0].device_kind,
        "devices": timer.program.mesh.size,
        "jax": jax.__version__,
        "dtype": values.config.model.dtype,
        "batch": [values.config.batch_size, values.config.length],
        **timer.figures(timed(timer.step, values.steps), peak),
    }
    if values.config.model.family == "gpt" and values.decode_tokens:
        figures |= decoding(timer, values.decode_tokens)
    for name, value in figures.items():
        print(f"{name:<34} {_text(value)}", flush=True)
    if values.json:
        with open(values.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    if values.serve:
        serve(timer)


def serve(timer: StepTimer) -> None:
    """For each line "N" on standard input: times N steps, prints their seconds as one JSON list."""
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(timed(timer.step, int(line))), flush=True)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "[" + ", ".join(map(_text, value)) + "]" if isinstance(value, list) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
