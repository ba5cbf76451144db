"""Readers of record formats: JSON lines, CSV, TSV, Parquet and array_record, a column at a time.

Each reader yields (where, values): `where` is "file:line", for messages; `values` are the asked-for
fields in order. A field that a record lacks is a DataError that lists what there is.
"""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from input_pipeline.errors import DataError
from input_pipeline.files import File, read_lines

Record = tuple[str, list]

_BATCH = 256  # records held at once by the columnar and random-access readers


def missing(field: str, where: str, available: Sequence[str]) -> DataError:
    """The error for a field that a record lacks."""
    return DataError(
        f"{where} has no field '{field}', only {', '.join(map(repr, available)) or 'none'};"
        " name the right one in --config.data (text_field, text_b_field, label_field, ...)"
    )


def _from_json(text: str | bytes, where: str, fields: Sequence[str]) -> list:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is a JSON {type(record).__name__}; each record must be an object")
    for field in fields:
        if field not in record:
            raise missing(field, where, list(record))
    return [record[field] for field in fields]


def read_jsonl(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read one JSON object a line; blank lines are skipped."""
    for number, line in read_lines(file, errors):
        if line.strip():
            where = f"{file.path}:{number}"
            yield where, _from_json(line, where, fields)


def _select(rows: Iterator[tuple[int, list[str]]], file: File, fields: Sequence[str]):
    """Pick columns by header name, or by number from 0 where all are numbers (then no header)."""
    width = sys.maxsize
    if all(field.isdecimal() for field in fields):
        columns = [int(field) for field in fields]
    else:
        number, header = next(rows, (1, []))
        width = len(header)
        for field in fields:
            if field not in header:
                raise missing(field, f"{file.path}:{number}", header)
        columns = [header.index(field) for field in fields]
    for number, row in rows:
        if row:
            if len(row) <= max(columns):
                raise DataError(
                    f"{file.path}:{number} has {len(row)} columns where at least {max(columns) + 1}"
                    " are needed; mend or remove the line"
                )
            if len(row) > width:
                raise DataError(
                    f"{file.path}:{number} has {len(row)} columns under a header of {width}; mend"
                    " the line, or quote what holds the separator"
                )
            yield f"{file.path}:{number}", [row[column] for column in columns]


def read_tsv(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read tab-separated values as GLUE writes them: quotation marks are ordinary characters."""
    lines = read_lines(file, errors)
    rows = ((number, line.split("\t") if line else []) for number, line in lines)
    return _select(rows, file, fields)


def _csv_rows(file: File, errors: str) -> Iterator[tuple[int, list[str]]]:
    # The module's default limit of 128 KiB a field is less than many a document.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader((line + "\n" for _, line in read_lines(file, errors)), strict=True)
    last = 0
    try:
        for row in reader:
            yield last + 1, row
            last = reader.line_num
    except csv.Error as error:
        raise DataError(f"{file.path}:{last + 1} is not valid CSV: {error}") from error


def read_csv(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read comma-separated values, quoted as RFC 4180 says; `where` is a record's first line."""
    return _select(_csv_rows(file, errors), file, fields)


def read_parquet(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read the asked-for columns of a Parquet file, a batch of rows at a time."""
    import pyarrow  # slow to import, and only this format needs it
    import pyarrow.parquet

    with file.open() as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            for field in fields:
                if field not in table.schema_arrow.names:
                    raise missing(field, file.path, table.schema_arrow.names)
            row = 0
            for batch in table.iter_batches(batch_size=_BATCH, columns=list(dict.fromkeys(fields))):
                columns = [batch.column(field).to_pylist() for field in fields]
                for values in zip(*columns, strict=True):
                    row += 1
                    yield f"{file.path}:{row}", list(values)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise DataError(f"{file.path} is not a readable Parquet file: {error}") from error


def _local_array_record(path: str, shown: str, fields: Sequence[str]) -> Iterator[Record]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(path)
        try:
            count = reader.num_records()
            for start in range(0, count, _BATCH):
                records = reader.read(start, min(start + _BATCH, count))
                for number, record in enumerate(records, start=start + 1):
                    where = f"{shown}:{number}"
                    yield where, _from_json(record, where, fields)
        finally:
            reader.close()  # a file of another kind is empty until here, where it raises
    except RuntimeError as error:
        raise DataError(f"{shown} is not a readable array_record file: {error}") from error


def read_array_record(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read an array_record file whose records are JSON objects; a remote file is copied first."""
    if file.is_local:
        yield from _local_array_record(file.path, file.path, fields)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "copy.array_record")
        file.fs.get_file(file.path, local)
        yield from _local_array_record(local, file.path, fields)
