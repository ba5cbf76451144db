"""Choose one of several texts (Radford et al. 2018, 3.3; SWAG in Devlin et al. 2019, 4.4)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from input_pipeline.values import as_label, as_text, as_texts
from model.heads import Heads
from train.framing import frame_within
from train.objectives import Pair, accuracy, cross_entropy, pad
from train.room import longer
from train.scores import by_record

EXCLUDED = -1e30  # the score of a choice that is not there


@dataclasses.dataclass(frozen=True)
class Objective:
    """Each choice is framed with the question and scored by itself; a softmax over the scores.

    Attributes:
      length: tokens in a row of question and choice; the longer text is cut.
      num_labels: choices, at most: questions may have fewer.
      pooling: as in classification.
      cls_last: as in classification.
    """

    length: int
    num_labels: int
    pooling: str = "own"
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ()
    window: ClassVar[int] = 0

    def head(self) -> Heads:
        """A classifier of one output."""
        return Heads(num_labels=1, pooling=self.pooling)

    def task(self, data: Any) -> Task:
        """A question, its choices (`data.choice_fields`) and which is right.

        The question is `data.text_field`, with `data.text_b_field` behind it where there is one.
        One field holds the list of choices, or several hold one each. The right one is given by its
        number from 0, or by the name of its field. Arrays: `question`, `choices` (one after the
        other), `sizes`; number `label`.
        """
        asked = (data.text_field, *filter(None, [data.text_b_field]))
        own = tuple(data.choice_fields)
        fields = (data.label_field, *asked, *own)

        def choices(record: Record) -> list[str]:
            where, values = record
            lists = zip(values[-len(own) :], own, strict=True)
            found = [choice for value, f in lists for choice in as_texts(value, f, where)]
            if len(found) < 2:
                raise DataError(f"{where} has {len(found)} choices; at least two are needed")
            return found

        def right(record: Record, count: int) -> int:
            where, (value, *_) = record
            name = as_label(value, fields[0], where)
            if name in own and count == len(own):
                return own.index(name)
            if not name.isdecimal() or int(name) >= count:
                raise DataError(
                    f"field '{fields[0]}' of {where} holds {name!r}; it must be the number of the"
                    f" right choice, from 0 to {count - 1}"
                )
            return int(name)

        def encode(
            records: Sequence[Record], tokenizer: Any, names: Sequence[str]
        ) -> list[list[dict]]:
            found = []
            for record in records:
                where, (_, *values) = record
                texts = choices(record)
                if len(texts) > len(names):
                    raise DataError(
                        f"{where} has {len(texts)} choices, more than any question of the training"
                        f" data ({len(names)}); set --config.data.labels=0,1,..."
                    )
                label = right(record, len(texts))
                parts = zip(values[: len(asked)], asked, strict=True)
                question = " ".join(as_text(value, field, where) for value, field in parts)
                question, *ids = tokenizer.encode_batch([question, *texts])
                example = {
                    "question": question,
                    "choices": np.concatenate(ids),
                    "sizes": [len(some) for some in ids],
                    "label": label,
                }
                found.append([example])
            return found

        return Task(
            fields, ("question", "choices", "sizes"), ("label",), encode,
            lambda record: [str(number) for number in range(len(choices(record)))],
            ("multiple_choice",),
        )  # fmt: skip

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose question does not fit into a row with its longest choice."""
        return longer(store.sizes("question"), store.largest("sizes"), self.length, tokenizer)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """A row for each choice: [choices, length]; a choice that is not there is all padding."""
        shape = (self.num_labels, self.length)
        arrays = {
            key: np.zeros(shape, np.int32) for key in ("tokens", "segment_ids", "token_types")
        }
        ids = np.split(example["choices"], np.cumsum(example["sizes"])[:-1])
        for number, choice in enumerate(ids):
            framed = frame_within(
                example["question"], choice, self.length, tokenizer, self.cls_last
            )
            arrays["tokens"][number] = pad(framed.tokens, self.length, "int32")
            arrays["segment_ids"][number, : len(framed.tokens)] = 1
            arrays["token_types"][number] = pad(framed.token_types, self.length, "int32")
        return {
            **arrays,
            "labels": np.int32(example["label"]),
            "label_weights": np.float32(1),
            "record": np.int32(example["record"]),
        }

    def _scores(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array], rng: Any
    ) -> jax.Array:
        """[B, choices]."""
        keys = ("tokens", "segment_ids", "token_types")
        rows = {key: batch[key].reshape(-1, self.length) for key in keys}
        scores = apply(params, rows, rng)["class_logits"].reshape(-1, self.num_labels)
        there = jnp.any(batch["segment_ids"] > 0, axis=-1)
        return jnp.where(there, scores, EXCLUDED)

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the right choice, in nats."""
        labels = (self._scores(apply, params, batch, rng), batch["labels"], batch["label_weights"])
        return {"loss": cross_entropy(*labels)}, {"accuracy": accuracy(*labels)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each question [B]: the predicted choice, the right one, and the weight."""
        return {
            "predictions": jnp.argmax(self._scores(apply, params, batch, None), axis=-1),
            "labels": batch["labels"],
            "weights": batch["label_weights"],
            "record": batch["record"],
        }

    def finalize(
        self,
        predictions: dict[str, np.ndarray],
        records: Callable[[], Sequence[Record]],
        tokenizer: Any,
        labels: Sequence[str],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """No metric beyond the accuracy."""
        return {}, by_record(predictions, int)
