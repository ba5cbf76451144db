"""What the figures of a report are, in sentences."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from train.study.plan import Run, anew, listed
from train.study.summary import ALPHA, TWO_LEVEL, Summary


def caption(study: ConfigDict, summary: Summary, runs: Sequence[Run]) -> str:
    """What the numbers are and how the intervals were made."""
    unit = ", in per cent" if summary.scale == 100 else ""
    better = "higher" if summary.higher_is_better else "lower"
    same = "examples, order and steps" if same_steps(runs) else "examples and order"
    return (
        f"{summary.metric} of the last step{unit} ({better} is better). 95% intervals: "
        f"{summary.method}, {study.resamples:,} resamples, seeds per cell: {len(study.seeds)}; "
        f"differences are paired by seed: same labelled {same} for both arms. "
        f"p: {summary.test}, corrected for "
        f"{counted(len(summary.comparisons), 'comparison', 'comparisons')} (Holm 1979); resolved "
        f"below {ALPHA}. In verdicts: the 95% t interval, which is not corrected, and the "
        "corrected p: also where nothing is resolved, the interval may leave 0 out."
    )


def same_steps(runs: Sequence[Run]) -> bool:
    """Whether the last stage takes equally many steps in all arms of a family at a budget."""
    found: dict[tuple, set[int]] = {}
    for run in runs:
        if run.last:
            found.setdefault((run.family, run.budget), set()).add(run.config.steps)
    return all(len(steps) == 1 for steps in found.values())


def warning(study: ConfigDict, summary: Summary, runs: Sequence[Run]) -> str:
    """How far the intervals can be trusted."""
    seeds = len(study.seeds)
    if seeds < 2:
        return "One seed gives no interval: nothing is said about what another seed would give."
    examples = (
        "Evaluation examples are resampled too. "
        if summary.method == TWO_LEVEL
        else "Evaluation examples are not resampled: the intervals hold for these examples only. "
    )
    if seeds < 10:
        examples += (
            f"With {seeds} seeds a percentile bootstrap over seeds is narrow (resampling seeds "
            "alone, it covers about 75% of the time with 3 and 83% with 5, not 95%): compare the t "
            "interval of the difference. "
        )
    once = dict.fromkeys(
        run.stage
        for run in runs
        if not run.last and not any(anew(study, one) for one in (*run.before, run))
    )
    if once:
        examples += (
            f"Each {listed(list(once))} was run once, for all seeds: the intervals do not hold its "
            "own variation."
        )
    return examples.strip()


def opening(study: ConfigDict, summary: Summary) -> str:
    """The size of the study."""
    sizes = [
        counted(len(study.families), "family", "families"),
        counted(len(study.arms), "arm", "arms"),
        counted(len(study.budgets), "label budget", "label budgets"),
        counted(len(study.seeds), "seed", "seeds"),
    ]
    runs = len(study.families) * len(study.arms) * len(study.budgets) * len(study.seeds)
    last = sum(bool(record["arm"]) for record in summary.failed)
    shared = len(summary.failed) - last
    failed = f", {last:,} failed" if last else ""
    if shared:
        failed += f"; {counted(shared, 'shared stage', 'shared stages')} failed"
    return f"{' × '.join(sizes)} = {counted(runs, 'run', 'runs')}{failed}"


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun: "1 run", "2 runs"."""
    return f"{number:,} {one if number == 1 else many}"


def outcome(summary: Summary) -> str:
    """How many comparisons are resolved, and what became of the expected orderings."""
    total = len(summary.comparisons)
    resolved = sum(bool(c.resolved) for c in summary.comparisons)
    text = f"{resolved} of {counted(total, 'comparison', 'comparisons')} resolved."
    orders = [c.ordering for c in summary.comparisons if c.ordering]
    if orders:
        kinds = ("confirmed", "contradicted", "not resolved")
        told = ", ".join(f"{orders.count(kind)} {kind}" for kind in kinds)
        text += f" Expected orderings: {told}."
    return text


DEGENERATE = (
    "Degenerate: no better than always naming the most frequent class (Mosbach et al. 2021, "
    "section 4, call that a failed fine-tuning)."
)
RESULTS = f"In the plot: mean and interval, and a dot per seed. {DEGENERATE}"
COMPUTE = (
    "FLOPs are counted in the program (matrix products), training only. All stages in full: each "
    "run with the whole of the stages before it, though runs share them."
)
TIME = (
    "Wall time is that of the training loop on the machine that did the run: compilation, "
    "evaluation and, where a run saves checkpoints, saving them included; the first run of a shape "
    "compiles for the others."
)
PROGRESS = (
    "Seconds of training in the last stage, without compilation and evaluation, at each "
    "evaluation; means over seeds. An arm can be as good before the evaluation that shows it."
)
FORGETTING = (
    "Loss of the first stage's objective on its held-out text (nats a predicted token). Before: at "
    "the end of the first stage. After: at the end of the run, after all stages between. What is "
    "forgotten is after minus before."
)
SCORES = (
    "Means over runs; differences are paired by item. Standard error: over items and over seeds, "
    "their variances added."
)


RESOURCES = (
    "Means over finished runs of the last stage; peak memory is the largest, of a training step on "
    "one device, as the compiler plans it. Stages that runs share have rows of their own (no "
    "labels)."
)


def dollars(study: ConfigDict) -> str:
    """What the columns of dollars hold."""
    return (
        "Dollars are an estimate from FLOPs, not a measurement: the run's with all stages before "
        f"it, done at {100 * study.utilisation:.0f}% of the accelerator's peak in bfloat16, at the "
        "price an hour that the study's config names."
    )
