"""Sources of text: files, anywhere fsspec reads, and TFDS; as documents or as records.

A source is `tfds:NAME[/config]` or a path, glob or URL. Everything is streamed: a long text file
comes in pieces, so memory does not grow with the corpus.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from input_pipeline.errors import DataError
from input_pipeline.files import File, find_files, read_lines, read_pieces, text_pieces
from input_pipeline.formats import READERS, TEXT, format_of
from input_pipeline.records import Record
from input_pipeline.values import clean, prose

TFDS_PREFIX = "tfds:"


@dataclass(frozen=True)
class SourceSpec:
    """What to read, and how.

    Attributes:
        spec: "tfds:NAME[/config]", or a path, glob or fsspec URL of files.
        split: the split of a TFDS data set; files have none.
        text_field: the field (or column number from 0, in a CSV or TSV without header) of the text.
        text_b_field: the field of a pair's second text; "" for none.
        format: of the files (formats.py); "" goes by their suffix.
        document: what one document of a text file is: "file", "paragraph" or "line".
        errors: invalid UTF-8: "strict" raises, "replace" puts U+FFFD.
        data_dir: where TFDS keeps its data; "" for its default.
    """

    spec: str
    split: str = "train"
    text_field: str = "text"
    text_b_field: str = ""
    format: str = ""
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


def read_records(spec: SourceSpec, fields: Sequence[str]) -> Iterator[Record]:
    """Stream (where, values of `fields`) of a source's records, bytes decoded.

    Raises:
        DataError: nothing to read, unknown format, missing field, invalid UTF-8, no record.
    """
    empty = True
    for where, values in _records(spec, fields):
        empty = False
        pairs = zip(values, fields, strict=True)
        yield where, [clean(value, field, where, spec.errors) for value, field in pairs]
    if empty:
        raise DataError(f"'{spec.spec}' holds no example; check --config.data")


def _records(spec: SourceSpec, fields: Sequence[str]) -> Iterator[Record]:
    if spec.is_tfds:
        from input_pipeline import tfds_source  # importing TFDS takes seconds

        yield from tfds_source.read(_tfds_name(spec), spec.split, spec.data_dir, fields)
        return
    for file in find_files(spec.spec):
        kind = format_of(file, spec.format)
        if kind == TEXT:
            raise DataError(
                f"{file.path} is plain text and has no fields: records are read from tfds:NAME and"
                f" {', '.join(READERS)}; --config.data.format says which where the suffix does not"
            )
        yield from READERS[kind](file, fields, spec.errors)


def _tfds_name(spec: SourceSpec) -> str:
    return spec.spec.removeprefix(TFDS_PREFIX)


def _read_documents(spec: SourceSpec) -> Iterator[Document]:
    fields = [spec.text_field] + ([spec.text_b_field] if spec.text_b_field else [])
    if spec.is_tfds:
        yield from _of_records(_records(spec, fields), fields, spec)
        return
    for file in find_files(spec.spec):
        kind = format_of(file, spec.format)
        if kind == TEXT:
            yield from _read_text_file(file, spec)
        else:
            yield from _of_records(READERS[kind](file, fields, spec.errors), fields, spec)


def _of_records(
    records: Iterator[Record], fields: Sequence[str], spec: SourceSpec
) -> Iterator[Document]:
    """The texts of records as documents."""
    for where, values in records:
        for field, value in zip(fields, values, strict=True):
            yield from _documents(prose(clean(value, field, where, spec.errors), field, where))


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
