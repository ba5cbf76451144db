r"""BERT (Devlin et al. 2019) pre-training.

  pretune train --config=configs/bert.py:size=mini --config.data.source='books/*.txt' \
      --workdir=runs/bert

Arguments: size=tiny|mini|small|medium|base|large (Turc et al. 2019, table 1, for the first four)
or wikitext2 (the textbook recipe, below: ten CPU minutes, masked-LM loss 5.89 and next-sentence
loss 0.62 on WikiText-2, docs/results.md); objective=masked_lm|masked_lm_nsp.

Published recipe of `base` and `large` (section A.2): batch 256, length 512 (128 for the first 90%),
1,000,000 steps, Adam 1e-4, warmup 10,000, linear decay, weight decay 0.01, dropout 0.1.
"""

from ml_collections import ConfigDict

from configs import base

# layers, width, heads; head size is 64 and the feed-forward width 4 times the width.
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "wikitext2": (2, 128, 2),
}


def get_config(arg: str = "") -> ConfigDict:
    """The pre-training config for one size."""
    args = base.arguments(arg, size="tiny", objective="masked_lm")
    layers, width, heads = base.choose("BERT size", args["size"], SIZES)
    c = base.get_config()
    c.model.family = "bert"
    c.model.num_layers, c.model.width, c.model.num_heads = layers, width, heads
    c.model.mlp_width = 4 * width
    c.objective.name = args["objective"]
    c.tokenizer.lowercase = True
    if args["size"] in ("base", "large"):
        published(c)
    if args["size"] == "wikitext2":
        textbook(c)
    return base.lock(c)


def published(c: ConfigDict) -> None:
    """Devlin et al. 2019, section A.2."""
    c.tokenizer.vocab_size = 30522
    c.batch_size, c.length, c.steps = 256, 512, 1_000_000
    c.optimizer.learning_rate, c.optimizer.warmup_steps = 1e-4, 10_000
    c.evaluation.every = c.checkpoint.every = 10_000


def textbook(c: ConfigDict) -> None:
    """The small BERT of Zhang et al., "Dive into Deep Learning", section 15.10: MLM and NSP."""
    c.objective.name = "masked_lm_nsp"
    c.model.dropout = 0.2
    c.batch_size, c.length, c.steps = 512, 64, 300
    c.data.document = "line"
    c.model.initializer_std = 0.08  # about 1/sqrt(width): 0.02 learns nothing in so few steps
    c.optimizer.warmup_steps, c.optimizer.b2 = 30, 0.98
    c.evaluation.every = 50
