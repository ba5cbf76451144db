"""Ten-token goldens, by hand, for each kind of row."""

import itertools

import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.example_store import build_example_store
from input_pipeline.packing import ChainedRows, ExampleRows, FixedRows, PackedRows, StreamRows
from input_pipeline.sentence_rows import SentenceRows
from input_pipeline.sources import Document
from input_pipeline.token_store import build_store
from input_pipeline.tokenizers import train_tokenizer


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def char():
    return train_tokenizer("char", ["\n .abcdefghijklmnop"], 0, lowercase=False)  # a is 3


@pytest.fixture(scope="module")
def letters(char, tmp_path_factory):
    """Documents of 4, 1 and 5 tokens: tokens 3 ... 12."""
    folder = tmp_path_factory.mktemp("stores") / "letters"
    documents = [Document("abcd"), Document("e"), Document("fghij")]
    return build_store(folder, documents, char, sentences=False)


def test_stream_rows_golden(letters):
    rows = StreamRows(letters, 0, 10, 6, seed=None)
    assert len(rows) == 2
    first, last = rows.row(0, 0, rng()), rows.row(0, 1, rng())
    assert first["tokens"].tolist() == [3, 4, 5, 6, 7, 8]
    assert first["segment_ids"].tolist() == [1, 1, 1, 1, 2, 3]
    assert first["positions"].tolist() == [0, 1, 2, 3, 0, 0]
    assert last["tokens"].tolist() == [9, 10, 11, 12, 0, 0]
    assert last["segment_ids"].tolist() == [1, 1, 1, 1, 0, 0]
    assert last["positions"].tolist() == [0, 1, 2, 3, 0, 0]
    assert all(value.dtype == np.int32 for value in first.values())
    assert rows.text_bytes == 10


def test_stream_rows_part_of_a_store(letters):
    rows = StreamRows(letters, 3, 8, 5, seed=None)
    row = rows.row(0, 0, rng())
    assert len(rows) == 1
    assert row["tokens"].tolist() == [6, 7, 8, 9, 10]
    assert row["segment_ids"].tolist() == [1, 2, 3, 3, 3]
    assert row["positions"].tolist() == [0, 0, 0, 1, 2]
    assert rows.text_bytes == 5
    last = StreamRows(letters, 3, 8, 4, seed=None).row(0, 1, rng())
    assert last["tokens"].tolist() == [10, 0, 0, 0]  # what follows in the store is not of the part
    assert last["segment_ids"].tolist() == [1, 0, 0, 0]


def test_stream_rows_phase_differs_by_epoch(letters):
    rows = StreamRows(letters, 0, 10, 3, seed=7)
    assert len(rows) == 2  # (10 - 2) // 3: windows that fit at any phase
    assert len(StreamRows(letters, 0, 8, 3, seed=7)) == 2
    phases = set()
    for epoch in range(20):
        tokens = np.concatenate([rows.row(epoch, i, rng())["tokens"] for i in range(2)])
        phase = int(tokens[0]) - 3
        assert tokens.tolist() == list(range(3 + phase, 9 + phase))
        phases.add(phase)
    assert phases == {0, 1, 2, 3, 4}
    again = StreamRows(letters, 0, 10, 3, seed=7)
    assert rows.row(5, 1, rng())["tokens"].tolist() == again.row(5, 1, rng())["tokens"].tolist()


def test_fixed_rows_repeat_their_epochs(letters):
    rows = StreamRows(letters, 0, 10, 3, seed=7)
    fixed = FixedRows(rows, 3)
    assert len(fixed) == len(rows) == 2
    assert [fixed.key(epoch, 1) for epoch in range(5)] == [(0, 1), (1, 1), (2, 1), (0, 1), (1, 1)]
    windows = [fixed.row(epoch, 1, rng())["tokens"].tolist() for epoch in range(6)]
    assert windows == 2 * [rows.row(epoch, 1, rng())["tokens"].tolist() for epoch in range(3)]
    assert len(set(map(tuple, windows))) > 1  # a copy has a phase of its own


def test_stream_rows_shorter_than_a_window(letters):
    for seed in (None, 1):
        rows = StreamRows(letters, 0, 2, 5, seed)
        assert len(rows) == 1
        assert rows.row(3, 0, rng())["segment_ids"].tolist() == [1, 1, 0, 0, 0]


@pytest.fixture(scope="module")
def sentences(char, tmp_path_factory):
    """Two documents; sentences of 3, 2, 4 and of 2, 8 tokens (line breaks among them)."""
    folder = tmp_path_factory.mktemp("stores") / "sentences"
    documents = [Document("ab\nc\ndef\n"), Document("g\nhijklmno")]
    return build_store(folder, documents, char, sentences=True)


def test_sentence_rows_golden(sentences):
    assert sentences.sentences.tolist() == [0, 3, 5, 9, 11, 19]
    rows = SentenceRows(sentences, 0, 19, 6)
    found = [rows.row(0, i, rng(i)) for i in range(len(rows))]
    assert [row["tokens"].tolist() for row in found] == [
        [3, 4, 0, 5, 0],  # two sentences; the third would make nine tokens
        [6, 7, 8, 0],
        [9, 0],
        [10, 11, 12, 13, 14, 15],  # longer than a row: cut
        [16, 17],
    ]
    assert [row["sentence_starts"].tolist() for row in found] == [[0, 3], [0], [0], [0], [0]]


def test_full_sentences_go_on_with_the_next_document(sentences):
    """A place is kept for the separator: rows of 7 hold 6 tokens where they cross."""
    rows = SentenceRows(sentences, 0, 19, 7, "full_sentences")
    found = [rows.row(0, i, rng(i)) for i in range(len(rows))]
    assert [row["tokens"].tolist() for row in found] == [
        [3, 4, 0, 5, 0],  # the third sentence would make nine
        [6, 7, 8, 0, 9, 0],  # two documents, and a place left
        [10, 11, 12, 13, 14, 15, 16],
        [17],
    ]
    assert [row["document_starts"].tolist() for row in found] == [[], [4], [], []]
    # One place less, and the second document begins a row of its own.
    rows = SentenceRows(sentences, 0, 19, 6, "full_sentences")
    assert [rows.row(0, i, rng())["tokens"].tolist() for i in (1, 2)] == [[6, 7, 8, 0], [9, 0]]


def test_sentence_pairs_are_two_sentences_of_one_document(sentences):
    rows = SentenceRows(sentences, 0, 19, 10, "sentence_pairs")
    found = [rows.row(0, i, rng(i)) for i in range(len(rows))]
    # The third sentence of the first document has no second one and sits out.
    assert [row["tokens"].tolist() for row in found] == [
        [3, 4, 0, 5, 0],
        [9, 0, *range(10, 18)],
    ]
    assert [row["sentence_starts"].tolist() for row in found] == [[0, 3], [0, 2]]
    assert [row["document_starts"].tolist() for row in found] == [[], []]
    # A distractor is one sentence of another document.
    for index, others in ((0, {(9, 0), tuple(range(10, 18))}), (1, {(3, 4, 0), (5, 0)})):
        seen = {tuple(rows.row(0, index, rng(s))["distractor"].tolist()) for s in range(20)}
        assert seen == others
    # Two that do not fit into a row together sit out too.
    assert len(SentenceRows(sentences, 0, 19, 9, "sentence_pairs")) == 1
    with pytest.raises(DataError, match="no document here with two sentences that fit into 4"):
        SentenceRows(sentences, 0, 19, 4, "sentence_pairs")


def test_distractor_is_a_run_of_sentences_of_another_document(sentences):
    rows = SentenceRows(sentences, 0, 19, 6)
    of_first = {(3, 4, 0, 5, 0), (5, 0, 6, 7, 8, 0), (6, 7, 8, 0)}
    of_second = {(9, 0), (10, 11, 12, 13, 14, 15), (16, 17)}
    for index, others in [(0, of_second), (1, of_second), (2, of_first), (4, of_first)]:
        seen = {tuple(rows.row(0, index, rng(s))["distractor"].tolist()) for s in range(60)}
        assert seen == others


def test_distractor_with_one_document_or_one_row(sentences):
    one = SentenceRows(sentences, 0, 9, 6)
    assert len(one) == 2
    assert {tuple(one.row(0, 1, rng(s))["distractor"].tolist()) for s in range(20)} == {
        (3, 4, 0, 5, 0),
        (5, 0, 6, 7, 8, 0),
    }
    single = SentenceRows(sentences, 0, 5, 6)
    assert single.row(0, 0, rng())["distractor"].tolist() == []


def test_sentence_rows_need_sentences(letters, sentences):
    with pytest.raises(DataError, match="without sentences"):
        SentenceRows(letters, 0, 10, 4)
    # A sentence that the range cuts gives the part that lies in it.
    rows = SentenceRows(sentences, 1, 8, 4)
    assert [rows.row(0, i, rng())["tokens"].tolist() for i in range(len(rows))] == [
        [4, 0, 5, 0],
        [6, 7, 8],
    ]


def a_store(folder, texts):
    encode = lambda records: [[{"x": [ord(c) for c in v]}] for _, (v,) in records]  # noqa: E731
    return build_example_store(folder, [("f", [text]) for text in texts], encode, ["x"], [])


def test_example_and_chained_rows(tmp_path):
    store = a_store(tmp_path / "e", ["ab", "c"])
    rows = ChainedRows(
        [ExampleRows(store, np.array([1])), ExampleRows(store, np.array([0, 1]), first_record=5)]
    )
    assert len(rows) == 3
    found = [rows.row(0, i, rng()) for i in range(3)]
    assert [(bytes(row["x"].tolist()), row["record"]) for row in found] == [
        (b"c", 1), (b"ab", 5), (b"c", 6),
    ]  # fmt: skip


def test_packed_rows(tmp_path):
    """Next-fit; what is longer than a row has one of its own; an order is drawn by the seed."""
    store = a_store(tmp_path / "e", ["abc", "de", "f", "ghijklm", "no", "pq"])
    everything = ExampleRows(store, np.arange(6))

    def packed(seed):
        rows = PackedRows(everything, "x", 5, seed)
        found = [rows.row(0, i, rng())["examples"] for i in range(len(rows))]
        return [[bytes(one["x"].tolist()).decode() for one in row] for row in found]

    assert packed(None) == [["abc", "de"], ["f"], ["ghijklm"], ["no", "pq"]]
    assert packed(1) == packed(1) != packed(2)
    assert sorted(itertools.chain(*packed(1))) == ["abc", "de", "f", "ghijklm", "no", "pq"]
    assert all(len("".join(row)) <= 5 for row in packed(1) if row != ["ghijklm"])
