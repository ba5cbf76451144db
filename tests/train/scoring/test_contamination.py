"""Items found in a corpus: planted ones, near misses, borders of pieces and documents."""

import numpy as np

from input_pipeline.items import Item
from input_pipeline.sources import Document
from train.scoring.contamination import contaminated, words


def item(*texts):
    return Item(tuple(("", text) for text in texts), 0, {}, "here")


ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LONG = " ".join(ALPHABET)


def test_words():
    assert words("Don't — STOP,\n now_here!") == ["dont", "stop", "nowhere"]


def test_planted_overlap():
    items = [
        item("x y C, d; E! f"),  # c d e f
        item("c d f e"),  # the same words in another order
        item("q q", "w x y z"),  # in the second option
        item("Y z"),  # shorter than n: the whole text
        item("y q"),
        item("..."),  # no word
    ]
    found = contaminated(items, [Document(LONG)], 4)
    np.testing.assert_array_equal(found, [True, False, True, True, False, False])
    assert not contaminated(items, [Document(LONG)], 5)[0]  # four words are none of five


def test_pieces_are_one_text_and_documents_are_not():
    target = [item("d e f g"), item("b c"), item("g h")]
    pieces = [Document("a b c d", True), Document(" e f", False), Document(" g h i", False)]
    np.testing.assert_array_equal(contaminated(target, pieces, 4), [True, True, True])
    apart = [Document("a b c d", True), Document("e f g h i", True)]
    np.testing.assert_array_equal(contaminated(target, apart, 4), [False, True, True])


def test_against_a_plain_search():
    rng = np.random.default_rng(1)
    text = rng.choice(list(ALPHABET[:12]), 400).tolist()
    items = [
        item(" ".join(rng.choice(list(ALPHABET[:12]), int(size))))
        for size in rng.integers(1, 12, 80)
    ]
    joined = f" {' '.join(text)} "
    for ngram in (3, 6):
        expected = []
        for one in items:
            own = one.said[0].split()
            size = min(ngram, len(own))
            runs = [own[i : i + size] for i in range(len(own) - size + 1)]
            expected.append(any(f" {' '.join(run)} " in joined for run in runs))
        assert 5 < sum(expected) < 75
        pieces = [Document(" ".join(text[i : i + 7]) + " ", i == 0) for i in range(0, 400, 7)]
        np.testing.assert_array_equal(contaminated(items, pieces, ngram), expected)


def test_context_of_a_running_text_is_not_its_own():
    one = Item((("a b c d", " q r s"),), 0, {}, "here", (" q r s",))
    assert not contaminated([one], [Document(LONG.replace("r s", "s r"))], 4)[0]
