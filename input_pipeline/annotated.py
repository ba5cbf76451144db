"""Readers of annotated text: SQuAD's JSON, and the columns of CoNLL."""

import json
from collections.abc import Iterator, Sequence

from input_pipeline.errors import DataError
from input_pipeline.files import File, read_lines
from input_pipeline.records import Record, missing


def read_squad(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read the questions of a SQuAD file, version 1.1 or 2.0, as TFDS gives them.

    Fields: `id`, `title`, `context`, `question`, and `answers` with the lists `text` and
    `answer_start` (characters into the context), empty where there is no answer.
    """
    text = "\n".join(line for _, line in read_lines(file, errors))
    try:
        articles = json.loads(text)["data"]
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question.get("answers", [])
                    record = {
                        "id": str(question["id"]),
                        "title": article.get("title", ""),
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": {
                            key: [answer[key] for answer in answers]
                            for key in ("text", "answer_start")
                        },
                    }
                    where = f"{file.path}, question {record['id']}"
                    yield where, [_get(record, field, where) for field in fields]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file.path} is not a SQuAD file (an object with 'data', 'paragraphs', 'qas'):"
            f" {type(error).__name__} {error}; for one JSON object a line set"
            " --config.data.format=jsonl"
        ) from error


def _get(record: dict, field: str, where: str) -> object:
    if field not in record:
        raise missing(field, where, list(record))
    return record[field]


def read_conll(file: File, fields: Sequence[str], errors: str) -> Iterator[Record]:
    """Read sentences of one word a line, an empty line between them.

    Fields: `tokens`, the first column, and `tags`, the last one; columns lie between tabs, or
    between spaces where there is no tab. Lines that begin with "-DOCSTART-" are left out.
    """
    words: list[list[str]] = []
    first = 1

    def record() -> Record:
        known = {"tokens": [word[0] for word in words], "tags": [word[-1] for word in words]}
        where = f"{file.path}:{first}"
        return where, [_get(known, field, where) for field in fields]

    for number, line in read_lines(file, errors):
        columns = line.rstrip("\r").split("\t")
        if len(columns) == 1:  # a no-break space is part of its word
            columns = [column for column in columns[0].split(" ") if column]
        if not line.strip():
            if words:
                yield record()
            words = []
        elif columns[0] != "-DOCSTART-":
            if len(columns) < 2 or not (columns[0] and columns[-1]):
                raise DataError(
                    f"{file.path}:{number} has no word in its first column or no tag in its last;"
                    " both are needed, with a tab or a space between them"
                )
            first = first if words else number
            words.append(columns)
    if words:
        yield record()
