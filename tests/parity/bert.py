"""BERT's rows of the certificate."""

from collections.abc import Iterator

import transformers

from tests.parity import encoders
from tests.parity.frame import Row


def rows() -> Iterator[Row]:
    """Three heads of eight, three layers, an odd feed-forward width."""
    config = transformers.BertConfig(
        vocab_size=encoders.VOCAB, hidden_size=24, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=40, max_position_embeddings=17, attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0, pad_token_id=1,
    )  # fmt: skip
    yield from encoders.rows(config, "Bert", next_sentence=True)
