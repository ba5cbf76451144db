"""Values of records: decoded as they are read, then checked for what a task needs of them."""

import math
from collections.abc import Sequence

from input_pipeline.errors import DataError


def clean(value: object, field: str, where: str, errors: str) -> object:
    """Give a value with its bytes as text, in lists and objects too; all of it can be written.

    Raises:
        DataError: invalid UTF-8 or half of a surrogate pair, unless `errors` is "replace".
    """
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise DataError(
                f"field '{field}' of {where} is not valid UTF-8 at its byte {error.start};"
                " set --config.data.errors=replace to go on with the replacement character"
            ) from error
    if isinstance(value, str):
        return _writable(value, field, where, errors)
    if isinstance(value, list | tuple):
        return [clean(item, field, where, errors) for item in value]
    if isinstance(value, dict):
        return {key: clean(item, field, where, errors) for key, item in value.items()}
    return value


def _writable(value: str, field: str, where: str, errors: str) -> str:
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


def as_text(value: object, field: str, where: str) -> str:
    """Give a value that must be text."""
    if isinstance(value, str):
        return value
    raise DataError(
        f"field '{field}' of {where} holds {type(value).__name__}, not text;"
        " set --config.data.text_field (or text_b_field) to a field of text"
    )


def as_texts(value: object, field: str, where: str) -> list[str]:
    """Give a value that must be a list of texts."""
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        return list(value) if not isinstance(value, str) else [value]
    raise DataError(f"field '{field}' of {where} holds {value!r:.60}; it must be a list of texts")


def prose(value: object, field: str, where: str) -> str:
    """Give the text of a value as part of a corpus: of lists of words, of messages in a row."""
    if isinstance(value, list):
        return " ".join(prose(item, field, where) for item in value)
    if isinstance(value, dict) and "content" in value:  # a message
        return prose(value["content"], field, where)
    return as_text(value, field, where)


def as_label(value: object, field: str, where: str) -> str:
    """Give a class's name: text, or a number as it is written."""
    if isinstance(value, str | int | float) and value == value:  # NaN is no label
        return str(value)
    raise DataError(
        f"label field '{field}' of {where} holds {value!r:.60}; a label must be text or a number"
    )


def as_number(value: object, field: str, where: str) -> float:
    """Give a finite number, also where it is written as text."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"label field '{field}' of {where} holds {value!r:.60}, which is no number; mend it, or"
            " use config.objective.name=classification"
        )
    return number
