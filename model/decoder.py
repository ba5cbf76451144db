"""What a family gives so that text can be generated from it.

Legend: B rows, P prompt slots, V vocabulary.
"""

from typing import Any, Protocol

import jax


class Decoder(Protocol):
    """A family's ``Decoder(config, apply)`` in its file: a frozen dataclass of pure functions.

    Frozen, because it is a static argument of jit: two of one model are equal. `config` is the
    family's own Config, `apply` that of Model.

    `fixed` is what the steps read and never write (which prompt slots hold a token; an encoder's
    keys and values). `caches` is what a step replaces. Every leaf of both begins with the rows:
    beam search repeats `fixed` for the beams of a prompt, and moves the rows of `caches`.

    Attributes:
      max_tokens: how many tokens prompt and text may have together (a table of positions); None:
        there is no such limit.
      first: the token that the text begins with where the prompt is not its beginning (T5:
        padding); it is not part of what is generated. None: the prompt is its beginning.
    """

    @property
    def max_tokens(self) -> int | None:
        """See the attributes."""

    @property
    def first(self) -> int | None:
        """See the attributes."""

    def prefill(
        self, params: Any, tokens_BP: jax.Array, segments_BP: jax.Array, slots: int
    ) -> tuple[jax.Array, Any, Any]:
        """Reads the prompts.

        Args:
          params: of the model.
          tokens_BP: prompts, aligned at their ends.
          segments_BP: 1; 0 for the padding in front.
          slots: room to leave in the caches, for so many new tokens.

        Returns:
          The logits [B, V] of the first new token, `fixed` and `caches`.
        """

    def step(
        self, params: Any, token_B: jax.Array, index: jax.Array, fixed: Any, caches: Any
    ) -> tuple[jax.Array, Any]:
        """Takes new token number `index` (from 0) of each row; the next one's logits, `caches`."""
