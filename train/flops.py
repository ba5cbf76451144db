"""Floating-point operations of a forward pass, counted from the formulas (matrix products only).

XLA's own count takes the body of a scan once, so it cannot be used. Conventions of Chowdhery et al.
2022 (PaLM), appendix B: a product of [m, k] and [k, n] is 2mkn; recomputation (remat) and the
causal half that a kernel could skip are not taken off; training is three forward passes.
"""

from typing import Any

from model.heads import Heads


def forward_flops(config: Any, heads: Heads, length: int, targets: int) -> int:
    """FLOPs of one row, with a full memory where the family has one.

    Args:
      config: ``config.model``.
      heads: the heads in use.
      length: tokens in the row; the encoder's in an encoder-decoder.
      targets: positions at which the LM head predicts; the decoder's tokens in an encoder-decoder.

    Returns:
      FLOPs of the forward pass for one row.
    """
    width = config.width
    if config.family == "t5":
        decoded = targets if heads.lm else length * heads.decodes
        total = _encoder_decoder_flops(config, length, decoded)
        total += targets * 2 * width * config.vocab_size if heads.lm else 0
        total += length * 2 * width * (2 * heads.span + heads.num_token_labels)
        return total + (2 * width * (width + heads.num_labels) if heads.num_labels else 0)
    if config.family == "xlnet":
        total = config.num_layers * _xlnet_layer(config, heads, length, targets)
        total += targets * 2 * width * config.vocab_size if heads.lm else 0
        return total + (2 * width * (width + heads.num_labels) if heads.num_labels else 0)
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


def _encoder_decoder_flops(config: Any, source: int, target: int) -> int:
    """T5 with `source` tokens in the encoder and `target` in the decoder."""
    width = config.width
    inner = config.num_heads * (config.head_size or width // config.num_heads)
    maps = 3 if config.activation.startswith("gated_") else 2
    mlp = 2 * maps * width * config.mlp_width  # for one token, as are the next two
    self_attention = 2 * 4 * width * inner
    half_attention = 2 * 2 * width * inner  # queries and output, or keys and values
    encoder = source * (self_attention + mlp + 4 * source * inner)
    decoder = target * (self_attention + half_attention + mlp + 4 * (target + source) * inner)
    decoder += source * half_attention if target else 0
    layers = config.num_decoder_layers or config.num_layers
    return config.num_layers * encoder + layers * decoder


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
