"""The libraries behind `Tokenizer`: Hugging Face `tokenizers`, SentencePiece, and characters."""

import json
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import sentencepiece
import tokenizers as hf

from input_pipeline.errors import DataError

# Grain reads with threads, nothing here forks: the library's own threads are safe and wanted.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

HF_FILE, SP_FILE, CHAR_FILE = "tokenizer.json", "spiece.model", "characters.json"


class Backend(Protocol):
    """What a tokenizer library must offer."""

    file_name: str
    rules: str  # names how `content` becomes ids, "" unless that was changed after a release
    pieces: list[str]
    is_special: np.ndarray

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text."""

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: the characters that each id is of."""

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, without special tokens."""

    def word_start(self) -> np.ndarray:
        """Give bool [V]: whether a piece begins a word."""

    def content(self) -> bytes:
        """Give the bytes that `save` writes and `fingerprint` hashes."""

    def extended(self, specials: Sequence[str]) -> "Backend":
        """Give this vocabulary with further special tokens at its end."""


class HFBackend:
    """A Hugging Face `tokenizers` pipeline: WordPiece, byte-level BPE or Unigram."""

    file_name, rules = HF_FILE, ""

    def __init__(self, tokenizer: hf.Tokenizer):
        tokenizer.encode_special_tokens = True  # "[MASK]" in a text is text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        self.pieces = [tokenizer.id_to_token(i) or "" for i in range(size)]
        self.is_special = np.zeros(size, np.bool_)
        for index, token in tokenizer.get_added_tokens_decoder().items():
            self.is_special[index] = token.special
        self._byte_level = isinstance(tokenizer.model, hf.models.BPE)
        self._unigram = isinstance(tokenizer.model, hf.models.Unigram)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: the characters of each id."""
        return spans(self._tokenizer, texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, without special tokens."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def word_start(self) -> np.ndarray:
        """WordPiece: all but "##..."; others: pieces that begin with white space or its mark."""
        if self._byte_level:
            return np.array([piece[:1] in tuple("ĠĊĉč") for piece in self.pieces], np.bool_)
        if self._unigram:
            return np.array([piece.startswith("▁") for piece in self.pieces], np.bool_)
        return np.array([not piece.startswith("##") for piece in self.pieces], np.bool_)

    def content(self) -> bytes:
        """The library's JSON, whose vocabulary is in the order of the ids."""
        return self._tokenizer.to_str().encode("utf-8")

    def extended(self, specials: Sequence[str]) -> "HFBackend":
        """Added tokens, which the library's JSON keeps."""
        tokenizer = hf.Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.add_special_tokens(list(specials))
        return HFBackend(tokenizer)


def spans(tokenizer: hf.Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Give int32 [N, 2] of each text: the characters of each id."""
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [np.array(encoding.offsets, np.int32).reshape(-1, 2) for encoding in encodings]


class SentencePieceBackend:
    """A SentencePiece model, run by its own library; unigram ones see `tokenizer_unigram`."""

    file_name, rules = SP_FILE, ""

    def __init__(self, model: bytes):
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        sp, size = self._processor, self._processor.get_piece_size()
        self.pieces = [sp.id_to_piece(i) for i in range(size)]
        self.is_special = np.array(
            [sp.is_control(i) or sp.is_unknown(i) or sp.is_unused(i) for i in range(size)], np.bool_
        )

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text."""
        threads = min(len(texts), os.cpu_count() or 1)
        encoded = self._processor.encode(list(texts), out_type=int, num_threads=max(1, threads))
        return [np.array(ids, np.int32) for ids in encoded]

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: the characters of each id."""
        return [self._spans(text) for text in texts]

    def _spans(self, text: str) -> np.ndarray:
        """The library counts bytes; a character is at every byte that continues none."""
        data = np.frombuffer(text.encode("utf-8"), np.uint8)
        character = np.cumsum(np.append((data & 0xC0) != 0x80, True)) - 1
        pieces = self._processor.encode(text, return_type="proto").pieces
        spans = np.array([(piece.begin, piece.end) for piece in pieces], np.int64)
        return character[spans.reshape(-1, 2)].astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids, without special tokens."""
        return self._processor.decode([int(i) for i in ids if not self.is_special[i]])

    def word_start(self) -> np.ndarray:
        """Pieces that begin with the mark that SentencePiece puts for a space."""
        return np.array([piece.startswith("▁") for piece in self.pieces], np.bool_)

    def content(self) -> bytes:
        """The model's protocol buffer."""
        return self._model

    def extended(self, specials: Sequence[str]) -> "SentencePieceBackend":
        """Further control pieces in the model itself, so that one file says all."""
        return SentencePieceBackend(self._model + control_pieces(specials))


def control_pieces(specials: Sequence[str]) -> bytes:
    """What, appended to a SentencePiece model, gives it these control pieces.

    Two serialised protocol buffers in a row are their merger: repeated fields are appended.
    Field 1 of the model is a piece; of that, field 1 is the text and field 3 = 3 means control.
    """
    extra = b""
    for special in specials:
        text = special.encode("utf-8")
        piece = bytes([1 << 3 | 2, len(text)]) + text + bytes([3 << 3, 3])
        extra += bytes([1 << 3 | 2, len(piece)]) + piece
    return extra


class CharBackend:
    """A table of characters, and nothing else: no special token, no unknown character."""

    file_name, rules = CHAR_FILE, ""

    def __init__(self, characters: str, lowercase: bool):
        self.pieces = list(characters)
        self.is_special = np.zeros(len(self.pieces), np.bool_)
        self._lowercase = lowercase
        self._ids = {ord(character): index for index, character in enumerate(self.pieces)}

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text.

        Raises:
            DataError: a character that the table lacks.
        """
        return [self._encode(text.lower() if self._lowercase else text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        unique, inverse = np.unique(codes, return_inverse=True)
        for code in unique.tolist():
            if code not in self._ids:
                raise DataError(
                    f"character {chr(code)!r} (U+{code:04X}) is not among the"
                    f" {len(self.pieces)} of the character vocabulary; train the tokenizer on text"
                    " that has it"
                )
        return np.array([self._ids[code] for code in unique.tolist()], np.int32)[inverse]

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: id i is of character i."""
        return [np.arange(len(text), dtype=np.int32)[:, None] + [[0, 1]] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids."""
        return "".join(self.pieces[int(i)] for i in ids)

    def word_start(self) -> np.ndarray:
        """Characters that are neither letter nor digit: the blank that leads a word, for one."""
        return np.array([not piece.isalnum() for piece in self.pieces], np.bool_)

    def content(self) -> bytes:
        """The characters in the order of their ids, as JSON."""
        table = {"characters": "".join(self.pieces), "lowercase": self._lowercase}
        return json.dumps(table, sort_keys=True).encode("utf-8")

    def extended(self, specials: Sequence[str]) -> "CharBackend":
        """There is no place for special tokens.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"a character vocabulary has no place for the {len(specials)} sentinels that"
            " --config.tokenizer.sentinels asks for; use another --config.tokenizer.kind"
        )
