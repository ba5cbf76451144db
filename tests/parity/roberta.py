"""RoBERTa's rows of the certificate."""

from collections.abc import Iterator

import transformers

from configs import roberta as configs
from model.api import build
from model.heads import Heads
from tests.parity import encoders
from tests.parity.frame import Row


def rows() -> Iterator[Row]:
    """Three heads of eight, three layers; positions by the reference's own count where it can."""
    config = transformers.RobertaConfig(
        vocab_size=encoders.VOCAB, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=19, type_vocab_size=1, layer_norm_eps=1e-5,
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    yield from encoders.rows(config, "Roberta", next_sentence=False)
    for size in ("base", "large"):
        yield counted(size)


def counted(size: str) -> Row:
    """How far the number of parameters of a published size is off."""
    import torch

    ours = configs.get_config(f"size={size}").model
    ours.vocab_size = 50265
    theirs = transformers.RobertaConfig(
        vocab_size=50265, hidden_size=ours.width, num_hidden_layers=ours.num_layers,
        num_attention_heads=ours.num_heads, intermediate_size=ours.mlp_width,
        max_position_embeddings=514, type_vocab_size=1,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.RobertaForMaskedLM(theirs)
    difference = build(ours, Heads(lm=True)).num_params - model.num_parameters()
    return Row("parameters counted", "float32", abs(difference), 0)
