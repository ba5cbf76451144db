"""Every key of a study, with its default and what it means.

A study is a grid of runs: families x arms x label budgets x seeds. A family is a chain of whole
configs (configs/base.py), one a stage: `--config.family.bert.pretrain.steps=2000` works. An arm
says which of the stages a run goes through, how much trains, and what it changes in them. The last
stage is the one that is fine-tuned on so many labels and measured; the stages before it are done
once for all runs that share them.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

Stages = Mapping[str, ConfigDict]
# Peaks of one chip from the makers' pages; prices on demand, rounded, as of 2026: set your own.
ACCELERATORS = (
    ("TPU v5e", 197e12, 1.2),
    ("TPU v6e", 918e12, 2.7),
    ("A100", 312e12, 3.67),
    ("H100", 989e12, 12.29),
)


def get_config(families: Mapping[str, Stages], arms: Mapping[str, ConfigDict]) -> ConfigDict:
    """A study of these families (name -> stage -> config) and arms, with the default grid.

    The comments here are what ``pretune study --help`` prints.
    """
    c = ConfigDict()
    c.title = "What did pre-training buy?"
    c.family = ConfigDict({name: dict(stages) for name, stages in families.items()})
    c.arm = ConfigDict(dict(arms))
    c.families = tuple(families)  # names of those to run, in order
    c.arms = tuple(arms)  # likewise
    c.budgets = (64, 256, 0)  # labelled examples to fine-tune on; 0: all
    c.budget_steps = ()  # steps of the last stage, one number for each budget; (): its config's
    c.seeds = (0, 1, 2)  # of initialisation, order and choice of the labelled examples
    c.seeded = ()  # earlier stages that are done anew for each seed; the others are done once
    c.metric = "eval/accuracy"  # of the last step: nothing is selected on the evaluation split
    c.comparisons = ()  # pairs of arms; (): the first with each of the others
    c.resamples = 10_000  # bootstrap replicates

    c.equal = ConfigDict()  # what is the same in all runs, by way of their steps
    c.equal.what = "steps"  # steps | tokens | flops | seconds (measured by a probe on this device)
    # in which stages: those of the first family's first arm; or ("total",): of each first arm
    c.equal.stages = ()

    c.effects = ConfigDict()  # side effects, measured on every run that was pre-trained
    c.effects.forgetting = True  # the first stage's loss on its held-out text, before and after
    c.effects.score = ()  # KIND:SOURCE of `pretune score --tasks`, e.g. ("crows_pairs:pairs.csv",)
    c.effects.max_items = 0  # of each of these, from its beginning; 0: all
    c.effects.seeds = ()  # seeds whose runs are scored; (): all

    c.store = ""  # stages before the last are kept here, for other studies; "": WORKDIR/../store
    c.keep = False  # the parameters of the last stages as well, which are large

    # (name, peak FLOP/s in bfloat16, dollars an hour): what a run would cost there
    c.accelerators = ACCELERATORS
    c.utilisation = 0.4  # the share of that peak at which its FLOPs would be done

    c.published = ConfigDict()  # what a paper found, for a study that repeats an ablation
    c.published.source = ""  # paper and table
    c.published.columns = ()  # of the table
    c.published.rows = ()  # (arm, figures...) in the order of the columns
    c.published.expected = ()  # pairs of arms, the better one first
    return c.lock()


def arm(
    label: str,
    stages: tuple[str, ...] = ("pretrain", "finetune"),
    regime: str = "everything",
    layers: str = "2",
    **changes: dict[str, Any],
) -> ConfigDict:
    """One arm.

    Args:
      label: its name for people.
      stages: that a run goes through, in order.
      regime: how much trains in the last one (configs/regimes.py).
      layers: for the regimes that count layers.
      **changes: of each stage, nested as the config is: ``pretrain={"objective": {...}}``.
    """
    c = ConfigDict()
    c.label = label
    c.stages = stages
    c.regime, c.layers = regime, layers
    c.changes = ConfigDict(changes)
    return c


def scratch() -> ConfigDict:
    """The same model without any pre-training."""
    return arm("scratch", stages=("finetune",))


def publish(
    c: ConfigDict, source: str, columns: tuple[str, ...], rows: tuple[tuple[Any, ...], ...],
    expected: tuple[tuple[str, str], ...],
) -> None:  # fmt: skip
    """Says which published ablation a study repeats; what it expects is what is compared.

    Args:
      c: the study.
      source: paper and table.
      columns: of the table.
      rows: (arm, figures...), or (a row's own name, figures...) where the study has no such arm.
      expected: pairs of arms, the better one first.
    """
    c.published.source, c.published.columns = source, columns
    c.published.rows, c.published.expected = rows, expected
    c.comparisons = expected
