r"""A tag for each word, such as named entities in BIO.

  pretune train --config=configs/finetune_tokens.py --config.init_from=runs/bert \
      --config.data.source=train.conll --config.data.eval_source=dev.conll --workdir=runs/ner

Arguments: configs/recipes.py; task=conll2003, read through TFDS. Files: CoNLL's columns
(word first, tag last), or records with the lists `tokens` and `tags`. Metrics: precision, recall
and f1 of entities (seqeval).
"""

from ml_collections import ConfigDict

from configs import base, recipes


def conll2003(c: ConfigDict) -> None:
    """Tjong Kim Sang & De Meulder 2003; its development split is called dev in TFDS."""
    c.data.source, c.data.eval_split, c.data.label_field = "tfds:conll2003", "dev", "ner"


TASKS = {"conll2003": conll2003}


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    c = recipes.finetuning(arg, "token_classification", "f1", TASKS)
    c.data.text_field = "tokens"
    if c.data.label_field == "label":
        c.data.label_field = "tags"
    return base.lock(c)
