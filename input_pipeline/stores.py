"""Where the token stores of sources lie: each is named after all that decides what it holds."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from input_pipeline.sources import (
    SourceSpec,
    fingerprint,
    read_documents,
    read_examples,
    read_pairs,
)
from input_pipeline.token_store import ExampleStore, TokenStore, build_example_store, build_store
from input_pipeline.tokenizers import Tokenizer

_STORE_VERSION = 1  # part of every store's name: raise it when what a store holds changes


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
    spec: SourceSpec, tokenizer: Tokenizer, cache_dir: Path, labels: Sequence[str]
) -> ExampleStore:
    """Give the store of a source's labelled examples, built on first use."""
    folder = _folder(cache_dir, spec, tokenizer, "examples", labels)
    return build_example_store(folder, read_examples(spec), tokenizer, labels)


def pair_store(
    spec: SourceSpec, tokenizer: Tokenizer, cache_dir: Path, source: str, target: str
) -> ExampleStore:
    """Give the store of a text-to-text task, built on first use; its one label is ""."""
    folder = _folder(cache_dir, spec, tokenizer, "pairs", source, target)
    return build_example_store(folder, read_pairs(spec, source, target), tokenizer, [""])
