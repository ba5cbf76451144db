r"""What twelve minutes of novels buy each family on film reviews: mini sizes, SST-2, 1,024 labels.

  pretune train --config=configs/novels.py:family=xlnet,stage=short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/xlnet-short
  pretune study --config=configs/studies/families.py:family=xlnet --workdir=runs/sst2-xlnet \
      --config.family.xlnet.pretrain.init_from=runs/xlnet-short \
      --config.family.xlnet.pretrain.data.source='DATA/eltec_eng/txt/*.txt' \
      --config.family.xlnet.finetune.data.source=DATA/glue/SST-2/train_full.tsv \
      --config.family.xlnet.finetune.data.eval_source=DATA/glue/SST-2/dev.tsv

The study pre-trains the second stage, a third of the time. Argument: family, as in
configs/novels.py. Figures: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base, novels
from configs.studies import base as studies
from configs.studies import sst2


def get_config(arg: str = "") -> ConfigDict:
    """The study of one family."""
    family = base.arguments(arg, family="bert")["family"]
    pretrain = novels.get_config(f"family={family},stage=long")
    arms = {"pretrained": studies.arm("pre-trained"), "scratch": studies.scratch()}
    c = studies.get_config({family: {"pretrain": pretrain, "finetune": sst2.finetuning()}}, arms)
    c.title = f"What did pre-training {family} on novels buy on SST-2?"
    c.budgets, c.budget_steps = (1024,), (256,)
    return c
