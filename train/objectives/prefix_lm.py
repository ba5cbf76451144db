"""Continue a text from a random place in it (Raffel et al. 2020, sections 3.2.3 and 3.3.1)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from train.seq2seq import TeacherForced, make_row


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """The encoder reads the beginning of a window, the decoder predicts the rest.

    For encoder-decoders (a single stack would need a mask of its own). A row holds two windows of
    `length` tokens: if the first is split at k, uniform in 1 ... length - 1, the second is split at
    length - k, so that both stacks are full and every split point is as likely as any other. A
    window is one text even where documents meet in it.

    Attributes:
      length: tokens in the encoder, and in the decoder.
      z_loss: weight of log(Z)^2 in the loss.
    """

    length: int
    z_loss: float
    rows: ClassVar[str] = "stream"
    source_ends: ClassVar[bool] = False

    @property
    def window(self) -> int:
        """Two windows of `length`."""
        return 2 * self.length

    @property
    def targets(self) -> int:
        """Tokens in the decoder; every one is predicted."""
        return self.length

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Splits two windows; arrays of [length]."""
        tokens = example["tokens"][example["segment_ids"] > 0]
        cut = int(rng.integers(1, self.length))
        halves = (tokens[: self.length], cut), (tokens[self.length :], self.length - cut)
        source = [half[:k] for half, k in halves]
        target = [half[k:] for half, k in halves]
        return make_row(
            np.concatenate(source),
            np.concatenate(target),
            np.repeat([1, 2], [len(part) for part in source]),
            np.repeat([1, 2], [len(part) for part in target]),
            np.ones(sum(map(len, target)), np.float32),
            self.length,
            self.length,
        )
