"""Finding files (local or remote, through fsspec) and reading bytes and text from them."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec

from input_pipeline.errors import DataError

PIECE_BYTES = 128 * 1024  # a long text is handled in pieces of about this size
_BOM = b"\xef\xbb\xbf"
# Cutting *before* the white space leaves every pre-tokenizer's view of the text as it was: GPT-2's
# pattern gives the last white space before a word a token of its own (or joins it to the word).
_LINE_CUT = re.compile(rb"\r?\n(?=\S)")
_WORD_CUT = re.compile(rb"[ \t](?=\S)")


@dataclass(frozen=True)
class File:
    """One file of a source: an fsspec file system and the path in it."""

    fs: Any
    path: str

    def open(self) -> BinaryIO:
        """Open the file for reading bytes."""
        return self.fs.open(self.path, "rb")

    @property
    def suffix(self) -> str:
        """The lower-case ending after the last dot, without the dot ("" if there is none)."""
        name = self.path.rsplit("/", 1)[-1]
        return name.rsplit(".", 1)[-1].lower() if "." in name else ""

    @property
    def is_local(self) -> bool:
        """Whether the path is one of this machine's own file system."""
        protocol = self.fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def identity(self) -> list:
        """Path, size and time of change: what tells one version of a file from another."""
        info = self.fs.info(self.path)
        stamp = next(
            (info[k] for k in ("mtime", "LastModified", "updated", "ETag") if k in info), ""
        )
        return [self.path, info["size"], str(stamp or info.get("created", ""))]


def find_files(pattern: str) -> list[File]:
    """List the files that a path, glob or fsspec URL names, sorted by path.

    Raises:
        DataError: nothing matches, the path is a folder, or the URL's file system is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(pattern)
    except ImportError as error:
        raise DataError(f"cannot read '{pattern}': {error}") from error
    except ValueError as error:
        raise DataError(f"cannot read '{pattern}': {error}; check the URL's protocol") from error
    if any(c in path for c in "*?["):
        paths = sorted(p for p in fs.glob(path) if not fs.isdir(p))
        if not paths:
            raise DataError(f"no file matches '{pattern}'; check --config.data.source")
        return [File(fs, p) for p in paths]
    if fs.isdir(path):
        raise DataError(f"'{pattern}' is a folder; name its files, for example '{pattern}/*.txt'")
    if not fs.exists(path):
        raise DataError(f"file '{pattern}' does not exist; check --config.data.source")
    return [File(fs, path)]


def decode(data: bytes, errors: str, path: str, offset: int) -> str:
    """Decode UTF-8 bytes that lie `offset` bytes into the file `path`.

    Args:
        data: the bytes.
        errors: "strict" or "replace" (U+FFFD in place of each bad byte).
        path: the file's name, for the message.
        offset: where `data` begins in the file, in bytes.

    Raises:
        DataError: invalid UTF-8 and errors="strict"; names file and byte offset.
    """
    try:
        return data.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not valid UTF-8 at byte offset {offset + error.start}; convert the file, or"
            " go on with the replacement character through --config.data.errors=replace"
        ) from error


def read_lines(file: File, errors: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end), decoded line by line."""
    offset = 0
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            body = line.removeprefix(_BOM) if number == 1 else line
            text = decode(body, errors, file.path, offset + len(line) - len(body))
            offset += len(line)
            yield number, text.rstrip("\r\n")


def _cut(data: bytes) -> int:
    """Where to cut `data` so that no word is split: before the last line break or blank, if any."""
    for pattern in (_LINE_CUT, _WORD_CUT):
        # Searching from the middle bounds the work and keeps the pieces of comparable size.
        cuts = [m.start() for m in pattern.finditer(data, len(data) // 2)]
        if cuts and cuts[-1] > 0:
            return cuts[-1]
    end = len(data) - 1
    while end > len(data) - 4 and data[end] & 0xC0 == 0x80:  # never inside a UTF-8 sequence
        end -= 1
    return end


def _stream_pieces(stream: BinaryIO, errors: str, path: str) -> Iterator[str]:
    start = stream.read(len(_BOM))
    rest, offset = (b"", len(_BOM)) if start == _BOM else (start, 0)
    while block := stream.read(PIECE_BYTES):
        rest += block
        if len(rest) >= PIECE_BYTES:
            cut = _cut(rest)
            yield decode(rest[:cut], errors, path, offset).replace("\r\n", "\n")
            rest, offset = rest[cut:], offset + cut
    if rest:
        yield decode(rest, errors, path, offset).replace("\r\n", "\n")


def read_pieces(file: File, errors: str) -> Iterator[str]:
    r"""Yield a text file in pieces of at most about 2 * PIECE_BYTES, cut before a line break.

    Joined, the pieces give the file's text with "\r\n" as "\n" and without a byte-order mark.
    """
    with file.open() as stream:
        yield from _stream_pieces(stream, errors, file.path)


def text_pieces(text: str) -> Iterator[str]:
    """Yield a text that is already in memory in the same pieces as `read_pieces`."""
    if len(text) < PIECE_BYTES // 4:
        yield text
    else:
        yield from _stream_pieces(io.BytesIO(text.encode("utf-8")), "strict", "text in memory")
