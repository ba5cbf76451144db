r"""Answer texts with texts: T5's tasks, or the same for a GPT.

  pretune train --config=configs/finetune_text_to_text.py --config.init_from=runs/t5 \
      --config.data.tasks='(("train.tsv", "sst2 sentence: {sentence}", "{label}"),)' \
      --config.data.eval_tasks='(("dev.tsv", "sst2 sentence: {sentence}", "{label}"),)' \
      --workdir=runs/sst2-text

Arguments: configs/recipes.py (gpt takes objective.name=instruction, a prompt and its answer
in one row); task=NAME, one of `TASKS`, read through TFDS, with T5's templates (Raffel et al. 2020,
appendix D). At each evaluation so many held-out texts are answered as evaluation.generate says.
Metrics: exact_match, rouge1, rouge2, rougeL, bleu.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import base, recipes


def task(source: str, template: str, target: str, answer: int) -> Callable[[ConfigDict], None]:
    """A TFDS data set with its templates, and the tokens of an answer."""

    def change(c: ConfigDict) -> None:
        c.data.tasks = c.data.eval_tasks = ((source, template, target),)
        c.objective.target_length = answer

    return change


TASKS = {
    "sst2": task("tfds:glue/sst2", "sst2 sentence: {sentence}", "{label}", 8),
    "cola": task("tfds:glue/cola", "cola sentence: {sentence}", "{label}", 8),
    "rte": task("tfds:glue/rte", "rte sentence1: {sentence1} sentence2: {sentence2}", "{label}", 8),
    "mrpc": task(
        "tfds:glue/mrpc", "mrpc sentence1: {sentence1} sentence2: {sentence2}", "{label}", 8
    ),
    "cnn_dailymail": task("tfds:cnn_dailymail", "summarize: {article}", "{highlights}", 128),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config of one recipe and task."""
    c = recipes.finetuning(arg, "text_to_text", "exact_match", TASKS)
    if "family=gpt" in arg.split(","):
        c.objective.name = "instruction"
    c.data.source = ""
    c.evaluation.generate, c.evaluation.every = 256, 0
    return base.lock(c)
