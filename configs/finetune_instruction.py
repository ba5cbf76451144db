r"""Follow instructions: a decoder learns the answers of conversations.

  pretune train --config=configs/finetune_instruction.py --config.init_from=runs/gpt \
      --config.data.source=chats.jsonl --workdir=runs/chat

Arguments: configs/recipes.py (family=gpt). Records have the list `messages` of objects with `role`
and `content`; or set data.tasks to (source, prompt, answer) triples. The loss is on the answers
only; conversations are packed; objective.chat_template says how roles are written.
"""

from ml_collections import ConfigDict

from configs import base, recipes


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe."""
    c = recipes.finetuning(arg, "instruction", "loss", {})
    c.data.text_field = "messages"
    c.evaluation.higher_is_better = False
    return base.lock(c)
