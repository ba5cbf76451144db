"""What the fine-tuning configs share: their arguments, and how each family's paper fine-tunes it.

Arguments of every configs/finetune_*.py:
  family=bert|roberta|xlnet|t5|gpt   the published recipe; without it, one for small models
  task=NAME                          a data set by name, where the file lists some
  regime=NAME[,layers=N]             how much is trained (configs/regimes.py)

The architecture and the tokenizer are those of `init_from`. To train the same model from scratch,
take its own pre-training config and set the objective's name.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base, regimes

LONG = ("extractive_qa",)  # tasks on paragraphs, for which papers give a recipe of their own


def finetuning(
    arg: str,
    objective: str,
    metric: str,
    tasks: Mapping[str, Callable[[ConfigDict], None] | dict[str, Any]],
) -> ConfigDict:
    """The config of a task; not locked yet.

    Args:
      arg: the config's argument.
      objective: config.objective.name.
      metric: by which the best is known; the higher the better.
      tasks: name -> values of config.data, or a function that changes the config.
    """
    args = base.arguments(arg, family="", task="", regime="everything", layers="2")
    c = base.get_config()
    c.model.family = ""
    c.objective.name = objective
    c.data.eval_split = "validation" if args["task"] else ""
    c.evaluation.metric, c.evaluation.higher_is_better = f"eval/{metric}", True
    c.evaluation.batch_size = 128
    base.choose("fine-tuning recipe", args["family"], RECIPES)(c)
    if args["task"]:
        found = base.choose("task", args["task"], tasks)
        if isinstance(found, dict):
            c.data.update(found)
        else:
            found(c)
    regimes.apply(c, args["regime"], args["layers"])
    return c


def small(c: ConfigDict) -> None:
    """For models of a few million parameters, which need higher rates than their papers' large."""
    c.length, c.batch_size, c.steps = 64, 32, 1000
    c.optimizer.learning_rate, c.optimizer.warmup_share = 3e-4, 0.1
    if c.objective.name in LONG:
        c.length, c.evaluation.batch_size = 128, 64


def bert(c: ConfigDict) -> None:
    """Devlin et al. 2019, section A.3 (rates 2e-5 to 5e-5), 4.2; 384 tokens as published code."""
    c.length, c.batch_size, c.epochs = 128, 32, 3.0
    c.optimizer.learning_rate, c.optimizer.warmup_share = 3e-5, 0.1
    if c.objective.name in LONG:
        c.length, c.optimizer.learning_rate = 384, 5e-5


def roberta(c: ConfigDict) -> None:
    """Liu et al. 2019, table 10 (rates 1e-5 to 3e-5, batches of 16 or 32)."""
    c.length, c.batch_size, c.epochs = 128, 32, 10.0
    o = c.optimizer
    o.learning_rate, o.warmup_share, o.weight_decay = 2e-5, 0.06, 0.1
    o.b2, o.clip_norm = 0.98, 0.0
    if c.objective.name in LONG:
        c.length, c.batch_size, c.epochs = 512, 48, 2.0
        o.learning_rate, o.weight_decay = 1.5e-5, 0.01


def xlnet(c: ConfigDict) -> None:
    """Yang et al. 2019, section A.4, and published code (IMDB, SQuAD).

    Their decay of rates with depth spares the last layer and the embeddings; ours begins at the
    last layer, and the embeddings are the deepest.
    """
    c.length, c.batch_size, c.steps = 128, 32, 4000
    o = c.optimizer
    o.learning_rate, o.warmup_steps, o.weight_decay = 2e-5, 500, 0.0
    if c.objective.name in LONG:
        c.length, c.batch_size, c.steps = 512, 48, 8000
        o.learning_rate, o.warmup_steps, o.layer_decay = 3e-5, 1000, 0.75


def t5(c: ConfigDict) -> None:
    """Raffel et al. 2020, section 3.1.3: Adafactor at 1e-3, 2^18 steps of 128 rows of 512."""
    c.length, c.batch_size, c.steps = 512, 128, 2**18
    o = c.optimizer
    o.name, o.schedule, o.learning_rate, o.warmup_steps = "adafactor", "constant", 1e-3, 0
    o.weight_decay = o.clip_norm = 0.0
    c.evaluation.every = c.checkpoint.every = 5000


def gpt(c: ConfigDict) -> None:
    """Radford et al. 2018, section 4.1: three epochs, and half of the text's own loss."""
    c.length, c.batch_size, c.epochs = 512, 32, 3.0
    c.optimizer.learning_rate, c.optimizer.warmup_share = 6.25e-5, 0.002
    if c.objective.name == "classification":
        c.objective.lm_weight = 0.5


RECIPES = {"": small, "bert": bert, "roberta": roberta, "xlnet": xlnet, "t5": t5, "gpt": gpt}
