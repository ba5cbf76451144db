"""Floating-point operations of a forward pass, counted from the formulas (matrix products only).

XLA's own count takes the body of a scan once, so it cannot be used. Conventions of Chowdhery et al.
2022 (PaLM), appendix B: a product of [m, k] and [k, n] is 2mkn; recomputation (remat) and the
causal half that a kernel could skip are not taken off; training is three forward passes.
"""

from typing import Any

from model.heads import Heads


def forward_flops(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of one row through a single-stack transformer.

    Args:
      config: ``config.model``.
      heads: the heads in use.
      length: tokens in the row.
      targets: positions at which the LM head predicts.

    Returns:
      FLOPs of the forward pass for one row.
    """
    width = config.width
    projections = 2 * length * (4 * width * width + 2 * width * config.mlp_width)
    attention = 2 * 2 * length * length * width
    total = config.num_layers * (projections + attention)
    encoder = config.family in ("bert", "roberta")  # these have one more layer under the heads
    if heads.lm:
        transform = 2 * width * width if encoder else 0
        total += targets * (2 * width * config.vocab_size + transform)
    if encoder and (heads.next_sentence or heads.num_labels):
        total += 2 * width * width
    per_token = 2 * width * (2 * heads.span + heads.num_token_labels)
    pooled = 2 * width * (heads.num_labels + 2 * heads.next_sentence)
    return total + length * per_token + pooled


def training_flops(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of forward and backward pass for one row: three forward passes."""
    return 3 * forward_flops(config, heads, length, targets)
