"""From the records of a study to what its report says: cells, comparisons, side effects."""

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
    t_interval,
    t_test,
)
from train.study.wording import verdict

ALPHA = 0.05  # of all comparisons of a study together
SEEDS_ONLY = "percentile bootstrap over seeds"
TWO_LEVEL = "percentile bootstrap over seeds and evaluation examples"
CROSSED = "t test with seeds and examples as crossed random effects (Clark 1973)"
STUDENT = "t test over seeds"
SHARES = ("accuracy", "f1", "exact_match")  # metrics in [0, 1] that are told in per cent


@dataclass(frozen=True)
class Cell:
    """One arm of a family at one label budget.

    Attributes:
      values: the metric by seed.
      failed: seeds without a value.
      degenerate: seeds of runs no better than the most frequent class, which Mosbach et al. (2021,
        section 4) call failed fine-tunings.
      forgetting: how much higher the loss of the first stage is after than before, over seeds; None
        where it was not measured.
    """

    family: str
    arm: str
    budget: int
    values: dict[int, float]
    failed: tuple[int, ...]
    degenerate: tuple[int, ...]
    estimate: Estimate
    forgetting: Estimate | None


@dataclass(frozen=True)
class Comparison:
    """Two arms of a family at one budget, over the seeds that both finished.

    Attributes:
      difference: first minus second, with its bootstrap interval.
      tested: the same with its t interval.
      p: corrected for the number of comparisons (Holm); NaN with fewer than two seeds.
      separate: the arms' own intervals do not overlap.
      resolved: +1 or -1 where p is below ALPHA, by which is better (not: higher); else 0.
      expected: +1 or -1 where the study says which arm ought to be better; else 0.
    """

    family: str
    budget: int
    arms: tuple[str, str]
    seeds: tuple[int, ...]
    difference: Estimate
    tested: Estimate
    p: float
    separate: bool
    resolved: int
    expected: int
    verdict: str

    @property
    def ordering(self) -> str:
        """What became of the expectation; "" where there was none."""
        if not self.expected:
            return ""
        if not self.resolved:
            return "not resolved"
        return "confirmed" if self.resolved == self.expected else "contradicted"


@dataclass(frozen=True)
class Summary:
    """The statistics of a study, in the metric's own unit (times `scale` for people)."""

    metric: str
    scale: float
    unit: str
    method: str  # of the intervals
    test: str  # of the p-values
    higher_is_better: bool
    cells: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    failed: tuple[Record, ...]

    def cell(self, family: str, arm: str, budget: int) -> Cell:
        """One of the cells."""
        asked = (family, arm, budget)
        return next(c for c in self.cells if (c.family, c.arm, c.budget) == asked)


Key = tuple[str, str, int, int]  # family, arm, budget, seed


def summarise(study: ConfigDict, records: list[Record]) -> Summary:
    """Statistics of a study from one record per run, stages before the last among them."""
    last = {
        (r["family"], r["arm"], r["budget"], r["seed"]): r
        for r in records
        if r["arm"] and r["status"] == "done"
    }
    two_level = has_examples(list(last.values()))
    scale, unit = scale_of(study.metric)
    rows: dict[Key, list[float]] = {
        key: [float(digit) for digit in r["correct"]] if two_level else [r["value"]]
        for key, r in last.items()
    }
    cells = tuple(
        cell(study, last, rows, family, arm, budget)
        for family in study.families
        for budget in study.budgets
        for arm in study.arms
    )
    higher = higher_is_better(study)
    return Summary(
        metric=study.metric,
        scale=scale,
        unit=unit,
        method=TWO_LEVEL if two_level else SEEDS_ONLY,
        test=CROSSED if two_level else STUDENT,
        higher_is_better=higher,
        cells=cells,
        comparisons=compare(study, cells, rows, scale, unit, higher),
        failed=tuple(r for r in records if r["status"] == "failed"),
    )


def higher_is_better(study: ConfigDict) -> bool:
    """Of the study's metric: as the config says where it names it, else by its name."""
    stage = study.arm[study.arms[0]].stages[-1]
    rule = study.family[study.families[0]][stage].evaluation
    if rule.metric == study.metric:
        return rule.higher_is_better
    return not study.metric.endswith("loss")


def scale_of(metric: str) -> tuple[float, str]:
    """By what a metric is multiplied for people, and the unit of its differences."""
    if metric.endswith(SHARES):
        return 100.0, "points"
    return 1.0, metric.removeprefix("eval/")


def has_examples(finished: list[Record]) -> bool:
    """Whether all runs tell which of the same examples they got right, and it is the metric."""
    rows = [r.get("correct", "") for r in finished]
    return bool(rows) and all(
        row and len(row) == len(rows[0]) and abs(row.count("1") / len(row) - r["value"]) < 1e-4
        for row, r in zip(rows, finished, strict=True)
    )


def cell(
    study: ConfigDict, last: dict[Key, Record], rows: dict, family: str, arm: str, budget: int
) -> Cell:
    """The figures of one arm at one budget."""
    found = {s: last[key] for s in study.seeds if (key := (family, arm, budget, s)) in last}
    forgotten = [r["forgetting"] for r in found.values() if "forgetting" in r]
    changes = as_rows([f["after"] - f["before"]] for f in forgotten)
    return Cell(
        family,
        arm,
        budget,
        values={s: r["value"] for s, r in found.items()},
        failed=tuple(s for s in study.seeds if s not in found),
        degenerate=tuple(s for s, r in found.items() if is_degenerate(r)),
        estimate=mean_interval(
            as_rows(rows[family, arm, budget, s] for s in found), resamples=study.resamples
        ),
        forgetting=t_interval(changes) if forgotten else None,
    )


def is_degenerate(record: Record) -> bool:
    """Whether a run that predicts classes gets no more right than the most frequent one would."""
    right = record.get("correct")
    return bool(right) and right.count("1") / len(right) <= record["majority"]


def as_rows(rows: Iterable[list[float]]) -> np.ndarray:
    """Rows as an array [S, N]; [0, 1] for none."""
    rows = list(rows)
    return np.asarray(rows, np.float64) if rows else np.zeros((0, 1))


Asked = tuple[str, int, tuple[str, str]]  # family, budget, arms
Paired = tuple[tuple[int, ...], np.ndarray, np.ndarray]  # seeds, values_SN of either arm


def paired(rows: dict[Key, list[float]], seeds: Iterable[int], asked: Asked) -> Paired:
    """The values of two arms for the seeds that both finished."""
    family, budget, arms = asked
    both = tuple(s for s in seeds if all((family, arm, budget, s) in rows for arm in arms))
    a_SN, b_SN = (as_rows(rows[family, arm, budget, s] for s in both) for arm in arms)
    return both, a_SN, b_SN


def compare(
    study: ConfigDict, cells: tuple[Cell, ...], rows: dict[Key, list[float]], scale: float,
    unit: str, higher: bool,
) -> tuple[Comparison, ...]:  # fmt: skip
    """All comparisons of the study, paired by seed (and example), their p corrected together."""
    asked = [
        (family, budget, pair)
        for family in study.families
        for budget in study.budgets
        for pair in plan.comparisons(study)
    ]
    values = [paired(rows, study.seeds, one) for one in asked]
    tests = [t_test(a_SN - b_SN) for _, a_SN, b_SN in values]
    corrected = holm([p for _, p in tests])
    own = {(c.family, c.arm, c.budget): c.estimate for c in cells}
    expected = {tuple(pair): 1 for pair in study.published.expected}
    expected |= {(b, a): -1 for a, b in expected}
    found = []
    for one, (seeds, a_SN, b_SN), (tested, _), p in zip(
        asked, values, tests, corrected, strict=True
    ):
        family, budget, arms = one
        a, b = (own[family, arm, budget] for arm in arms)
        sign = int(np.sign(tested.mean)) if p < ALPHA else 0
        found.append(
            Comparison(
                family,
                budget,
                arms,
                seeds,
                difference=paired_difference(a_SN, b_SN, resamples=study.resamples),
                tested=tested,
                p=p,
                separate=a.low > b.high or b.low > a.high,
                resolved=sign if higher else -sign,
                expected=expected.get(arms, 0),
                verdict=verdict(
                    [study.arm[arm].label for arm in arms],
                    family if len(study.families) > 1 else "",
                    budget, tested, p, ALPHA, scale, unit,
                ),
            )
        )  # fmt: skip
    return tuple(found)
