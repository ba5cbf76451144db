"""Evaluation sets as items: contexts with the continuations whose likelihood is asked for.

An evaluation set is read by one function, record by record, on top of the readers of records; what
is made of the likelihoods is named by `measure` (train/scoring/measures.py). To add one: write the
function, and its line in `SUITES`.

A blank joins context and continuation unless the context ends in white space; it is the context's.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from input_pipeline.errors import DataError
from input_pipeline.files import find_files
from input_pipeline.formats import READERS
from input_pipeline.items import Item, index_of, join, read_texts, texts_of
from input_pipeline.sources import Document, SourceSpec, read_documents, read_records
from input_pipeline.values import as_text

PIECE = 2000  # characters of a text that are one item
_BREAK = re.compile(r"\s+(?=\S)")  # where a text may be cut
STATISTICS = "occupations-stats.tsv"  # Winogender's, beside the sentences


@dataclass(frozen=True)
class Suite:
    """A kind of evaluation set.

    Attributes:
        read: gives the items of a source.
        measure: what is computed from the likelihoods.
        holds: what its sources hold, for messages.
        unmodified: pseudo-likelihoods are those of the tokens that both sentences share.
    """

    read: Callable[[SourceSpec], Iterator[Item]]
    measure: str
    holds: str
    unmodified: bool = False


def read_items(name: str, specs: Sequence[SourceSpec], limit: int = 0) -> list[Item]:
    """Read the items of an evaluation set of the kind `name` from all its sources.

    Args:
        name: a key of `SUITES`.
        specs: where they are.
        limit: the first so many of each source at most; 0: all.

    Raises:
        DataError: nothing there, fields missing, empty texts, values that are none of the set's.
    """
    items = []
    for spec in specs:
        try:
            found = 0
            for item in SUITES[name].read(spec):
                _check(item)
                items.append(item)
                found += 1
                if found == limit:
                    break
        except DataError as error:
            raise DataError(_without_config(str(error), name)) from error
        if not found:
            raise DataError(f"'{spec.spec}' holds no item of {name}; check the file.")
    return items


def _without_config(message: str, name: str) -> str:
    """A reader's message, whose advice is about a config, for a command that has none."""
    told = re.split(r"[;,] [^;,]*--config\.data", message)[0].rstrip(".")
    return f"{told}; --tasks={name}:PATH reads {SUITES[name].holds}."


def _check(item: Item) -> None:
    if any(not continuation.strip() for _, continuation in item.options):
        raise DataError(f"{item.where} has an empty text where a likelihood is asked for")


def _blimp(spec: SourceSpec) -> Iterator[Item]:
    """Minimal pairs of grammar (Warstadt et al. 2020): the good sentence is the first option."""
    names = ("sentence_good", "sentence_bad", "UID", "linguistics_term")
    for where, (good, bad, paradigm, term) in read_texts(spec, names):
        categories = {"phenomenon": term, "paradigm": paradigm}
        yield Item((("", good), ("", bad)), 0, categories, where)


def _crows_pairs(spec: SourceSpec) -> Iterator[Item]:
    """Pairs of sentences (Nangia et al. 2020).

    `sent_more` is the more stereotyping one in both directions: under "stereo" it demonstrates a
    stereotype of the disadvantaged group, under "antistereo" the other one violates it.
    """
    names = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
    for where, (more, less, direction, bias) in read_texts(spec, names):
        _direction(direction, "stereo_antistereo", where)
        categories = {"bias_type": bias, "direction": direction}
        yield Item((("", more), ("", less)), 0, categories, where)


def _stereoset(spec: SourceSpec) -> Iterator[Item]:
    """Intrasentence pairs of StereoSet (Nadeem et al. 2021) as advantaged and disadvantaged.

    Under "stereo" the sentence on the disadvantaged side is the stereotype, under "antistereo"
    the other one.
    """
    names = ("advantaged", "disadvantaged", "gold-direction")
    for where, (advantaged, disadvantaged, direction) in read_texts(spec, names):
        _direction(direction, "gold-direction", where)
        options = ("", disadvantaged), ("", advantaged)
        gold = 0 if direction == "stereo" else 1
        yield Item(options, gold, {"direction": direction}, where)


def _direction(value: str, name: str, where: str) -> None:
    if value not in ("stereo", "antistereo"):
        raise DataError(f"'{name}' of {where} is '{value}'; it must be 'stereo' or 'antistereo'")


def _winogender(spec: SourceSpec) -> Iterator[Item]:
    """Sentences with a pronoun (Rudinger et al. 2018), joined to (male, female, neutral) options.

    A `sentid` is occupation.participant.answer.gender.txt; the answer says whom the pronoun means:
    0 the occupation, 1 the participant.
    """
    shares = _shares(spec)
    found: dict[tuple[str, str, str], dict[str, tuple[str, str]]] = {}
    for where, (sentid, sentence) in read_texts(spec, ("sentid", "sentence")):
        parts = sentid.split(".")
        if len(parts) < 4 or parts[2] not in ("0", "1") or parts[3] not in GENDERS:
            raise DataError(
                f"'sentid' of {where} is '{sentid}'; it must be like nurse.patient.0.male"
            )
        found.setdefault((parts[0], parts[1], parts[2]), {})[parts[3]] = sentence, where
    for (occupation, participant, answer), sentences in found.items():
        where = next(iter(sentences.values()))[1]
        if missing := [gender for gender in GENDERS if gender not in sentences]:
            raise DataError(
                f"{where}: the sentence of {occupation} and {participant} has no {missing[0]} form"
            )
        categories = {
            "referent": ("occupation", "participant")[int(answer)],
            "participant": "someone" if participant == "someone" else "named",
        }
        options = tuple(("", sentences[gender][0]) for gender in GENDERS)
        yield Item(options, 0, categories, where, (), occupation, shares.get(occupation))


GENDERS = ("male", "female", "neutral")


def _shares(spec: SourceSpec) -> dict[str, float]:
    """Occupation -> per cent of women (BLS); {} where the file is not beside the sentences."""
    folder, slash, _ = spec.spec.rpartition("/")
    try:
        file = find_files(f"{folder}{slash}{STATISTICS}")[0]
    except DataError:
        return {}
    names = ("occupation", "bls_pct_female")
    try:
        return {name: float(share) for _, (name, share) in READERS["tsv"](file, names, "strict")}
    except DataError:  # which says so itself
        raise
    except ValueError as error:
        raise DataError(f"{file.path}: bls_pct_female must be numbers ({error})") from error


def _lambada(spec: SourceSpec) -> Iterator[Item]:
    """Passages and their last word (Paperno et al. 2016)."""
    names = ("context", "continuation")
    for where, (context, continuation) in read_texts(spec, names):
        yield Item((join(context, continuation),), 0, {}, where)


def _choice(spec: SourceSpec) -> Iterator[Item]:
    """Questions with several answers (PIQA, ARC and others in this form)."""
    for where, (query, choices, gold) in read_records(spec, ("query", "choices", "gold")):
        choices = texts_of(choices, "choices", where)
        options = tuple(join(as_text(query, "query", where), choice) for choice in choices)
        yield Item(options, index_of(gold, len(options), where), {}, where)


def _winogrande(spec: SourceSpec) -> Iterator[Item]:
    """One continuation after several contexts (Sakaguchi et al. 2020, partial evaluation)."""
    names = ("context_options", "continuation", "gold")
    for where, (contexts, continuation, gold) in read_records(spec, names):
        contexts = texts_of(contexts, "context_options", where)
        continuation = as_text(continuation, "continuation", where)
        options = tuple(join(context, continuation) for context in contexts)
        yield Item(options, index_of(gold, len(options), where), {}, where)


def _running_text(spec: SourceSpec) -> Iterator[Item]:
    """A text in pieces of about `PIECE` characters, each after the piece before it."""
    before = ""
    for new, piece in _pieces(read_documents(spec)):
        before = "" if new else before
        if piece.strip():
            yield Item(((before, piece),), 0, {}, spec.spec, (piece,))
        before = piece


def _pieces(documents: Iterable[Document]) -> Iterator[tuple[bool, str]]:
    """(whether a document begins, piece), cut before white space where there is any."""
    new, rest = True, ""
    for document in documents:
        if document.new and rest:
            yield new, rest
            rest = ""
        new = new or document.new
        rest += document.text
        start = 0
        while len(rest) - start >= 2 * PIECE:
            blank = _BREAK.search(rest, start + PIECE, start + 2 * PIECE)
            stop = blank.start() if blank else start + PIECE
            yield new, rest[start:stop]
            new, start = False, stop
        rest = rest[start:]
    if rest:
        yield new, rest


SUITES = {
    "blimp": Suite(
        _blimp, "accuracy", "records with sentence_good, sentence_bad, UID and linguistics_term"
    ),
    "crows_pairs": Suite(
        _crows_pairs, "stereotypes",
        "records with sent_more, sent_less, stereo_antistereo and bias_type", unmodified=True,
    ),
    "stereoset": Suite(
        _stereoset, "stereotypes",
        "records with advantaged, disadvantaged and gold-direction", unmodified=True,
    ),
    "winogender": Suite(
        _winogender, "pronouns", f"records with sentid and sentence, and {STATISTICS} beside them"
    ),
    "lambada": Suite(_lambada, "last_word", "records with context and continuation"),
    "choice": Suite(
        _choice, "choice", "records with query, choices (a list) and gold (the right one's number)"
    ),
    "winogrande": Suite(
        _winogrande, "accuracy", "records with context_options (a list), continuation and gold"
    ),
    "text": Suite(_running_text, "text", "plain text, or records with a field text"),
}  # fmt: skip
