"""Items of evaluation sets: contexts with the continuations whose likelihood is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec, read_records
from input_pipeline.values import as_text, as_texts


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        options: (context, continuation) pairs; the likelihood of each continuation is asked for.
        gold: the index of the right option, or of the one that the measure counts.
        categories: dimension -> value, in which figures are broken down.
        where: "file:line", for messages.
        texts: what the item says, to be looked for in a corpus; (): contexts and continuations.
        group: what the item is about, where items of a group are one observation of a measure
            (Winogender's occupation); "" otherwise.
        value: a number that belongs to the group (its share of women), or None.
    """

    options: tuple[tuple[str, str], ...]
    gold: int
    categories: dict[str, str]
    where: str
    texts: tuple[str, ...] = ()
    group: str = ""
    value: float | None = None

    @property
    def said(self) -> tuple[str, ...]:
        """The texts to look for in a corpus."""
        return self.texts or tuple(context + rest for context, rest in self.options)


def read_texts(spec: SourceSpec, fields: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Give (where, texts) of each record; DataError where a field holds something else."""
    for where, values in read_records(spec, fields):
        yield (
            where,
            [as_text(value, name, where) for value, name in zip(values, fields, strict=True)],
        )


def texts_of(value: object, name: str, where: str) -> list[str]:
    """A field that holds a list of two texts or more."""
    texts = as_texts(value, name, where)
    if len(texts) < 2:
        raise DataError(f"field '{name}' of {where} must be a list of two texts or more")
    return texts


def index_of(value: object, count: int, where: str) -> int:
    """A field that holds the number of one of `count` options."""
    if not str(value).isdecimal() or int(str(value)) >= count:
        raise DataError(
            f"'gold' of {where} is {value!r}; it must be a number from 0 to {count - 1}"
        )
    return int(str(value))


def join(context: str, continuation: str) -> tuple[str, str]:
    """An option: a blank between the two belongs to the context, which may bring its own."""
    blank = " " if context and not context[-1].isspace() else ""
    return context + blank, continuation.strip()
