"""From config keys to rows: hold-outs, budgets, labels, mixtures, caching."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from input_pipeline.config_sources import _sample, eval_specs, source_specs
from input_pipeline.contiguous import ContiguousOrder, Lanes
from input_pipeline.dataset import holdout_cut, prepare_rows, prepare_tokenizer
from input_pipeline.errors import DataError
from input_pipeline.packing import ExampleRows, FixedRows, StreamRows
from input_pipeline.pipeline import mixture
from input_pipeline.sentence_rows import SentenceRows
from input_pipeline.sources import Document, SourceSpec
from input_pipeline.token_store import build_store
from input_pipeline.tokenizers import train_tokenizer
from train.objectives import classification

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 \n."


def config(**changes) -> ConfigDict:
    data = {
        "tasks": (), "eval_tasks": (), "mixture_cap": 0, "mixture_temperature": 1.0,
        "source": "", "weights": (), "split": "train", "eval_source": "", "eval_split": "",
        "holdout": 0.1, "copies": 0, "document": "file", "text_field": "text", "text_b_field": "",
        "label_field": "label", "labels": (), "format": "", "errors": "strict",
        "data_dir": "", "cache_dir": "",
        "budget": 0, "prefetch": 8, "max_tokenizer_bytes": 1000,
    }  # fmt: skip
    return ConfigDict({**data, **{key: str(v) if key.endswith("source") else v
                                  for key, v in changes.items()}})  # fmt: skip


def labelled_rows(data, tokenizer, cache_dir, seed):
    task = classification.Objective(8, 1).task(data)
    return prepare_rows(data, tokenizer, "examples", 0, cache_dir, seed, task=task)


@pytest.fixture(scope="module")
def char():
    return train_tokenizer("char", [LETTERS], 0, lowercase=False)


def lines(path, labels):
    path.write_text("".join(json.dumps({"text": f"t{i}", "label": x}) + "\n"
                            for i, x in enumerate(labels)))  # fmt: skip
    return path


def test_holdout_of_one_document_is_exact(tmp_path, char):
    (tmp_path / "a.txt").write_text("x" * 1003)
    found = prepare_rows(
        config(source=tmp_path / "a.txt"), char, "stream", 10, tmp_path / "cache", 0
    )
    (rows,) = found.train
    held = found.evaluation["eval"]
    assert len(held) == 11  # 101 tokens: int(1003 * 0.9) = 902 train
    tokens = sum(int((held.row(0, i, None)["segment_ids"] > 0).sum()) for i in range(11))
    assert tokens == 101
    assert len(rows) == (902 - 9) // 10
    assert isinstance(rows, StreamRows)
    assert found.weights == [1.0]
    assert found.label_names == ()


def test_holdout_moves_to_a_document_unless_far(tmp_path, char):
    near = build_store(
        tmp_path / "near", [Document("x" * 92), Document("y" * 8)], char, sentences=False
    )
    assert holdout_cut(near, 0.1) == 92
    far = build_store(
        tmp_path / "far", [Document("x" * 98), Document("y" * 2)], char, sentences=False
    )
    assert holdout_cut(far, 0.1) == 90
    texts = [Document("x" * 90), Document("y" * 5), Document("z" * 5)]
    at = build_store(tmp_path / "at", texts, char, sentences=False)
    assert holdout_cut(at, 0.1) == 90


def test_several_sources(tmp_path, char):
    (tmp_path / "a.txt").write_text("a" * 900)
    (tmp_path / "b.txt").write_text("b" * 100)
    both = f"{tmp_path}/a.txt, {tmp_path}/b.txt"
    data = config(source=both, eval_source=both)
    found = prepare_rows(data, char, "stream", 10, tmp_path / "cache", 0)
    assert found.weights == pytest.approx([89 / 98, 9 / 98])
    assert len(found.evaluation) == 3
    assert len(found.evaluation["eval"]) == 100
    assert sorted(len(rows) for rows in found.evaluation.values()) == [10, 90, 100]
    assert [name[-11:] for name in found.evaluation] == ["eval", "a-txt-train", "b-txt-train"]
    data.weights = (1, 3)
    assert prepare_rows(data, char, "stream", 10, tmp_path / "cache", 0).weights == [0.25, 0.75]
    data.weights = (1,)
    with pytest.raises(DataError, match="1 numbers for 2 sources"):
        prepare_rows(data, char, "stream", 10, tmp_path / "cache", 0)


def test_sources_of_one_size_are_cut_at_phases_of_their_own(tmp_path, char):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("abcdefghijklmnopqrstuvwxyz" * 10)
    data = config(source=f"{tmp_path}/a.txt,{tmp_path}/b.txt", holdout=0.0)
    first, second = prepare_rows(data, char, "stream", 50, tmp_path / "cache", 0).train
    starts = [[int(r.row(e, 0, None)["tokens"][0]) for e in range(9)] for r in (first, second)]
    assert starts[0] != starts[1]


def test_a_source_has_all_options_of_the_config(tmp_path):
    options = {
        "text_field": "t", "text_b_field": "u", "format": "tsv", "document": "line",
        "errors": "replace", "data_dir": "d",
    }  # fmt: skip
    data = config(source="a.txt, tfds:b,", **options)
    assert source_specs(data, data.source, "test") == [
        SourceSpec(name, "test", **options) for name in ("a.txt", "tfds:b")
    ]
    data.eval_source, data.split = "c.txt", "train"
    assert [spec.split for spec in eval_specs(data)] == ["train"]
    data.eval_split = "dev"
    assert [spec.split for spec in eval_specs(data)] == ["dev"]


def test_fingerprint_is_of_what_training_reads(tmp_path, char):
    (tmp_path / "a.txt").write_text("one. two. " * 20)

    def run(tokenizer=char, length=10, seed=0, **changes):
        data = config(source=tmp_path / "a.txt", **changes)
        return prepare_rows(data, tokenizer, "stream", length, tmp_path / "c", seed).fingerprint

    first = run()
    assert run(prefetch=1, cache_dir="x") == run(data_dir="y") == first
    other = train_tokenizer("char", ["!" + LETTERS], 0, lowercase=False)
    changed = [run(length=9), run(seed=1), run(holdout=0.2), run(tokenizer=other)]
    assert len({first, *changed}) == 5


@pytest.mark.parametrize("kind", ["stream", "contiguous"])
def test_a_source_of_weight_0_is_not_trained_on(kind, tmp_path, char):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name * 300)
    sources = ",".join(f"{tmp_path}/{name}.txt" for name in ("a", "b", "c"))
    lanes = Lanes(train=4, evaluation=2, stride=4, bidirectional=False)
    data = config(source=sources, weights=(3, 0, 1))
    found = prepare_rows(
        data, char, kind, 8, tmp_path / "k", 0, lanes if kind != "stream" else None
    )
    texts = [
        char.decode(rows.row(0, 0, np.random.default_rng(0))["tokens"]) for rows in found.train
    ]
    assert texts == ["a" * 8, "c" * 8]
    assert found.weights == [0.75, 0.25]
    assert len(found.evaluation) == 4  # but evaluated
    order = (
        mixture(found.train, found.weights, 0) if kind == "stream" else ContiguousOrder(found.train)
    )
    assert {order[i][0] for i in range(40)} == {0, 1}


def test_stores_are_reused_and_follow_the_source(tmp_path, char):
    path = tmp_path / "a.txt"
    path.write_text("one. two. " * 20)
    cache = tmp_path / "cache"

    def run(kind="stream"):
        result = prepare_rows(config(source=path), char, kind, 10, cache, 0)
        return result.fingerprint, {p.name: p.stat().st_mtime_ns for p in cache.iterdir()}

    first = run()
    assert run() == first
    assert run("sentences")[0] != first[0]
    assert len(list(cache.iterdir())) == 2
    path.write_text("one. two. " * 30)
    assert run()[0] != first[0]
    assert len(list(cache.iterdir())) == 3


def test_sentences_kind(tmp_path, char):
    (tmp_path / "a.txt").write_text("one.\ntwo.\n" * 50)
    data = config(source=tmp_path / "a.txt", document="line")
    found = prepare_rows(data, char, "sentences", 20, tmp_path / "cache", 0)
    assert isinstance(found.train[0], SentenceRows)
    assert found.summary["sources"][0]["documents"] == 100
    assert not len(found.train[0].row(0, 0, np.random.default_rng(0))["document_starts"])
    (rows,) = prepare_rows(data, char, "full_sentences", 20, tmp_path / "cache", 0).train
    assert rows.row(0, 0, np.random.default_rng(0))["document_starts"].tolist() == [4, 8, 12]
    with pytest.raises(DataError, match="no document here with two sentences"):
        prepare_rows(data, char, "sentence_pairs", 20, tmp_path / "cache", 0)


@pytest.mark.parametrize("kind", ["stream", "sentences"])
def test_copies_are_of_training_alone(tmp_path, char, kind):
    (tmp_path / "a.txt").write_text("one. two. three. " * 50)
    plain, fixed = (
        prepare_rows(
            config(source=tmp_path / "a.txt", copies=copies), char, kind, 20, tmp_path / "c", 0
        )
        for copies in (0, 2)
    )
    (rows,) = fixed.train
    assert isinstance(rows, FixedRows)
    assert rows.copies == 2
    assert len(rows) == len(plain.train[0])
    assert not isinstance(fixed.evaluation["eval"], FixedRows)
    assert fixed.fingerprint != plain.fingerprint
    with pytest.raises(DataError, match=r"data\.copies=-1 must be 0"):
        prepare_rows(config(source="a.txt", copies=-1), char, kind, 20, tmp_path / "c", 0)


def test_examples_holdout_and_budget(tmp_path, char):
    path = lines(tmp_path / "a.jsonl", ["no"] * 50 + ["yes"] * 50)

    def run(**changes):
        data = config(source=path, holdout=0.2, **changes)
        return labelled_rows(data, char, tmp_path / "cache", changes.pop("s", 0))

    found = run()
    (train,) = found.train
    assert isinstance(train, ExampleRows)
    assert len(train) == 80
    held = found.evaluation["eval"]
    labels = [int(held.row(0, i, None)["label"]) for i in range(len(held))]
    assert 0 < sum(labels) < len(labels) == 20  # both labels, though the file is sorted
    assert found.label_names == ("no", "yes")
    small, large = run(budget=8).train[0].indices, run(budget=16).train[0].indices
    assert len(small) == 8
    assert set(small) < set(large) < set(train.indices)
    assert run(budget=80).train[0].indices.tolist() == train.indices.tolist()
    with pytest.raises(DataError, match="budget=81 must lie between 1 and the 80"):
        run(budget=81)
    data = config(source=path, eval_source=path, budget=8)
    first, second = (
        labelled_rows(data, char, tmp_path / "cache", seed).train[0].indices.tolist()
        for seed in (0, 1)
    )
    assert first != second
    data.budget = 0  # nothing is held out where there is a source for it
    assert len(labelled_rows(data, char, tmp_path / "cache", 0).train[0]) == 100
    data = config(source=path, holdout=0.998)
    with pytest.raises(DataError, match="leaves no example"):
        labelled_rows(data, char, tmp_path / "cache", 0)
    other = train_tokenizer("char", ["!" + LETTERS], 0, lowercase=False)  # another store
    rows = labelled_rows(config(source=path), other, tmp_path / "cache", 0).train[0]
    assert other.decode(rows.row(0, 0, None)["tokens_a"])[0] == "t"


def test_budget_spans_sources(tmp_path, char):
    first = lines(tmp_path / "a.jsonl", ["x"] * 30)
    second = lines(tmp_path / "b.jsonl", ["y"] * 10)
    data = config(source=f"{first},{second}", holdout=0.0, budget=20)
    found = labelled_rows(data, char, tmp_path / "cache", 1)
    assert sum(len(rows) for rows in found.train) == 20
    assert found.evaluation == {}


def test_labels(tmp_path, char):
    path = lines(tmp_path / "a.jsonl", [10, 9, 2])
    data = config(source=path, eval_source=path)
    assert labelled_rows(data, char, tmp_path, 0).label_names == ("2", "9", "10")
    other = lines(tmp_path / "b.jsonl", [9, 3])
    with pytest.raises(DataError, match=r"b\.jsonl:2 has the label '3'"):
        labelled_rows(config(source=path, eval_source=other), char, tmp_path, 0)
    data.labels = ("9", "10")
    with pytest.raises(DataError, match=r"a\.jsonl:3 has the label '2'"):
        labelled_rows(data, char, tmp_path, 0)


def test_tokenizer_is_trained_once_then_loaded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("some words and more words\n" * 50)
    wanted = ConfigDict(
        {"kind": "wordpiece", "path": "", "vocab_size": 60, "lowercase": True, "sentinels": 0}
    )
    first = prepare_tokenizer(wanted, config(source=path), tmp_path / "t")
    path.write_text("quite other text")
    again = prepare_tokenizer(wanted, config(source=path), tmp_path / "t")
    assert again.fingerprint == first.fingerprint
    wanted.path = str(tmp_path / "t")
    copied = prepare_tokenizer(wanted, config(source=path), tmp_path / "copy")
    assert copied.fingerprint == first.fingerprint
    assert (tmp_path / "copy" / "tokenizer.json").is_file()
    assert first.encode("SOME").tolist() == first.encode("some").tolist()
    path.write_text("a" * 2000 + "\n" + "z" * 9)
    characters = ConfigDict({**wanted, "kind": "char", "path": "", "lowercase": False})
    data = config(source=path, document="line")  # a sample of 1,000 bytes would miss one
    assert prepare_tokenizer(characters, data, tmp_path / "u").decode([0, 1]) == "az"


def test_tokenizer_sample_is_even_and_bounded():
    texts = [f"{i:04d}" for i in range(1000)]
    kept = _sample(iter(texts), limit=400)
    assert 200 <= sum(map(len, kept)) <= 400
    gaps = np.diff([int(text) for text in kept])
    assert len(set(gaps.tolist())) == 1
    assert _sample(iter(texts), limit=4000) == texts


def test_bad_options(tmp_path, char):
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(DataError, match="no data"):
        prepare_rows(config(), char, "stream", 4, tmp_path, 0)
    for change, message in [
        ({"eval_split": "validation"}, "no split 'validation'"),
        ({"holdout": 1.0}, "holdout"),
    ]:
        data = config(source=tmp_path / "a.txt", **change)
        with pytest.raises(DataError, match=message):
            prepare_rows(data, char, "stream", 4, tmp_path, 0)


def test_the_cap_counts_rows_of_contiguous_text_too(tmp_path, char):
    for name, size in (("a", 400), ("b", 1600)):
        (tmp_path / f"{name}.txt").write_text("x" * size)
    sources = f"{tmp_path}/a.txt,{tmp_path}/b.txt"
    lanes = Lanes(train=8, evaluation=2, stride=4, bidirectional=False)

    def shares(cap):
        found = prepare_rows(
            config(source=sources, mixture_cap=cap), char, "contiguous", 8, tmp_path / "c", 0, lanes
        )
        return [rows.lanes for rows in found.train]

    assert shares(90) == shares(40) == [4, 4]  # 90 and 360 rows
    assert shares(400) == [2, 6]  # 1,440 tokens are not capped at 400
