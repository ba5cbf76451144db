"""Answer a source text with a target text (T5; Raffel et al. 2020, section 2.4)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from configs.base import ConfigError
from train.seq2seq import TeacherForced, end_of_text, make_row


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """Tasks as text: ``config.data.tasks`` says how records become source and target.

    One example a row; texts that are too long lose their end, and then have no end token.

    Attributes:
      length: tokens in the encoder.
      target_length: tokens in the decoder; 0: as many.
      z_loss: weight of log(Z)^2 in the loss.
    """

    length: int
    target_length: int
    z_loss: float
    rows: ClassVar[str] = "pairs"
    window: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """ConfigError on a negative length."""
        if self.target_length < 0:
            raise ConfigError(
                f"config.objective.target_length {self.target_length} must not be negative (0: as "
                "long as config.length)."
            )

    @property
    def targets(self) -> int:
        """Tokens in the decoder."""
        return self.target_length or self.length

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Source and target, each with an end token, padded to [length] and [targets]."""
        end = end_of_text(tokenizer)
        source = np.concatenate([example["tokens_a"], end])[: self.length]
        target = np.concatenate([example["tokens_b"], end])[: self.targets]
        ones = np.ones(len(target), np.int32)
        return make_row(
            source, target, np.ones(len(source), np.int32), ones, ones, self.length, self.targets
        )
