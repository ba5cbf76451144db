"""Round trips, special tokens, reproducible training, published vocabularies."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.errors import DataError
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data"
TEXT = [
    f"the quick brown fox number {i} jumps over the lazy dog; low lower lowest new newer newest."
    for i in range(60)
]
KINDS = ["wordpiece", "bpe", "unigram", "sp_bpe", "char"]


def trained(kind: str, lowercase: bool = False):
    return train_tokenizer(kind, TEXT, 300, lowercase=lowercase)


@pytest.fixture
def vocab():
    folder = DATA / "vocab"
    if not folder.is_dir():
        pytest.skip("the published vocabularies (../shared/data/vocab) are not here")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_save_load(kind, tmp_path):
    tokenizer = trained(kind)
    text = "the newest fox jumps over 7 dogs"
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocab_size <= 300
    assert tokenizer.decode(ids) == text
    tokenizer.save(tmp_path / "t")
    again = load_tokenizer(tmp_path / "t")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(text).tolist() == ids.tolist()
    assert np.array_equal(again.word_start, tokenizer.word_start)
    assert np.array_equal(again.is_special, tokenizer.is_special)
    batch = tokenizer.encode_batch([text, "", "dog"])
    assert [len(b) for b in batch] == [len(ids), 0, len(tokenizer.encode("dog"))]


def test_special_tokens():
    ids = {}
    for kind in KINDS:
        t = trained(kind)
        ids[kind] = [t.pad_id, t.unk_id, t.cls_id, t.sep_id, t.mask_id, t.bos_id, t.eos_id]
        specials = {i for i in ids[kind] if i is not None}
        assert set(np.flatnonzero(t.is_special)) == (set() if kind == "char" else specials)
    assert ids == {
        "wordpiece": [0, 1, 2, 3, 4, None, None],
        "bpe": [1, None, 3, 4, 2, 0, 0],
        "unigram": [0, 2, 4, 5, 6, 3, 1],
        "sp_bpe": [0, 2, 4, 5, 6, 3, 1],
        "char": [0, None, None, None, None, None, None],
    }


@pytest.mark.parametrize(
    ("kind", "spelt"), [("wordpiece", "[MASK]"), ("bpe", "<|endoftext|>"), ("unigram", "<mask>")]
)
def test_text_cannot_spell_a_special_token(kind, spelt):
    tokenizer = trained(kind)
    special = tokenizer.is_special.copy()
    if tokenizer.unk_id is not None:
        special[tokenizer.unk_id] = False  # for characters that the toy text lacks
    assert not special[tokenizer.encode(f"the fox {spelt} dog")].any()


def test_word_start():
    tokenizer = trained("wordpiece")
    starts = tokenizer.word_start[tokenizer.encode("lowest zq dog")]
    assert starts[0]
    assert starts.sum() == 3
    tokenizer = trained("bpe")
    ids = tokenizer.encode(" lowest dog")
    assert tokenizer.word_start[ids].sum() == 2
    assert tokenizer.word_start[ids[0]]
    tokenizer = trained("char")
    assert tokenizer.word_start[tokenizer.encode("a dog.")].tolist() == [0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_lowercase(kind):
    tokenizer = trained(kind, lowercase=True)
    assert tokenizer.encode("The FOX").tolist() == tokenizer.encode("the fox").tolist()
    assert tokenizer.decode(tokenizer.encode("The FOX")) == "the fox"


def test_training_is_the_same_in_every_process():
    code = (
        "from input_pipeline.tokenizers import train_tokenizer\n"
        "import pathlib\n"
        "text = pathlib.Path(train_tokenizer.__code__.co_filename).parent.glob('*.py')\n"
        "texts = [p.read_text() for p in sorted(text)] \n"
        "for kind in ('wordpiece', 'bpe', 'unigram', 'sp_bpe'):\n"
        "    print(train_tokenizer(kind, texts, 1500, lowercase=True).fingerprint)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
        ).stdout.split()
        for seed in (1, 2)
    ]
    assert len(set(runs[0])) == 4
    assert runs[0] == runs[1]


def test_char_vocabulary_is_karpathys():
    path = DATA / "tinyshakespeare" / "input.txt"
    if not path.is_file():
        pytest.skip("tinyshakespeare (../shared/data) is not here")
    text = path.read_text()
    tokenizer = train_tokenizer("char", [text], 8192, lowercase=False)
    assert tokenizer.vocab_size == 65
    # nanoGPT's data/shakespeare_char: sorted characters, "\n" is 0, " " is 1, "F" is 18.
    assert tokenizer.encode("First\n ").tolist() == [18, 47, 56, 57, 58, 0, 1]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    with pytest.raises(DataError, match=r"U\+20AC"):
        tokenizer.encode("price: €")


# Ids from the published tokenizers (transformers' documentation and tests).
PUBLISHED = {
    "bert-base-uncased": (30522, "Hello, my dog is cute", [7592, 1010, 2026, 3899, 2003, 10140]),
    "bert-base-cased": (28996, "Hello, my dog is cute", [8667, 117, 1139, 3676, 1110, 10509]),
    "gpt2": (50257, "Hello, my dog is cute", [15496, 11, 616, 3290, 318, 13779]),
    "roberta-base": (50265, "Hello world!", [31414, 232, 328]),
    "t5-base": (32000, "Hello, my dog is cute", [8774, 6, 82, 1782, 19, 5295]),
    "xlnet-base-cased": (32000, "Hello, my dog is cute", [17, 11368, 19, 94, 2288, 27, 10920]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_vocabularies(name, vocab):
    size, text, ids = PUBLISHED[name]
    tokenizer = load_tokenizer(vocab / name)
    assert tokenizer.vocab_size == size
    assert tokenizer.encode(text).tolist() == ids


def test_published_special_tokens(vocab):
    bert = load_tokenizer(vocab / "bert-base-uncased" / "vocab.txt")
    assert [bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.mask_id] == [
        0,
        100,
        101,
        102,
        103,
    ]
    gpt2 = load_tokenizer(vocab / "gpt2")
    assert gpt2.eos_id == gpt2.bos_id == gpt2.pad_id == 50256
    roberta = load_tokenizer(vocab / "roberta-base" / "vocab.json")
    assert [roberta.cls_id, roberta.pad_id, roberta.sep_id, roberta.mask_id] == [0, 1, 2, 50264]


def test_bad_tokenizers(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(DataError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a readable tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="'wordpeace'"):
        train_tokenizer("wordpeace", TEXT, 300, lowercase=True)
    for kind in ("wordpiece", "bpe"):
        with pytest.raises(DataError, match="vocab_size is 20"):
            train_tokenizer(kind, TEXT, 20, lowercase=True)
