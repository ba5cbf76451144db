"""Floating-point operations of a forward pass, counted from the formulas (matrix products only).

XLA's own count takes the body of a scan once, so it cannot be used. Conventions of Chowdhery et al.
2022 (PaLM), appendix B: a product of [m, k] and [k, n] is 2mkn; recomputation (remat) and the
causal half that a kernel could skip are not taken off; training is three forward passes.
"""

from typing import Any

from model.heads import Heads


def forward_flops(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of one row through a single-stack transformer, with a full memory where it has one.

    Args:
      config: ``config.model``.
      heads: the heads in use.
      length: tokens in the row.
      targets: positions at which the LM head predicts.

    Returns:
      FLOPs of the forward pass for one row.
    """
    width = config.width
    if config.family == "xlnet":
        total = config.num_layers * _xlnet_layer(config, heads, length, targets)
        total += targets * 2 * width * config.vocab_size if heads.lm else 0
        return total + (2 * width * (width + heads.num_labels) if heads.num_labels else 0)
    projections = 2 * length * (4 * width * width + 2 * width * config.mlp_width)
    attention = 2 * 2 * length * length * width
    total = config.num_layers * (projections + attention)
    if heads.lm:
        transform = 2 * width * width if config.family == "bert" else 0
        total += targets * (2 * width * config.vocab_size + transform)
    if config.family == "bert" and (heads.next_sentence or heads.num_labels):
        total += 2 * width * width
    return total + 2 * width * (heads.num_labels + 2 * heads.next_sentence)


def _xlnet_layer(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of one layer; the projected sine table is left out, which all rows share."""
    width = config.width
    queries = length + (targets if heads.permuted else 0)
    keys = length + (config.mem_len if heads.permuted else 0)
    distances = keys + length
    projections = 2 * width * width * (2 * queries + 2 * keys)
    feed_forward = 2 * queries * 2 * width * config.mlp_width
    attention = 2 * queries * width * (2 * keys + distances + 2)  # two for the segments
    return projections + feed_forward + attention


def training_flops(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of forward and backward pass for one row: three forward passes."""
    return 3 * forward_flops(config, heads, length, targets)
