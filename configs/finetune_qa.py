r"""Find the answer to a question in a text (SQuAD).

  pretune train --config=configs/finetune_qa.py --config.init_from=runs/bert \
      --config.data.source=train-v1.1.json --config.data.eval_source=dev-v1.1.json \
      --workdir=runs/squad

Arguments: configs/recipes.py; task=squad|squad2, read through TFDS. Files: SQuAD's JSON,
or records with context, question, id and answers {text, answer_start}. What is longer than a row
is read in windows, objective.stride tokens apart. For questions without an answer set
objective.no_answer=True. Metrics: exact_match, f1; predictions.jsonl has the n best of each.
"""

from ml_collections import ConfigDict

from configs import base, recipes


def squad2(c: ConfigDict) -> None:
    """SQuAD 2.0, where half of the questions have no answer (Devlin et al. 2019, section 4.3)."""
    c.data.source, c.objective.no_answer = "tfds:squad/v2.0", True
    if c.epochs:
        c.epochs, c.batch_size = 2.0, 48


TASKS = {"squad": {"source": "tfds:squad/v1.1"}, "squad2": squad2}


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    c = recipes.finetuning(arg, "extractive_qa", "f1", TASKS)
    c.data.text_field, c.data.text_b_field, c.data.label_field = "context", "question", "answers"
    c.data.id_field = "id"
    if c.length < 256:
        c.objective.stride, c.objective.max_question = 48, 32
    return base.lock(c)
