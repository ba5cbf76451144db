r"""BERT-mini on novels within 30 CPU minutes: configs/novels.py, with more than twice its steps.

  pretune train --config=configs/bert_novels.py:stage=short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/novels-short
  pretune train --config=configs/bert_novels.py:stage=long --config.init_from=runs/novels-short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/novels

Figures: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base, novels

# steps, and how many of them lie between two evaluations
STAGES = {"short": (4500, 1500), "long": (2000, 1000)}


def get_config(arg: str = "") -> ConfigDict:
    """One of the two stages."""
    stage = base.arguments(arg, stage="short")["stage"]
    steps, every = base.choose("stage", stage, STAGES)
    c = novels.get_config(f"family=bert,stage={stage}")
    c.steps, c.evaluation.every, c.checkpoint.every = steps, every, every
    return c
