"""T5: how much of the text to corrupt, and in how long spans.

  pretune study --config=configs/studies/ablations/t5_corruption.py --workdir=runs/t5-corruption

Raffel et al. 2020, tables 6 (rates) and 7 (mean span lengths at 15%). They find little difference
but for 50%, and spans of three a little better than tokens drawn one by one. (Those make spans of
1 / (1 - rate) on average, which is what the two arms of single tokens have here.) Each arm and seed
is pre-trained by itself. Arguments: configs/studies/small.py. Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("t5", args)
    arms = {
        "span3": corrupted(0.15, 3.0),
        "span10": corrupted(0.15, 10.0),
        "rate15": corrupted(0.15),
        "rate50": corrupted(0.5),
    }
    c = studies.get_config({"t5": stages}, arms)
    c.title = "T5: how much to corrupt, in how long spans?"
    c.budgets, c.seeds, c.seeded = (1024,), (0, 1, 2), ("pretrain",)
    studies.publish(
        c,
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning (T5), tables 6 and 7",
        ("GLUE", "CNN/DM", "SQuAD", "SuperGLUE"),
        (
            ("span3", 83.49, 19.62, 81.84, 72.53),
            ("span10", 82.85, 19.33, 81.84, 70.44),
            ("rate15", 83.28, 19.24, 80.88, 71.36),
            ("rate50", 81.27, 19.32, 79.80, 70.33),
        ),
        (("span3", "rate15"), ("span3", "span10"), ("rate15", "rate50")),
    )
    return c


def corrupted(rate: float, span: float = 0.0) -> ConfigDict:
    """An arm that is pre-trained with this noise; without a span, of single tokens."""
    label = f"{rate:.0%} in spans of {span:.0f}" if span else f"{rate:.0%} of single tokens"
    noise = {"noise_rate": rate, "mean_span": span or 1 / (1 - rate)}
    return studies.arm(label, pretrain={"objective": noise})
