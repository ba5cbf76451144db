r"""T5 (Raffel et al. 2020) pre-training.

  pretune train --config=configs/t5.py:size=mini --config.data.source='books/*.txt' \
      --workdir=runs/t5

Arguments: size=tiny|mini|small|base|large|3b|11b (the first two for CPUs), version=1.0|1.1 (1.1's
published names for the last two are xl and xxl).

Published recipe of small to 11b (section 3.1.2): batch 128, length 512 (114 in the decoder), 2^19
steps, Adafactor at 1/sqrt(max(step, 10,000)), no weight decay, dropout 0.1 (1.1: none); the final
models go on to 2^20 steps of batch 2,048 with tasks mixed in (section 3.7; objective.name=multitask
and data.tasks). Ours has AdamW instead (optimizer.name=adafactor is there), with the same schedule
from a peak of 1e-3, and Adafactor's steps relative to a parameter's size as factors: the embedding
starts at 1, the queries' maps at 1/sqrt(head size) of the others.
"""

from ml_collections import ConfigDict

from configs import base

# layers of each stack, width, heads, head size, feed-forward width
SIZES = {
    "1.0": {
        "tiny": (2, 128, 2, 64, 512),
        "mini": (4, 256, 4, 64, 1024),
        "small": (6, 512, 8, 64, 2048),
        "base": (12, 768, 12, 64, 3072),
        "large": (24, 1024, 16, 64, 4096),
        "3b": (24, 1024, 32, 128, 16384),
        "11b": (24, 1024, 128, 128, 65536),
    },
    "1.1": {
        "tiny": (2, 128, 2, 64, 384),
        "mini": (4, 256, 4, 64, 768),
        "small": (8, 512, 6, 64, 1024),
        "base": (12, 768, 12, 64, 2048),
        "large": (24, 1024, 16, 64, 2816),
        "3b": (24, 2048, 32, 64, 5120),
        "11b": (24, 4096, 64, 64, 10240),
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """The pre-training config for one size and version."""
    args = base.arguments(arg, size="tiny", version="1.0")
    sizes = base.choose("T5 version", args["version"], SIZES)
    c = base.get_config()
    m = c.model
    m.family = "t5"
    m.num_layers, m.width, m.num_heads, m.head_size, m.mlp_width = base.choose(
        "T5 size", args["size"], sizes
    )
    m.activation, m.layer_norm_epsilon = "relu", 1e-6
    if args["version"] == "1.1":
        m.activation, m.tie_embeddings, m.dropout = "gated_gelu_tanh", False, 0.0
    c.objective.name, c.objective.z_loss = "span_corruption", 1e-4
    c.tokenizer.kind, c.tokenizer.sentinels = "unigram", 100
    o = c.optimizer
    o.schedule, o.weight_decay = "rsqrt", 0.0
    o.rules = ((r"/tokens/table$", "embedding"), (r"/query/kernel$", "query"), (r"", "rest"))
    o.groups = ConfigDict(
        {"embedding": (10.0, 1.0), "query": (m.head_size**-0.5, 1.0), "rest": (1.0, 1.0)}
    )
    if args["size"] not in ("tiny", "mini"):
        published(c)
    return base.lock(c)


def published(c: ConfigDict) -> None:
    """Raffel et al. 2020, section 3.1.2."""
    c.tokenizer.vocab_size, c.model.vocab_size = 32_100, 32_128
    c.batch_size, c.length, c.steps = 128, 512, 2**19
    c.objective.isolate_documents = False
    c.optimizer.warmup_steps = 10_000
    c.evaluation.every = c.checkpoint.every = 10_000
