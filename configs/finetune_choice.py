r"""Choose the right one of several texts.

  pretune train --config=configs/finetune_choice.py --config.init_from=runs/gpt \
      --config.data.source=train.jsonl --config.data.eval_source=dev.jsonl --workdir=runs/choice

Arguments: configs/recipes.py; task=NAME, one of `TASKS`, read through TFDS (whose builder of copa
needs TensorFlow: name SuperGLUE's own files instead). Records have `query` (a text before it:
data.text_field, and the query data.text_b_field), the list `choices` (or a field each:
data.choice_fields) and `gold`, the right one's number from 0. Metric: accuracy.
"""

from ml_collections import ConfigDict

from configs import base, recipes

TASKS = {
    "piqa": {
        "source": "tfds:piqa", "text_field": "goal", "choice_fields": ("sol1", "sol2"),
        "label_field": "label",
    },
    "cosmos_qa": {
        "source": "tfds:cosmos_qa", "text_field": "context", "text_b_field": "question",
        "label_field": "label",
        "choice_fields": ("answer0", "answer1", "answer2", "answer3"),
    },
    "copa": {
        "source": "tfds:super_glue/copa", "text_field": "premise", "text_b_field": "question",
        "label_field": "label",
        "choice_fields": ("choice1", "choice2"),
    },
}  # fmt: skip


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    c = recipes.finetuning(arg, "multiple_choice", "accuracy", TASKS)
    if c.data.text_field == "text":
        c.data.text_field, c.data.label_field = "query", "gold"
    return base.lock(c)
