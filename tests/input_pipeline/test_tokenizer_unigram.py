"""Unigram vocabularies: cut by word, special pieces out of reach of text, XLNet's normalisation."""

import io
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from input_pipeline import stores, tokenizer_unigram
from input_pipeline.sources import SourceSpec
from input_pipeline.tokenizer_backends import HFBackend, SentencePieceBackend
from input_pipeline.tokenizer_unigram import UnigramBackend, sentencepiece_backend, unigram_pipeline
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer

DATA = Path(__file__).parents[3] / "shared" / "data"
TEXT = [f"the quick brown fox {i} jumps over -- ---- the lazy dog; low lower." for i in range(60)]


@pytest.fixture(scope="module")
def model():
    return train_tokenizer("unigram", TEXT, 200, lowercase=False).content()


@pytest.fixture
def xlnet():
    folder = DATA / "vocab" / "xlnet-base-cased"
    if not folder.is_dir():
        pytest.skip("the published vocabularies (../shared/data/vocab) are not here")
    return load_tokenizer(folder)


def other_model(**options):
    """A model by SentencePiece, of T5's kind but for the options."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=out,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return out.getvalue()


def test_words_in_a_row_are_the_text(model):
    """Blanks part words; a mark, a joiner or a rarer script keeps its blank."""
    assert tokenizer_unigram.words("a  b ") == ["a", "", "b", ""]
    assert tokenizer_unigram.words("é – b") == ["é", "–", "b"]
    assert tokenizer_unigram.words("a\nb\n") == ["a", "b", ""]
    assert tokenizer_unigram.words("é\nb\tc") == ["é", "b\tc"]
    for kept in ("é \u0301", "é\n\u0301", "a \uff9e", "\u0600 b", "a \u200d", "語 a"):
        assert tokenizer_unigram.words(kept) == [kept]
    pipeline, backend = unigram_pipeline(model), UnigramBackend(model)
    signs = [
        " ",
        "\t",
        "\n",
        "a",
        "the",
        "fox",
        "--",
        "é",
        "\u0301",
        "\u3000",
        "語",
        "\u2581",
        "<s>",
    ]
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(signs, 9)) for _ in range(2000)]
    want = [pipeline.encode(text, add_special_tokens=False).ids for text in texts]
    for _ in range(2):  # the second time from memory
        assert [ids.tolist() for ids in backend.encode_batch(texts)] == want


def test_memory_of_words_is_bounded(model, monkeypatch):
    monkeypatch.setattr(tokenizer_unigram, "_REMEMBERED", 500)
    backend, fresh = UnigramBackend(model), UnigramBackend(model)
    want = fresh.encode_batch(TEXT)
    for text, ids in zip(TEXT, want, strict=True):
        assert np.array_equal(backend.encode_batch([text])[0], ids)
        assert len(backend._known) < 40
    first = backend.encode_batch([TEXT[0]])[0]
    first[:] = 0  # the caller's own
    assert np.array_equal(backend.encode_batch([TEXT[0]])[0], want[0])


def test_special_pieces_are_out_of_reach(model):
    backend = UnigramBackend(model).extended(["<extra_id_1>", "<extra_id_0>"])
    assert backend.pieces[-2:] == ["<extra_id_1>", "<extra_id_0>"]
    unknown = backend.pieces.index("<unk>")
    reached = np.unique(
        np.concatenate(backend.encode_batch([*backend.pieces, " <s>", "fox <pad>"]))
    )
    assert set(np.flatnonzero(backend.is_special)) & set(reached.tolist()) <= {unknown}
    # In a file for others they have their names, and their ids.
    spelt = unigram_pipeline(backend.content(), spelt=True)
    assert [spelt.id_to_token(i) for i in range(len(backend.pieces))] == backend.pieces
    assert HFBackend(spelt).is_special.tolist() == backend.is_special.tolist()
    assert HFBackend(spelt).word_start().tolist() == backend.word_start().tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe"},
        {"byte_fallback": True, "vocab_size": 400},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": False},
        {"normalization_rule_name": "identity"},
        {"treat_whitespace_as_suffix": True},
        {"user_defined_symbols": ["the lazy"]},
    ],
)
def test_other_models_keep_their_library(options):
    assert type(sentencepiece_backend(other_model(vocab_size=200))) is UnigramBackend
    model = other_model(**{"vocab_size": 200} | options)
    backend = sentencepiece_backend(model)
    assert type(backend) is SentencePieceBackend
    text = " the  fox -- jumps"
    want = sentencepiece.SentencePieceProcessor(model_proto=model).encode(text)
    assert backend.encode_batch([text])[0].tolist() == want


def test_xlnet_normalisation(xlnet):
    def pieces(text):
        return [xlnet.piece(i) for i in xlnet.encode(text).tolist()]

    assert pieces("``a''") == ["▁", '"', "a", '"']  # after the parting at ., (, " and the like
    assert pieces('"a"') == ['"', "▁a", '"']
    assert pieces("Laíns café") == pieces("Lains cafe")
    assert pieces("well-known") == ["▁well", "-", "▁known"]
    assert xlnet.encode("fox <mask> <sep>").tolist().count(xlnet.mask_id) == 0


def test_only_xlnets_vocabulary_loses_accents():
    own = train_tokenizer("unigram", ["naïve café"] * 20, 200, lowercase=False)
    assert own.decode(own.encode("naïve café")) == "naïve café"


def test_stores_of_other_rules_lie_elsewhere(model, tmp_path):
    """SentencePiece's own ids, stored by an earlier version, are not taken for these."""
    spec = SourceSpec(str(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_text("the fox")
    now = train_tokenizer("unigram", TEXT, 200, lowercase=False)
    before = train_tokenizer("unigram", TEXT, 200, lowercase=False)
    before.rules = ""
    assert now.fingerprint == before.fingerprint
    folders = [stores.text_store(spec, t, tmp_path, sentences=False).folder for t in (now, before)]
    assert folders[0] != folders[1]
