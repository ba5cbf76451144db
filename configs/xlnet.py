r"""XLNet (Yang et al. 2019) pre-training.

  pretune train --config=configs/xlnet.py:size=mini --config.data.source='books/*.txt' \
      --workdir=runs/xlnet

Argument: size=tiny|mini|small (BERT's small sizes, for a CPU) or base|large (the published two).
A row of `length` tokens brings `reuse_len` new ones into the memory; the next row of its lane goes
on after them. Half of the rows of a batch read the text backwards.

Published recipe of `large` (appendix A.4.1): batch 8192, length 512, memory 384, reuse 256, 500,000
steps, Adam 4e-4, warmup 40,000, linear decay, weight decay 0.01, dropout 0.1, K = 6 (85 targets a
row), spans of 1 to 5 words. `base` here: batch 2048 and Adam 1e-4.
"""

from ml_collections import ConfigDict

from configs import base

# layers, width, heads; head size is 64 and the feed-forward width 4 times the width.
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


def get_config(arg: str = "") -> ConfigDict:
    """The pre-training config for one size."""
    size = base.arguments(arg, size="tiny")["size"]
    layers, width, heads = base.choose("XLNet size", size, SIZES)
    c = base.get_config()
    c.model.family = "xlnet"
    c.model.num_layers, c.model.width, c.model.num_heads = layers, width, heads
    c.model.mlp_width = 4 * width
    c.objective.name = "permutation_lm"
    c.tokenizer.kind = "unigram"
    c.model.reuse_len, c.model.mem_len = c.length // 2, c.length // 2
    if size in ("base", "large"):
        published(c, size)
    return base.lock(c)


def published(c: ConfigDict, size: str) -> None:
    """Yang et al. 2019, appendix A.4.1."""
    c.tokenizer.vocab_size = 32000
    c.length, c.model.mem_len, c.model.reuse_len = 512, 384, 256
    c.steps, c.optimizer.warmup_steps = 500_000, 40_000
    c.batch_size, c.optimizer.learning_rate = (8192, 4e-4) if size == "large" else (2048, 1e-4)
    c.evaluation.every = c.checkpoint.every = 10_000
