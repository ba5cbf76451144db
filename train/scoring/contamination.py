"""Which items of an evaluation set stand in a corpus: n-grams of words that both have.

Words are what white space separates, in lower case and without punctuation (Brown et al. 2020,
appendix C, with n = 13 for GPT-3). An item is contaminated if any of its n-grams occurs in the
corpus; one of fewer than n words, if all of it occurs. n-grams are compared by 64-bit hashes: the
items' are kept, the corpus is read once, a piece at a time.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from input_pipeline.items import Item
from input_pipeline.sources import Document

NGRAM = 13
PUNCTUATION = re.compile(r"[^\w\s]|_")
_SEED = 13  # of the hash's factors


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return PUNCTUATION.sub("", text.lower()).split()


def contaminated(
    items: Sequence[Item], documents: Iterable[Document], ngram: int = NGRAM
) -> np.ndarray:
    """Whether each item stands in the corpus, [items] bool.

    Args:
      items: of an evaluation set.
      documents: the corpus, in pieces; n-grams do not cross from one document to the next.
      ngram: n.
    """
    owners: dict[int, dict[int, list[int]]] = {}  # length -> hash -> items
    for number, item in enumerate(items):
        for text in item.said:
            hashed = _hash_words(words(text))
            length = min(ngram, len(hashed))
            for key in set(_ngrams(hashed, length).tolist()) if length else ():
                owners.setdefault(length, {}).setdefault(key, []).append(number)
    wanted = {n: np.sort(np.fromiter(keys, np.uint64, len(keys))) for n, keys in owners.items()}
    hit = np.zeros(len(items), bool)
    for hashed, new in _pieces(documents, ngram):
        for length, keys in wanted.items():
            # What lies whole in the words carried over was looked at with the piece before.
            found = _ngrams(hashed[max(0, new - length + 1) :], length)
            for key in found[_contains(keys, found)].tolist():
                hit[owners[length][key]] = True
    return hit


def _contains(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each value is among the sorted keys."""
    at = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return keys[at] == values


def _pieces(documents: Iterable[Document], ngram: int) -> Iterator[tuple[np.ndarray, int]]:
    """Hashes of a piece's words behind the last n - 1 before it, and where the new ones begin."""
    carried = np.zeros(0, np.uint64)
    for document in documents:
        if document.new:
            carried = carried[:0]
        hashed = np.concatenate([carried, _hash_words(words(document.text))])
        yield hashed, len(carried)
        carried = hashed[max(0, len(hashed) - ngram + 1) :]


def _hash_words(found: Sequence[str]) -> np.ndarray:
    """[N] uint64; Python's own hash, which is keyed by the process and as good as random."""
    return np.fromiter(map(hash, found), np.int64, len(found)).view(np.uint64)


def _ngrams(hashed: np.ndarray, length: int) -> np.ndarray:
    """Hashes of all runs of `length` words: [N - length + 1] uint64."""
    count = max(0, len(hashed) - length + 1)
    factors = np.random.default_rng(_SEED).integers(0, 2**63, length, np.uint64) * 2 + 1
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(factors):  # modulo 2^64
        total += hashed[place : place + count] * factor
    return total
