"""From scores to figures: by metric and category, of each run, of their differences."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.items import Item
from train.scoring.measures import MEASURES, Metric
from train.scoring.scorer import Scores
from train.scoring.statistics import Estimate, difference, estimate

ALL = ("", "all")


@dataclasses.dataclass(frozen=True)
class Line:
    """A metric of a category.

    Attributes:
      metric: which.
      dimension: of the category ("phenomenon"); "" for all items.
      category: its value.
      runs: an Estimate a run.
      differences: of each run after the first, to the first, paired by item.
      clean: an Estimate a run on items that are not in the corpus; () where that is not asked.
    """

    metric: Metric
    dimension: str
    category: str
    runs: tuple[Estimate, ...]
    differences: tuple[Estimate, ...]
    clean: tuple[Estimate, ...]


@dataclasses.dataclass(frozen=True)
class Result:
    """An evaluation set's figures.

    Attributes:
      task: its name, one of SUITES.
      sources: where it was read.
      items: how many there are.
      cut: of each run, the options that did not fit into one row.
      unknown: of each run, the share of scored texts' tokens that the vocabulary does not know.
      contaminated: items that stand in the corpus; None where that was not asked.
      lines: the figures.
    """

    task: str
    sources: tuple[str, ...]
    items: int
    cut: tuple[int, ...]
    unknown: tuple[float, ...]
    contaminated: int | None
    lines: tuple[Line, ...]


def summarise(
    task: str,
    measure: str,
    sources: Sequence[str],
    items: Sequence[Item],
    scores: Sequence[Scores],
    contaminated: np.ndarray | None = None,
) -> Result:
    """All figures of an evaluation set, given the scores of each run."""
    lines = []
    for metric in MEASURES[measure]:
        columns = [metric.columns(items, one) for one in scores]
        for dimension, category in [ALL, *_categories(items)]:
            chosen = np.asarray(
                [(item.categories | {"": "all"})[dimension] == category for item in items]
            )
            of = lambda mask, metric=metric, columns=columns: [  # noqa: E731
                metric.observe(part[mask], [items[i] for i in np.flatnonzero(mask)])
                for part in columns
            ]
            parts = of(chosen)
            clean = () if contaminated is None else of(chosen & ~contaminated)
            lines.append(
                Line(
                    metric, dimension, category,
                    tuple(estimate(part, metric.figure) for part in parts),
                    tuple(difference(parts[0], part, metric.figure) for part in parts[1:]),
                    tuple(estimate(part, metric.figure) for part in clean),
                )
            )  # fmt: skip
    return Result(
        task, tuple(sources), len(items),
        tuple(int(one.cut.sum()) for one in scores),
        tuple(float(one.unknown.sum() / one.tokens.sum()) if one.tokens.sum() else 0.0
              for one in scores),
        None if contaminated is None else int(contaminated.sum()),
        tuple(lines),
    )  # fmt: skip


def _categories(items: Sequence[Item]) -> list[tuple[str, str]]:
    """(dimension, value) of all items, in the order of their dimensions, then of the values."""
    dimensions = list(dict.fromkeys(name for item in items for name in item.categories))
    found = {(name, value) for item in items for name, value in item.categories.items()}
    return sorted(found, key=lambda pair: (dimensions.index(pair[0]), pair[1]))


def as_json(result: Result) -> dict[str, Any]:
    """A result as plain values; what is not defined is null."""
    values = {k: v for k, v in vars(result).items() if k != "lines"}
    definitions = {line.metric.name: line.metric.definition for line in result.lines}
    figures = [
        {
            "metric": line.metric.name,
            "unit": line.metric.unit,
            "dimension": line.dimension,
            "category": line.category,
            "runs": [one._asdict() for one in line.runs],
            "differences": [one._asdict() for one in line.differences],
            "clean": [one._asdict() for one in line.clean],
        }
        for line in result.lines
    ]
    return {**values, "definitions": definitions, "figures": figures}


def table(result: Result, runs: Sequence[str]) -> str:
    """A result as text: what is measured, and a line a metric and category."""
    head = [f"{result.task}: {result.items:,} items from {', '.join(result.sources)}"]
    metrics = dict.fromkeys(line.metric for line in result.lines)
    head += [f"  {metric.name}: {metric.definition}" for metric in metrics]
    for name, cut, unknown in zip(runs, result.cut, result.unknown, strict=True):
        if cut:
            head.append(f"  {name}: {cut:,} texts did not fit into one row")
        if unknown:
            head.append(f"  {name}: {unknown:.2%} of the tokens are unknown to its vocabulary")
    if result.contaminated is not None:
        head.append(f"  {result.contaminated:,} items stand in the corpus, and not among the clean")
    header = ["metric", "category", "n", *runs]
    header += [f"{name} - {runs[0]}" for name in runs[1:]]
    if result.contaminated is not None:
        header += ["n clean", *(f"{name} clean" for name in runs)]
    rows = [header]
    for line in result.lines:
        unit = f", {line.metric.unit}" if line.metric.unit else ""
        estimates = [_shown(one, line.metric) for one in (*line.runs, *line.differences)]
        row = [line.metric.name + unit, _name(line), _counts(line.runs), *estimates]
        if result.contaminated is not None:
            row += [_counts(line.clean), *(_shown(one, line.metric) for one in line.clean)]
        rows.append(row)
    return "\n".join([*head, *_aligned(rows)])


def _name(line: Line) -> str:
    return f"{line.dimension} {line.category}".strip()


def _counts(estimates: Sequence[Estimate]) -> str:
    """How many observations; of each run where they differ."""
    return "/".join(dict.fromkeys(f"{one.n:,}" for one in estimates))


def _shown(one: Estimate, metric: Metric) -> str:
    def number(value: float | None) -> str:
        if value is None:
            return "undefined"
        return f"{value:.1f}" if metric.unit == "%" else f"{value:.4g}"

    if one.value is None:
        return "undefined"
    return f"{number(one.value)} ± {number(one.standard_error)}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
