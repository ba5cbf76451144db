"""Published vocabularies: the ids of transformers, on every line of 736 documents."""

import json
import pathlib

import numpy as np
import pytest

from input_pipeline.tokenizer_export import export_tokenizer
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer

DATA = pathlib.Path(__file__).parents[3] / "shared" / "data"
CLASSES = {
    "bert-base-uncased": "BertTokenizer",
    "bert-base-cased": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "roberta-base": "RobertaTokenizer",
    "t5-base": "T5Tokenizer",
    "xlnet-base-cased": "XLNetTokenizer",
}
RENAMED = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def lines():
    if not (DATA / "peps").is_dir() or not (DATA / "vocab").is_dir():
        pytest.skip("the published vocabularies (../shared/data) are not here")
    paths = sorted((DATA / "peps").glob("*.rst"))
    return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def reference(name, folder):
    """transformers' own tokenizer from the published files; text that spells a special is text."""
    import transformers

    for path in (DATA / "vocab" / name).iterdir():
        (folder / RENAMED.get(path.name, path.name)).write_bytes(path.read_bytes())
    options = {"do_lower_case": False} if name.endswith("base-cased") else {}
    return getattr(transformers, CLASSES[name]).from_pretrained(
        folder, split_special_tokens=True, **options
    )


def ids(tokenizer, lines):
    return tokenizer(lines, add_special_tokens=False)["input_ids"]


def same(name, lines, got, want):
    wrong = [
        (line, one.tolist(), two)
        for line, one, two in zip(lines, got, want, strict=True)
        if not np.array_equal(one, two)
    ]
    assert not wrong, f"{name}: {len(wrong)} of {len(lines)} lines differ, e.g. {wrong[:3]}"


@pytest.mark.parametrize("name", CLASSES)
def test_ids_of_every_line(name, lines, tmp_path):
    assert len(lines) > 300_000
    ours = load_tokenizer(DATA / "vocab" / name)
    same(name, lines, ours.encode_batch(lines), ids(reference(name, tmp_path), lines))


@pytest.mark.parametrize("name", list(CLASSES)[:4])
def test_exported_tokenizers(name, lines, tmp_path):
    """What we export is loaded by transformers and gives our ids, frame included."""
    import transformers

    ours = load_tokenizer(DATA / "vocab" / name)
    framed, types = name != "gpt2", int("bert-base" in name and "ro" not in name)
    export_tokenizer(ours, tmp_path, 512, framed, second_type=types)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 512
    some = lines[::50]
    got, want = ours.encode_batch(some), theirs(some, add_special_tokens=False)["input_ids"]
    same(name, some, got, want)
    if framed:
        own = reference(name, tmp_path_of(tmp_path))
        pair = ("the first text", "and the second")
        assert theirs(*pair)["input_ids"] == own(*pair)["input_ids"]
        assert theirs(pair[0])["input_ids"] == own(pair[0])["input_ids"]
        assert theirs.mask_token_id == own.mask_token_id == ours.mask_id
        assert theirs.pad_token_id == own.pad_token_id == ours.pad_id
    else:
        assert theirs.eos_token_id == ours.eos_id


def exported(ours, folder, model_type):
    """What transformers makes of our file and a config.json."""
    import transformers

    export_tokenizer(ours, folder, 512, framed=False, second_type=0, model_type=model_type)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_exported_t5(lines, tmp_path):
    """transformers adds the sentinels itself: the file that we write must not have them."""
    ours = load_tokenizer(DATA / "vocab" / "t5-base").with_sentinels(100)
    theirs = exported(ours, tmp_path, "t5")
    assert type(theirs).__name__ == CLASSES["t5-base"]
    some = lines[::50]
    same("t5-base", some, ours.encode_batch(some), ids(theirs, some))
    names = [f"<extra_id_{i}>" for i in range(100)]
    assert theirs.convert_tokens_to_ids(names) == ours.sentinels.tolist()
    assert len(theirs) == ours.vocab_size
    assert (theirs.pad_token_id, theirs.eos_token_id) == (ours.pad_id, ours.eos_id)


def test_exported_xlnet(lines, tmp_path):
    ours = load_tokenizer(DATA / "vocab" / "xlnet-base-cased")
    theirs = exported(ours, tmp_path, "xlnet")
    assert type(theirs).__name__ == CLASSES["xlnet-base-cased"]
    some = lines[::50]
    same("xlnet-base-cased", some, ours.encode_batch(some), ids(theirs, some))
    assert len(theirs) == ours.vocab_size
    assert theirs("a text")["input_ids"] == [*ours.encode("a text"), ours.sep_id, ours.cls_id]
    assert (theirs.pad_token_id, theirs.mask_token_id) == (ours.pad_id, ours.mask_id)


@pytest.mark.parametrize("model_type", ["t5", "xlnet", "gpt2"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_exported_own_unigram(model_type, lowercase, lines, tmp_path):
    """A vocabulary that we trained: quotes, accents and runs of dashes are what they were."""
    ours = train_tokenizer("unigram", lines[:20_000], 2_000, lowercase=lowercase)
    ours = ours.with_sentinels(10 if model_type == "t5" else 0)
    theirs = exported(ours, tmp_path, model_type)
    some = ["`` a '' -------", "na\u00efve caf\u00e9", "", *lines[::50]]
    same("own", some, ours.encode_batch(some), ids(theirs, some))
    assert len(theirs) == ours.vocab_size
    assert theirs.convert_tokens_to_ids("<mask>") == ours.mask_id
    assert (theirs.pad_token_id, theirs.eos_token_id) == (ours.pad_id, ours.eos_id)


@pytest.mark.parametrize("name", ["t5-base", "xlnet-base-cased"])
def test_text_out_of_the_ordinary(name, tmp_path):
    """Blanks, scripts and marks that the documents lack, alone and next to each other."""
    signs = [" ", "  ", "\t", "\u00a0", "\u3000", "\u2028", "\x1c", "\u200d", "\u0301", "\u0600"]
    signs += ["\uff9e", "\u0e33", "\u00b4", "\u00e9", "\u0416", "\u65e5", "\ufb01", "\U0001f469"]
    signs += [
        "a",
        "--",
        "``",
        "''",
        ".",
        "(",
        "\u2013",
        "12,",
        "\u2581",
        "\r\n",
        "\u1100",
        "\u1161",
    ]
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(signs, 8)) for _ in range(20_000)]
    ours = load_tokenizer(DATA / "vocab" / name)
    same(name, texts, ours.encode_batch(texts), ids(reference(name, tmp_path), texts))


def tmp_path_of(folder):
    (folder / "reference").mkdir()
    return folder / "reference"
