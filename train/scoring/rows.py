"""The host half of the scorer: from the tokens of a text to the rows that a model reads.

A model scores a text in the way in which it predicts tokens (`WAYS` of model/heads.py):
  causal (GPT): log-likelihood from left to right; the text follows the end-of-text token. With
    objective.isolate_documents (the default) no token was trained to follow that one, so that a
    text's first token is judged without training; without it documents do follow it. Of a
    left-to-right BERT the text follows [CLS].
  decoder (T5): log-likelihood in the decoder. The encoder reads the context, <extra_id_0> and the
    end token; the decoder <extra_id_0> and the continuation (span_corruption.py's layout; what
    the sentinel hides is the last span). Models that were not trained with sentinels
    (prefix_lm.py) read the bare context, and the continuation follows.
  in_place (BERT, RoBERTa): pseudo-log-likelihood (Salazar et al. 2020): each token masked in
    turn, in [CLS] text [SEP].
  permuted (XLNet): pseudo-log-likelihood by the query stream: each token in turn is the one target
    and comes last in the order, in text [SEP] [CLS].

Rows are at most `length` tokens long. A context that does not fit loses its beginning. A longer
continuation is scored in windows: from left to right they overlap by half, so that each token is
predicted from half a row or more; a masked token stands in the middle of its window; T5's decoder
is given a row at a time, and its encoder what is before.

Legend: N tokens of the text, K tokens to score, R rows, T tokens of a row, P targets of a row.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from train.errors import UserError
from train.objectives.masked_lm import check_tokens
from train.seq2seq import end_of_text, make_row

Rows = dict[str, np.ndarray]  # each [R, T] or [R, P]; `targets` and `weights` are always there
DESCRIPTIONS = {
    "causal": "log-likelihood, left to right",
    "decoder": "log-likelihood of the decoder, the context in the encoder",
    "in_place": "pseudo-log-likelihood, each token masked in turn",
    "permuted": "pseudo-log-likelihood, each token last in the order (query stream)",
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a model's rows look.

    Attributes:
      way: in which it predicts tokens.
      length: tokens of a row, at most.
      before: ids in front of a text (causal), or of a continuation in the decoder.
      after: ids behind the context in the encoder.
      tokenizer: gives cls_id, sep_id and mask_id.
    """

    way: str
    length: int
    before: np.ndarray
    after: np.ndarray
    tokenizer: Any

    @property
    def is_pseudo(self) -> bool:
        """Whether each token is predicted from the tokens on both sides."""
        return self.way in ("in_place", "permuted")

    @property
    def room(self) -> int:
        """Tokens of text in a row; of a context, in an encoder."""
        return self.length - {"causal": 0, "decoder": len(self.after)}.get(self.way, 2)

    def rows(self, ids: np.ndarray, wanted: np.ndarray) -> Iterator[Rows]:
        """The rows that score a text.

        Args:
          ids: [N] the context's tokens and the continuation's.
          wanted: [K] sorted positions of the tokens to score; for likelihoods those from the
            first one on to the end.

        Yields:
          Rows of one shape each, which predict every wanted token once.
        """
        return BUILDERS[self.way](self, ids, wanted)

    def cuts(self, ids: np.ndarray, first: int) -> bool:
        """Whether a text whose continuation begins at `first` does not fit into one row."""
        if self.way == "decoder":
            return first > self.room or len(ids) - first > self.length - len(self.before)
        return len(ids) + max(len(self.before) - 1, 0) > self.room


def make_layout(
    way: str, tokenizer: Any, length: int, source_ends: bool, cls_first: bool = False
) -> Layout:
    """The layout of a model.

    Args:
      way: in which the model predicts tokens.
      tokenizer: of the run.
      length: tokens of a row, at most.
      source_ends: whether an encoder's text ended with the end token in training.
      cls_first: whether rows began with [CLS] in training.

    Raises:
      UserError: the tokenizer lacks a special token that the rows need, or rows are too short.
    """
    none = np.zeros(0, np.int32)
    if length < 8:
        raise UserError(f"--length={length} is too short for rows; use at least 8 tokens.")
    if way == "causal":
        start = end_of_text(tokenizer).tolist() or [tokenizer.id_of("\n")]
        start = [tokenizer.cls_id] if cls_first else start
        if start == [None]:
            raise UserError(
                "The run's vocabulary has neither an end-of-text token nor a line break, so "
                "nothing begins a text; score with a run that has one."
            )
        return Layout(way, length, np.asarray(start, np.int32), none, tokenizer)
    if way == "decoder":
        sentinel = tokenizer.sentinels[:1] if source_ends else none
        end = end_of_text(tokenizer) if source_ends else none
        return Layout(way, length, sentinel, np.concatenate([sentinel, end]), tokenizer)
    if way == "in_place":
        check_tokens(tokenizer)
    elif None in (tokenizer.sep_id, tokenizer.cls_id):
        raise UserError(
            "Scoring with XLNet needs a [SEP] and a [CLS] token, which the run's tokenizer does "
            "not have; score with another run."
        )
    return Layout(way, length, none, none, tokenizer)


def _causal(layout: Layout, ids: np.ndarray, wanted: np.ndarray) -> Iterator[Rows]:
    """Windows of one row each; the first wanted token of each has half a row before it."""
    text = np.concatenate([layout.before, ids])
    inputs = len(text) - 1  # the last token is only predicted
    target = int(wanted[0]) + len(layout.before)
    while target < len(text):
        first = max(0, inputs - layout.length)
        if first > max(0, target - layout.length // 2):  # the rest is too long for one row
            first = max(0, target - layout.length // 2)
        stop = min(len(text), first + layout.length + 1)
        at = np.arange(target, stop)
        yield {
            "tokens": text[None, first : stop - 1],
            "segment_ids": np.ones((1, stop - 1 - first), np.int32),
            "target_positions": (at - 1 - first)[None].astype(np.int32),
            "targets": text[None, at],
            "weights": np.ones((1, len(at)), np.float32),
        }
        target = stop


def _decoder(layout: Layout, ids: np.ndarray, wanted: np.ndarray) -> Iterator[Rows]:
    """Windows of one row each: the decoder's tokens, and in the encoder what is before them."""
    given = len(layout.before)
    most = layout.length - given
    for first in range(int(wanted[0]), len(ids), most):
        stop = min(len(ids), first + most)
        source = np.concatenate([ids[max(0, first - layout.room) : first], layout.after])
        target = np.concatenate([layout.before, ids[first:stop]])
        weights = np.arange(len(target)) >= given
        row = make_row(
            source, target, np.ones_like(source), np.ones_like(target), weights,
            len(source), len(target),
        )  # fmt: skip
        yield {name: values[None] for name, values in row.items()}


def _windows(
    layout: Layout, ids: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Rows]:
    """What pseudo-likelihoods have in common: a row a token, with what fits around it.

    Returns:
      The texts [R, W]; where the wanted token is in each [R]; `targets`, `weights` and
      `segment_ids` of the rows.
    """
    width = min(len(ids), layout.room)
    first = np.clip(wanted - width // 2, 0, len(ids) - width)
    rows = {
        "targets": ids[wanted][:, None],
        "weights": np.ones((len(wanted), 1), np.float32),
        "segment_ids": np.ones((len(wanted), width + 2), np.int32),
    }
    return ids[first[:, None] + np.arange(width)], wanted - first, rows


def _in_place(layout: Layout, ids: np.ndarray, wanted: np.ndarray) -> Iterator[Rows]:
    """One row a token: [CLS] text [SEP] with the token masked."""
    text, at, rows = _windows(layout, ids, wanted)
    text[np.arange(len(at)), at] = layout.tokenizer.mask_id
    ends = layout.tokenizer.cls_id, layout.tokenizer.sep_id
    text = np.pad(text, ((0, 0), (1, 1)), constant_values=(ends,))
    yield {**rows, "tokens": text, "target_positions": (at + 1)[:, None].astype(np.int32)}


def _permuted(layout: Layout, ids: np.ndarray, wanted: np.ndarray) -> Iterator[Rows]:
    """One row a token: text [SEP] [CLS], the token after all others in the order."""
    text, at, rows = _windows(layout, ids, wanted)
    count, width = text.shape
    ends = np.asarray([layout.tokenizer.sep_id, layout.tokenizer.cls_id], np.int32)
    order = np.zeros((count, width + 2), np.int32)
    order[np.arange(count), at] = 1
    types = np.zeros((count, width + 2), np.int32)
    types[:, -1] = 2  # the [CLS] is a segment of its own (section 2.5)
    yield {
        **rows,
        "tokens": np.concatenate([text, np.tile(ends, (count, 1))], axis=1),
        "token_types": types,
        "factorization_order": order,
        "target_positions": at[:, None].astype(np.int32),
    }


BUILDERS: dict[str, Callable[[Layout, np.ndarray, np.ndarray], Iterator[Rows]]] = {
    "causal": _causal,
    "decoder": _decoder,
    "in_place": _in_place,
    "permuted": _permuted,
}
