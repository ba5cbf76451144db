"""SentencePiece's unigram vocabularies, cut into pieces as `transformers` cuts them.

T5Tokenizer and XLNetTokenizer read a SentencePiece model but run it in the `tokenizers` library.
Both libraries look for the pieces with the greatest sum of scores. SentencePiece adds up the whole
text in 32 bits, `tokenizers` each word in 64, so that they break ties ("----" as "-" and "---")
differently. Here the library is the latter, for published vocabularies and for our own.
"""

import re
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers as hf
from sentencepiece import sentencepiece_model_pb2 as sp

from input_pipeline.tokenizer_backends import Backend, SentencePieceBackend, control_pieces, spans

# Of the vocabularies in use only XLNet's has these pieces: end of document, end of paragraph.
XLNET_PIECES = {"<eod>", "<eop>"}
# White space between two of these is a grapheme cluster by itself: no combining character, no
# joiner, nothing that a normaliser could draw across it. (Latin, Greek, Cyrillic, punctuation.)
_PLAIN = r"[\x00-\u02ff\u0370-\u0482\u048a-\u052f\u2010-\u2027]"
_BLANK = re.compile(f"(?<={_PLAIN})[ \n](?={_PLAIN})")
_REMEMBERED = 1 << 24  # characters of words, some 100 MB with their ids
_ENTRY = 32  # what a remembered word takes besides its characters, in characters


class UnigramBackend(SentencePieceBackend):
    """A SentencePiece unigram model that `tokenizers` runs.

    Words are remembered, since a text has few distinct ones: that makes up for most of what this
    library is slower than SentencePiece (seven times on one core).
    """

    rules = "unigram by word"

    def __init__(self, model: bytes):
        super().__init__(model)
        self._pipeline = unigram_pipeline(model)
        self._forget()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 ids [N] of each text."""
        cut = [words(text) for text in texts]
        known = self._known  # another thread may put a new one in its place
        self._learn(known, set().union(*cut).difference(known))
        # A bytearray, so that the ids may be written to, as those of the other backends.
        found = [np.frombuffer(bytearray().join(map(known.__getitem__, c)), np.int32) for c in cut]
        if self._held > _REMEMBERED:
            self._forget()
        return found

    def offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give int32 [N, 2] of each text: the characters of each id."""
        return spans(self._pipeline, texts)

    def _learn(self, known: dict[str, bytes], new: Iterable[str]) -> None:
        new = list(new)
        encodings = self._pipeline.encode_batch_fast(new, add_special_tokens=False)
        ids = (array("i", encoding.ids).tobytes() for encoding in encodings)
        known.update(zip(new, ids, strict=True))
        self._held += sum(map(len, new)) + _ENTRY * len(new)

    def _forget(self) -> None:
        self._known: dict[str, bytes] = {}  # int32 ids of a word
        self._held = 0

    def extended(self, specials: Sequence[str]) -> "UnigramBackend":
        """Further control pieces in the model itself, so that one file says all."""
        return UnigramBackend(self.content() + control_pieces(specials))


def words(text: str) -> list[str]:
    """Cut a text at blanks and line ends, into parts whose ids in a row are those of the text.

    Next to rarer scripts, and other white space, stay inside a part, where the pipeline sees them.
    """
    return text.replace("\n", " ").split(" ") if text.isascii() else _BLANK.split(text)


def sentencepiece_backend(model: bytes) -> Backend:
    """Give what runs a SentencePiece model: `tokenizers` for T5's kind, else its own library."""
    proto = sp.ModelProto.FromString(model)
    return (UnigramBackend if _is_unigram(proto) else SentencePieceBackend)(model)


def _is_unigram(proto: sp.ModelProto) -> bool:
    """Whether white space parts words, and each word begins with its mark: what is taken here."""
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    user_defined = sp.ModelProto.SentencePiece.USER_DEFINED
    whole = [p.piece for p in proto.pieces if p.type == user_defined]
    return (
        trainer.model_type == sp.TrainerSpec.UNIGRAM
        and trainer.split_by_whitespace
        and not trainer.treat_whitespace_as_suffix
        and not trainer.byte_fallback
        and bool(normalizer.precompiled_charsmap)
        and normalizer.add_dummy_prefix
        and normalizer.remove_extra_whitespaces
        and normalizer.escape_whitespaces
        and not any(re.search(r"\s", piece) for piece in whole)
        and _normalizer(proto).normalize_str("a b\nc").split() == ["a", "b", "c"]
    )


def is_xlnet(pieces: Iterable[str]) -> bool:
    """Whether these are XLNet's pieces, whose texts are normalised in a way of their own."""
    return XLNET_PIECES.issubset(pieces)


def unigram_pipeline(model: bytes, spelt: bool = False) -> hf.Tokenizer:
    """Give the pipeline of T5Tokenizer, or of XLNetTokenizer for XLNet's pieces.

    Args:
        model: SentencePiece's protocol buffer.
        spelt: give special pieces their names and mark them as special, for a file that others
            read. Otherwise their names hold a blank, which no word has: text cannot spell them.
    """
    proto = sp.ModelProto.FromString(model)
    kinds = sp.ModelProto.SentencePiece
    hidden = (kinds.UNKNOWN, kinds.CONTROL, kinds.UNUSED)
    vocabulary = [
        (f" {p.piece}" if p.type in hidden and not spelt else p.piece, p.score)
        for p in proto.pieces
    ]
    unknown = [p.type for p in proto.pieces].index(kinds.UNKNOWN)
    pipeline = hf.Tokenizer(hf.models.Unigram(vocabulary, unknown, byte_fallback=False))
    pipeline.normalizer = _normalizer(proto)
    metaspace = {"replacement": "▁", "prepend_scheme": "always"}
    pipeline.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [hf.pre_tokenizers.WhitespaceSplit(), hf.pre_tokenizers.Metaspace(**metaspace)]
    )
    pipeline.decoder = hf.decoders.Metaspace(**metaspace)
    # XLNet's vocabulary has nine, the full stop among them. They part the text before all else,
    # and what follows one begins with the mark of a word, as in transformers 5.
    whole = [p.piece for p in proto.pieces if p.type == kinds.USER_DEFINED]
    pipeline.add_tokens([hf.AddedToken(piece, normalized=False) for piece in whole])
    if spelt:
        pipeline.add_special_tokens([p.piece for p in proto.pieces if p.type in hidden])
    return pipeline


def _normalizer(proto: sp.ModelProto) -> hf.normalizers.Normalizer:
    own = hf.normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    if not is_xlnet(p.piece for p in proto.pieces):
        return own
    quotes = [hf.normalizers.Replace(marks, '"') for marks in ("``", "''")]
    accents = [hf.normalizers.NFKD(), hf.normalizers.StripAccents()]
    return hf.normalizers.Sequence([*quotes, *accents, own])
