"""Text-to-text tasks: templates, mixtures of sources and tasks, sentinels of every vocabulary."""

import json

import numpy as np
import pytest

from input_pipeline.config_sources import prepare_tokenizer
from input_pipeline.dataset import prepare_rows
from input_pipeline.errors import DataError
from input_pipeline.mixture import mixture_rates
from input_pipeline.pipeline import mixture
from input_pipeline.sources import SourceSpec, read_records
from input_pipeline.task import Templates
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer
from tests.input_pipeline.test_dataset import LETTERS, config
from tests.input_pipeline.test_tokenizers import TEXT, vocab  # noqa: F401
from train.objectives import text_to_text


@pytest.fixture(scope="module")
def char():
    return train_tokenizer("char", [LETTERS + "+-=?"], 0, lowercase=False)


@pytest.fixture
def sums(tmp_path):
    """Twenty records of a, b and their sum."""
    path = tmp_path / "sums.jsonl"
    records = [{"a": f"{i}", "b": i / 2, "sum": i + i // 2} for i in range(20)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


PAIRS = text_to_text.Objective(8, 8, 0.0).task(None)


def filled(path, *texts):
    templates = Templates(*texts)
    return [templates.fill(r)[1] for r in read_records(SourceSpec(str(path)), templates.fields)]


def test_templates(sums, tmp_path):
    pairs = filled(sums, "{{sum}} {a}+{b}", "{sum}!")
    assert pairs[3] == ["{sum} 3+1.5", ["4!"]]
    assert len(pairs) == 20
    table = tmp_path / "t.tsv"
    table.write_text("x\ty\nu\tv\n")  # without a header: columns by number
    assert filled(table, "q: {1} {0}", "{0}") == [["q: y x", ["x"]], ["q: v u", ["u"]]]
    (tmp_path / "t.jsonl").write_text('{"a": ["one.", "two."], "b": {}}\n')
    assert filled(tmp_path / "t.jsonl", "{a}", "x") == [["one. two.", ["x"]]]
    # A list alone in the target: each of its texts is right.
    assert filled(tmp_path / "t.jsonl", "x", "{a}") == [["x", ["one.", "two."]]]
    assert filled(tmp_path / "t.jsonl", "x", "so: {a}") == [["x", ["so: one. two."]]]
    with pytest.raises(DataError, match=r"'b' of .* holds dict, not text"):
        filled(tmp_path / "t.jsonl", "{a}", "{b}")
    for template, words in [
        ("{a", "expected '}'"),
        ("{}", "plainly"),
        ("{a!r}", "plainly"),
        ("{c}", "no field 'c'"),
    ]:
        with pytest.raises(DataError, match=words):
            filled(sums, template, "{sum}")


def pair_rows(data, tokenizer, cache_dir):
    return prepare_rows(data, tokenizer, "pairs", 0, cache_dir, 0, task=PAIRS)


def test_pairs_are_rows(sums, char, tmp_path):
    data = config(tasks=((sums, "{a}+{b}=?", "{sum}"),), holdout=0.25)
    found = pair_rows(data, char, tmp_path / "c")
    (train,), held = found.train, found.evaluation["eval"]
    rows = [train.row(0, i, None) for i in range(15)] + [held.row(0, i, None) for i in range(5)]
    texts = {char.decode(row["tokens_a"]) + char.decode(row["tokens_b"]) for row in rows}
    assert texts == {f"{i}+{i / 2}=?{i + i // 2}" for i in range(20)}
    assert found.summary["sources"][0]["examples"] == 20
    records = found.records()
    for row in rows[15:]:  # a held-out row names its record
        assert char.decode(row["tokens_b"]) == records[row["record"]][1][1][0]
    data = config(tasks=data.tasks, eval_tasks=data.tasks, eval_split="dev")
    found = pair_rows(data, char, tmp_path / "c")
    assert [len(part) for part in found.train] == [len(found.evaluation["eval"])] == [20]
    data = config(tasks=data.tasks, holdout=0.28)
    assert len(pair_rows(data, char, tmp_path / "c").evaluation["eval"]) == 6
    for key in ("eval_source", "eval_split"):
        with pytest.raises(DataError, match=r"on --config\.data\.eval_tasks, not on"):
            pair_rows(config(tasks=data.tasks, **{key: sums}), char, tmp_path)
    with pytest.raises(DataError, match="no text-to-text task"):
        pair_rows(config(), char, tmp_path / "c")
    with pytest.raises(DataError, match="is a triple"):
        pair_rows(config(tasks=(sums, "{a}", "{b}")), char, tmp_path / "c")


def test_tasks_are_mixed_into_text(sums, char, tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij" * 100)
    tasks = ((sums, "{a}+{b}", "{sum}"), (sums, "{sum}-{b}", "{a}"))
    data = config(source=tmp_path / "a.txt", tasks=tasks, eval_tasks=tasks, mixture_cap=40)
    found = prepare_rows(data, char, "mixture", 10, tmp_path / "c", 0, task=PAIRS)
    assert [len(rows) for rows in found.train] == [89, 20, 20]
    np.testing.assert_allclose(found.weights, [0.5, 0.25, 0.25])
    kinds = ["tokens" in rows.row(0, 0, np.random.default_rng(0)) for rows in found.train]
    assert kinds == [True, False, False]
    assert [len(rows) for rows in found.evaluation.values()] == [50, 10, 20, 20]
    # Ten thousand rows come at these rates.
    order = mixture(found.train, found.weights, seed=0)
    drawn = np.bincount([order[i][0] for i in range(10_000)]) / 10_000
    np.testing.assert_allclose(drawn, found.weights, atol=0.01)
    data.weights = (2, 1, 1)
    assert prepare_rows(data, char, "mixture", 10, tmp_path / "c", 0, task=PAIRS).weights == [
        0.5,
        0.25,
        0.25,
    ]


def test_rates_of_the_paper():
    assert mixture_rates([100, 300]) == [0.25, 0.75]
    assert mixture_rates([100, 300], cap=100) == [0.5, 0.5]
    np.testing.assert_allclose(mixture_rates([100, 900, 400], 400, 2.0), [1 / 5, 2 / 5, 2 / 5])
    np.testing.assert_allclose(mixture_rates([1, 10**6], 0, 1e6), [0.5, 0.5], atol=1e-4)
    assert mixture_rates([1, 10**6], 0, 1e-3) == [0, 1]
    with pytest.raises(DataError, match="mixture_temperature=0"):
        mixture_rates([1], 0, 0)
    with pytest.raises(DataError, match="mixture_cap=-1"):
        mixture_rates([1], -1)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "sp_bpe"])
def test_sentinels(kind, tmp_path):
    plain = train_tokenizer(kind, TEXT, 300, lowercase=False)
    size, text = plain.vocab_size, "the <extra_id_0> dog"
    found = plain.with_sentinels(5)
    assert found.sentinels.tolist() == [size + 4, size + 3, size + 2, size + 1, size]
    assert found.vocab_size == size + 5
    assert found.is_special[-5:].all()
    assert not np.isin(found.encode(text), found.sentinels).any()
    assert found.encode("the dog").tolist() == plain.encode("the dog").tolist()
    assert found.decode([*found.encode("the dog"), size]) == "the dog"
    assert len(plain.sentinels) == 0
    found.save(tmp_path / "t")
    again = load_tokenizer(tmp_path / "t")
    assert again.fingerprint == found.fingerprint != plain.fingerprint
    assert again.sentinels.tolist() == found.sentinels.tolist()
    assert again.with_sentinels(5) is again


def test_sentinels_of_published_t5(vocab):  # noqa: F811
    tokenizer = load_tokenizer(vocab / "t5-base").with_sentinels(100)
    assert tokenizer.vocab_size == 32_100
    assert tokenizer.sentinels.tolist() == list(range(32_099, 31_999, -1))
    assert [tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id] == [0, 1, 2]


def test_a_vocabulary_is_trained_with_room_for_sentinels(sums, tmp_path):
    from ml_collections import ConfigDict

    wanted = {"kind": "unigram", "path": "", "vocab_size": 60, "lowercase": True, "sentinels": 9}
    (tmp_path / "a.txt").write_text("\n".join(TEXT))
    data = config(source=tmp_path / "a.txt", tasks=((sums, "ask: {a}", "{b}"),))
    data.max_tokenizer_bytes = 100_000
    found = prepare_tokenizer(ConfigDict(wanted), data, tmp_path / "t")
    assert found.vocab_size == 60
    assert len(found.sentinels) == 9
    assert found.unk_id not in found.encode("ask: 0.5")  # the tasks' texts train it too
    with pytest.raises(DataError, match="character vocabulary has no place"):
        prepare_tokenizer(ConfigDict({**wanted, "kind": "char"}), data, tmp_path / "u")
