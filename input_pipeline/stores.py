"""Where the token stores of sources lie: each is named after all that decides what it holds."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from input_pipeline.example_store import ExampleStore, build_example_store
from input_pipeline.sources import SourceSpec, fingerprint, read_documents, read_records
from input_pipeline.task import Task
from input_pipeline.token_store import TokenStore, build_store
from input_pipeline.tokenizers import Tokenizer

_STORE_VERSION = 2  # part of every store's name: raise it when what a store holds changes


def digest(*parts: object) -> str:
    """Give the SHA-256 in hex of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def short_name(spec: SourceSpec) -> str:
    """Name a source in a file's name: its letters and digits, the last 40, and its split."""
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{spec.spec}-{spec.split}")[-40:].strip("-")


def _folder(cache_dir: Path, spec: SourceSpec, tokenizer: Tokenizer, *identity: object) -> Path:
    ids = tokenizer.fingerprint + tokenizer.rules
    found = digest(_STORE_VERSION, fingerprint(spec), ids, *identity)
    return cache_dir / f"{short_name(spec)}-{found[:16]}"


def text_store(
    spec: SourceSpec, tokenizer: Tokenizer, cache_dir: Path, sentences: bool
) -> TokenStore:
    """Give the store of a source's documents, built on first use."""
    folder = _folder(cache_dir, spec, tokenizer, sentences)
    return build_store(folder, read_documents(spec), tokenizer, sentences=sentences)


def example_store(
    spec: SourceSpec, tokenizer: Tokenizer, cache_dir: Path, task: Task, labels: Sequence[str]
) -> ExampleStore:
    """Give the store of what a task makes of a source's records, built on first use."""
    layout = [task.fields, task.arrays, task.numbers]
    folder = _folder(cache_dir, spec, tokenizer, "examples", task.identity, layout, labels)
    encode = lambda records: task.encode(records, tokenizer, labels)  # noqa: E731
    records = read_records(spec, task.fields)
    return build_example_store(folder, records, encode, task.arrays, task.numbers)
