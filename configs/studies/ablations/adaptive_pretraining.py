r"""Pre-training that goes on in the task's domain (DAPT), on the task's texts (TAPT), or both.

  pretune study --config=configs/studies/ablations/adaptive_pretraining.py:text='NOVELS/*.txt' \
      --workdir=runs/adaptive

Gururangan et al. 2020, table 5. Theirs is RoBERTa and four domains; here a small RoBERTa is
pre-trained on text (novels), the domain is the documentation of Python (pydocs/text), and the task
tells its library areas apart (pydocs/area). The steps of what goes on come on top of the
pre-training, as in the paper. Each stage is done once, for all seeds. Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study for one text to pre-train on."""
    text = base.arguments(arg, text="")["text"]
    task = small.TASKS["area"]
    stages = {
        "pretrain": small.pretraining("roberta", text),
        "domain": small.pretraining("roberta", ""),
        "task": small.adapting("roberta", task, text),
        "finetune": small.finetuning(task),
    }
    stages["domain"].steps = 500
    arms = {
        "base": studies.arm("RoBERTa"),
        "dapt": studies.arm("DAPT", stages=("pretrain", "domain", "finetune")),
        "tapt": studies.arm("TAPT", stages=("pretrain", "task", "finetune")),
        "both": studies.arm("DAPT + TAPT", stages=("pretrain", "domain", "task", "finetune")),
    }
    c = studies.get_config({"roberta": stages}, arms)
    c.title = "What does it buy to go on pre-training in the domain, and on the task's texts?"
    c.budgets, c.seeds = (256, 1024), (0, 1, 2, 3, 4)
    studies.publish(
        c,
        "Gururangan et al. 2020, Don't Stop Pretraining, table 5",
        ("ChemProt", "ACL-ARC", "SciERC", "IMDB"),
        (
            ("base", 81.9, 63.0, 77.3, 95.0),
            ("dapt", 84.2, 75.4, 80.8, 95.4),
            ("tapt", 82.6, 67.4, 79.3, 95.5),
            ("both", 84.4, 75.6, 81.3, 95.6),
        ),
        (("dapt", "base"), ("tapt", "base"), ("both", "base"), ("dapt", "tapt")),
    )
    return c
