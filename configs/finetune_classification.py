r"""Classify texts or pairs of texts.

  pretune train --config=configs/finetune_classification.py --config.init_from=runs/bert \
      --config.data.source=train.tsv --config.data.eval_source=dev.tsv \
      --config.data.text_field=sentence --workdir=runs/sst2
  pretune train --config=configs/finetune_classification.py:family=bert,task=mnli \
      --config.init_from=runs/bert-base --workdir=runs/mnli

Arguments: configs/recipes.py; task=NAME, one of `TASKS`, read through TFDS. (Its builder
of SuperGLUE needs TensorFlow: for boolq and cb name SuperGLUE's own files in data.source and
data.eval_source.) Pairs: set data.text_b_field. Metrics: accuracy, f1 (of the
second of two classes, in the order of data.labels; else the mean over classes), matthews.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base, recipes


def glue(name: str, first: str, second: str = "", labels: tuple[str, ...] = ()) -> dict[str, Any]:
    """Where GLUE's task is, the fields of its texts, and the order of its labels.

    That matters where F1 is asked for, which is of the second of two.
    """
    fields = {"text_field": first, "text_b_field": second, "labels": labels}
    return {"source": f"tfds:glue/{name}", **fields}


def cola(c: ConfigDict) -> None:
    """Judged by Matthews' correlation (Warstadt et al. 2019)."""
    c.data.update(glue("cola", "sentence"))
    c.evaluation.metric = "eval/matthews"


def mnli(c: ConfigDict) -> None:
    """On the matched half of the development set."""
    c.data.update(glue("mnli", "premise", "hypothesis"))
    c.data.eval_split = "validation_matched"


def imdb(c: ConfigDict) -> None:
    """Evaluated on the test split, as in the papers, in rows of 512; long ones lose their end."""
    c.data.source, c.data.eval_split = "tfds:imdb_reviews", "test"
    c.length = 512 if c.length >= 128 else 128


TASKS = {
    "sst2": glue("sst2", "sentence"),
    "cola": cola,
    "mrpc": glue("mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "qqp": glue("qqp", "question1", "question2", ("not_duplicate", "duplicate")),
    "mnli": mnli,
    "qnli": glue("qnli", "question", "sentence"),
    "rte": glue("rte", "sentence1", "sentence2"),
    "wnli": glue("wnli", "sentence1", "sentence2"),
    "boolq": {
        "source": "tfds:super_glue/boolq", "text_field": "question", "text_b_field": "passage"
    },
    "cb": {
        "source": "tfds:super_glue/cb", "text_field": "premise", "text_b_field": "hypothesis"
    },
    "imdb": imdb,
}  # fmt: skip


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    return base.lock(recipes.finetuning(arg, "classification", "accuracy", TASKS))
