"""What a store holds, that it is complete or absent, and that memory stays bounded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from input_pipeline import example_store, token_store
from input_pipeline.errors import DataError
from input_pipeline.example_store import build_example_store
from input_pipeline.sentences import split_sentences
from input_pipeline.sources import Document
from input_pipeline.store_files import is_complete
from input_pipeline.token_store import build_store
from input_pipeline.tokenizers import train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def char():
    return train_tokenizer("char", ["abcdefghij .\n"], 0, lowercase=False)


@pytest.fixture(scope="module")
def bpe():
    return train_tokenizer("bpe", ["abc"], 270, lowercase=False)


def test_store_holds_documents_and_end_tokens(tmp_path, bpe):
    documents = [Document("ab"), Document("c", new=False), Document(""), Document("é")]
    store = build_store(tmp_path / "s", documents, bpe, sentences=False)
    texts = [
        bpe.decode(store.tokens[a:b])
        for a, b in zip(store.documents[:-1], store.documents[1:], strict=True)
    ]
    assert texts == ["abc", "é"]
    ends = store.tokens[np.asarray(store.documents[1:]) - 1]
    assert ends.tolist() == [bpe.eos_id] * 2
    assert store.tokens.dtype == np.uint16
    assert store.document_bytes.tolist() == [3, 2]
    assert {k: store.meta[k] for k in ("documents", "bytes", "tokens", "vocab_size")} == {
        "documents": 2,
        "bytes": 5,
        "tokens": len(store.tokens),
        "vocab_size": bpe.vocab_size,
    }
    assert store.text_bytes(0, len(store.tokens)) == 5
    assert store.text_bytes(int(store.documents[1]), len(store.tokens)) == 2


class Ids:
    """A tokenizer whose texts are ids; `end_id` ends a text."""

    def __init__(self, vocab_size, eos_id=None, sep_id=None):
        self.vocab_size, self.eos_id, self.sep_id = vocab_size, eos_id, sep_id
        self.fingerprint = f"ids-{vocab_size}"

    def encode_batch(self, texts):
        return [np.array(text.split(), np.int32) for text in texts]


@pytest.mark.parametrize(("size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_every_id_fits(size, dtype, tmp_path):
    store = build_store(tmp_path / "s", [Document(f"{size - 1}")], Ids(size), sentences=False)
    assert store.tokens.dtype == dtype
    assert store.tokens.tolist() == [size - 1]
    assert store.meta["tokenizer"] == f"ids-{size}"


@pytest.mark.parametrize(("ids", "sentences", "end"), [
    (Ids(99, eos_id=7, sep_id=8), False, [7]),
    (Ids(99, sep_id=8), False, [8]),
    (Ids(99), False, []),
    (Ids(99, eos_id=7), True, []),  # rows of sentences never run into the next document
])  # fmt: skip
def test_what_ends_a_document(ids, sentences, end, tmp_path):
    documents = [Document("1 2"), Document("3")]
    store = build_store(tmp_path / "s", documents, ids, sentences=sentences)
    assert store.tokens.tolist() == [1, 2, *end, 3, *end]


def test_bytes_of_a_part_are_in_proportion_to_its_tokens(tmp_path):
    documents = [Document("1    2"), Document("3 4 5 6")]  # of 3 and 1.75 bytes a token
    store = build_store(tmp_path / "s", documents, Ids(9), sentences=False)
    parts = [(0, 6), (1, 2), (0, 1), (1, 6), (0, 4), (1, 4), (2, 6), (3, 5)]
    assert [store.text_bytes(*part) for part in parts] == [13, 3, 3, 10, 10, 6, 7, 4]


def test_chunks_leave_no_trace(tmp_path, char, monkeypatch):
    documents = [Document("ab"), Document("cd", new=False), Document("e"), Document("fg")]
    records = [(f"f:{i}", ["ab" * i]) for i in range(5)]

    def build(name):
        folder = tmp_path / name
        store = build_store(folder / "text", documents, char, sentences=False)
        labelled = build_example_store(folder / "examples", records, letters, ["x"], ["n"])
        found = [(labelled.example(i)["x"].tolist(), labelled.records[i]) for i in range(5)]
        arrays = (store.tokens, store.documents)
        return [array.tolist() for array in arrays], store.meta, found, labelled.meta

    whole = build("whole")
    monkeypatch.setattr(token_store, "_CHUNK_TEXTS", 2)
    monkeypatch.setattr(example_store, "_CHUNK", 2)
    assert build("chunks") == whole


def test_texts_without_tokens(tmp_path):
    """A sentence of none begins nowhere; a store of none can be read."""
    pieces = train_tokenizer("wordpiece", ["ab cd"] * 9, 40, lowercase=False)
    store = build_store(tmp_path / "s", [Document("\nab.\n\ncd.")], pieces, sentences=True)
    assert store.sentences.tolist() == [0, len(pieces.encode("ab.")), len(store.tokens)]
    empty = build_example_store(tmp_path / "e", [("f:1", [""])], letters, ["x"], ["n"])
    assert (len(empty), empty.sizes("x").tolist()) == (1, [0])


def test_sentence_store(tmp_path, char):
    text = "a b. cd.\nef."  # the second "." is followed by a line break
    store = build_store(tmp_path / "s", [Document(text), Document("gh")], char, sentences=True)
    assert store.tokens.tolist() == np.concatenate([char.encode(text), char.encode("gh")]).tolist()
    # "cd" begins in lower case, so the first "." ends nothing.
    assert store.sentences.tolist() == [0, 9, 12, 14]
    assert store.documents.tolist() == [0, 12, 14]


def test_pieces_of_a_document_tokenise_as_the_whole(tmp_path):
    from input_pipeline.files import text_pieces

    text = "".join(f"Line {i}\n\n  and  some more {i * i}\nend.\n" for i in range(9000))
    bpe = train_tokenizer("bpe", [text[:20_000]], 400, lowercase=False)
    pieces = [Document(p, new=i == 0) for i, p in enumerate(text_pieces(text))]
    assert len(pieces) > 2
    store = build_store(tmp_path / "s", pieces, bpe, sentences=False)
    assert store.meta["documents"] == 1
    assert np.array_equal(store.tokens[:-1], bpe.encode(text))


def letters(records):
    """Each part of a text as its letters' numbers and half their count; none for "skip"."""
    return [
        []
        if text == "skip"
        else [{"x": [ord(c) for c in part], "n": len(part) / 2} for part in text.split("|")]
        for _, (text,) in records
    ]


def test_example_store(tmp_path):
    """A record gives one example, several or none."""
    records = [("f:1", ["ab"]), ("f:2", ["skip"]), ("f:3", ["c|def"])]
    store = build_example_store(tmp_path / "s", records, letters, ["x"], ["n"])
    found = [store.example(i) for i in range(len(store))]
    assert [bytes(example["x"].tolist()).decode() for example in found] == ["ab", "c", "def"]
    assert [example["n"] for example in found] == [1.0, 0.5, 1.5]
    assert store.records.tolist() == [0, 2, 2]
    assert store.sizes("x").tolist() == [2, 1, 3]
    assert {k: store.meta[k] for k in ("examples", "records", "skipped")} == {
        "examples": 3, "records": 3, "skipped": 1,
    }  # fmt: skip

    def refuse(_):
        raise AssertionError("the store is there")

    assert len(build_example_store(tmp_path / "s", records, refuse, ["x"], ["n"])) == 3


def test_empty_corpus(tmp_path, char):
    with pytest.raises(DataError, match="no text"):
        build_store(tmp_path / "s", [Document("")], char, sentences=False)
    with pytest.raises(DataError, match="no example"):
        build_example_store(tmp_path / "s", [("f:1", ["skip"])], letters, ["x"], ["n"])
    assert list(tmp_path.iterdir()) == []


def test_reused_or_rebuilt_when_damaged(tmp_path, char):
    folder = tmp_path / "s"
    build_store(folder, [Document("abc")], char, sentences=False)

    def unread():
        raise AssertionError("a complete store is not built again")
        yield

    assert len(build_store(folder, unread(), char, sentences=False).tokens) == 3
    with open(folder / "tokens.bin", "r+b") as file:
        file.truncate(2)
    assert not is_complete(folder)
    assert len(build_store(folder, [Document("abcd")], char, sentences=False).tokens) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_second_of_two_builders_takes_the_firsts(tmp_path, char):
    folder = tmp_path / "s"

    def documents():
        yield Document("abc")
        build_store(folder, [Document("abcdef")], char, sentences=False)  # overtakes

    assert len(build_store(folder, documents(), char, sentences=False).tokens) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_killed_build_leaves_nothing_taken_for_complete(tmp_path, char):
    code = (
        "import sys, time, pathlib\n"
        "from input_pipeline.sources import Document\n"
        "from input_pipeline.token_store import build_store\n"
        "from input_pipeline.tokenizers import train_tokenizer\n"
        "def documents():\n"
        "    for i in range(10**9):\n"
        "        if i == 20: print('half', flush=True); time.sleep(60)\n"
        "        yield Document('abc' * 50_000)\n"
        "char = train_tokenizer('char', ['abc'], 0, lowercase=False)\n"
        "build_store(pathlib.Path(sys.argv[1]), documents(), char, sentences=False)\n"
    )
    folder = tmp_path / "s"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert not folder.exists()
    (partial,) = tmp_path.iterdir()
    assert (partial / "tokens.bin").stat().st_size > 0
    old = time.time() - 2 * 24 * 3600
    for path in (partial, *partial.iterdir()):
        os.utime(path, (old, old))
    assert len(build_store(folder, [Document("abc")], char, sentences=False).tokens) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # what was left is swept up


def test_a_build_that_goes_on_is_not_swept_up(tmp_path, char):
    partial = tmp_path / "s.partial-other"
    partial.mkdir()
    for name in ("finished.bin", "growing.bin"):
        (partial / name).write_bytes(b"x")
    old = time.time() - 2 * 24 * 3600
    for path in (partial / "finished.bin", partial):
        os.utime(path, (old, old))
    build_store(tmp_path / "s", [Document("abc")], char, sentences=False)
    assert (partial / "growing.bin").exists()


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    code = (
        "import sys, resource, pathlib\n"
        "from input_pipeline.sources import Document\n"
        "from input_pipeline.token_store import build_store\n"
        "from input_pipeline.tokenizers import train_tokenizer\n"
        "piece = 'the lazy dog jumps. ' * 6000\n"
        "def documents(n):\n"
        "    for i in range(n): yield Document(piece, new=i % 50 == 0)\n"
        "tokenizer = train_tokenizer('wordpiece', [piece], 100, lowercase=True)\n"
        "def peak(name, n):\n"
        "    build_store(pathlib.Path(sys.argv[1]) / name, documents(n), tokenizer,"
        " sentences=False)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "first = peak('small', 20)\n"
        "print(peak('large', 100) - first)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown_kib = int(run.stdout)
    # The large corpus has 9.6 MB more text, 2.4 M more tokens: held, either would show.
    assert grown_kib < 6_000


def test_split_sentences():
    text = 'Mr. J. Smith left. "Why?" She ran!\nline two. then more… End'
    assert split_sentences(text) == [
        "Mr. J. Smith left.",
        ' "Why?"',
        " She ran!\n",
        "line two. then more…",
        " End",
    ]
    assert "".join(split_sentences(text)) == text
    text = "In (e.g. Paris) St. Ives vs. Rome.\n\n\nDr. Who? (No.) Yes!\n\nMrs. Hall, i.e. Ann."
    assert split_sentences(text) == [
        "In (e.g. Paris) St. Ives vs. Rome.\n\n\n",
        "Dr. Who?",
        " (No.)",
        " Yes!\n\n",
        "Mrs. Hall, i.e. Ann.",
    ]
    assert split_sentences("one\n\ntwo") == ["one\n\n", "two"]
