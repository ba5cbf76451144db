"""GPT with and without the language-model loss while fine-tuning, and without pre-training.

  pretune study --config=configs/studies/ablations/gpt_auxiliary.py --workdir=runs/gpt-auxiliary

Radford et al. 2018, table 5. They find pre-training to matter most, and the auxiliary loss to help
on larger tasks only: without it the average is a little higher. Arguments:
configs/studies/small.py.
Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small

WITH, WITHOUT = {"objective": {"lm_weight": 0.5}}, {"objective": {"lm_weight": 0.0}}


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("gpt", args)
    arms = {
        "auxiliary": studies.arm("auxiliary LM", finetune=WITH),
        "plain": studies.arm("no auxiliary LM", finetune=WITHOUT),
        "scratch": studies.arm("no pre-training", stages=("finetune",), finetune=WITH),
    }
    c = studies.get_config({"gpt": stages}, arms)
    c.title = "GPT: is it the pre-training, or the auxiliary loss?"
    c.budgets, c.seeds = (256, 1024), (0, 1, 2, 3, 4)
    studies.publish(
        c,
        "Radford et al. 2018, Improving Language Understanding by Generative Pre-Training, table 5",
        ("average", "CoLA", "SST-2"),
        (
            ("auxiliary", 74.7, 45.4, 91.3),
            ("plain", 75.0, 47.9, 92.0),
            ("scratch", 59.9, 18.9, 84.0),
        ),
        (("auxiliary", "scratch"), ("plain", "auxiliary")),
    )
    return c
