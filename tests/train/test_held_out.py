"""What is evaluated: only what was held out, all of a record, the source that was asked for."""

import json

import numpy as np
import pytest

from configs import finetune_classification
from input_pipeline.dataset import prepare_rows, prepare_tokenizer
from input_pipeline.errors import DataError
from input_pipeline.examples import divide
from input_pipeline.pipeline import eval_batches
from train import cli, objectives
from train.errors import UserError
from train.evaluate import evaluate_on
from train.loop import run


@pytest.fixture(scope="module")
def asked(run_config, tmp_path_factory):
    """A T5 that was trained on three quarters of 16 questions."""
    tmp_path = tmp_path_factory.mktemp("asked")
    rows = [{"q": f"say {n}", "a": f"number {n}"} for n in range(16)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = run_config(
        "t5",
        {
            "objective.name": "text_to_text", "data.source": "", "data.holdout": 0.25, "steps": 1,
            "data.tasks": ((str(path), "{q}", "{a}"),), "evaluation.generate": 16,
            "evaluation.max_rows": 0, "objective.target_length": 4, "tokenizer.kind": "bpe",
            "tokenizer.vocab_size": 300,
        },
    )  # fmt: skip
    run(config, tmp_path / "w", progress=False)
    return tmp_path


def test_only_held_out_records_are_answered(asked, run_config):
    lines = (asked / "w" / "predictions.jsonl").read_text().splitlines()
    answered = [json.loads(line)["record"] for line in lines]
    config = run_config("t5", json.loads((asked / "w" / "config.json").read_text()))
    config.data.cache_dir = str(asked / "w" / "data")
    objective = objectives.build(config, 0)
    tokenizer = prepare_tokenizer(config.tokenizer, config.data, asked / "w" / "tokenizer")
    data = prepare_rows(
        config.data, tokenizer, "pairs", 0, config.data.cache_dir, 0,
        task=objective.task(config.data),
    )  # fmt: skip
    kept, held = divide(data.train[0].store, None, 0.25)
    assert answered == held.numbers.tolist()
    assert len(answered) == 4
    assert not set(answered) & set(kept.numbers.tolist())


def test_another_source_is_read_as_the_task_of_the_run(run_config):
    config = run_config("t5", {"data.tasks": (("a", "{q}", "{a}"),)})
    evaluate_on(config, "b")
    assert (config.data.eval_tasks, config.data.eval_source) == ((("b", "{q}", "{a}"),), "")
    config.data.eval_tasks = (("c", "x {q}", "{a}"), ("d", "y {q}", "{a}"))
    with pytest.raises(UserError, match="could be any of the 2 tasks"):
        evaluate_on(config, "b")
    config = run_config("t5")
    evaluate_on(config, "b")
    assert (config.data.eval_tasks, config.data.eval_source) == ((), "b")


@pytest.mark.slow
def test_evaluate_reads_the_source_that_it_is_given(asked, capsys):
    def figures(*more):
        path = asked / "figures.json"
        code = cli.main(["evaluate", f"--workdir={asked / 'w'}", f"--json={path}", *more])
        return code, json.loads(path.read_text())

    (asked / "other.jsonl").write_text('{"q": "a b c", "a": "zzzz"}\n' * 3)
    _, own = figures()
    assert own["eval/exact_match"] >= 0
    assert "eval/exact_match" not in figures("--generate=0")[1]
    _, other = figures(f"--source={asked / 'other.jsonl'}")
    assert own["eval/loss"] != other["eval/loss"]
    assert figures("--source=/not/there.jsonl")[0] == 2
    assert "/not/there.jsonl" in capsys.readouterr().err


def test_rows_at_most_are_of_whole_questions(run_config, tmp_path):
    """A question of which half the windows are missing could not be answered."""
    row = {
        "context": "Rome fell and then Bonn rose. " * 3, "question": "what?",
        "answers": {"text": ["Rome"], "answer_start": [0]},
    }  # fmt: skip
    path = tmp_path / "d.jsonl"
    path.write_text((json.dumps(row) + "\n") * 9)
    config = run_config(
        "bert",
        {
            "objective.name": "extractive_qa", "data.source": str(path), "length": 16,
            "data.text_field": "context", "data.text_b_field": "question",
            "data.label_field": "answers", "objective.stride": 4, "objective.max_question": 4,
            "data.eval_source": str(path), "data.document": "line",
        },
    )  # fmt: skip
    objective = objectives.build(config, 1)
    tokenizer = prepare_tokenizer(config.tokenizer, config.data, tmp_path / "tokenizer")
    task = objective.task(config.data)
    data = prepare_rows(config.data, tokenizer, "examples", 0, tmp_path / "c", 0, task=task)
    rows = data.evaluation["eval"]
    windows = len(rows) // 9
    assert windows > 2
    batches = eval_batches(
        rows, lambda row, rng: {"record": row["record"]}, batch_size=1, seed=0,
        max_rows=len(rows) // 3, process_index=0, process_count=1,
    )  # fmt: skip
    seen = [int(batch["record"][0]) for batch in batches]
    assert seen == np.repeat([0, 3, 6], windows).tolist()


def test_f1_of_glue_is_of_the_official_class():
    """GLUE counts what is a paraphrase; the alphabet would put it first."""
    for task in ("mrpc", "qqp"):
        negative, positive = finetune_classification.get_config(f"task={task}").data.labels
        assert negative == f"not_{positive}"


BAD = {
    "a tag": ("token_classification", "conll", "saw\t\n", "no word in its first column or no tag"),
    "tags": (
        "token_classification", "jsonl", {"tokens": "a b", "tags": ["O", "O"]},
        "'tokens' of .*:1 holds a text; it must be a list of words",
    ),
    "an empty tag": (
        "token_classification", "jsonl", {"tokens": ["a", "b"], "tags": ["O", ""]},
        "2 words but 1 tags",
    ),
    "starts": (
        "extractive_qa", "jsonl",
        {"tokens": "a", "tags": {"text": ["a"], "answer_start": []}}, "equally long",
    ),
    "answers": (
        "extractive_qa", "jsonl",
        {"tokens": "a", "tags": {"text": [5], "answer_start": [0]}}, "must hold the lists",
    ),
    "content": (
        "instruction", "jsonl",
        {"tokens": [{"role": "assistant", "content": None}], "tags": ""}, "'content' of .*:1 holds",
    ),
    "role": (
        "instruction", "jsonl",
        {"tokens": [{"role": ["assistant"], "content": "a"}], "tags": ""}, "'role' of .*:1 holds",
    ),
    "a label": (
        "classification", "jsonl", {"tokens": "a", "tags": float("nan")}, "holds nan; a label must",
    ),
    "columns": (
        "classification", "tsv", "tokens\ttags\na\tb\t1\n", "has 3 columns under a header of 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_told_in_a_sentence(asked, run_config, tmp_path, name):
    """With a tokenizer at hand, so that its training does not see them first."""
    objective, suffix, text, sentence = BAD[name]
    path = tmp_path / f"bad.{suffix}"
    path.write_text(text if isinstance(text, str) else json.dumps(text) + "\n")
    family = "gpt" if objective == "instruction" else "bert"
    config = run_config(
        family,
        {
            "objective.name": objective, "data.source": str(path), "data.eval_source": str(path),
            "data.text_field": "tokens", "data.label_field": "tags", "steps": 1, "length": 16,
            "data.text_b_field": "tokens" if objective == "extractive_qa" else "",
            "objective.stride": 2, "objective.max_question": 4,
            "tokenizer.path": str(asked / "w" / "tokenizer"), "tokenizer.kind": "bpe",
        },
    )  # fmt: skip
    with pytest.raises(DataError, match=sentence):
        run(config, tmp_path / "bad", progress=False)
