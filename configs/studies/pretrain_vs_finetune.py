r"""What pre-training buys, family by family, and how much of the model has to be fine-tuned for it.

  pretune study --config=configs/studies/pretrain_vs_finetune.py --workdir=runs/pvf --jobs=2
  pretune study --config=configs/studies/pretrain_vs_finetune.py:task=sst2,data=DATA/glue/SST-2 \
      --workdir=runs/pvf-sst2 --jobs=2

Five families x six arms x three label budgets x five seeds: 450 fine-tunings after ten
pre-trainings, at tiny sizes. Arguments (configs/studies/small.py): task=area|sst2|scicite,
data=FOLDER, text=SOURCE. Times and figures: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    task, text = small.task(args), args["text"]
    families = {
        name: {
            "pretrain": small.pretraining(name, text),
            "adapt": small.adapting(name, task, text),
            "finetune": small.finetuning(task),
        }
        for name in small.FAMILIES
    }
    c = studies.get_config(families, ARMS)
    c.title = "What does pre-training buy, and how much has to be fine-tuned?"
    c.budgets, c.seeds = (64, 256, 1024), (0, 1, 2, 3, 4)
    c.comparisons = (
        ("full", "scratch"), ("head", "full"), ("gradual", "full"), ("lora", "full"),
        ("continued", "full"),
    )  # fmt: skip
    return c


ARMS = {
    "full": studies.arm("full"),
    "scratch": studies.scratch(),
    # A head by itself takes a higher rate, as LoRA does (configs/regimes.py).
    "head": studies.arm(
        "head only", regime="head_only", finetune={"optimizer": {"learning_rate": 5e-3}}
    ),
    "gradual": studies.arm("gradual unfreezing", regime="gradual"),
    "lora": studies.arm("LoRA", regime="lora"),
    "continued": studies.arm("continued + full", stages=("pretrain", "adapt", "finetune")),
}
