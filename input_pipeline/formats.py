"""Formats of files with records, by suffix or by ``config.data.format``."""

from input_pipeline.annotated import read_conll, read_squad
from input_pipeline.errors import DataError
from input_pipeline.files import File
from input_pipeline.records import (
    read_array_record,
    read_csv,
    read_jsonl,
    read_parquet,
    read_tsv,
)

TEXT = "txt"
TEXT_SUFFIXES = ("txt", "text", "md", "rst")
READERS = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "array_record": read_array_record,
    "json": read_squad,
    "conll": read_conll,
}


def format_of(file: File, asked: str) -> str:
    """Give the name of a file's format, a reader's or TEXT: the one asked for, or its suffix.

    Raises:
        DataError: there is no such format.
    """
    found = asked or file.suffix
    if found in READERS:
        return found
    if found in TEXT_SUFFIXES:
        return TEXT
    known = ", ".join((TEXT, *READERS))
    if asked:
        raise DataError(f"--config.data.format={asked} does not exist; the formats are {known}")
    raise DataError(
        f"{file.path} has no known format; the formats are {known} (--config.data.format says"
        " which one where the suffix does not)"
    )
