"""Side effects of fine-tuning: what it forgot of the pre-training, and what it did to bias."""

import functools
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.sources import SourceSpec
from input_pipeline.suites import SUITES, read_items
from train.checkpoint import abstract, load_parts
from train.evaluate import evaluate, held_out
from train.score import parse_tasks
from train.scoring import results
from train.scoring.language_model import find_head, load_language_model
from train.scoring.scorer import Scores, score
from train.setup import Setup, set_up
from train.workdir import read_config

BATCH_TOKENS = 4096  # of a batch that is scored


@functools.lru_cache(maxsize=64)
def loss_before(first: pathlib.Path) -> float | None:
    """The loss of the first stage on its held-out text, by the checkpoint that the next one takes.

    Returns:
      In nats a predicted token; None where the stage holds no text out.
    """
    setup = _setup(first, read_config(first).adapters.to_json(sort_keys=True))
    return _loss(setup, load_parts(first, _aim(setup)))


def loss_after(folder: pathlib.Path, first: pathlib.Path) -> float | None:
    """The same by a run's backbone, as it is after its last step.

    The head that predicts the tokens is that of the nearest run before it that has one.
    """
    head_from, _ = find_head(folder)
    setup = _setup(first, read_config(folder).adapters.to_json(sort_keys=True))
    aim = _aim(setup)
    own = {name: part for name, part in aim.items() if name != "head"}
    params = load_parts(folder, own, newest=True)
    head = load_parts(head_from, {"head": aim["head"]}) if aim["head"] else {"head": {}}
    return _loss(setup, {**params, **head})


def _aim(setup: Setup) -> dict[str, Any]:
    return abstract(setup.program.model.shapes, setup.program.shardings.params)


def _loss(setup: Setup, params: dict[str, Any]) -> float | None:
    splits = {name: batches for name, batches in held_out(setup).items() if name == "eval"}
    return evaluate(setup, params, splits).metrics["eval/loss"] if splits else None


@functools.lru_cache(maxsize=4)
def _setup(first: pathlib.Path, adapters: str) -> Setup:
    """The first stage's data and objective, for a model with these adapters."""
    config = read_config(first)
    config.adapters = ConfigDict(json.loads(adapters))
    return set_up(config, first)


def check(tasks: tuple[str, ...], max_items: int) -> None:
    """UserError or DataError unless all evaluation sets are there and can be read."""
    for kind, sources in parse_tasks(tasks):
        _items(kind, tuple(sources), max_items)


def scores(
    before: pathlib.Path, after: pathlib.Path, tasks: tuple[str, ...], max_items: int
) -> list[dict[str, Any]]:
    """Figures of ``pretune score``, of all items of each evaluation set, before and after.

    Args:
      before: folder of the run that fine-tuning began from, by its best checkpoint.
      after: folder of the fine-tuned run, by its newest one.
      tasks: as in --tasks.
      max_items: of a source; 0: all.

    Returns:
      For each figure its task, metric and unit, and n, value and standard error of `before`, of
      `after`, and of the `difference`, which is paired by item.
    """
    found = []
    for kind, sources in parse_tasks(tasks):
        items = _items(kind, tuple(sources), max_items)
        own = _score(after, kind, items, newest=True)
        both = [_before(before, kind, tuple(sources), max_items), own]
        result = results.summarise(kind, SUITES[kind].measure, sources, items, both)
        found += [
            {
                "task": kind,
                "metric": line.metric.name,
                "unit": line.metric.unit,
                "before": line.runs[0]._asdict(),
                "after": line.runs[1]._asdict(),
                "difference": line.differences[0]._asdict(),
            }
            for line in result.lines
            if not line.dimension
        ]
    return found


@functools.lru_cache(maxsize=8)
def _before(folder: pathlib.Path, kind: str, sources: tuple[str, ...], max_items: int) -> Scores:
    return _score(folder, kind, _items(kind, sources, max_items))


def _score(folder: pathlib.Path, kind: str, items: list, newest: bool = False) -> Scores:
    lm = load_language_model(folder, newest=newest)
    return score(lm, items, SUITES[kind].unmodified, BATCH_TOKENS)


@functools.lru_cache(maxsize=8)
def _items(kind: str, sources: tuple[str, ...], max_items: int) -> list:
    return read_items(kind, [SourceSpec(source, split="test") for source in sources], max_items)
