"""Every format, document unit and complaint of the sources."""

import json
import os

import fsspec
import pytest

from input_pipeline.errors import DataError
from input_pipeline.files import PIECE_BYTES, find_files, read_pieces
from input_pipeline.sources import SourceSpec, fingerprint, read_documents, read_records
from input_pipeline.values import as_label, as_number, as_text, as_texts

ROWS = [("a fine\tday", "1"), ('the "worst" film, ever', "0"), ("naïve — café", "1")]


def texts(spec: SourceSpec) -> list[str]:
    return [document.text for document in read_documents(spec)]


def write_rows(suffix: str, path: str) -> None:
    """Write ROWS (fields text, label) to a path or URL, with each format's own library."""
    if suffix == "array_record":
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(path, "group_size:1")
        for text, label in ROWS:
            writer.write(json.dumps({"text": text, "label": int(label)}).encode())
        writer.close()
        return
    with fsspec.open(path, "wb") as file:
        if suffix == "jsonl":
            lines = [json.dumps({"text": text, "label": int(label)}) for text, label in ROWS]
            file.write(("\n".join(lines) + "\n\n").encode())
        elif suffix == "csv":
            lines = ['"' + text.replace('"', '""') + f'",{label}' for text, label in ROWS]
            file.write(("text,label\r\n" + "\r\n".join(lines)).encode())
        elif suffix == "tsv":
            lines = [f"{text.replace(chr(9), ' ')}\t{label}" for text, label in ROWS]
            file.write(("text\tlabel\n" + "\n".join(lines) + "\n").encode())
        elif suffix == "parquet":
            import pyarrow
            import pyarrow.parquet

            text, label = zip(*ROWS, strict=True)
            pyarrow.parquet.write_table(
                pyarrow.table({"label": label, "other": [0] * len(text), "text": text}), file
            )


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet", "array_record"])
def test_record_formats(suffix, tmp_path):
    path = str(tmp_path / f"rows.{suffix}")
    write_rows(suffix, path)
    wanted = [text.replace("\t", " ") if suffix == "tsv" else text for text, _ in ROWS]
    spec = SourceSpec(path)
    assert texts(spec) == wanted
    where, values = zip(*read_records(spec, ("label", "text")), strict=True)
    assert [text for _, text in values] == wanted
    assert [str(label) for label, _ in values] == ["1", "0", "1"]
    first_line = 2 if suffix in ("csv", "tsv") else 1
    assert list(where) == [f"{path}:{first_line + i}" for i in range(3)]
    with pytest.raises(DataError, match=r"no field 'nonsense'.*'text'"):
        texts(SourceSpec(path, text_field="nonsense"))


@pytest.mark.parametrize("suffix", ["parquet", "array_record"])
def test_more_records_than_are_read_at_once(suffix, tmp_path, monkeypatch):
    rows = [(f"text {i}", str(i)) for i in range(600)]
    monkeypatch.setitem(globals(), "ROWS", rows)
    write_rows(suffix, str(tmp_path / f"rows.{suffix}"))
    spec = SourceSpec(str(tmp_path / f"rows.{suffix}"))
    where, values = zip(*read_records(spec, ("text", "label")), strict=True)
    assert [(text, str(label)) for text, label in values] == rows
    assert where[-1].endswith(":600")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_remote_files(suffix):
    url = f"memory://remote-{suffix}/rows.{suffix}"
    write_rows(suffix, url)
    assert len(texts(SourceSpec(url))) == 3
    assert len(texts(SourceSpec(f"memory://remote-{suffix}/*.{suffix}"))) == 3


def test_remote_array_record(tmp_path):
    write_rows("array_record", str(tmp_path / "rows.array_record"))
    url = "memory://remote-ar/rows.array_record"
    with fsspec.open(url, "wb") as file:
        file.write((tmp_path / "rows.array_record").read_bytes())
    assert texts(SourceSpec(url)) == [text for text, _ in ROWS]


def test_csv_where_is_a_records_first_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"two\nlines",x\nlast,y\n')
    assert list(read_records(SourceSpec(str(path)), ("text",))) == [
        (f"{path}:2", ["two\nlines"]),
        (f"{path}:4", ["last"]),
    ]


def test_tsv_without_header_and_pairs(tmp_path):
    path = tmp_path / "cola.tsv"
    path.write_text('gj04\t1\t\tOur "friends" won.\nbc01\t0\t*\tThem ran.\n')
    found = [values for _, values in read_records(SourceSpec(str(path)), ("3", "0", "1"))]
    assert found == [['Our "friends" won.', "gj04", "1"], ["Them ran.", "bc01", "0"]]
    with pytest.raises(DataError, match=r"cola\.tsv:1 has 4 columns"):
        list(read_records(SourceSpec(str(path)), ("7", "1")))


def test_document_units(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n \nthree\n")
    assert texts(SourceSpec(str(path))) == ["one\ntwo\n \nthree\n"]
    assert texts(SourceSpec(str(path), document="paragraph")) == ["one\ntwo", "three"]
    assert texts(SourceSpec(str(path), document="line")) == ["one", "two", "three"]
    (tmp_path / "b.txt").write_text("\n\na\n\n\nb\nc\n\n")
    assert texts(SourceSpec(str(tmp_path / "b.txt"), document="paragraph")) == ["a", "b\nc"]
    with pytest.raises(DataError, match="'chapter'"):
        SourceSpec(str(path), document="chapter")


def test_long_file_comes_in_pieces(tmp_path):
    path = tmp_path / "long.txt"
    text = "".join(f"line {i} – é\n\n" for i in range(60_000))
    path.write_bytes(text.encode())
    pieces = list(read_documents(SourceSpec(str(path))))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.new for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert len(pieces) > 4
    assert max(len(piece.text.encode()) for piece in pieces) <= 2 * PIECE_BYTES
    for piece in pieces[1:]:  # cut before the last line break ahead of a line of text
        assert piece.text[0] == "\n"
        assert piece.text[1] == "l"


def test_long_lines_and_fields_are_one_document_each(tmp_path):
    long = "word " * 40_000 + "end"
    (tmp_path / "a.txt").write_text(f"{long}\nshort\n")
    (tmp_path / "a.jsonl").write_text(f'{json.dumps({"text": long})}\n{{"text": "short"}}\n')
    (tmp_path / "a.csv").write_text(f'text\n"{long}"\nshort\n')
    for name, unit in (
        ("a.txt", "line"),
        ("a.txt", "paragraph"),
        ("a.jsonl", "file"),
        ("a.csv", "file"),
    ):
        found = list(read_documents(SourceSpec(str(tmp_path / name), document=unit)))
        starts = [i for i, piece in enumerate(found) if piece.new]
        joined = "".join(piece.text for piece in found)
        assert joined == long + ("\nshort" if unit == "paragraph" else "short")
        assert starts == ([0] if unit == "paragraph" else [0, len(found) - 1]), (name, unit)
        assert len(found) > 1


def test_line_ends_and_marks_of_long_files(tmp_path):
    path = tmp_path / "a.txt"
    lines = "".join(f"line {i}\r\n" for i in range(40_000))
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert "".join(texts(SourceSpec(str(path)))) == lines.replace("\r\n", "\n")
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9\n")  # offsets count the mark
    for document in ("file", "line"):
        with pytest.raises(DataError, match="byte offset 6"):
            texts(SourceSpec(str(path), document=document))


def test_both_texts_of_a_pair_are_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "other": "two", "label": 0.5}\n')
    spec = SourceSpec(str(tmp_path / "a.jsonl"), text_b_field="other")
    assert [(d.text, d.new) for d in read_documents(spec)] == [("one", True), ("two", True)]


def test_values_are_checked():
    assert as_label(0.5, "label", "a:1") == "0.5"
    assert as_number(" 2.5", "label", "a:1") == 2.5
    assert as_texts(["a", "b"], "words", "a:1") == ["a", "b"]
    for check, value, words in [
        (as_label, None, "'label' of a:1 holds None; a label must be"),
        (as_text, 3, "'label' of a:1 holds int, not text"),
        (as_texts, ["a", 3], "must be a list of texts"),
        (as_number, "high", "'high', which is no number"),
        (as_number, "nan", "which is no number"),
    ]:
        with pytest.raises(DataError, match=words):
            check(value, "label", "a:1")


def test_bytes_of_a_column_are_text_in_utf8(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": [b"fine", b"caf\xe9"]}), path)
    with pytest.raises(DataError, match=r"'text' of .*:2 is not valid UTF-8 at its byte 3"):
        texts(SourceSpec(path))
    assert texts(SourceSpec(path, errors="replace")) == ["fine", "caf\ufffd"]


def test_globs_are_in_order_and_columns_may_be_named_by_numbers(tmp_path):
    (tmp_path / "dir.tsv").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.TSV").write_text(f"text\t2019\n\n{name}\tx\n")
    spec = SourceSpec(f"{tmp_path}/*.[tT][sS][vV]")
    assert [v for _, v in read_records(spec, ("text", "2019"))] == [[n, "x"] for n in "abc"]


@pytest.mark.parametrize(
    "text", ["x" * 400_000, "word " * 80_000, "é" * 200_000, "x" + "é" * 200_000]
)
def test_pieces_without_line_breaks(text, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    pieces = list(read_pieces(find_files(str(path))[0], "strict"))
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= 2 * PIECE_BYTES


def test_invalid_utf8_names_file_and_offset(tmp_path):
    path = tmp_path / "bad.txt"
    good = b"fine line\n" * 40_000
    path.write_bytes(good + b"caf\xe9 noir\n")
    for document in ("file", "line"):
        with pytest.raises(DataError) as caught:
            texts(SourceSpec(str(path), document=document))
        assert str(path) in str(caught.value)
        assert f"byte offset {len(good) + 3}" in str(caught.value)
        assert "--config.data.errors=replace" in str(caught.value)
    lines = texts(SourceSpec(str(path), document="line", errors="replace"))
    assert lines[-1] == "caf� noir"
    assert len(lines) == 40_001


def test_lone_surrogate(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "half \\ud800 pair"}')
    with pytest.raises(DataError, match=r"a\.jsonl:1.*surrogate"):
        texts(SourceSpec(str(path)))
    assert texts(SourceSpec(str(path), errors="replace")) == ["half ? pair"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, "does not exist"),
        ("*.nothing", None, "no file matches"),
        ("a.docx", b"x", "no known format"),
        ("empty.txt", b" \n", "holds no text"),
        ("empty.jsonl", b"", "holds no text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', r"a\.jsonl:2 is not valid JSON"),
        ("b.jsonl", b'["x"]', r"b\.jsonl:1 is a JSON list"),
        ("c.jsonl", b'{"text": 3}', r"'text' of .*c\.jsonl:1 holds int"),
        ("a.tsv", b"text\tlabel\nx\t1\ny\n", None),
        ("a.csv", b'text\n"open', r"a\.csv:2 is not valid CSV"),
        ("a.parquet", b"not parquet", "not a readable Parquet"),
        ("a.array_record", b"not one", "not a readable array_record"),
    ],
)
def test_bad_files(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    spec = SourceSpec(str(tmp_path / name))
    if message is None:  # the text is there, the label is not
        assert texts(spec) == ["x", "y"]
        with pytest.raises(DataError, match=r"a\.tsv:3 has 1 columns"):
            list(read_records(spec, ("text", "label")))
        return
    with pytest.raises(DataError, match=message) as caught:
        texts(spec)
    assert "\n" not in str(caught.value)


def test_folder_unknown_protocol_and_unlabelled(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        texts(SourceSpec(str(tmp_path)))
    with pytest.raises(DataError, match="nosuch"):
        texts(SourceSpec("nosuch://bucket/a.txt"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="plain text and has no fields"):
        list(read_records(SourceSpec(str(tmp_path / "a.txt")), ("text",)))


def test_fingerprint_follows_content_and_options(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = fingerprint(SourceSpec(str(path)))
    assert fingerprint(SourceSpec(str(path))) == first
    assert fingerprint(SourceSpec(str(path), document="line")) != first
    assert fingerprint(SourceSpec(str(path), data_dir="elsewhere")) == first
    os.utime(path, (1, 1))  # perhaps another text of the same size
    assert fingerprint(SourceSpec(str(path))) != first
    path.write_text("one more")
    assert fingerprint(SourceSpec(str(path))) != first
