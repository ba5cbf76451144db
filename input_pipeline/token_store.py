"""Token stores: a corpus tokenised once, in memory-mapped files, found again in O(1).

A store is a folder of
    tokens.bin          uint16 or uint32 [tokens]; a document ends with the tokenizer's end token
    documents.bin       int64 [documents + 1], where each begins, and the end
    document_bytes.bin  int64 [documents], length of its text in UTF-8
    sentences.bin       int64 [sentences + 1], if asked for (then without end tokens: rows of
                        sentences never run into the next document)
    meta.json           counts and sizes
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.sentences import split_sentences
from input_pipeline.sources import Document
from input_pipeline.store_files import StoreWriter, build_once, read_column, read_meta
from input_pipeline.tokenizers import Tokenizer

_CHUNK_BYTES = 1 << 20  # text tokenised at once: enough for all cores, and it bounds memory
_CHUNK_TEXTS = 4096


class TokenStore:
    """A tokenised corpus on disk, memory-mapped.

    Attributes:
        tokens: uint16 or uint32 [N].
        documents: int64 [D + 1], where documents begin; the last entry is N.
        document_bytes: int64 [D], UTF-8 bytes of each document's text.
        sentences: int64 [S + 1] or None, where sentences begin; the last entry is N.
        meta: tokens, bytes, documents, sentences, vocab_size, tokenizer.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta = read_meta(folder)
        self.tokens = read_column(folder, "tokens")
        self.documents = read_column(folder, "documents")
        self.document_bytes = read_column(folder, "document_bytes")
        self.sentences = read_column(folder, "sentences") if self.meta["sentences"] else None

    def text_bytes(self, start: int, stop: int) -> int:
        """UTF-8 bytes of the text of tokens [start, stop), for bits per byte.

        Exact at document boundaries; a document that is cut counts in proportion to its tokens.
        """
        first = int(np.searchsorted(self.documents, start, "right")) - 1
        last = int(np.searchsorted(self.documents, stop, "left"))
        begins, ends = self.documents[first:last], self.documents[first + 1 : last + 1]
        inside = np.minimum(ends, stop) - np.maximum(begins, start)
        return round(float(np.sum(self.document_bytes[first:last] * (inside / (ends - begins)))))


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Group documents until their texts add up to a chunk."""
    chunk, total = [], 0
    for document in documents:
        chunk.append(document)
        total += len(document.text)
        if total >= _CHUNK_BYTES or len(chunk) >= _CHUNK_TEXTS:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


class _TextStoreBuilder:
    """Writes documents as they come; holds no more than one chunk of them."""

    def __init__(self, writer: StoreWriter, tokenizer: Tokenizer, sentences: bool):
        self.writer, self.tokenizer, self.sentences = writer, tokenizer, sentences
        ids = (tokenizer.eos_id, tokenizer.sep_id)
        end = None if sentences else next((i for i in ids if i is not None), None)
        self.end = np.array([] if end is None else [end], np.int32)
        self.position = self.start = self.bytes = 0

    def add(self, chunk: Sequence[Document]) -> None:
        parts = [
            split_sentences(document.text) if self.sentences else [document.text]
            for document in chunk
        ]
        encoded = iter(self.tokenizer.encode_batch([text for part in parts for text in part]))
        for document, part in zip(chunk, parts, strict=True):
            if document.new:
                self.close()
            for _ in part:
                ids = next(encoded)
                if self.sentences and len(ids):
                    self.writer.append("sentences", [self.position])
                self._write(ids)
            self.bytes += len(document.text.encode("utf-8"))

    def _write(self, ids: np.ndarray) -> None:
        self.writer.append("tokens", ids)
        self.position += len(ids)

    def close(self) -> None:
        """End the document at hand, if it has any token."""
        if self.position > self.start:
            self.writer.append("documents", [self.start])
            self.writer.append("document_bytes", [self.bytes])
            self._write(self.end)
            self.start, self.bytes = self.position, 0


def build_store(
    folder: Path, documents: Iterable[Document], tokenizer: Tokenizer, *, sentences: bool
) -> TokenStore:
    """Tokenise documents into a store at `folder`, or open the one that is there.

    Streams: memory does not depend on the corpus. Atomic: `folder` appears complete or not at all,
    also where two processes build it at once.

    Args:
        folder: where the store goes; its name must identify source, tokenizer and options.
        documents: the text; not read where the store exists.
        tokenizer: its ids are stored.
        sentences: also store where sentences begin (then no end tokens are stored).

    Raises:
        DataError: there is no text.
    """

    def write(writer: StoreWriter) -> dict:
        builder = _TextStoreBuilder(writer, tokenizer, sentences)
        for chunk in _chunks(documents):
            builder.add(chunk)
        builder.close()
        if not writer.length("documents"):
            raise DataError(f"there is no text to tokenise for '{folder.name}'; check the source")
        total_bytes = writer.total("document_bytes")
        columns = ["documents", "sentences"] if sentences else ["documents"]
        for column in columns:
            writer.append(column, [builder.position])
        return {
            "tokens": builder.position,
            "bytes": total_bytes,
            "documents": writer.length("documents") - 1,
            "sentences": writer.length("sentences") - 1 if sentences else 0,
        }

    columns = {"documents": np.int64, "document_bytes": np.int64}
    if sentences:
        columns["sentences"] = np.int64
    token_type = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    extra = {"vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer.fingerprint}
    build_once(folder, {"tokens": token_type, **columns}, lambda w: write(w) | extra)
    return TokenStore(folder)
