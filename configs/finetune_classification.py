r"""Fine-tuning a pre-trained state to classify texts or pairs of texts.

  pretune train --config=configs/finetune_classification.py --config.init_from=runs/bert \
      --config.data.source=train.tsv --config.data.eval_source=dev.tsv \
      --config.data.text_field=sentence --workdir=runs/sst2

Argument: regime, how much is trained, and layers, of how many (configs/regimes.py), for example
`:regime=lora` or `:regime=last_layers,layers=3`.

The architecture and the tokenizer are those of `init_from`. Pairs: set data.text_b_field. To train
the same model from scratch, take its own config and set objective.name=classification.
Recipe: Devlin et al. 2019, section A.3 (batch 32, warmup 10%, linear decay, a few epochs), with a
higher rate than its 2e-5 to 5e-5, as small models need.
"""

from ml_collections import ConfigDict

from configs import base, regimes


def get_config(arg: str = "") -> ConfigDict:
    """The fine-tuning config under a regime."""
    args = base.arguments(arg, regime="everything", layers="2")
    c = base.get_config()
    c.model.family = ""
    recipe(c)
    regimes.apply(c, args["regime"], args["layers"])
    return base.lock(c)


def recipe(c: ConfigDict) -> None:
    """Turns any config into one that classifies."""
    c.objective.name = "classification"
    c.length = 64
    c.batch_size, c.steps = 32, 1000
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 3e-4, 100
    c.evaluation.metric, c.evaluation.higher_is_better = "eval/accuracy", True
    c.evaluation.batch_size = 128
