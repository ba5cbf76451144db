r"""What pre-training on novels buys on film reviews: BERT-mini, SST-2, 64, 1,024 and all labels.

  pretune train --config=configs/bert_novels.py:stage=short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/novels-short
  pretune study --config=configs/studies/sst2.py --workdir=runs/sst2 \
      --config.family.bert.pretrain.init_from=runs/novels-short \
      --config.family.bert.pretrain.data.source='DATA/eltec_eng/txt/*.txt' \
      --config.family.bert.finetune.data.source=DATA/glue/SST-2/train_full.tsv \
      --config.family.bert.finetune.data.eval_source=DATA/glue/SST-2/dev.tsv

The study's table counts the second stage of the pre-training only; the first took 19 CPU minutes.
Figures: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base, bert_novels, finetune_classification
from configs.studies import base as studies


def get_config(arg: str = "") -> ConfigDict:
    """The study; it takes no argument."""
    base.arguments(arg)
    stages = {"pretrain": bert_novels.get_config("stage=long"), "finetune": finetuning()}
    arms = {"pretrained": studies.arm("pre-trained"), "scratch": studies.scratch()}
    c = studies.get_config({"bert": stages}, arms)
    c.title = "What did pre-training on novels buy on SST-2?"
    c.budgets = (64, 1024, 0)
    c.budget_steps = (120, 256, 2105)  # the last: all 67,349 examples once
    return c


def finetuning() -> ConfigDict:
    """The same for both arms; the architecture is the pre-training's. No setting was tuned."""
    c = finetune_classification.get_config()
    c.data.text_field = "sentence"
    c.model.dtype = "bfloat16"
    c.objective.pooling = "mean"
    c.batch_size, c.length = 32, 48
    c.evaluation.every = c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 20, False
    return c
