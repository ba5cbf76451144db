"""RoBERTa (Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach").

What it does differently from BERT, and only that:
  positions count from two (the published code keeps the rows before for padding), so the table has
  `max_length` + 2 rows; sentences A and B are not told apart: every token has the first token type;
  no next sentence prediction (section 4.2), hence no pooler, and the classifier has the layer that
  was the pooler's (the published code). Dynamic masking (4.1), full sentences (4.2), large batches
  (4.3) and byte-level BPE (4.4) are in configs/roberta.py.

Legend: B batch, T tokens, D width.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from model.bert import Block, Config, LMHead, encode, summary
from model.heads import Backbone
from model.heads import TanhClassifier as ClassificationHead
from model.layers import Embedding, LayerNorm

__all__ = ["ClassificationHead", "Config", "LMHead", "RoBERTa"]

FIRST_POSITION = 2


class RoBERTa(nn.Module):
    """The backbone: token ids to hidden states."""

    config: Config

    def setup(self) -> None:
        """Names the parts."""
        c = self.config
        std = c.initializer_std
        self.tokens = Embedding(c.vocab_size, c.width, "vocab", std)
        self.positions = Embedding(c.max_length + FIRST_POSITION, c.width, None, std)
        self.token_types = Embedding(c.num_token_types, c.width, None, std)
        self.norm = LayerNorm(c.layer_norm_epsilon)
        self.layers = [Block(c, name=f"layer_{i}") for i in range(c.num_layers)]

    def __call__(self, batch: dict[str, jax.Array], rng: jax.Array | None = None) -> Backbone:
        """Runs the stack.

        Args:
          batch: `tokens` [B, T]; optional `segment_ids`, `positions` [B, T].
          rng: a key for dropout; None turns it off.

        Returns:
          Backbone with hidden_BTD and, pooled, the first token's state (`summary` in bert.py).
        """
        positions = batch.get("positions", jnp.arange(batch["tokens"].shape[1])[None])
        types = jnp.zeros((1, 1), jnp.int32)
        x_BTD = encode(self, batch, positions + FIRST_POSITION, types, rng)
        return Backbone(x_BTD, summary(self.config, x_BTD, batch), None)
