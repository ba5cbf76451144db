"""Training tokenizers: the same text gives the same vocabulary, in every process and run."""

import io
from collections import Counter
from collections.abc import Iterable

import sentencepiece
import tokenizers as hf

from input_pipeline.errors import DataError
from input_pipeline.tokenizer_backends import (
    Backend,
    CharBackend,
    HFBackend,
)
from input_pipeline.tokenizer_files import BERT_SPECIALS, byte_level_pipeline, wordpiece_pipeline
from input_pipeline.tokenizer_unigram import sentencepiece_backend

KINDS = ("wordpiece", "bpe", "unigram", "sp_bpe", "char")
_ALPHABET_LIMIT = 1000  # characters in a WordPiece vocabulary; rarer ones become [UNK]
# The end of text comes first, as id 0; the rest lets a GPT vocabulary serve masked models as well.
_BPE_SPECIALS = ["<|endoftext|>", "<pad>", "<mask>", "<cls>", "<sep>"]


def _wordpiece(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Backend:
    """Train WordPiece; holds the texts in memory.

    The library numbers the alphabet's "##x" in the order of a hash map, and that order breaks ties
    between merges (huggingface/tokenizers #1794). Registering them as special tokens, in sorted
    order, fixes both; the tokenizer is then built anew from the vocabulary, without them as such.
    """
    learner = wordpiece_pipeline({"[UNK]": 0}, lowercase)
    texts = list(texts)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(learner.normalizer.normalize_str(text))
    characters = [c for c in counts if not c.isspace()]
    alphabet = sorted(sorted(characters, key=lambda c: (-counts[c], c))[:_ALPHABET_LIMIT])
    fixed = [*BERT_SPECIALS, *("##" + character for character in alphabet)]
    _check_room(vocab_size, len(fixed) + len(alphabet))
    trainer = hf.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    vocabulary = learner.get_vocab(with_added_tokens=False)
    return HFBackend(wordpiece_pipeline(vocabulary, lowercase))


def _check_room(vocab_size: int, needed: int) -> None:
    if vocab_size < needed:
        raise DataError(
            f"tokenizer.vocab_size is {vocab_size}, but the special tokens and the alphabet of this"
            f" text alone need {needed}; set --config.tokenizer.vocab_size higher"
        )


def _bpe(texts: Iterable[str], vocab_size: int, lowercase: bool) -> Backend:
    _check_room(vocab_size, 256 + len(_BPE_SPECIALS))
    learner = byte_level_pipeline(hf.models.BPE(), lowercase)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_BPE_SPECIALS,
        initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return HFBackend(learner)


def _sentencepiece(texts: Iterable[str], vocab_size: int, lowercase: bool, kind: str) -> Backend:
    lines = (line for text in texts for line in text.split("\n") if line.strip())
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size,
            hard_vocab_limit=False,  # a small text gives fewer pieces, not an error
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            max_sentence_length=1 << 28,  # the default drops lines beyond 4192 bytes, silently
            num_threads=4,  # sums are split by thread: a fixed number gives a fixed result
            pad_id=0,  # as in T5's vocabularies: transformers' T5Tokenizer takes them for granted
            eos_id=1,
            unk_id=2,
            bos_id=3,
            control_symbols=["<cls>", "<sep>", "<mask>"],
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().split("\n")[-1]
        raise DataError(
            f"SentencePiece could not train {vocab_size} pieces on this text ({reason});"
            " change --config.tokenizer.vocab_size"
        ) from error
    return sentencepiece_backend(model.getvalue())


def _char(texts: Iterable[str], lowercase: bool) -> Backend:
    characters: set[str] = set()
    for text in texts:
        characters.update(text.lower() if lowercase else text)
    return CharBackend("".join(sorted(characters)), lowercase)


def train_backend(kind: str, texts: Iterable[str], vocab_size: int, lowercase: bool) -> Backend:
    """Train a tokenizer of a kind; see `input_pipeline.tokenizers.train_tokenizer`."""
    if kind not in KINDS:
        raise DataError(f"tokenizer.kind is '{kind}'; it must be one of {', '.join(KINDS)}")
    if kind == "wordpiece":
        return _wordpiece(texts, vocab_size, lowercase)
    if kind == "bpe":
        return _bpe(texts, vocab_size, lowercase)
    if kind == "char":
        return _char(texts, lowercase)
    return _sentencepiece(texts, vocab_size, lowercase, "unigram" if kind == "unigram" else "bpe")
