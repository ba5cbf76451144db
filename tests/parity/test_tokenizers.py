"""Published vocabularies: the ids of transformers, on every line of 736 documents."""

import pathlib

import numpy as np
import pytest

from input_pipeline.tokenizer_export import export_tokenizer
from input_pipeline.tokenizers import load_tokenizer

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


def test_exported_t5(lines, tmp_path):
    """transformers adds the sentinels itself: the file that we write must not have them."""
    import transformers

    ours = load_tokenizer(DATA / "vocab" / "t5-base").with_sentinels(100)
    export_tokenizer(ours, tmp_path, 512, framed=False, second_type=0)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    some = lines[::50]
    got, want = ours.encode_batch(some), theirs(some, add_special_tokens=False)["input_ids"]
    # The libraries differ on runs of dashes, where the same pieces in another order score the same.
    same("t5-base", some, map(np.sort, got), map(np.sort, want))
    names = [f"<extra_id_{i}>" for i in range(100)]
    assert theirs.convert_tokens_to_ids(names) == ours.sentinels.tolist()
    assert len(theirs) == ours.vocab_size
    assert (theirs.pad_token_id, theirs.eos_token_id) == (ours.pad_id, ours.eos_id)


def tmp_path_of(folder):
    (folder / "reference").mkdir()
    return folder / "reference"
