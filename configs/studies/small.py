"""Stages that two cores run in minutes: what the shipped studies are made of.

Each is one config for all families: the same text, rows and steps. `task` reads the arguments that
such studies share: task=area (which library area does a passage of the documentation describe; out
of the box) | sst2 | scicite, data=FOLDER of the task's files (train_full.tsv and dev.tsv; train.txt
and dev.txt of JSON lines), text=SOURCE to pre-train on (without it pydocs).
"""

from ml_collections import ConfigDict

from configs import base, bert, finetune_classification, gpt, roberta, t5, xlnet

ARGUMENTS = {"task": "area", "data": "", "text": ""}
FAMILIES = {"bert": bert, "roberta": roberta, "gpt": gpt, "xlnet": xlnet, "t5": t5}
# More is predicted of a row than in the published recipes, which had a thousand times the steps.
OBJECTIVES = {
    "bert": {"mask_rate": 0.4},
    "roberta": {"mask_rate": 0.4},
    "gpt": {},
    "xlnet": {"span_context": 3},
    "t5": {"noise_rate": 0.4},
}
TASKS = {  # values of config.data
    "area": {"source": "tfds:pydocs/area", "eval_split": "test", "text_field": "text"},
    "sst2": {"source": "{}/train_full.tsv", "eval_source": "{}/dev.tsv", "text_field": "sentence"},
    "scicite": {
        "source": "{}/train.txt", "eval_source": "{}/dev.txt", "text_field": "text",
        "format": "jsonl",
    },
}  # fmt: skip


def task(args: dict[str, str]) -> dict[str, str]:
    """Values of config.data for the arguments task and data."""
    name, folder = args["task"], args["data"]
    found = base.choose("task", name, TASKS)
    if name != "area" and not folder:
        raise base.ConfigError(
            f"Task {name} is read from files: say in which folder, as in task={name},data=FOLDER."
        )
    return {key: value.format(folder) for key, value in found.items()}


def stages(family: str, args: dict[str, str]) -> dict[str, ConfigDict]:
    """Pre-training and the task, by the arguments of a study."""
    return {
        "pretrain": pretraining(family, args["text"]),
        "finetune": finetuning(task(args)),
    }


def pretraining(name: str, text: str) -> ConfigDict:
    """The quickstart's recipe, shorter."""
    c = FAMILIES[name].get_config("size=tiny")
    if text:
        c.data.source = text
    else:
        c.data.eval_split = "validation"
    c.tokenizer.vocab_size = 2048
    c.model.initializer_std = 0.08
    c.model.dropout = 0.0  # the text is seen less than twice: nothing to regularise
    if name == "xlnet":
        c.model.mem_len = c.model.reuse_len = 0
    c.objective.update(OBJECTIVES[name])
    c.steps, c.batch_size, c.length = 1500, 32, 64
    c.optimizer.learning_rate, c.optimizer.warmup_steps, c.optimizer.b2 = 1.5e-3, 100, 0.98
    c.evaluation.every, c.evaluation.max_rows = 750, 256
    c.checkpoint.every, c.checkpoint.keep = 750, 1
    c.logging.tensorboard = False
    return c


def adapting(name: str, task: dict[str, str], text: str) -> ConfigDict:
    """Pre-training that goes on with the task's own texts (TAPT, Gururangan et al. 2020)."""
    c = pretraining(name, text)
    c.data.source, c.data.text_field, c.data.eval_split = task["source"], task["text_field"], ""
    c.data.format = task.get("format", "")
    c.steps = 200
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 5e-4, 20
    c.evaluation.every = c.checkpoint.every = 200
    return c


def finetuning(task: dict[str, str]) -> ConfigDict:
    """The same for all families, arms and budgets; the architecture is the pre-training's."""
    c = finetune_classification.get_config()
    c.data.update(task)
    c.objective.pooling = "mean"
    c.steps, c.batch_size, c.length = 80, 16, 64
    c.optimizer.learning_rate = 1e-3
    c.evaluation.every, c.evaluation.batch_size = 40, 120
    c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 10, False
    return c
