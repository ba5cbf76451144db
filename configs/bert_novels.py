r"""BERT-mini on novels within 30 CPU minutes, in two stages: rows of 16 tokens, then rows of 48.

  pretune train --config=configs/bert_novels.py:stage=short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/novels-short
  pretune train --config=configs/bert_novels.py:stage=long --config.init_from=runs/novels-short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/novels

As BERT itself was trained on rows of 128 before rows of 512 (Devlin et al. 2019, section A.2): in
a short row the next word is one of few to attend to, and a small model leaves the unigram level
sooner (docs/results.md). The second stage trains the rest of the position table.
"""

from ml_collections import ConfigDict

from configs import base, bert


def get_config(arg: str = "") -> ConfigDict:
    """One of the two stages."""
    stage = base.arguments(arg, stage="short")["stage"]
    recipe = base.choose("stage", stage, {"short": short, "long": long})
    c = bert.get_config("size=mini")
    c.tokenizer.vocab_size = 4096
    c.model.initializer_std = 0.03
    c.model.dropout = 0.0  # a part of the text is seen, once
    c.model.dtype = "bfloat16"
    c.objective.mask_rate = 0.4
    c.optimizer.b2 = 0.98
    c.evaluation.max_rows = 500
    c.checkpoint.keep = 1
    recipe(c)
    return base.lock(c)


def short(c: ConfigDict) -> None:
    """Two thirds of the time."""
    c.steps, c.batch_size, c.length = 4500, 64, 16
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 1e-3, 100
    c.evaluation.every = c.checkpoint.every = 1500


def long(c: ConfigDict) -> None:
    """The last third, at the length of the sentences to come."""
    c.steps, c.batch_size, c.length = 2000, 24, 48
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 5e-4, 100
    c.evaluation.every = c.checkpoint.every = 1000
