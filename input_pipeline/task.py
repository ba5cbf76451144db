"""What a task makes of labelled records: the contract between objectives and example stores."""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from input_pipeline.errors import DataError
from input_pipeline.example_store import Example
from input_pipeline.records import Record
from input_pipeline.tokenizers import Tokenizer
from input_pipeline.values import as_texts, prose


@dataclass(frozen=True)
class Task:
    """How records become examples.

    Attributes:
        fields: what is read of each record, in the order in which its values come.
        arrays: names of the arrays of an example.
        numbers: names of its numbers.
        encode: (records, tokenizer, label names) -> the examples of each record.
        labels: the class names in one record (the run's are those of its training records); None
            for a task without classes.
        identity: what decides `encode` besides its arguments: the task's name and its settings.
    """

    fields: tuple[str, ...]
    arrays: tuple[str, ...]
    numbers: tuple[str, ...]
    encode: Callable[[Sequence[Record], Tokenizer, Sequence[str]], Sequence[Sequence[Example]]]
    labels: Callable[[Record], Iterable[str]] | None = None
    identity: tuple = ()


class Templates:
    """Two texts made of a record's fields, such as "sst2 sentence: {sentence}" and "{label}".

    Numbers are written as they are, a list of texts with spaces between them; but where the second
    template is one field alone, such as "{summary}", its list holds alternatives: all count as
    right, and the first is what is learned.

    Attributes:
        fields: the fields that the templates name.
    """

    def __init__(self, source: str, target: str):
        """Raises DataError on a template that is not one."""
        self._texts = (source, target)
        self._parts = _template(source), _template(target)
        named = [field for parts in self._parts for _, field in parts if field]
        self.fields = tuple(dict.fromkeys(named))

    def fill(self, record: Record) -> Record:
        """(where, values of `fields`) -> (where, [source text, target texts])."""
        where, values = record
        known = dict(zip(self.fields, values, strict=True))
        texts = {field: _as_written(value, field, where) for field, value in known.items()}
        source, target = ("".join(a + texts.get(f, "") for a, f in parts) for parts in self._parts)
        literal, field = self._parts[1][0] if len(self._parts[1]) == 1 else ("", "")
        if not literal and isinstance(known.get(field), list):
            if not known[field]:
                raise DataError(f"field '{field}' of {where} is an empty list; give one text")
            return where, [source, as_texts(known[field], field, where)]
        return where, [source, [target]]

    def around(self, task: Task) -> Task:
        """The task whose two fields are of text, reading them through the templates."""

        def encode(
            records: Sequence[Record], tokenizer: Tokenizer, labels: Sequence[str]
        ) -> Sequence[Sequence[Example]]:
            return task.encode([self.fill(record) for record in records], tokenizer, labels)

        identity = (*task.identity, *self._texts)
        return replace(task, fields=self.fields, encode=encode, identity=identity)


def _template(text: str) -> list[tuple[str, str]]:
    """Split "a {x} b" into (literal, field) pairs, here ("a ", "x"), (" b", "")."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise DataError(f"the template {text!r} of --config.data.tasks: {error}") from error
    if any(field == "" or form or conversion for _, field, form, conversion in parts):
        raise DataError(
            f"the template {text!r} of --config.data.tasks must name fields plainly, as in"
            " '{sentence}'; a brace of the text itself is doubled"
        )
    return [(literal, field or "") for literal, field, _, _ in parts]


def _as_written(value: object, field: str, where: str) -> str:
    return str(value) if isinstance(value, int | float) else prose(value, field, where)
