r"""What a state that you have buys over the same model from scratch, and how much must be tuned.

  pretune import --from=FOLDER_OR_HUB_ID --to=runs/base
  pretune study --config=configs/studies/checkpoint.py:state=runs/base,family=bert \
      --workdir=runs/mine --config.family.bert.finetune.data.source=train.csv \
      --config.family.bert.finetune.data.eval_source=test.csv

state=FOLDER of a finished run, imported or your own (runs/base); family=its family, whose published
recipe is taken (configs/recipes.py; without it the recipe for small models, and the name `model` in
the place of the family's). task=area|sst2|scicite, data=FOLDER: configs/studies/small.py. All arms
have the state's architecture and tokenizer. From scratch and for the head alone the rate is five
times the recipe's, as it is for LoRA; none was tuned.
"""

from ml_collections import ConfigDict

from configs import base, finetune_classification
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one state."""
    args = base.arguments(arg, state="runs/base", family="", task="area", data="")
    stage = finetuning(args["state"], args["family"], small.task(args))
    higher = {"optimizer": {"learning_rate": 5 * stage.optimizer.learning_rate}}
    one = ("finetune",)
    arms = {
        "full": studies.arm("full", one),
        "head": studies.arm("head only", one, "head_only", finetune=higher),
        "lora": studies.arm("LoRA", one, "lora"),
        "scratch": studies.arm("scratch", one, finetune={"reinit": (".",), **higher}),
    }
    c = studies.get_config({args["family"] or "model": {"finetune": stage}}, arms)
    c.title = "What does this state buy, and how much of it has to be fine-tuned?"
    c.budgets, c.budget_steps, c.seeds = (64, 1024, 0), (100, 300, 2000), (0, 1, 2, 3, 4)
    c.effects.forgetting = False  # no stage of the study comes before
    c.comparisons = (("full", "scratch"), ("head", "full"), ("lora", "full"))
    return c


def finetuning(state: str, family: str, task: dict[str, str]) -> ConfigDict:
    """The recipe, from this state, measured at its last step."""
    c = finetune_classification.get_config(f"family={family}")
    c.data.update(task)
    c.init_from = state
    c.evaluation.every = c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 10, False
    return c
