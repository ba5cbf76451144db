"""Evaluation on a held-out split: exact means over all its rows. And ``pretune evaluate``.

pretune evaluate --workdir=runs/books
pretune evaluate --workdir=runs/books --source='other/*.txt'

Evaluates the best checkpoint of a run (else its newest) on its held-out text, or on another one.
Where tokens are predicted, the loss of the unigram predictor stands beside the model's: what
guessing by frequency alone would reach. For next-token prediction also: bits a byte of text.
"""

import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from input_pipeline.pipeline import eval_batches, train_batches
from train import baselines, metrics
from train.answers import METRICS, answers
from train.checkpoint import abstract, load_parts
from train.cli import command
from train.errors import UserError
from train.mesh import make_mesh_that_fits, to_devices
from train.program import Program
from train.setup import Setup, enable_compilation_cache, set_up
from train.workdir import read_config, write_text

Batches = Callable[[], Iterable[dict[str, np.ndarray]]]
COUNTED = 500_000  # predicted tokens of training from which the unigram predictor is made


def held_out(setup: Setup) -> dict[str, Batches]:
    """The run's evaluation splits, by name: each call gives all batches of this process again."""
    config = setup.config
    return {
        name: functools.partial(
            eval_batches,
            rows,
            setup.features,
            batch_size=config.evaluation.batch_size or config.batch_size,
            seed=config.seed,
            max_rows=config.evaluation.max_rows,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for name, rows in setup.data.evaluation.items()
    }


def check_metric(setup: Setup, params: Any, splits: dict[str, Batches]) -> None:
    """UserError unless the evaluation will give the metric by which the best is known."""
    rule = setup.config.evaluation
    if not splits:
        if rule.patience:
            raise UserError("config.evaluation.patience needs held-out data; set data.holdout.")
        return
    name, batches = next(iter(splits.items()))
    batch = {
        key: jax.ShapeDtypeStruct((jax.process_count() * len(part), *part.shape[1:]), part.dtype)
        for key, part in next(iter(batches())).items()
    }
    found = metric_names(setup.program, params, batch, rule.generate)
    known = sorted(f"{name}/{metric}" for metric in found)
    if rule.metric not in known:
        raise UserError(
            f"config.evaluation.metric {rule.metric!r} is not among the metrics of this run; "
            f"choose one of {', '.join(known)}."
        )


def metric_names(program: Program, params: Any, batch: Any, generate: int) -> set[str]:
    """What an evaluation measures, without the name of its split; shapes will do."""
    carry = jax.eval_shape(lambda: program.carry(len(batch["tokens"])))
    found, *_ = jax.eval_shape(program.eval_step, params, batch, carry)
    own = getattr(program.objective, "metrics", ())
    return {*found, "loss", *own, *(METRICS if generate else ())}


@dataclasses.dataclass(frozen=True)
class Found:
    """What an evaluation found.

    Attributes:
      metrics: ``{split/name: value}``, exact means ("eval/loss", ...) and the task's own.
      arrays: of the split "eval": what is predicted, row by row in order; {} for nothing.
      lines: of the split "eval": a JSON-able dict for each prediction; [] for none.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]
    lines: list[dict[str, Any]]

    def save(self, workdir: pathlib.Path) -> None:
        """Writes predictions.jsonl; for tasks with a right answer a row also predictions.npz."""
        if self.lines:
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            write_text(workdir / "predictions.jsonl", text)
        if np.issubdtype(self.arrays.get("predictions", np.zeros(0)).dtype, np.integer):
            correct = self.arrays["predictions"] == self.arrays["labels"]
            np.savez(workdir / "predictions.npz", correct=correct, **self.arrays)


def evaluate(setup: Setup, params: Any, splits: dict[str, Batches]) -> Found:
    """Goes once through each split, and has held-out records answered where that is asked for.

    A model with memory begins each split with an empty one and carries it through the batches:
    the training's own memory has no part in it.
    """
    program, config = setup.program, setup.config
    rows, objective = config.evaluation.batch_size or config.batch_size, program.objective
    flat, predictions, lines = {}, {}, []
    records = functools.cache(setup.data.records)
    for name, batches in splits.items():
        carry, found, outputs = program.carry(rows), [], []
        for batch in batches():
            batch = to_devices(batch, program.mesh)
            values, carry, output = program.eval_step(params, batch, carry)
            found.append(values)
            outputs.append(jax.device_get(output))
        flat |= metrics.means(metrics.add(found), name, objective.losses)
        predictions[name] = _examples(outputs)
        if hasattr(objective, "finalize"):
            own = objective.finalize(
                predictions[name], records, setup.tokenizer, setup.data.label_names
            )
            flat |= {f"{name}/{key}": value for key, value in own[0].items()}
            lines = lines or own[1]  # of "eval", the first
    if config.evaluation.generate and splits:
        own, lines = answers(setup, params, config.evaluation.generate)
        flat |= {f"eval/{key}": value for key, value in own.items()}
    return Found(flat, predictions.get("eval", {}), lines)


def _examples(outputs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Batches of outputs -> arrays of all examples; rows of weight 0 are padding."""
    if not outputs[0]:
        return {}
    arrays = {key: np.concatenate([output[key] for output in outputs]) for key in outputs[0]}
    real = arrays.pop("weights") > 0
    return {key: value[real] for key, value in arrays.items()}


def compare(setup: Setup, found: dict[str, float], splits: dict[str, Batches]) -> dict[str, float]:
    """What the losses are worth: ``{split/unigram_loss, split/bits_per_byte}``, where defined."""
    config, objective = setup.config, setup.program.objective
    if not objective.head().lm:
        return {}
    vocab = config.model.vocab_size
    batches = train_batches(
        setup.data.train, setup.data.weights, setup.features, batch_size=config.batch_size,
        seed=config.seed, start_step=0, process_index=0, process_count=1,
        num_steps=-(-COUNTED // (config.batch_size * objective.targets)),
        prefetch=config.data.prefetch,
    )  # fmt: skip
    trained = baselines.count_targets(batches, vocab)
    values = {}
    for name, split in splits.items():
        counts = baselines.count_targets(split(), vocab)
        values[f"{name}/unigram_loss"] = baselines.unigram_loss(trained, counts)
        if objective.predicts == "causal":  # each token once, from those before it
            bits = baselines.bits_per_byte(found[f"{name}/loss"], split(), setup.tokenizer)
            values[f"{name}/bits_per_byte"] = bits
    return values


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    del argv
    own = {"flag_values": values}
    flags.DEFINE_string("workdir", None, "folder of the trained run", **own)
    flags.DEFINE_string("source", "", "evaluate on this text instead of the held-out one", **own)
    flags.DEFINE_integer("max_rows", None, "rows of a split at most; 0: all", 0, **own)
    flags.DEFINE_integer("generate", None, "records to answer at most; 0: none", 0, **own)
    flags.DEFINE_string("json", "", "also write the figures to this file", **own)
    flags.mark_flag_as_required("workdir", flag_values=values)


def evaluate_on(config: Any, source: str) -> None:
    """Puts another source in the place of what is evaluated.

    Raises:
      UserError: a run of several text-to-text tasks: as which of them the source is meant is open.
    """
    if not config.data.tasks:
        config.data.eval_source = source
        return
    templates = {tuple(task[1:]) for task in (config.data.eval_tasks or config.data.tasks)}
    if len(templates) > 1:
        raise UserError(
            f"--source={source} could be any of the {len(templates)} tasks of this run; evaluate "
            "without it, on those of config.data.eval_tasks."
        )
    config.data.eval_tasks = ((source, *templates.pop()),)


def _run(values: flags.FlagValues) -> None:
    workdir = pathlib.Path(values.workdir)
    config = read_config(workdir)
    if values.source:
        evaluate_on(config, values.source)
    if values.max_rows is not None:
        config.evaluation.max_rows = values.max_rows
    if values.generate is not None:
        config.evaluation.generate = values.generate
    enable_compilation_cache(config.compilation_cache)
    config.mesh.update(dict(make_mesh_that_fits(config.mesh).shape))
    setup = set_up(config, workdir)
    splits = held_out(setup)
    if not splits:
        raise UserError(f"{workdir} holds no text out; name one to evaluate on with --source.")
    for line in setup.described("evaluation"):
        print(line, file=sys.stderr)
    program = setup.program
    params = load_parts(workdir, abstract(program.model.shapes, program.shardings.params))
    figures = evaluate(setup, params, splits).metrics
    figures |= compare(setup, figures, splits)
    for name, value in figures.items():
        print(f"{name:<34} {metrics.shown(value)}")
    if values.json:
        write_text(pathlib.Path(values.json), json.dumps(figures, indent=1))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
