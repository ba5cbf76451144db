"""Masks that are drawn once against masks that are drawn anew in each epoch.

  pretune study --config=configs/studies/ablations/roberta_masking.py --workdir=runs/roberta-masking

Liu et al. 2019, table 1: dynamic masking is comparable or slightly better. Theirs was 10 static
masks over 40 epochs, each seen four times; here one mask is seen in all epochs of a tenth of the
text. Each arm and seed is pre-trained by itself. Arguments: configs/studies/small.py (a `text`
is taken whole). Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("bert", args)
    pretrain = stages["pretrain"]
    pretrain.data.split = "train[:10%]"  # of TFDS sources
    arms = {
        "static": studies.arm("static", pretrain={"data": {"copies": 1}}),
        "dynamic": studies.arm("dynamic"),
    }
    c = studies.get_config({"bert": stages}, arms)
    c.title = "Are masks better drawn anew in each epoch?"
    c.budgets, c.seeds, c.seeded = (1024,), (0, 1, 2), ("pretrain",)
    studies.publish(
        c,
        "Liu et al. 2019, RoBERTa, table 1",
        ("SQuAD 2.0 F1", "MNLI-m", "SST-2"),
        (("static", 78.3, 84.3, 92.5), ("dynamic", 78.7, 84.0, 92.9)),
        (("dynamic", "static"),),
    )
    return c
