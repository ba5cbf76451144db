"""Reading tokenizers from files: our own, and those published with BERT, GPT-2, T5 and others."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import tokenizers as hf

from input_pipeline.errors import DataError
from input_pipeline.tokenizer_backends import (
    CHAR_FILE,
    HF_FILE,
    SP_FILE,
    Backend,
    CharBackend,
    HFBackend,
)
from input_pipeline.tokenizer_unigram import sentencepiece_backend

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BPE_SPECIALS = ("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<cls>", "<sep>")


def wordpiece_pipeline(vocabulary: dict[str, int], lowercase: bool) -> hf.Tokenizer:
    """BERT's tokenizer around a WordPiece vocabulary (token -> id)."""
    model = hf.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    tokenizer = hf.Tokenizer(model)
    tokenizer.normalizer = hf.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = hf.decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([token for token in BERT_SPECIALS if token in vocabulary])
    return tokenizer


def byte_level_pipeline(model: hf.models.BPE, lowercase: bool) -> hf.Tokenizer:
    """GPT-2's tokenizer around a BPE model over bytes."""
    tokenizer = hf.Tokenizer(model)
    if lowercase:
        tokenizer.normalizer = hf.normalizers.Lowercase()
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = hf.decoders.ByteLevel()
    return tokenizer


def _load_json(path: Path) -> Backend:
    return HFBackend(hf.Tokenizer.from_file(str(path)))


def _load_vocab_txt(path: Path) -> Backend:
    pieces = path.read_bytes().decode("utf-8").split("\n")
    vocabulary = {piece.rstrip("\r"): i for i, piece in enumerate(pieces) if piece}
    # The file does not say whether its text was lower-cased; its pieces do.
    lowercase = not any("A" <= c <= "Z" for piece in vocabulary if piece[0] != "[" for c in piece)
    return HFBackend(wordpiece_pipeline(vocabulary, lowercase))


def _load_bpe(vocabulary_path: Path, merges_path: Path) -> Backend:
    vocabulary = json.loads(vocabulary_path.read_bytes())
    lines = merges_path.read_bytes().decode("utf-8").split("\n")
    merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = byte_level_pipeline(hf.models.BPE(vocabulary, merges), lowercase=False)
    tokenizer.add_special_tokens([token for token in BPE_SPECIALS if token in vocabulary])
    return HFBackend(tokenizer)


def _load_sentencepiece(path: Path) -> Backend:
    return sentencepiece_backend(path.read_bytes())


def _load_characters(path: Path) -> Backend:
    table = json.loads(path.read_bytes())
    return CharBackend(table["characters"], table["lowercase"])


def _find(path: Path) -> Callable[[], Backend] | None:
    """What reads the tokenizer at `path` (a file, or a folder that holds one), if anything does."""
    folder = path if path.is_dir() else path.parent
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        both = folder / vocabulary, folder / merges
        asked = path.is_dir() or path in both
        if asked and all(p.is_file() for p in both) and not (path / HF_FILE).is_file():
            return lambda: _load_bpe(*both)
    names = [HF_FILE, SP_FILE, CHAR_FILE, "vocab.txt"]
    if path.is_dir():
        models = sorted(path.glob("*.model"))
        candidates = [path / name for name in names if (path / name).is_file()] + models
    else:
        candidates = [path]
    for file in candidates:
        if file.name == CHAR_FILE:
            return lambda: _load_characters(file)
        if file.suffix in _LOADERS:
            return lambda: _LOADERS[file.suffix](file)
    return None


_LOADERS = {".json": _load_json, ".model": _load_sentencepiece, ".txt": _load_vocab_txt}


def holds_tokenizer(folder: str | os.PathLike) -> bool:
    """Whether `folder` exists and holds a tokenizer that `load_tokenizer` reads."""
    return Path(folder).is_dir() and _find(Path(folder)) is not None


def load_backend(path: Path) -> Backend:
    """Load whichever tokenizer lies at `path`; see `input_pipeline.tokenizers.load_tokenizer`."""
    if not path.exists():
        raise DataError(f"tokenizer '{path}' does not exist; check --config.tokenizer.path")
    load = _find(path)
    if load is None:
        raise DataError(
            f"'{path}' holds no tokenizer; wanted are tokenizer.json, vocab.txt, vocab.json with"
            " merges.txt, or a SentencePiece *.model"
        )
    try:
        return load()
    except Exception as error:  # the libraries raise bare Exception, RuntimeError, KeyError ...
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"'{path}' is not a readable tokenizer: {reason}") from error
