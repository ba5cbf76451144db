"""Texts and pairs as rows, with each vocabulary's special tokens; and the tasks on them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.task import Task
from input_pipeline.values import as_label, as_text

CLS_TYPE = 2  # the token type of a [CLS] behind the text (XLNet)


@dataclasses.dataclass(frozen=True)
class Framed:
    """One row before padding.

    Attributes:
      tokens: ids [N].
      token_types: [N], 0 for the first text, 1 for the second.
      first: where the first text stands in the row.
      second: where the second one stands.
      summary: the position of [CLS]; of the last token where there is none.
    """

    tokens: np.ndarray
    token_types: np.ndarray
    first: slice
    second: slice
    summary: int


def specials(tokenizer: Any, pair: bool) -> tuple[list[int], list[int], list[int]]:
    """The tokens before the first text, behind it, and behind the second one of a pair.

    GPT's tokenizers have no [CLS] and no [SEP]; there the end-of-text token follows each text.
    RoBERTa's have two separators between the texts.
    """
    start = [] if tokenizer.cls_id is None else [tokenizer.cls_id]
    end = tokenizer.eos_id if tokenizer.sep_id is None else tokenizer.sep_id
    end = [] if end is None else [end]
    return start, end * tokenizer.pair_separators if pair else end, end if pair else []


def frame(
    first: np.ndarray, second: np.ndarray, pair: bool, tokenizer: Any, cls_last: bool
) -> Framed:
    """[CLS] first [SEP] second [SEP], without the tokens that the tokenizer does not have.

    Args:
      first: ids of the first text.
      second: ids of the second text; none where there is no pair.
      pair: whether there is one.
      tokenizer: names the special tokens.
      cls_last: [CLS] stands behind the texts, with a token type of its own (XLNet).
    """
    start, middle, end = specials(tokenizer, pair)
    parts = [(start, 0), (first, 0), (middle, 0), (second, 1), (end, 1)]
    if cls_last:
        parts = [*parts[1:], (start, CLS_TYPE)]
    sizes = [len(part) for part, _ in parts]
    ends = np.cumsum(sizes).tolist()
    at = [slice(stop - size, stop) for stop, size in zip(ends, sizes, strict=True)]
    before = 0 if cls_last else 1
    return Framed(
        tokens=np.concatenate([np.asarray(part, np.int32) for part, _ in parts]),
        token_types=np.repeat([kind for _, kind in parts], sizes).astype(np.int32),
        first=at[before],
        second=at[before + 2],
        summary=0 if start and not cls_last else ends[-1] - 1,
    )


def truncate_pair(
    first: np.ndarray, second: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the ends of the longer text until both fit into `room` tokens, as BERT does."""
    half = room // 2
    keep_second = min(len(second), max(half, room - len(first)))
    keep_first = min(len(first), room - keep_second)
    return first[:keep_first], second[:keep_second]


def frame_within(
    first: np.ndarray, second: np.ndarray, length: int, tokenizer: Any, cls_last: bool
) -> Framed:
    """`frame` of texts that are cut to fit into `length` tokens."""
    pair = len(second) > 0
    room = length - sum(map(len, specials(tokenizer, pair)))
    return frame(*truncate_pair(first, second, room), pair, tokenizer, cls_last)


def text_task(
    data: Any,
    label: Callable[[object, str, Sequence[str]], float],
    labels: Callable[[Any], Sequence[str]] | None,
    identity: tuple,
) -> Task:
    """The task of one label for a text or a pair: arrays `tokens_a`, `tokens_b`, number `label`.

    Args:
      data: config.data, which names the fields.
      label: (value, where, label names) -> what is stored.
      labels: names of the classes in a record, whose values are text, label and second text.
      identity: of `label`.
    """
    pair = bool(data.text_b_field)
    fields = (data.text_field, data.label_field) + ((data.text_b_field,) if pair else ())

    def encode(records: Any, tokenizer: Any, names: Sequence[str]) -> list[list[dict]]:
        numbers, texts = [], []
        for where, (text, value, *text_b) in records:
            numbers.append(label(value, where, names))
            texts.append(as_text(text, data.text_field, where))
            texts.append(as_text(text_b[0], data.text_b_field, where) if pair else "")
        ids = tokenizer.encode_batch(texts)
        return [
            [{"tokens_a": a, "tokens_b": b, "label": number}]
            for a, b, number in zip(ids[::2], ids[1::2], numbers, strict=True)
        ]

    return Task(fields, ("tokens_a", "tokens_b"), ("label",), encode, labels, identity)


def class_index(value: object, field: str, where: str, names: Sequence[str]) -> int:
    """The id of a class's name; DataError where training does not have it."""
    name = as_label(value, field, where)
    if name not in names:
        raise DataError(
            f"{where} has the label '{name}', which is not among"
            f" {', '.join(map(repr, names))}; mend it or set --config.data.labels"
        )
    return names.index(name)
