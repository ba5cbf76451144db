"""The embedded data set: nothing shared between splits, nothing repeated, the same every time."""

import hashlib
import inspect
import itertools
import re
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from input_pipeline.datasets import areas, corpus, installed, prose, pydocs, reader
from input_pipeline.datasets.installed import Module

CONFIGS = ("text", "area")


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, list[dict]]:
    """All records of this installation, built once: "config/split" -> records."""
    folder = tmp_path_factory.mktemp("pydocs")
    found = {}
    for config in CONFIGS:
        found |= _build(config, folder)
    return found


def _build(config: str, folder: Path, modules=None) -> dict[str, list[dict]]:
    builder = pydocs.Pydocs(config=config, data_dir=str(folder), modules=modules)
    builder.download_and_prepare()
    sources = {split: builder.as_data_source(split) for split in builder.info.splits}
    return {
        f"{config}/{split}": [source[i] for i in range(len(source))]
        for split, source in sources.items()
    }


def _write(folder: Path, name: str, source: str | bytes) -> Module:
    path = folder / f"{name}.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return Module(name, path)


def test_splits_and_sizes(records):
    assert set(records) == {
        "text/train", "text/validation", "area/train", "area/validation", "area/test",
    }  # fmt: skip
    # scipy and jax are dependencies; their documentation alone is several megabytes.
    assert sum(len(r["text"]) for r in records["text/train"]) > 5e6
    assert len(records["area/train"]) >= 1500
    assert len(records["area/test"]) >= 600
    assert len(records["area/validation"]) >= 300


def test_records_are_utf8_bytes_with_a_label_number(records):
    for key, rows in records.items():
        for row in rows:
            assert set(row) == {"text", "module"} | ({"label"} if key.startswith("area") else set())
            assert row["text"].decode().strip()
            assert isinstance(row["text"], bytes)
            if "label" in row:
                assert areas.LABELS[row["label"]] == areas.area_of(row["module"].decode())
                assert 30 <= len(row["text"].split()) <= 80


def test_no_module_is_in_two_splits(records):
    owner = {}
    for key, rows in records.items():
        for row in rows:
            assert owner.setdefault(row["module"], key) == key


def test_areas_are_balanced(records):
    for split in ("train", "validation", "test"):
        labels = [row["label"] for row in records[f"area/{split}"]]
        counts = [labels.count(label) for label in range(len(areas.LABELS))]
        assert min(counts) > 0.8 * max(counts)


def test_no_paragraph_is_in_two_splits_or_nearly_so(records):
    """An independent measure: Jaccard similarity of word trigrams, for pairs that share one."""
    texts = []
    for key, rows in records.items():
        for row in rows:
            found = row["text"].decode().split("\n\n")
            texts += [(key, frozenset(_trigrams(text))) for text in found if len(text) > 60]
    exact = {grams for key, grams in texts if key == "text/train"}
    assert not [grams for key, grams in texts if key != "text/train" and grams in exact]
    holders: dict[str, list[int]] = {}
    for number, (_, grams) in enumerate(texts[::7]):  # a sample keeps the test quick
        for gram in grams:
            holders.setdefault(gram, []).append(number * 7)
    for rows in holders.values():
        for first, second in itertools.pairwise(rows):
            a, b = texts[first][1], texts[second][1]
            assert len(a & b) < 0.75 * len(a | b), (a, b)


def _trigrams(text: str) -> list[str]:
    words = re.findall(r"[a-z]+|\d", text.lower())
    return [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]


def test_passages_do_not_name_their_library(records):
    names = re.compile(
        r"(?i)(?<![\w.])(numpy|scipy|jax|flax|optax|tfds|pyarrow|orbax|urllib3|pygments|click|jnp)(?!\w)"
    )
    for split in ("train", "validation", "test"):
        for row in records[f"area/{split}"]:
            assert not names.search(row["text"].decode())


def test_same_installation_same_records_in_the_same_order(records, tmp_path):
    again = _build("area", tmp_path)
    for key, rows in again.items():
        assert [row["text"] for row in rows] == [row["text"] for row in records[key]]
    # Not only the cached splits: modules read twice give the same text.
    some = installed.find_modules()[::40]
    first, second = (hashlib.sha256(repr(pydocs.split_modules(some)).encode()) for _ in range(2))
    assert first.hexdigest() == second.hexdigest()


def test_several_processes_read_what_one_reads(monkeypatch):
    some = installed.find_modules()[::40]
    one = list(reader.read_all(some))
    monkeypatch.setattr(reader, "_PER_PROCESS", len(some) // 3)
    monkeypatch.setattr(reader.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(reader, "_read", None)  # of this process
    assert list(reader.read_all(some)) == one


def test_only_what_pretune_needs_is_read(monkeypatch):
    names = {installed._normal(d.metadata["Name"]) for d in installed.dependencies()}
    assert {"jax", "jaxlib", "numpy", "tensorflow-datasets", "protobuf"} <= names
    assert not {"pretune", "pytest", "pip", "ruff", "torch", "transformers"} & names
    # What is needed for metrics came later: the data set stays as it was.
    assert not {"scikit-learn", "nltk", "sacrebleu"} & names
    monkeypatch.setattr(installed, "ROOTS", ("numpy", "not-here"))
    assert [d.metadata["Name"] for d in installed.dependencies()] == ["numpy"]


def test_tfds_finds_it_by_name(tmp_path):
    builder = tfds.builder("pydocs/area", data_dir=str(tmp_path))
    assert builder.info.features["label"].names == list(areas.LABELS)
    assert str(builder.version) == f"1.0.{pydocs.environment_number()}"


def test_builds_from_few_modules_and_skips_the_unreadable(tmp_path):
    modules = [
        _write(
            tmp_path, "alpha", '"""The first module reads words from a file and counts them."""'
        ),
        _write(
            tmp_path, "beta", '"""THE FIRST module reads words from a file, and counts them!"""'
        ),
        _write(tmp_path, "gamma", b'"""Latin text \xe9 that is not in the encoding of Python."""'),
        _write(tmp_path, "delta", "def broken(:\n"),
        _write(tmp_path, "empty", ""),
    ]
    found = _build("text", tmp_path, modules)
    names = [row["module"] for rows in found.values() for row in rows]
    assert b"alpha" in names
    assert not {b"beta", b"gamma", b"delta", b"empty"} & set(names)


def test_areas_without_text_are_still_classes():
    parts = areas.divide({"numpy.core": ["word " * 20 + "end of it all."] * 12})
    assert set(parts) == {"test", "validation", "train"}
    assert all(set(part) <= {"numpy.core"} for part in parts.values())


def test_paragraphs_keep_sentences_and_drop_the_rest():
    text = """Compute the sum of all values along :func:`~a.b.axis`.

    Parameters
    ----------
    axis : int, optional
        The axis along which to sum; the default is the *last* one.

    Notes
    -----
    >>> add([1, 2])
    3

    Shown like this in the text::

        the code that is here to be shown only

    .. note:: A value that is not a number makes the sum ``nan`` [1]_.

    References
    ----------
    .. [1] The book that has all of it, by the author of the book.
    """
    assert prose.paragraphs(inspect.cleandoc(text)) == [
        "Compute the sum of all values along axis.",
        "The axis along which to sum; the default is the last one.",
        "Shown like this in the text:",
        "A value that is not a number makes the sum nan.",
    ]


def test_google_style_arguments_lose_their_names():
    text = (
        "Opens it.\n\nArgs:\n  path: Where the file is on the disk,\n    or in memory.\n  n: number"
    )
    assert prose.paragraphs(text) == ["Where the file is on the disk, or in memory."]


def test_deduplicate_keeps_the_first_of_near_copies():
    one = "Return the sum of the elements over the given axis of the array as a new array."
    near = one.replace("sum", "product")
    other = "A server waits for the next request and answers it before it closes the connection."
    kept = corpus.deduplicate([("a", [one]), ("b", [near, other]), ("c", [one.upper()])])
    assert kept == {"a": [one], "b": [other]}


def test_masking_keeps_the_last_part_of_a_dotted_name():
    text = "NumPy arrays and numpy.linalg.norm, as in jax; email goes."
    assert areas.mask_names(text, "email.message") == (
        "library arrays and norm, as in library; library goes."
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("json/__init__.py", "json"),
        ("scipy/stats/_fit.py", "scipy.stats._fit"),
        ("tokenizers/models.pyi", "tokenizers.models"),
        ("scipy/stats/tests/test_fit.py", ""),
        ("../../bin/tool.py", ""),
        ("config-3.11/python.py", ""),
        ("data.txt", ""),
    ],
)
def test_module_name(path, name):
    assert installed.module_name(Path(path)) == name
