"""Rows of whole sentences, of three kinds (`PLANS`), from a plan of one or two integers a row."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.packing import Row
from input_pipeline.token_store import TokenStore


class Plan(NamedTuple):
    """Which sentences make a row.

    firsts, lasts: int64 [R], the first sentence of each row and the one after its last, in order.
    ends: int64 [S], the one after the last of a text that begins at each sentence (distractors).
    """

    firsts: np.ndarray
    lasts: np.ndarray
    ends: np.ndarray


class SentenceRows:
    """Rows of whole sentences, the same ones in every epoch.

    By `kind`, with the names of RoBERTa (Liu et al. 2019, section 4.2):
      "sentences": filled greedily up to `length` tokens, never across a document (DOC-SENTENCES;
        cut in two, SEGMENT-PAIR).
      "full_sentences": filled across documents (FULL-SENTENCES); one place is kept free for a
        separator wherever they meet.
      "sentence_pairs": two sentences that follow each other in a document (SENTENCE-PAIR). Of an
        odd number the last one sits out, and so do two that are longer than a row.

    A sentence longer than a row is cut into rows' lengths.
    """

    def __init__(
        self, store: TokenStore, start: int, stop: int, length: int, kind: str = "sentences"
    ):
        self._store = store
        self._bounds = _sentence_bounds(store, start, stop, length)
        self._plan = PLANS[kind](self._bounds, store.documents, length)
        if not len(self):
            raise DataError(
                f"'{store.folder.name}' has no document here with two sentences that fit into"
                f" {length} tokens; use longer rows, or documents of several sentences"
                " (--config.data.document)"
            )
        row_starts = self._bounds[self._plan.firsts]
        self._document = np.searchsorted(store.documents, row_starts, "right")

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self._plan.firsts)

    def row(self, epoch: int, index: int, rng: np.random.Generator) -> Row:
        """Give one row.

        Returns:
            tokens [N <= length] int32; sentence_starts [S] int32, where sentences begin in it;
            document_starts [D] int32, where a further document begins in it; distractor
            [M <= length] int32, a run of whole sentences (of sentence_pairs: one), from a random
            one on, of another document (of another row where there is one document only; empty
            where there is one row only).
        """
        first, last = self._plan.firsts[index], self._plan.lasts[index]
        start, stop = self._bounds[first], self._bounds[last]
        return {
            "tokens": self._tokens(start, stop),
            "sentence_starts": (self._bounds[first:last] - start).astype(np.int32),
            "document_starts": self._document_starts(start, stop),
            "distractor": self._distractor(index, rng),
        }

    def _tokens(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self._store.tokens[start:stop], np.int32)

    def _document_starts(self, start: int, stop: int) -> np.ndarray:
        documents = self._store.documents
        low, high = np.searchsorted(documents, [start + 1, stop], "left")
        return (documents[low:high] - start).astype(np.int32)

    def _distractor(self, index: int, rng: np.random.Generator) -> np.ndarray:
        low = int(np.searchsorted(self._document, self._document[index], "left"))
        high = int(np.searchsorted(self._document, self._document[index], "right"))
        if high - low == len(self):
            low, high = index, index + 1
        others = len(self) - (high - low)
        if others == 0:
            return np.zeros(0, np.int32)
        other = int(rng.integers(others))
        other += (high - low) * (other >= low)
        sentence = int(rng.integers(self._plan.firsts[other], self._plan.lasts[other]))
        return self._tokens(self._bounds[sentence], self._bounds[self._plan.ends[sentence]])


def _sentence_bounds(store: TokenStore, start: int, stop: int, length: int) -> np.ndarray:
    """Give int64 [S + 1]: bounds of the sentences in [start, stop), too long ones cut."""
    if store.sentences is None:
        raise DataError(
            f"the token store '{store.folder}' was built without sentences; delete it and run again"
        )
    low, high = np.searchsorted(store.sentences, [start + 1, stop], "left")
    bounds = np.concatenate([[start], store.sentences[low:high], [stop]])
    long = np.flatnonzero(np.diff(bounds) > length)
    cuts = [np.arange(bounds[i] + length, bounds[i + 1], length) for i in long]
    return np.sort(np.concatenate([bounds, *cuts])) if cuts else bounds


def _filled(ends: np.ndarray) -> Plan:
    """Each row begins where the one before ends."""
    firsts, sentence, following = [], 0, ends.tolist()
    while sentence < len(following):
        firsts.append(sentence)
        sentence = following[sentence]
    found = np.array(firsts, np.int64)
    return Plan(found, ends[found], ends)


def _within(bounds: np.ndarray, documents: np.ndarray, length: int) -> Plan:
    """As many sentences of one document as fit."""
    document = np.searchsorted(documents, bounds[:-1], "right")  # of each sentence, from 1
    limits = np.minimum(bounds[:-1] + length, documents[document])
    return _filled(np.searchsorted(bounds, limits, "right") - 1)


def _across(bounds: np.ndarray, documents: np.ndarray, length: int) -> Plan:
    """As many sentences as fit, counted with a separator after each document."""
    document = np.searchsorted(documents, bounds[:-1], "right")
    starts, ends = bounds[:-1] + document, bounds[1:] + document
    return _filled(np.searchsorted(ends, starts + length, "right"))


def _pairs(bounds: np.ndarray, documents: np.ndarray, length: int) -> Plan:
    """The first and second sentence of a document, the third and fourth, and so on."""
    document = np.searchsorted(documents, bounds[:-1], "right")
    sentence = np.arange(len(document))
    place = sentence - np.searchsorted(document, document, "left")
    fits = (document[:-1] == document[1:]) & (bounds[2:] - bounds[:-2] <= length)
    firsts = np.flatnonzero(fits & (place[:-1] % 2 == 0))
    return Plan(firsts, firsts + 2, sentence + 1)


PLANS: dict[str, Callable[[np.ndarray, np.ndarray, int], Plan]] = {
    "sentences": _within,
    "full_sentences": _across,
    "sentence_pairs": _pairs,
}
