r"""GPT-2 (Radford et al. 2019) pre-training.

  pretune train --config=configs/gpt.py:size=small --config.data.source='books/*.txt' \
      --workdir=runs/gpt

Arguments: size=tiny|mini (BERT's small sizes, for a CPU), small|medium|large|xl (the four
published ones) or shakespeare_char, shakespeare_char_cpu (the character-level recipes of nanoGPT,
for one text file; the second one takes about two CPU minutes and reaches 1.746 nats on tiny
Shakespeare, docs/results.md).
"""

from ml_collections import ConfigDict

from configs import base

# layers, width, heads
SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "shakespeare_char": (6, 384, 6),
    "shakespeare_char_cpu": (4, 128, 4),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
    "large": (36, 1280, 20),
    "xl": (48, 1600, 25),
}


def get_config(arg: str = "") -> ConfigDict:
    """The pre-training config for one size."""
    size = base.arguments(arg, size="small")["size"]
    layers, width, heads = base.choose("GPT size", size, SIZES)
    c = base.get_config()
    c.model.family = "gpt"
    c.model.num_layers, c.model.width, c.model.num_heads = layers, width, heads
    c.model.mlp_width = 4 * width
    c.model.activation = "gelu_tanh"
    c.model.layer_norm_epsilon = 1e-5
    c.objective.name = "causal_lm"
    c.optimizer.schedule, c.optimizer.end_factor = "cosine", 0.1
    c.optimizer.weight_decay, c.optimizer.epsilon = 0.1, 1e-8
    if size.startswith("shakespeare_char"):
        characters(c)
        if size == "shakespeare_char_cpu":
            c.length = c.model.max_length = 64
            c.batch_size, c.steps, c.model.dropout = 12, 2000, 0.0
        return base.lock(c)
    c.tokenizer.kind = "bpe"
    c.optimizer.b2 = 0.95
    if size not in ("tiny", "mini"):
        c.tokenizer.vocab_size = 50257
        c.length = c.model.max_length = 1024
        c.batch_size, c.steps = 512, 600_000
        c.optimizer.learning_rate, c.optimizer.warmup_steps = 6e-4, 2000
        c.model.dropout = 0.0
        c.objective.isolate_documents = False
        c.evaluation.every = c.checkpoint.every = 1000
    return base.lock(c)


def characters(c: ConfigDict) -> None:
    """Karpathy's nanoGPT, config/train_shakespeare_char.py, but for the initial weights."""
    c.tokenizer.kind = "char"
    c.data.holdout = 0.1
    c.length = c.model.max_length = 256
    c.batch_size, c.steps = 64, 5000
    c.model.dropout = 0.2
    # GPT-2 small's 0.02, kept in proportion to 1/sqrt(width): 0.02 starts narrow models too flat.
    c.model.initializer_std = 0.02 * (768 / c.model.width) ** 0.5
    c.optimizer.learning_rate, c.optimizer.warmup_steps, c.optimizer.b2 = 1e-3, 100, 0.99
    c.evaluation.every = c.checkpoint.every = 250
