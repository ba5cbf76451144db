"""Span corruption with text-to-text tasks mixed in (Raffel et al. 2020, sections 3.5.2, 3.5.3)."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from input_pipeline.example_store import ExampleStore
from input_pipeline.task import Task
from train.objectives import span_corruption, text_to_text
from train.seq2seq import TeacherForced


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """Rows of ``config.data.source`` are corrupted, those of ``config.data.tasks`` answered.

    Which row comes from where is the mixture's: ``config.data.weights``, or the sizes with
    ``mixture_cap`` and ``mixture_temperature``.

    Attributes:
      length: tokens in the encoder.
      target_length: tokens in the decoder, at least; span corruption may need more.
      noise_rate: share of the tokens that are dropped.
      mean_span: their mean number in a span.
      isolate_documents: a token sees its own document only.
      z_loss: weight of log(Z)^2 in the loss.
    """

    length: int
    target_length: int
    noise_rate: float
    mean_span: float
    isolate_documents: bool
    z_loss: float
    rows: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        """ConfigError from either kind of row."""
        text_to_text.Objective(self.length, self.target_length, self.z_loss)
        _ = self._corruption

    @property
    def _corruption(self) -> span_corruption.Objective:
        return span_corruption.Objective(
            self.length, self.noise_rate, self.mean_span, self.isolate_documents, self.z_loss
        )

    @property
    def window(self) -> int:
        """That of span corruption; tasks come whole."""
        return self._corruption.window

    @property
    def targets(self) -> int:
        """Tokens in the decoder."""
        return max(self.target_length, self._corruption.targets)

    @property
    def _tasks(self) -> text_to_text.Objective:
        return text_to_text.Objective(self.length, self.targets, self.z_loss)

    def task(self, data: Any) -> Task:
        """That of text-to-text."""
        return self._tasks.task(data)

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """That of text-to-text."""
        return self._tasks.longer(store, tokenizer)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """By the kind of row; arrays of [length] and [targets] in both cases."""
        if "tokens_b" in example:
            return self._tasks.features(example, rng, tokenizer)
        row = self._corruption.features(example, rng, tokenizer)
        missing = self.targets - len(row["targets"])
        decoder = ("decoder_tokens", "decoder_segment_ids", "targets", "weights")
        return row | {key: np.pad(row[key], (0, missing)) for key in decoder}
