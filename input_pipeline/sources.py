"""Sources of text: files in six formats, anywhere fsspec reads, and TFDS; as documents or examples.

A source is `tfds:NAME[/config]` or a path, glob or URL. Everything is streamed: a long text file
comes in pieces, so memory does not grow with the corpus.
"""

import dataclasses
import hashlib
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass

from input_pipeline.errors import DataError
from input_pipeline.files import File, find_files, read_lines, read_pieces, text_pieces
from input_pipeline.records import READERS, Record

TEXT_SUFFIXES = ("txt", "text", "md", "rst")
TFDS_PREFIX = "tfds:"


@dataclass(frozen=True)
class SourceSpec:
    """What to read, and how.

    Attributes:
        spec: "tfds:NAME[/config]", or a path, glob or fsspec URL of files.
        split: the split of a TFDS data set; files have none.
        text_field: the field (or column number from 0, in a CSV or TSV without header) of the text.
        text_b_field: the field of a pair's second text; "" for none.
        label_field: the field of the label.
        document: what one document of a text file is: "file", "paragraph" or "line".
        errors: invalid UTF-8: "strict" raises, "replace" puts U+FFFD.
        data_dir: where TFDS keeps its data; "" for its default.
    """

    spec: str
    split: str = "train"
    text_field: str = "text"
    text_b_field: str = ""
    label_field: str = "label"
    document: str = "file"
    errors: str = "strict"
    data_dir: str = ""

    def __post_init__(self):
        """Refuse values that no reader knows."""
        if self.document not in ("file", "paragraph", "line"):
            raise DataError(
                f"data.document is '{self.document}'; it must be 'file', 'paragraph' or 'line'"
            )
        if self.errors not in ("strict", "replace"):
            raise DataError(f"data.errors is '{self.errors}'; it must be 'strict' or 'replace'")

    @property
    def is_tfds(self) -> bool:
        """Whether the source is a TFDS data set."""
        return self.spec.startswith(TFDS_PREFIX)


@dataclass(frozen=True)
class Document:
    """A text, or a piece of one; `new` is False where it continues the document before it."""

    text: str
    new: bool = True


@dataclass(frozen=True)
class Example:
    """A labelled text or pair of texts; `where` ("file:line") names it in messages."""

    text: str
    text_b: str | None
    label: str
    where: str


def _paragraphs(file: File, errors: str) -> Iterator[str]:
    lines: list[str] = []
    for _, line in read_lines(file, errors):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _read_text_file(file: File, spec: SourceSpec) -> Iterator[Document]:
    if spec.document == "file":
        for number, piece in enumerate(read_pieces(file, spec.errors)):
            yield Document(piece, new=number == 0)
        return
    if spec.document == "paragraph":
        texts = _paragraphs(file, spec.errors)
    else:
        texts = (line for _, line in read_lines(file, spec.errors) if line.strip())
    for text in texts:
        yield from _documents(text)


def _documents(text: str) -> Iterator[Document]:
    for number, piece in enumerate(text_pieces(text)):
        yield Document(piece, new=number == 0)


def _text(value: object, field: str, where: str, errors: str) -> str:
    """Check that a record's field holds text that can be written as UTF-8."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise DataError(
                f"field '{field}' of {where} is not valid UTF-8 at its byte {error.start};"
                " set --config.data.errors=replace to go on with the replacement character"
            ) from error
    if not isinstance(value, str):
        raise DataError(
            f"field '{field}' of {where} holds {type(value).__name__}, not text;"
            " set --config.data.text_field to a field of text"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        if errors == "replace":
            return value.encode("utf-8", "replace").decode("utf-8")
        raise DataError(
            f"field '{field}' of {where} holds a lone surrogate at character {error.start};"
            " set --config.data.errors=replace to go on"
        ) from error
    return value


def _label(value: object, field: str, where: str) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    raise DataError(
        f"label field '{field}' of {where} holds {type(value).__name__};"
        " a label must be text or a number"
    )


def _records(spec: SourceSpec, fields: list[str]) -> Iterator[Record]:
    if spec.is_tfds:
        from input_pipeline import tfds_source  # importing TFDS takes seconds

        yield from tfds_source.read(_tfds_name(spec), spec.split, spec.data_dir, fields)
        return
    for file in find_files(spec.spec):
        yield from _reader(file)(file, fields, spec.errors)


def _reader(file: File):
    if file.suffix in READERS:
        return READERS[file.suffix]
    if file.suffix in TEXT_SUFFIXES:
        raise DataError(
            f"{file.path} is plain text and has no fields; labelled examples are read from"
            f" {', '.join('.' + suffix for suffix in READERS)} or tfds:NAME"
        )
    raise _unknown_format(file)


def _unknown_format(file: File) -> DataError:
    known = ", ".join("." + suffix for suffix in (*TEXT_SUFFIXES, *READERS))
    return DataError(f"{file.path} has no known format; the formats are {known}")


def _tfds_name(spec: SourceSpec) -> str:
    return spec.spec.removeprefix(TFDS_PREFIX)


def _read_documents(spec: SourceSpec) -> Iterator[Document]:
    fields = [spec.text_field] + ([spec.text_b_field] if spec.text_b_field else [])

    def of_records(records: Iterator[Record]) -> Iterator[Document]:
        for where, values in records:
            for field, value in zip(fields, values, strict=True):
                yield from _documents(_text(value, field, where, spec.errors))

    if spec.is_tfds:
        yield from of_records(_records(spec, fields))
        return
    for file in find_files(spec.spec):
        if file.suffix in TEXT_SUFFIXES:
            yield from _read_text_file(file, spec)
        elif file.suffix in READERS:
            yield from of_records(READERS[file.suffix](file, fields, spec.errors))
        else:
            raise _unknown_format(file)


def read_documents(spec: SourceSpec) -> Iterator[Document]:
    """Stream a source's documents; a long text comes in pieces of at most about 256 KiB.

    The two texts of a pair (where `text_b_field` is set) are two documents.

    Raises:
        DataError: nothing to read, unknown format, missing field, invalid UTF-8, empty corpus.
    """
    empty = True
    for document in _read_documents(spec):
        empty = empty and not document.text.strip()
        yield document
    if empty:
        raise DataError(f"'{spec.spec}' holds no text; check the file and --config.data.text_field")


def read_examples(spec: SourceSpec) -> Iterator[Example]:
    """Stream a source's labelled examples; labels are text (a ClassLabel's name, "1", "0.5").

    Raises:
        DataError: as `read_documents`; also plain text files, and unlabelled examples.
    """
    fields = [spec.text_field, spec.label_field]
    if spec.text_b_field:
        fields.append(spec.text_b_field)
    empty = True
    for where, (text, label, *text_b) in _records(spec, fields):
        empty = False
        yield Example(
            text=_text(text, spec.text_field, where, spec.errors),
            text_b=_text(text_b[0], spec.text_b_field, where, spec.errors) if text_b else None,
            label=_label(label, spec.label_field, where),
            where=where,
        )
    if empty:
        raise DataError(f"'{spec.spec}' holds no example; check --config.data.source")


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


def read_pairs(spec: SourceSpec, source: str, target: str) -> Iterator[Example]:
    """Stream a text-to-text task: `text` is the source, `text_b` the target, the label is "".

    Args:
        spec: where the records are; its fields are not used.
        source: template of the source text, such as "sst2 sentence: {sentence}".
        target: template of the target text, such as "{label}"; numbers are written as they are.

    Raises:
        DataError: as `read_documents`; a template that is not one.
    """
    templates = _template(source), _template(target)
    fields = list(dict.fromkeys(field for parts in templates for _, field in parts if field))
    empty = True
    for where, values in _records(spec, fields):
        empty = False
        texts = {
            field: str(value)
            if isinstance(value, int | float)
            else _text(value, field, where, spec.errors)
            for field, value in zip(fields, values, strict=True)
        }
        text, answer = ("".join(a + texts.get(f, "") for a, f in parts) for parts in templates)
        yield Example(text, answer, "", where)
    if empty:
        raise DataError(f"'{spec.spec}' holds no example; check --config.data.tasks")


def fingerprint(spec: SourceSpec) -> str:
    """Identify a source's content without reading it, as a SHA-256 in hex.

    It covers the spec and, for files, their paths, sizes and times of change; for TFDS the data
    set's full name with version, and the split's number of examples and bytes.
    """
    if spec.is_tfds:
        from input_pipeline import tfds_source

        content = tfds_source.identity(_tfds_name(spec), spec.split, spec.data_dir)
    else:
        content = [file.identity() for file in find_files(spec.spec)]
    # Where a TFDS copy lies does not change what it says.
    options = dataclasses.asdict(spec) | {"data_dir": ""}
    return hashlib.sha256(json.dumps([options, content], sort_keys=True).encode()).hexdigest()
