r"""A number for a text or a pair, such as the similarity of two sentences.

  pretune train --config=configs/finetune_regression.py --config.init_from=runs/bert \
      --config.data.source=train.tsv --config.data.eval_source=dev.tsv \
      --config.data.text_field=sentence1 --config.data.text_b_field=sentence2 \
      --config.data.label_field=score --workdir=runs/stsb

Arguments: configs/recipes.py; task=stsb, read through TFDS. Metrics: pearson, spearman.
"""

from ml_collections import ConfigDict

from configs import base, recipes

TASKS = {
    "stsb": {
        "source": "tfds:glue/stsb", "text_field": "sentence1", "text_b_field": "sentence2"
    },
}  # fmt: skip


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    return base.lock(recipes.finetuning(arg, "regression", "pearson", TASKS))
