"""One face for every tokenizer: Hugging Face `tokenizers`, SentencePiece, and characters.

Encoding adds no special token, and text that spells a special token ("[MASK]") is encoded as the
text it is: special ids enter a batch only where an objective puts them.
"""

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.tokenizer_backends import Backend
from input_pipeline.tokenizer_files import load_backend
from input_pipeline.tokenizer_training import train_backend

# What the published vocabularies call each role, in order of preference.
ROLES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<|endoftext|>"),
    "eos": ("</s>", "<|endoftext|>"),
}
SENTINEL = "<extra_id_{}>"  # as T5's vocabularies call them


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        vocab_size: V; every id is below it.
        file_name: of what `save` writes.
        rules: names how that file's content becomes ids; stores of ids are named after it too.
        pad_id: int; the end-of-text id or 0 where the vocabulary has no padding token (padding is
            masked by `segment_ids`, so its id does no harm).
        unk_id, cls_id, sep_id, mask_id, bos_id, eos_id: int, or None where there is no such token.
        pair_separators: int, separators between the texts of a pair: RoBERTa's vocabularies, whose
            [CLS] is <s>, put two.
        sentinels: int32 [N], ids of the tokens that stand for dropped spans, in order of use.
        word_start: bool [V], whether a token begins a word (special tokens do).
        is_special: bool [V].
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self.file_name, self.rules = backend.file_name, backend.rules
        self.vocab_size = len(backend.pieces)
        self.is_special = backend.is_special
        self.word_start = backend.word_start() | backend.is_special
        special = {backend.pieces[i]: int(i) for i in np.flatnonzero(self.is_special)}
        roles = {
            role: next((special[name] for name in names if name in special), None)
            for role, names in ROLES.items()
        }
        self.unk_id, self.cls_id, self.sep_id = roles["unk"], roles["cls"], roles["sep"]
        self.mask_id, self.bos_id, self.eos_id = roles["mask"], roles["bos"], roles["eos"]
        self.pair_separators = 2 if self.piece(self.cls_id) == "<s>" else 1
        fallback = 0 if self.eos_id is None else self.eos_id
        self.pad_id: int = fallback if roles["pad"] is None else roles["pad"]
        names = itertools.takewhile(special.__contains__, map(SENTINEL.format, itertools.count()))
        self.sentinels = np.array([special[name] for name in names], np.int32)
        self.fingerprint = hashlib.sha256(backend.content()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """Give int32 ids [N] of a text, without special tokens."""
        return self._backend.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text, without special tokens; runs on all cores."""
        return self._backend.encode_batch(texts) if texts else []

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: begin and end, in characters, of each of its ids."""
        return self._backend.offsets(texts) if texts else []

    def decode(self, ids: Sequence[int]) -> str:
        """Give the text of ids; special tokens are left out."""
        return self._backend.decode(ids)

    def piece(self, index: int | None) -> str | None:
        """Give the token of an id; None for None."""
        return None if index is None else self._backend.pieces[index]

    def content(self) -> bytes:
        """Give the bytes that `save` writes."""
        return self._backend.content()

    def id_of(self, piece: str) -> int | None:
        """Give the id of a piece as the vocabulary spells it; None where there is no such piece."""
        pieces = self._backend.pieces
        return pieces.index(piece) if piece and piece in pieces else None

    def with_sentinels(self, count: int) -> "Tokenizer":
        """Give this tokenizer with at least `count` sentinels.

        What is missing comes at the end of the vocabulary, the first sentinel last of all, as in
        T5's published vocabularies (whose model file has none).

        Raises:
            DataError: a character vocabulary, which has no special tokens.
        """
        missing = range(count - 1, len(self.sentinels) - 1, -1)
        if not missing:
            return self
        return Tokenizer(self._backend.extended([SENTINEL.format(i) for i in missing]))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer into `folder`, atomically; `load_tokenizer` reads it back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{self.file_name}.{os.getpid()}"
        partial.write_bytes(self.content())
        os.replace(partial, folder / self.file_name)


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int, *, lowercase: bool
) -> Tokenizer:
    """Train a tokenizer; the same texts give the same vocabulary.

    Args:
        kind: "wordpiece" (BERT), "bpe" (GPT-2's, over bytes), "unigram" or "sp_bpe"
            (SentencePiece), "char".
        texts: the text, in pieces that do not split words.
        vocab_size: number of tokens, special ones included; an upper bound where the text is too
            small to fill it. Characters take as many as there are.
        lowercase: encode text in lower case (WordPiece strips accents as well, as BERT does).

    Raises:
        DataError: unknown kind, no text, or a vocabulary too small for the alphabet.
    """
    return Tokenizer(train_backend(kind, texts, vocab_size, lowercase))


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Load a tokenizer from a folder or file.

    Read are: a folder that `Tokenizer.save` wrote, `tokenizer.json`, BERT's `vocab.txt`,
    `vocab.json` + `merges.txt` (or GPT-2's `encoder.json` + `vocab.bpe`), and SentencePiece models.

    Raises:
        DataError: nothing there, or a file that is not what its name says.
    """
    return Tokenizer(load_backend(Path(path)))
