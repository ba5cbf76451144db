"""BERT without next-sentence prediction, and from left to right.

  pretune study --config=configs/studies/ablations/bert_objective.py --workdir=runs/bert-objective

Devlin et al. 2019, table 5: next-sentence prediction helps a little, and a model that sees the
earlier tokens only is worse on all tasks. Each arm and seed is pre-trained by itself. Arguments:
configs/studies/small.py. Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("bert", args)
    left_to_right = {"model": {"attention_type": "uni"}}
    arms = {
        "nsp": studies.arm("BERT", pretrain={"objective": {"name": "masked_lm_nsp"}}),
        "plain": studies.arm("no NSP"),
        "ltr": studies.arm(
            "LTR & no NSP",
            pretrain={**left_to_right, "objective": {"name": "causal_lm"}},
            finetune=left_to_right,
        ),
    }
    c = studies.get_config({"bert": stages}, arms)
    c.title = "BERT: what do next-sentence prediction and both directions give?"
    c.budgets, c.seeds, c.seeded = (1024,), (0, 1, 2), ("pretrain",)
    studies.publish(
        c,
        "Devlin et al. 2019, BERT, table 5",
        ("MNLI-m", "QNLI", "MRPC", "SST-2", "SQuAD F1"),
        (
            ("nsp", 84.4, 88.4, 86.7, 92.7, 88.5),
            ("plain", 83.9, 84.9, 86.5, 92.6, 87.9),
            ("ltr", 82.1, 84.3, 77.5, 92.1, 77.8),
        ),
        (("nsp", "plain"), ("plain", "ltr")),
    )
    return c
