"""SQuAD's JSON and CoNLL's columns; where each token stands in its text."""

import json

import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec, read_documents, read_records
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer
from tests.input_pipeline.test_tokenizers import TEXT, vocab  # noqa: F401


def read(path, *fields, **options):
    return list(read_records(SourceSpec(str(path), **options), fields))


def test_squad(tmp_path):
    path = tmp_path / "a.json"
    answers = [{"text": "c", "answer_start": 4}]
    questions = [{"id": 7, "question": "q?", "answers": answers}, {"id": "8", "question": "r?"}]
    article = {"title": "T", "paragraphs": [{"context": "a b c", "qas": questions}]}
    path.write_text(json.dumps({"version": "2.0", "data": [article]}))
    found = read(path, "id", "context", "question", "answers", "title")
    assert found == [
        (f"{path}, question 7", ["7", "a b c", "q?", {"text": ["c"], "answer_start": [4]}, "T"]),
        (f"{path}, question 8", ["8", "a b c", "r?", {"text": [], "answer_start": []}, "T"]),
    ]
    with pytest.raises(DataError, match=r"no field 'label', only 'id', 'title'"):
        read(path, "label")
    for text in ('{"data": [{}]}', "[1]", "{", '{"a": 1}\n{"a": 2}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"a\.json is not a SQuAD file.*format=jsonl"):
            read(path, "id")
    assert read(path, "a", format="jsonl") == [(f"{path}:1", [1]), (f"{path}:2", [2])]
    with pytest.raises(DataError, match="format=sqd does not exist"):
        read(path, "a", format="sqd")


def test_conll(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O O\n\nU.N. NNP I-NP B-ORG\nofficial NN I-NP O\n\n\t\nx\tO\n")
    found = read(path, "tokens", "tags")
    assert found == [
        (f"{path}:3", [["U.N.", "official"], ["B-ORG", "O"]]),
        (f"{path}:7", [["x"], ["O"]]),
    ]
    documents = read_documents(SourceSpec(str(path), text_field="tokens"))
    assert [d.text for d in documents] == ["U.N. official", "x"]
    path.write_text("alone\n")
    with pytest.raises(DataError, match=r"a\.conll:1 has no word in its first column or no tag"):
        read(path, "tokens", "tags")
    path.write_text("New\u00a0York B-LOC\n")  # a no-break space does not end a word
    assert read(path, "tokens", "tags")[0][1] == [["New\u00a0York"], ["B-LOC"]]
    chat = tmp_path / "c.jsonl"
    chat.write_text('{"m": [{"role": "user", "content": "hi"}, {"content": ["you", "two"]}]}\n')
    documents = read_documents(SourceSpec(str(chat), text_field="m"))
    assert [d.text for d in documents] == ["hi you two"]


SAMPLE = "Héllo  wörld, it's the 16–18 day.\nﬁne  dog"


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "sp_bpe", "char"])
def test_offsets_name_each_tokens_characters(kind):
    texts = [*TEXT, SAMPLE] if kind != "char" else [SAMPLE]
    check_offsets(train_tokenizer(kind, texts, 300, lowercase=False), kind == "bpe")


@pytest.mark.parametrize(
    "name", ["bert-base-uncased", "bert-base-cased", "gpt2", "roberta-base", "t5-base",
             "xlnet-base-cased"],
)  # fmt: skip
def test_offsets_of_published_vocabularies(name, vocab):  # noqa: F811
    check_offsets(load_tokenizer(vocab / name), name in ("gpt2", "roberta-base"))


def check_offsets(tokenizer, bytewise):
    """In order, inside the text, covering all of it but blanks; a word's part is the word's."""
    (spans,) = tokenizer.offsets([SAMPLE])
    ids = tokenizer.encode(SAMPLE)
    assert spans.shape == (len(ids), 2)
    assert (spans[:, 0] <= spans[:, 1]).all()
    assert (np.diff(spans[:, 0]) >= 0).all()
    assert spans[-1, 1] == len(SAMPLE)
    covered = np.zeros(len(SAMPLE), bool)
    for begin, end in spans:
        covered[begin:end] = True
    assert all(covered[i] or SAMPLE[i].isspace() for i in range(len(SAMPLE)))
    assert tokenizer.offsets([]) == []
    # "day" can be cut out by the tokens that touch it.
    at = SAMPLE.index("day")
    touching = (spans[:, 1] > at) & (spans[:, 0] < at + 3)
    begin, end = spans[touching][:, 0].min(), spans[touching][:, 1].max()
    assert SAMPLE[begin:end].strip(" .") == "day"
