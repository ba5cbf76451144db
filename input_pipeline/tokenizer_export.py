"""Writing a tokenizer for other programs: the files that transformers reads."""

import json
from pathlib import Path

import tokenizers as hf

from input_pipeline.tokenizer_backends import CHAR_FILE, HF_FILE, SP_FILE, control_pieces
from input_pipeline.tokenizer_unigram import UnigramBackend, is_xlnet, unigram_pipeline
from input_pipeline.tokenizers import SENTINEL, Tokenizer

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


def export_tokenizer(
    tokenizer: Tokenizer,
    folder: Path,
    max_length: int,
    framed: bool,
    second_type: int,
    model_type: str = "",
) -> list[str]:
    """Write a tokenizer into a published model's folder.

    Args:
        tokenizer: the run's.
        folder: exists.
        max_length: tokens that the model takes.
        framed: whether texts stand between [CLS] and [SEP] (where the vocabulary has them).
        second_type: token type of a pair's second text.
        model_type: of the folder's config.json, from which transformers knows the class.

    Returns:
        Names of the files written. WordPiece and BPE come twice, as tokenizer.json and in the older
        form (vocab.txt; vocab.json with merges.txt). SentencePiece comes as the model itself, and a
        unigram one as tokenizer.json too where the class would give other ids for the model.
    """
    content = tokenizer.content()
    names = {role: tokenizer.piece(getattr(tokenizer, f"{role}_id")) for role in ROLES}
    settings = {f"{role}_token": name for role, name in names.items() if name is not None}
    settings |= {"model_max_length": max_length, "clean_up_tokenization_spaces": False}
    if tokenizer.file_name == SP_FILE:
        if not _wants_pipeline(tokenizer, model_type):
            content, settings["extra_ids"] = _without_sentinels(tokenizer)
            (folder / SP_FILE).write_bytes(content)
            return [SP_FILE, _write_json(folder / "tokenizer_config.json", settings)]
        (folder / SP_FILE).write_bytes(content)
        written, table = [SP_FILE], json.loads(unigram_pipeline(content, spelt=True).to_str())
    else:
        written, table = [], json.loads(content)
    if tokenizer.file_name == CHAR_FILE:
        table = _characters(table["characters"], table["lowercase"])
    elif table["model"]["type"] == "WordPiece":
        written.append(_write_pieces(folder, tokenizer))
        settings["do_lower_case"] = bool((table["normalizer"] or {}).get("lowercase"))
    elif table["model"]["type"] == "BPE":
        written += _write_merges(folder, table["model"])
    if framed and None not in (tokenizer.cls_id, tokenizer.sep_id):
        table["post_processor"] = _frame(tokenizer, second_type)
    # The class that takes tokenizer.json as it is.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    written.append(_write_json(folder / HF_FILE, table))
    return [*written, _write_json(folder / "tokenizer_config.json", settings)]


def _wants_pipeline(tokenizer: Tokenizer, model_type: str) -> bool:
    """Whether the class in transformers would read a unigram model in another way than we do.

    XLNetTokenizer normalises every text as only XLNet's vocabulary wants it; T5Tokenizer takes it
    for granted that the unknown token is 2.
    """
    if tokenizer.rules != UnigramBackend.rules:
        return False
    if is_xlnet(map(tokenizer.piece, range(tokenizer.vocab_size))):
        return model_type != "xlnet"
    return model_type != "t5" or tokenizer.unk_id != 2


def _without_sentinels(tokenizer: Tokenizer) -> tuple[bytes, int]:
    """A SentencePiece model as it was without its sentinels, and how many they are.

    The published T5Tokenizer appends them itself, also where the model has them already.
    """
    names = [SENTINEL.format(i) for i in reversed(range(len(tokenizer.sentinels)))]
    content, end = tokenizer.content(), control_pieces(names)
    return (content.removesuffix(end), len(names)) if content.endswith(end) else (content, 0)


def _write_json(path: Path, value: object) -> str:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path.name


def _write_pieces(folder: Path, tokenizer: Tokenizer) -> str:
    pieces = (tokenizer.piece(i) for i in range(tokenizer.vocab_size))
    (folder / "vocab.txt").write_bytes("".join(f"{piece}\n" for piece in pieces).encode("utf-8"))
    return "vocab.txt"


def _write_merges(folder: Path, model: dict) -> list[str]:
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    text = "#version: 0.2\n" + "".join(f"{line}\n" for line in lines)
    (folder / "merges.txt").write_bytes(text.encode("utf-8"))
    return [_write_json(folder / "vocab.json", model["vocab"]), "merges.txt"]


def _characters(characters: str, lowercase: bool) -> dict:
    """A table of characters as a pipeline: every character is a word of its own."""
    model = hf.models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="")
    pipeline = hf.Tokenizer(model)
    if lowercase:
        pipeline.normalizer = hf.normalizers.Lowercase()
    pipeline.pre_tokenizer = hf.pre_tokenizers.Split(hf.Regex(r"[\s\S]"), "isolated")
    pipeline.decoder = hf.decoders.Fuse()
    return json.loads(pipeline.to_str())


def _frame(tokenizer: Tokenizer, second_type: int) -> dict:
    """[CLS] a [SEP] and [CLS] a [SEP] b [SEP], as classification frames them, as JSON."""
    cls, sep = tokenizer.piece(tokenizer.cls_id), tokenizer.piece(tokenizer.sep_id)
    first = f"{cls} $A" + f" {sep}" * tokenizer.pair_separators
    pipeline = hf.Tokenizer(hf.models.WordLevel({}, unk_token=""))
    pipeline.post_processor = hf.processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{first} $B:{second_type} {sep}:{second_type}",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
    return json.loads(pipeline.to_str())["post_processor"]
