"""From the records of a study to what its report says: cells, comparisons, costs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from train.study import plan
from train.study.results import Record
from train.study.statistics import (
    Estimate,
    holm,
    mean_interval,
    paired_difference,
    t_test,
)

ALPHA = 0.05  # of all comparisons of a study together
SEEDS_ONLY = "percentile bootstrap over seeds"
TWO_LEVEL = "percentile bootstrap over seeds and evaluation examples"
CROSSED = "t test with seeds and examples as crossed random effects (Clark 1973)"
STUDENT = "t test over seeds"
SHARES = ("accuracy", "f1", "exact_match")  # metrics in [0, 1] that are told in per cent


@dataclass(frozen=True)
class Cell:
    """One arm at one label budget; `values` by seed, `failed` the seeds without a value."""

    arm: str
    budget: int
    values: dict[int, float]
    failed: tuple[int, ...]
    estimate: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two arms at one budget, over the seeds that both finished; resolved where p < 0.05."""

    budget: int
    arms: tuple[str, str]
    seeds: tuple[int, ...]
    difference: Estimate  # with its bootstrap interval
    tested: Estimate  # with its t interval
    p: float  # corrected for the number of comparisons (Holm); NaN with fewer than two seeds
    separate: bool  # the arms' own intervals do not overlap
    verdict: str


@dataclass(frozen=True)
class Cost:
    """Sums over the finished runs of an arm, or of the pre-training."""

    name: str
    runs: int
    steps: int
    tokens: int
    seconds: float
    flops: float


@dataclass(frozen=True)
class Summary:
    """All figures of the report, in the metric's own unit (times `scale` for people)."""

    metric: str
    scale: float
    unit: str
    method: str  # of the intervals
    test: str  # of the p-values
    higher_is_better: bool
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    pretraining: Cost
    costs: tuple[Cost, ...]
    failed: tuple[Record, ...]


def summarise(study: ConfigDict, records: list[Record]) -> Summary:
    """Statistics of a study from one record per run, pre-training among them."""
    base = [r for r in records if r["role"] == "pretrain"]
    tuned = [r for r in records if r["role"] == "finetune"]
    finished = [r for r in tuned if r["status"] == "done"]
    two_level = has_examples(finished)
    share = study.metric.endswith(SHARES)
    scale, unit = (100.0, "points") if share else (1.0, study.metric.removeprefix("eval/"))
    table = {
        (r["arm"], r["budget"], r["seed"]): r["correct"] if two_level else [r["value"]]
        for r in finished
    }
    values = {(r["arm"], r["budget"], r["seed"]): r["value"] for r in finished}
    cells = tuple(
        cell(table, values, study, arm, budget) for budget in study.budgets for arm in study.arms
    )
    asked = [(budget, other) for budget in study.budgets for other in study.arms[1:]]
    values_of = [paired(table, study, budget, other) for budget, other in asked]
    tests = [t_test(a_SN - b_SN) for _, a_SN, b_SN in values_of]
    p_values = holm([p for _, p in tests])
    comparisons = tuple(
        compare(study, cells, budget, other, values, (tested, p), scale, unit)
        for (budget, other), values, (tested, _), p in zip(
            asked, values_of, tests, p_values, strict=True
        )
    )
    return Summary(
        metric=study.metric,
        scale=scale,
        unit=unit,
        method=TWO_LEVEL if two_level else SEEDS_ONLY,
        test=CROSSED if two_level else STUDENT,
        higher_is_better=study.finetune.evaluation.higher_is_better,
        cells=cells,
        comparisons=comparisons,
        pretraining=cost("pre-training", base),
        costs=tuple(
            cost(plan.LABELS[arm], [r for r in finished if r["arm"] == arm]) for arm in study.arms
        ),
        failed=tuple(r for r in tuned if r["status"] == "failed"),
    )


def has_examples(finished: list[Record]) -> bool:
    """Whether all runs tell which of the same examples they got right, and it is the metric."""
    rows = [r["correct"] for r in finished]
    return bool(rows) and all(
        row and len(row) == len(rows[0]) and abs(np.mean(row) - record["value"]) < 1e-4
        for row, record in zip(rows, finished, strict=True)
    )


def cell(table: dict, values: dict, study: ConfigDict, arm: str, budget: int) -> Cell:
    """Mean and interval of one arm at one budget over the seeds that finished."""
    seeds = [seed for seed in study.seeds if (arm, budget, seed) in table]
    rows_SN = as_rows(table[arm, budget, seed] for seed in seeds)
    return Cell(
        arm,
        budget,
        {seed: values[arm, budget, seed] for seed in seeds},
        tuple(seed for seed in study.seeds if seed not in seeds),
        mean_interval(rows_SN, resamples=study.resamples),
    )


def as_rows(rows: Iterable[list[float]]) -> np.ndarray:
    """The rows as values_SN; with no seed at all one column, so that it has two axes."""
    rows = list(rows)
    return np.asarray(rows, np.float64) if rows else np.zeros((0, 1))


Paired = tuple[tuple[int, ...], np.ndarray, np.ndarray]  # seeds, values_SN of either arm


def paired(table: dict, study: ConfigDict, budget: int, other: str) -> Paired:
    """The values of the first arm and of another one, for the seeds that both finished."""
    first = study.arms[0]
    seeds = tuple(
        s for s in study.seeds if (first, budget, s) in table and (other, budget, s) in table
    )
    a_SN, b_SN = (as_rows(table[arm, budget, s] for s in seeds) for arm in (first, other))
    return seeds, a_SN, b_SN


def compare(
    study: ConfigDict, cells: tuple[Cell, ...], budget: int, other: str, values: Paired,
    test: tuple[Estimate, float], scale: float, unit: str,
) -> Comparison:  # fmt: skip
    """The first arm against another one, paired by seed (and example)."""
    first, (seeds, a_SN, b_SN) = study.arms[0], values
    difference = paired_difference(a_SN, b_SN, resamples=study.resamples)
    a, b = (
        next(c.estimate for c in cells if (c.arm, c.budget) == (arm, budget))
        for arm in (first, other)
    )
    return Comparison(
        budget,
        (first, other),
        seeds,
        difference,
        *test,
        a.low > b.high or b.low > a.high,
        verdict((first, other), budget, *test, scale, unit),
    )


def verdict(
    arms: tuple[str, str], budget: int, difference: Estimate, p: float, scale: float, unit: str
) -> str:
    """One sentence: which arm's metric is higher, or that the study does not resolve it."""
    a, b = (plan.LABELS[arm] for arm in arms)
    where = f"at {plan.budget_name(budget)} labels"
    if np.isnan(p):
        return f"not resolved: {a} and {b} {where} (fewer than two paired seeds)"
    size = f"{signed(difference.mean, scale)} {unit} {bounds(difference, scale)}, {shown_p(p)}"
    if p >= ALPHA:
        return f"not resolved: {a} and {b} {where}, {size}"
    return f"{a} {'>' if difference.mean > 0 else '<'} {b} {where}, {size}"


def shown_p(p: float) -> str:
    """A p-value for people; a dash for none."""
    if np.isnan(p):
        return "–"
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"


def signed(value: float, scale: float) -> str:
    """A difference with its sign, one decimal for points, four digits otherwise."""
    return f"{value * scale:+.1f}" if scale == 100 else f"{value:+.4g}"


def number(value: float, scale: float) -> str:
    """A value of the metric for people; a dash for none."""
    if np.isnan(value):
        return "–"
    return f"{value * scale:.1f}" if scale == 100 else f"{value:.4g}"


def bounds(estimate: Estimate, scale: float) -> str:
    """The interval as "[low, high]"; a dash for none."""
    if np.isnan(estimate.low):
        return "–"
    return f"[{number(estimate.low, scale)}, {number(estimate.high, scale)}]"


def cost(name: str, records: list[Record]) -> Cost:
    """What some finished runs took together."""
    return Cost(
        name,
        len(records),
        sum(r["steps"] for r in records),
        sum(r["tokens"] for r in records),
        sum(r["seconds"] for r in records),
        sum(r["flops"] for r in records),
    )
