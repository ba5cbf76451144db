"""A class for each word (Devlin et al. 2019, section 5.3: named entities)."""

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
from input_pipeline.values import as_texts
from model.heads import Heads
from train.framing import class_index, frame_within
from train.objectives import Pair, accuracy, pad, smoothed_cross_entropy
from train.objectives.classification import check_smoothing
from train.room import longer
from train.scores import entities

OUTSIDE = "O"  # of no entity


@dataclasses.dataclass(frozen=True)
class Objective:
    """A tag for each word, read off its first piece (the last one where only the past is seen).

    Words beyond the row, and words without any piece, are not trained on; in evaluation they count
    as tagged `O`.

    Attributes:
      length: tokens in a row; longer sentences are cut.
      num_labels: tags.
      label_smoothing: share of the target that all tags have alike.
      causal: the model sees earlier tokens only.
      cls_last: [CLS] stands behind the text (XLNet).
    """

    length: int
    num_labels: int
    label_smoothing: float = 0.0
    causal: bool = False
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = ""
    metrics: ClassVar[tuple[str, ...]] = ("precision", "recall", "f1")
    window: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """ConfigError on a share that is none."""
        check_smoothing(self.label_smoothing)

    def head(self) -> Heads:
        """A classifier on each token."""
        return Heads(num_token_labels=self.num_labels)

    def task(self, data: Any) -> Task:
        """Lists of words and of tags; arrays `tokens`, `pieces` (of each word) and `tags`."""
        fields = (data.text_field, data.label_field)

        def words_and_tags(record: Record) -> tuple[list[str], list[str]]:
            where, values = record
            for value, field in zip(values, fields, strict=True):
                if isinstance(value, str):
                    raise DataError(
                        f"field '{field}' of {where} holds a text; it must be a list of words or"
                        " of tags (files of columns: set --config.data.format=conll)"
                    )
            words, tags = (as_texts(v, f, where) for v, f in zip(values, fields, strict=True))
            if len(words) != len(tags) or "" in tags:
                raise DataError(
                    f"{where} has {len(words)} words but {len(tags) - tags.count('')} tags; each"
                    " word needs one"
                )
            return words, tags

        def encode(
            records: Sequence[Record], tokenizer: Any, names: Sequence[str]
        ) -> list[list[dict]]:
            found = []
            for record in records:
                words, tags = words_and_tags(record)
                # As the word would stand in a text; at its beginning there is no blank.
                ids = tokenizer.encode_batch(
                    [f" {word}" if n else word for n, word in enumerate(words)]
                )
                found.append(
                    [
                        {
                            "tokens": np.concatenate([np.zeros(0, np.int32), *ids]),
                            "pieces": [len(pieces) for pieces in ids],
                            "tags": [class_index(t, fields[1], record[0], names) for t in tags],
                        }
                    ]
                )
            return found

        return Task(
            fields, ("tokens", "pieces", "tags"), (), encode,
            lambda record: words_and_tags(record)[1], ("token_classification",),
        )  # fmt: skip

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose words do not fit into a row; those that do not are outside any entity."""
        sizes = store.sizes("tokens")
        return longer(sizes, np.zeros_like(sizes), self.length, tokenizer)

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """`labels` and `label_weights` [length]: a word's tag stands at one of its pieces."""
        none = np.zeros(0, np.int32)
        framed = frame_within(example["tokens"], none, self.length, tokenizer, self.cls_last)
        pieces = np.asarray(example["pieces"])
        ends = np.cumsum(pieces)
        at = ends - 1 if self.causal else ends - pieces
        kept = (pieces > 0) & (at < framed.first.stop - framed.first.start)
        labels, weights = np.zeros(self.length, np.int32), np.zeros(self.length, np.float32)
        labels[framed.first.start + at[kept]] = np.asarray(example["tags"])[kept]
        weights[framed.first.start + at[kept]] = 1
        return {
            "tokens": pad(framed.tokens, self.length, "int32"),
            "segment_ids": pad(np.ones(len(framed.tokens)), self.length, "int32"),
            "token_types": pad(framed.token_types, self.length, "int32"),
            "labels": labels,
            "label_weights": weights,
            "word_numbers": _scatter(
                framed.first.start + at[kept], np.flatnonzero(kept), self.length
            ),
            "record": np.int32(example["record"]),
        }

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the words' tags, in nats."""
        logits = apply(params, batch, rng)["token_logits"]
        labels = (logits, batch["labels"], batch["label_weights"])
        smoothing = 0.0 if rng is None else self.label_smoothing
        loss = smoothed_cross_entropy(*labels, smoothing)
        return {"loss": loss}, {"accuracy": accuracy(*labels)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each token [B, T] its tag and its word's number (-1: of no word), and the record."""
        logits = apply(params, batch)["token_logits"]
        return {
            "tags": jnp.argmax(logits, axis=-1),
            "word_numbers": batch["word_numbers"],
            "weights": jnp.any(batch["segment_ids"] > 0, axis=1),
            "record": batch["record"],
        }

    def finalize(
        self,
        predictions: dict[str, np.ndarray],
        records: Callable[[], Sequence[Record]],
        tokenizer: Any,
        labels: Sequence[str],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Entities' precision, recall and F1, over all words of the sentences."""
        known, lines = records(), []
        columns = (predictions[key] for key in ("record", "tags", "word_numbers"))
        for record, tags, numbers in zip(*columns, strict=True):
            words, given = known[int(record)][1]
            found = [OUTSIDE] * len(words)
            for at in np.flatnonzero(numbers >= 0):
                found[numbers[at]] = labels[tags[at]]
            lines.append({"record": int(record), "prediction": found, "label": list(given)})
        scores = entities([line["label"] for line in lines], [line["prediction"] for line in lines])
        return scores, lines


def _scatter(at: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """[length] int32: the values at their places, -1 elsewhere."""
    out = np.full(length, -1, np.int32)
    out[at] = values
    return out
