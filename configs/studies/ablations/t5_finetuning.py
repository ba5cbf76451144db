"""T5: fine-tune everything, adapters alone, or unfreeze gradually.

  pretune study --config=configs/studies/ablations/t5_finetuning.py --workdir=runs/t5-finetuning

Raffel et al. 2020, table 10: everything is best; adapters need size; gradual unfreezing loses a
little. (Theirs are text-to-text and 2^18 steps; here a class is predicted. Bottlenecks of 8 and 64
for a width of 128 stand for 32 and 512 for 768.) Arguments: configs/studies/small.py. Verdicts:
docs/results.md.
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
        "all": studies.arm("all parameters"),
        "small": studies.arm(
            "adapters of 8", regime="adapters", finetune={"adapters": {"bottleneck": 8}}
        ),
        "large": studies.arm("adapters of 64", regime="adapters"),
        "gradual": studies.arm("gradual unfreezing", regime="gradual_t5"),
    }
    c = studies.get_config({"t5": stages}, arms)
    c.title = "T5: which parameters to fine-tune?"
    c.budgets, c.seeds = (256, 1024), (0, 1, 2, 3, 4)
    studies.publish(
        c,
        "Raffel et al. 2020, Exploring the Limits of Transfer Learning (T5), table 10",
        ("GLUE", "CNN/DM", "SQuAD", "SuperGLUE"),
        (
            ("all", 83.28, 19.24, 80.88, 71.36),
            ("small", 80.52, 15.08, 79.32, 60.40),
            ("large", 81.54, 17.78, 79.18, 64.30),
            ("gradual", 82.50, 18.95, 79.17, 70.79),
        ),
        (("all", "small"), ("all", "large"), ("all", "gradual"), ("large", "small")),
    )
    return c
