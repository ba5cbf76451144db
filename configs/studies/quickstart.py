"""What pre-training buys on a laptop: BERT-tiny on the documentation of Python, minutes on a CPU.

  pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart

Pre-trains on `pydocs/text`, then tells library areas apart (`pydocs/area`) with 64, 256 and all
labels, five seeds each, against the same model from scratch. Times and figures: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base, bert, finetune_classification
from configs.studies import base as studies


def get_config(arg: str = "") -> ConfigDict:
    """The study; it takes no argument."""
    base.arguments(arg)
    families = {"bert": {"pretrain": pretraining(), "finetune": finetuning()}}
    arms = {"pretrained": studies.arm("pre-trained"), "scratch": studies.scratch()}
    c = studies.get_config(families, arms)
    c.budget_steps = (60, 100, 140)
    c.seeds = (0, 1, 2, 3, 4)
    return c


def pretraining() -> ConfigDict:
    """A masked-LM run of two to three minutes, the best of nine that were tried (docs/results.md).

    40% masked (as Wettig et al. 2023 find), a small vocabulary, initial weights of about
    1/sqrt(width) and b2 0.98 were changed together; their effects were not separated. Rows of 32
    learn more of the language in the same time (loss 5.50 after 1,500 steps instead of 5.65) and
    less of what a passage is about: six points worse at 64 labels.
    """
    c = bert.get_config("size=tiny")
    c.data.eval_split = "validation"
    c.tokenizer.vocab_size = 2048
    c.model.initializer_std = 0.08
    c.model.dropout = 0.0  # the text is seen twice: nothing to regularise
    c.objective.mask_rate = 0.4
    c.steps, c.batch_size, c.length = 2000, 32, 64
    c.optimizer.learning_rate, c.optimizer.warmup_steps, c.optimizer.b2 = 1.5e-3, 100, 0.98
    c.evaluation.every, c.evaluation.max_rows = 1000, 512
    c.checkpoint.every, c.checkpoint.keep = 1000, 1
    return c


def finetuning() -> ConfigDict:
    """The same for both arms; the architecture is the pre-training's.

    The rate is the better one for either arm: from scratch, 5e-4 to 3e-3 make no difference.
    """
    c = finetune_classification.get_config()
    c.data.source, c.data.eval_split = "tfds:pydocs/area", "test"
    c.objective.pooling = "mean"
    c.steps, c.batch_size, c.length = 100, 32, 64
    c.optimizer.learning_rate = 1e-3
    c.evaluation.every, c.evaluation.batch_size = 0, 120
    c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 10, False
    return c
