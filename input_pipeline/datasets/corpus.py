"""Deduplicates the prose of all modules and divides the modules into disjoint parts.

Paragraphs go before modules: a paragraph survives in one place only, exact copies and templated
near copies (`jax.numpy` after `numpy`, one distribution after another) go, so that no division by
module can put the same paragraph on both sides.
"""

import hashlib
import re
from collections.abc import Iterable

import numpy as np

SHINGLE = 4  # words
MAX_REPEATED = 0.5  # share of a paragraph's shingles that an earlier paragraph may hold
_WORD = re.compile(r"[a-z]+|\d")

Prose = dict[str, list[str]]  # module name -> paragraphs in source order


def deduplicate(prose: Iterable[tuple[str, list[str]]]) -> Prose:
    """Drops each paragraph that mostly repeats earlier ones, then modules that are left with none.

    A paragraph goes when more than `MAX_REPEATED` of its `SHINGLE`-word runs occurred before it
    (containment: Broder, "On the resemblance and containment of documents", 1997).
    """
    items = [(name, text) for name, texts in prose for text in texts]
    kept: Prose = {}
    for (name, text), keep in zip(items, _is_new([text for _, text in items]), strict=True):
        if keep:
            kept.setdefault(name, []).append(text)
    return kept


def words(text: str) -> list[str]:
    """Lower-case words and single digits: the form in which paragraphs are compared."""
    return _WORD.findall(text.lower())


def fraction(name: str, salt: str) -> float:
    """A number in [0, 1) that depends on `name` and `salt` only, the same on every machine."""
    digest = hashlib.blake2b(f"{salt}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _is_new(texts: list[str]) -> np.ndarray:
    """bool[N]: whether each text is mostly new with respect to those before it."""
    if not texts:
        return np.zeros(0, bool)
    numbers: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        found = words(text)
        # A short text becomes one shingle, padded with a word that occurs nowhere.
        found += ["\0"] * (SHINGLE - len(found))
        lengths[row] = len(found) - SHINGLE + 1
        ids.extend(numbers.setdefault(word, len(numbers)) for word in found)
    stream = np.asarray(ids, np.uint64)
    hashes = np.zeros(len(stream) - SHINGLE + 1, np.uint64)
    for offset in range(SHINGLE):  # wraps modulo 2**64: a polynomial hash
        step = stream[offset : offset + len(hashes)] + np.uint64(1)
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + step
    row_of = np.repeat(np.arange(len(texts)), lengths)
    starts = np.cumsum(lengths + SHINGLE - 1) - (lengths + SHINGLE - 1)
    within = np.arange(len(row_of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    hashes = hashes[np.repeat(starts, lengths) + within]
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    repeated = row_of[first][inverse] < row_of
    share = np.bincount(row_of, weights=repeated, minlength=len(texts)) / lengths
    return share <= MAX_REPEATED
