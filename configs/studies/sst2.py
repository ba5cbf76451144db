r"""What pre-training on novels buys on film reviews: BERT-mini, SST-2, 64, 1,024 and all labels.

  pretune study --config=configs/studies/sst2.py --workdir=runs/sst2 \
      --config.pretrain.data.source='DATA/eltec_eng/txt/*.txt' \
      --config.finetune.data.source=DATA/glue/SST-2/train_full.tsv \
      --config.finetune.data.eval_source=DATA/glue/SST-2/dev.tsv

The pre-training has been run; the comparison itself not yet (docs/results.md).
"""

from ml_collections import ConfigDict

from configs import base, bert, finetune_classification
from configs.studies import base as studies


def get_config(arg: str = "") -> ConfigDict:
    """The study; it takes no argument."""
    base.arguments(arg)
    c = studies.get_config(pretraining(), finetuning())
    c.title = "What did pre-training on novels buy on SST-2?"
    c.budgets = (64, 1024, 0)
    return c


def pretraining() -> ConfigDict:
    """Masked LM for less than 30 CPU minutes: what a small model learns fastest from.

    Short rows and small initial weights: with rows of 64 and weights of 1/sqrt(width) this model is
    still at the unigram loss (6.38) after 1,480 steps of 2,048 tokens; this one ends at 5.76, for
    27.4 CPU minutes.
    """
    c = bert.get_config("size=mini")
    c.tokenizer.vocab_size = 4096
    c.model.initializer_std = 0.03
    c.model.dropout = 0.0  # a third of the text is seen, once
    c.objective.mask_rate = 0.4
    c.steps, c.batch_size, c.length = 4400, 20, 48
    c.optimizer.learning_rate, c.optimizer.warmup_steps, c.optimizer.b2 = 1e-3, 100, 0.98
    c.evaluation.every, c.evaluation.max_rows = 1100, 500
    c.checkpoint.every, c.checkpoint.keep = 1100, 1
    return c


def finetuning() -> ConfigDict:
    """The same for both arms; the architecture is the pre-training's."""
    c = finetune_classification.get_config()
    c.data.text_field = "sentence"
    c.steps, c.batch_size, c.length = 120, 32, 48
    c.evaluation.every = c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 10, False
    return c
