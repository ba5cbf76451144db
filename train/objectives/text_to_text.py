"""Answer a source text with a target text (T5; Raffel et al. 2020, section 2.4)."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from configs.base import ConfigError
from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from train.objectives.classification import check_smoothing
from train.seq2seq import TeacherForced, end_of_text, make_row


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """Tasks as text: ``config.data.tasks`` says how records become source and target.

    One example a row; texts that are too long lose their end, and then have no end token.

    Attributes:
      length: tokens in the encoder.
      target_length: tokens in the decoder; 0: as many.
      z_loss: weight of log(Z)^2 in the loss.
      label_smoothing: share of the target that all tokens have alike.
    """

    length: int
    target_length: int
    z_loss: float
    label_smoothing: float = 0.0
    rows: ClassVar[str] = "pairs"
    window: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """ConfigError on a negative length, or on a share that is none."""
        check_smoothing(self.label_smoothing)
        if self.target_length < 0:
            raise ConfigError(
                f"config.objective.target_length {self.target_length} must not be negative (0: as "
                "long as config.length)."
            )

    @property
    def targets(self) -> int:
        """Tokens in the decoder."""
        return self.target_length or self.length

    @property
    def answer_length(self) -> int:
        """Tokens of an answer that is generated, at most."""
        return self.targets

    @property
    def prompt_length(self) -> int:
        """Tokens of a source, at most."""
        return self.length

    def task(self, data: Any) -> Task:
        """Source and target text; arrays `tokens_a` and `tokens_b`."""

        def encode(records: Sequence[Record], tokenizer: Any, _: Any) -> list[list[dict]]:
            texts = [text for _, (source, targets) in records for text in (source, targets[0])]
            ids = tokenizer.encode_batch(texts)
            pairs = zip(ids[::2], ids[1::2], strict=True)
            return [[{"tokens_a": a, "tokens_b": b}] for a, b in pairs]

        return Task(("source", "target"), ("tokens_a", "tokens_b"), (), encode, None, ("pairs",))

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose source or target does not fit into its row."""
        source, target = store.sizes("tokens_a"), store.sizes("tokens_b")
        return (source > self.length) | (target > self.targets)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """Source and target, each with an end token, padded to [length] and [targets]."""
        source = self._source(example["tokens_a"], tokenizer)
        target = np.concatenate([example["tokens_b"], end_of_text(tokenizer)])[: self.targets]
        ones = np.ones(len(target), np.int32)
        return make_row(
            source, target, np.ones(len(source), np.int32), ones, ones, self.length, self.targets
        )

    def _source(self, ids: np.ndarray, tokenizer: Any) -> np.ndarray:
        return np.concatenate([ids, end_of_text(tokenizer)])[: self.length]

    def prompts(self, records: Sequence[Record], tokenizer: Any) -> tuple[list, list[list[str]]]:
        """The encoder's ids of each record, and the texts of which one is wanted."""
        ids = tokenizer.encode_batch([texts[0] for _, texts in records])
        return [self._source(some, tokenizer) for some in ids], [texts[1] for _, texts in records]
