r"""RoBERTa (Liu et al. 2019) pre-training.

  pretune train --config=configs/roberta.py:size=mini --config.data.source='books/*.txt' \
      --workdir=runs/roberta

Arguments: size=tiny|mini|base|large; packing=full|doc (section 4.2): full sentences from one or
more documents with a separator between them, or from one document only.

Published recipe of `base` and `large` (table 9; large batches, section 4.3): batch 8,192, length
512, 500,000 steps, peak rate 6e-4 (large: 4e-4), warmup 24,000 (large: 30,000), linear decay, Adam
with b2 0.98 and epsilon 1e-6, weight decay 0.01, dropout 0.1, no clipping. Other sizes take its b2
and epsilon, and the small batches of configs/base.py.
"""

from ml_collections import ConfigDict

from configs import base

# layers, width, heads; head size is 64 and the feed-forward width 4 times the width.
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}


def get_config(arg: str = "") -> ConfigDict:
    """The pre-training config for one size."""
    args = base.arguments(arg, size="tiny", packing="full")
    layers, width, heads = base.choose("RoBERTa size", args["size"], SIZES)
    c = base.get_config()
    c.model.family = "roberta"
    c.model.num_layers, c.model.width, c.model.num_heads = layers, width, heads
    c.model.mlp_width = 4 * width
    c.model.num_token_types = 1
    c.model.layer_norm_epsilon = 1e-5
    c.tokenizer.kind = "bpe"
    c.objective.packing = base.choose(
        "RoBERTa packing", args["packing"], {"full": "full_sentences", "doc": "doc_sentences"}
    )
    c.objective.isolate_documents = False  # the separator alone tells documents apart
    c.optimizer.b2, c.optimizer.epsilon = 0.98, 1e-6
    if args["size"] in ("base", "large"):
        published(c, large=args["size"] == "large")
    return base.lock(c)


def published(c: ConfigDict, large: bool) -> None:
    """Liu et al. 2019, table 9."""
    c.tokenizer.vocab_size = 50265
    c.batch_size, c.length, c.steps = 8192, 512, 500_000
    c.optimizer.learning_rate = 4e-4 if large else 6e-4
    c.optimizer.warmup_steps = 30_000 if large else 24_000
    c.optimizer.clip_norm = 0.0
    c.evaluation.every = c.checkpoint.every = 10_000
