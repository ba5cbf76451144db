"""What pre-training buys on a laptop: BERT-tiny on the documentation of Python, minutes on a CPU.

  pretune study --config=configs/studies/quickstart.py --workdir=runs/quickstart

Pre-trains on `pydocs/text`, then tells library areas apart (`pydocs/area`) with 64, 256 and all
labels, three seeds each, against the same model from scratch.
"""

from ml_collections import ConfigDict

from configs import base, bert, finetune_classification
from configs.studies import base as studies


def get_config(arg: str = "") -> ConfigDict:
    """The study; it takes no argument."""
    base.arguments(arg)
    return studies.get_config(pretraining(), finetuning())


def pretraining() -> ConfigDict:
    """A short masked-LM run, with a high rate for so few steps."""
    c = bert.get_config("size=tiny")
    c.data.eval_split = "validation"
    c.steps, c.batch_size, c.length = 1500, 64, 64
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 2e-3, 150
    c.evaluation.every, c.evaluation.max_rows = 500, 512
    c.checkpoint.every, c.checkpoint.keep = 500, 1
    return c


def finetuning() -> ConfigDict:
    """The same for both arms; the architecture is the pre-training's."""
    c = finetune_classification.get_config()
    c.data.source, c.data.eval_split = "tfds:pydocs/area", "test"
    c.steps, c.batch_size, c.length = 200, 32, 64
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 5e-4, 20
    c.evaluation.every, c.evaluation.batch_size = 100, 256
    c.checkpoint.every = 0
    c.logging.every, c.logging.tensorboard = 10, False
    return c
