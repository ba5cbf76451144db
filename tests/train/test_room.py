"""What does not fit into a row: what `longer` says against what `features` leaves out."""

import numpy as np
import pytest

from input_pipeline.example_store import build_example_store
from input_pipeline.packing import ExampleRows
from train import objectives
from train.random_rows import RandomTokenizer
from train.room import cut
from train.setup import set_up

LENGTH, TARGET = 16, 8


def ids(*sizes):
    """Arrays of these sizes, no id twice."""
    ends = np.cumsum(sizes)
    return [np.arange(10 + end - size, 10 + end) for end, size in zip(ends, sizes, strict=True)]


def texts(first, second):
    a, b = ids(first, second)
    return {"tokens_a": a, "tokens_b": b, "label": 0}


def words(*pieces):
    (tokens,) = ids(sum(pieces))
    return {"tokens": tokens, "pieces": list(pieces), "tags": [0] * len(pieces)}


def choice(question, *sizes):
    first, choices = ids(question, sum(sizes))
    return {"question": first, "choices": choices, "sizes": list(sizes), "label": 0}


def conversation(size):
    (tokens,) = ids(size)
    return {"tokens": tokens, "answers": np.ones(size, int)}


PAIRS = [texts(a, b) for a, b in [(14, 0), (15, 0), (6, 7), (7, 7), (13, 0), (2, 12)]]
CASES = {
    "classification": PAIRS,
    "regression": PAIRS,
    "token_classification": [words(7, 7), words(7, 8), words(1), words(*[1] * 30)],
    "multiple_choice": [choice(6, 3, 7), choice(6, 8, 3), choice(12, 1, 1, 1), choice(6, 2, 8)],
    "text_to_text": [texts(16, 8), texts(17, 8), texts(16, 9), texts(1, 1)],
    "multitask": [texts(16, 8), texts(17, 8), texts(16, 9)],
    "instruction": [conversation(size) for size in (17, 18, 5)],
}


@pytest.mark.parametrize("cls_last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_what_is_longer_loses_something(tiny, tmp_path, name, cls_last):
    family = {"multitask": "t5", "text_to_text": "t5", "instruction": "gpt"}.get(name, "bert")
    changes = {"objective.name": name, "objective.target_length": TARGET, "length": LENGTH}
    subject = objectives.build(tiny("xlnet" if cls_last else family, changes), 3)
    tokenizer, examples = RandomTokenizer(100), CASES[name]
    arrays = [key for key, value in examples[0].items() if key != "label"]
    numbers = [key for key in examples[0] if key == "label"]
    records = [("here", index) for index in range(len(examples))]
    store = build_example_store(
        tmp_path / "s", records, lambda some: [[examples[i]] for _, i in some], arrays, numbers
    )
    lost = []
    for example in examples:
        row = {"record": 0, **example}
        row = subject.features(
            {"examples": [row]} if name == "instruction" else row,
            np.random.default_rng(0),
            tokenizer,
        )
        there = np.concatenate([row[key].ravel() for key in ("tokens", "targets") if key in row])
        tokens = [
            example[key] for key in ("tokens", "tokens_a", "tokens_b", "question", "choices")
            if key in example
        ]  # fmt: skip
        lost.append(not set(np.concatenate(tokens)) <= set(there))
    np.testing.assert_array_equal(subject.longer(store, tokenizer), lost)
    assert 0 < sum(lost) < len(lost)
    rows = [ExampleRows(store, np.arange(2)), ExampleRows(store, np.arange(1, len(store)))]
    assert cut(subject, tokenizer, rows) == (sum(lost[:2]) + sum(lost[1:]), 1 + len(store))


def test_a_run_says_how_many(run_config, tmp_path):
    (tmp_path / "train.tsv").write_text(
        "text\tlabel\n" + "the cat sat\tx\n" * 30 + "the cat sat on a mat and ran " * 3 + "\ty\n"
    )
    config = run_config("bert", {"objective.name": "classification", "steps": 1, "length": 12})
    config.data.source = config.data.eval_source = str(tmp_path / "train.tsv")
    training, evaluation = set_up(config, tmp_path / "w").described("training", "evaluation")
    assert "1 of 31 examples for training are longer than their row (config.length 12)" in training
    assert "1 of 31 examples for evaluation are longer" in evaluation
