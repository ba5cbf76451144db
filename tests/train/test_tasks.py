"""Tasks from file to metric: each run's metric against the library's own value, computed here."""

import itertools
import json
import math
import pathlib

import numpy as np
import pytest
import sacrebleu
import scipy.stats
from rouge_score import rouge_scorer
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import f1_score, matthews_corrcoef

from input_pipeline.errors import DataError
from train.loop import run

DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def real(name, lines=40, skip=0):
    """The first lines of a real data set's file; skips where the data is not at hand."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    text = path.read_text(encoding="utf-8").split("\n")
    return "\n".join(text[:skip] + text[skip : skip + lines]) + "\n"


def slow(*values):
    """Parameters that only the slow suite tries."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.fixture
def task(run_config, tmp_path):
    """``task(family, objective, text, suffix, changes) -> (metrics, predictions)`` of a run."""

    def make(family, objective, text, suffix, changes=None, workdir="w"):
        path = tmp_path / f"data.{suffix}"
        path.write_text(text, encoding="utf-8")
        source = {} if "data.tasks" in (changes or {}) else {
            "data.source": str(path), "data.eval_source": str(path)
        }  # fmt: skip
        config = run_config(
            family,
            {
                "objective.name": objective, "tokenizer.kind": "wordpiece", "length": 32,
                "tokenizer.vocab_size": 200, "model.max_length": 32, "steps": 2,
                "evaluation.every": 0, "evaluation.max_rows": 0, "checkpoint.every": 0,
                "data.document": "line", **source, **(changes or {}),
            },
        )  # fmt: skip
        result = run(config, tmp_path / workdir, progress=False)
        lines = (tmp_path / workdir / "predictions.jsonl").read_text().splitlines()
        return result["eval"], [json.loads(line) for line in lines]

    return make


SENTENCES = ["good film", "bad film", "a good one", "so bad", "very good", "bad bad"]


@pytest.mark.parametrize("made", [True, False])
def test_classification(task, made):
    if made:
        text = "sentence\tlabel\n" + "".join(f"{s}\t{int('good' in s)}\n" for s in SENTENCES * 4)
    else:
        text = real("glue/SST-2/dev.tsv")
    fields = {
        "data.text_field": "sentence", "evaluation.metric": "eval/matthews", "steps": 30,
        "optimizer.learning_rate": 1e-2, "objective.pooling": "mean",
    }  # fmt: skip
    found, lines = task("bert", "classification", text, "tsv", fields)
    given = [line["label"] for line in lines]
    said = [line["prediction"] for line in lines]
    assert len(lines) == len(text.splitlines()) - 1
    assert found["eval/accuracy"] == pytest.approx(np.mean(np.equal(given, said)))
    assert set(said) == {"0", "1"}
    assert found["eval/matthews"] == pytest.approx(matthews_corrcoef(given, said))
    assert found["eval/f1"] == pytest.approx(f1_score(given, said, pos_label="1"))


@pytest.mark.slow
def test_more_classes_and_one_class(task):
    text = "".join(
        json.dumps({"text": s, "label": "abc"[n % 3]}) + "\n" for n, s in enumerate(SENTENCES * 2)
    )
    found, lines = task("roberta", "classification", text, "jsonl")
    given, said = ([line[key] for line in lines] for key in ("label", "prediction"))
    wanted = f1_score(given, said, average="macro", labels=["a", "b", "c"], zero_division=math.nan)
    assert found["eval/f1"] == pytest.approx(wanted, nan_ok=True)
    # One class only: the correlation does not exist, and no number stands in for it.
    text = "".join(json.dumps({"text": s, "label": "x"}) + "\n" for s in SENTENCES)
    found, _ = task("roberta", "classification", text, "jsonl", workdir="one")
    assert math.isnan(found["eval/matthews"])


@pytest.mark.parametrize("family", ["gpt", *slow("xlnet", "t5")])
def test_classification_of_the_other_families(task, family):
    text = "".join(
        json.dumps({"text": s, "b": s[::-1], "label": n % 2}) + "\n"
        for n, s in enumerate(SENTENCES * 2)
    )
    extra = {"objective.lm_weight": 0.5} if family == "gpt" else {}
    found, lines = task(
        family, "classification", text, "jsonl", {"data.text_b_field": "b", **extra}
    )
    assert len(lines) == 12
    assert ("eval/lm_loss" in found) == (family == "gpt")
    if family == "gpt":  # the sum of both, the second with its weight in it
        assert found["eval/loss"] < 0.5 * 6 + 2
        assert found["eval/lm_loss"] > 0.5


@pytest.mark.parametrize("made", [True, False])
def test_regression(task, made):
    if made:
        text = "score\tsentence1\tsentence2\n" + "".join(
            f"{n / 2}\t{a}\t{b}\n" for n, (a, b) in enumerate(itertools.pairwise(SENTENCES))
        )
    else:
        text = real("glue/STS-B/dev.tsv")
    fields = {
        "data.text_field": "sentence1", "data.text_b_field": "sentence2",
        "data.label_field": "score", "evaluation.metric": "eval/pearson",
    }  # fmt: skip
    found, lines = task("xlnet", "regression", text, "tsv", fields)
    given, said = ([line[key] for line in lines] for key in ("label", "prediction"))
    assert len(lines) == len(text.splitlines()) - 1
    assert found["eval/pearson"] == pytest.approx(scipy.stats.pearsonr(given, said)[0], abs=1e-6)
    assert found["eval/spearman"] == pytest.approx(scipy.stats.spearmanr(given, said)[0], abs=1e-6)
    assert found["eval/loss"] == pytest.approx(np.mean(np.subtract(given, said) ** 2), rel=1e-4)


TAGGED = "Ann\tB-PER\nSmith\tI-PER\nsaw\tO\nRome\tB-LOC\n\nwe\tO\nsaw\tO\nBob\tB-PER\n\n"


@pytest.mark.parametrize("family", ["bert", *slow("gpt", "t5")])
@pytest.mark.parametrize("made", [True, False])
def test_token_classification(task, family, made):
    text = TAGGED * 4 if made else real("wnut17/wnut17train.conll", 200)
    fields = {
        "data.text_field": "tokens", "data.label_field": "tags", "evaluation.metric": "eval/f1",
        "steps": 30, "optimizer.learning_rate": 3e-2,
    }  # fmt: skip
    found, lines = task(family, "token_classification", text, "conll", fields)
    given, said = ([line[key] for line in lines] for key in ("label", "prediction"))
    lines = "\n".join(line.strip() for line in text.split("\n"))
    words = [len(part.split("\n")) for part in lines.strip().split("\n\n")]
    assert [len(tags) for tags in given] == [len(tags) for tags in said] == words
    assert found["eval/f1"] == pytest.approx(entity_f1(given, said))
    if made:
        assert found["eval/f1"] > 0.5  # it can be learned


def squad(text="Rome fell. Then Bonn rose in 1949."):
    asked = [("what fell?", "Rome", 0), ("what rose?", "Bonn", 16), ("when?", "1949", 29)]
    questions = [
        {"id": f"q{n}", "question": q, "answers": [{"text": a, "answer_start": at}]}
        for n, (q, a, at) in enumerate(asked)
    ]
    paragraphs = [{"context": text, "qas": questions}] * 2
    return json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]})


QA = {
    "data.text_field": "context", "data.text_b_field": "question", "data.label_field": "answers",
    "data.id_field": "id", "objective.stride": 4, "objective.max_question": 8,
    "evaluation.metric": "eval/f1",
}  # fmt: skip


@pytest.mark.parametrize("family", ["bert", *slow("xlnet", "gpt", "t5")])
def test_extractive_qa(task, family):
    changes = {**QA, "steps": 60, "optimizer.learning_rate": 3e-2}
    found, lines = task(family, "extractive_qa", squad(), "json", changes)
    assert len(lines) == 6
    # By hand: these answers are one word, so that both metrics are the share of equal ones.
    hits = [line["prediction"].strip(".") == line["answers"][0] for line in lines]
    assert found["eval/exact_match"] == pytest.approx(np.mean(hits))
    assert found["eval/f1"] >= found["eval/exact_match"]
    assert found["eval/exact_match"] > 0.3  # it can be learned
    assert all(line["prediction"] in "Rome fell. Then Bonn rose in 1949." for line in lines)
    assert all(len(line["n_best"]) > 1 for line in lines)


@pytest.mark.slow
def test_real_questions(task):
    if not (DATA / "squad").exists():
        pytest.skip("no SQuAD at hand")
    article = json.loads((DATA / "squad/dev-half-a.json").read_text())["data"][0]
    article["paragraphs"] = article["paragraphs"][:1]
    found, lines = task("bert", "extractive_qa", json.dumps({"data": [article]}), "json", QA)
    ids = [q["id"] for q in article["paragraphs"][0]["qas"]]
    assert [line["id"] for line in lines] == ids
    context = article["paragraphs"][0]["context"]
    assert all(line["prediction"] in context for line in lines)
    assert 0 <= found["eval/exact_match"] <= found["eval/f1"] <= 1


@pytest.mark.slow
def test_answers_that_are_not_there(task, tmp_path):
    bad = json.loads(squad())
    bad["data"][0]["paragraphs"][1] = {
        "context": "nothing",
        "qas": [{"id": "lost", "question": "what?", "answers": [{"text": "x", "answer_start": 2}]}],
    }
    with pytest.raises(DataError, match=r"'x' of .*json, question lost is not at character 2"):
        task("bert", "extractive_qa", json.dumps(bad), "json", QA)
    skip = {**QA, "objective.skip_bad_answers": True}
    _, lines = task("bert", "extractive_qa", json.dumps(bad), "json", skip)
    assert [line["id"] for line in lines] == ["q0", "q1", "q2"]
    lineage = json.loads((tmp_path / "w" / "lineage.json").read_text())
    assert lineage["summary"]["sources"][0]["skipped"] == 1


def test_no_answer(task):
    """SQuAD 2.0: what has no answer is trained on [CLS], and "" may be said."""
    asked = json.loads(squad())
    for paragraph in asked["data"][0]["paragraphs"]:
        paragraph["qas"] = [{"id": "n", "question": "why?", "answers": []}] * 3
    changes = {**QA, "objective.no_answer": True, "steps": 20, "optimizer.learning_rate": 3e-2}
    found, lines = task("bert", "extractive_qa", json.dumps(asked), "json", changes)
    assert [line["prediction"] for line in lines] == [""] * 6
    assert found["eval/exact_match"] == found["eval/no_answer_exact_match"] == 1
    assert found["eval/best_f1"] == 1
    assert math.isnan(found["eval/has_answer_f1"])


@pytest.mark.parametrize("family", ["gpt", *slow("bert", "xlnet")])
def test_multiple_choice(task, family):
    rows = [
        {"query": f"is it {s}?", "choices": ["good", "bad", "so so"][: 2 + n % 2], "gold": n % 2}
        for n, s in enumerate(SENTENCES * 2)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    fields = {"data.text_field": "query", "data.label_field": "gold"}
    found, lines = task(family, "multiple_choice", text, "jsonl", fields)
    assert found["eval/accuracy"] == np.mean([li["prediction"] == li["label"] for li in lines])
    # A choice that is not there is never chosen.
    assert all(line["prediction"] < 2 + line["record"] % 2 for line in lines)
    assert found["eval/loss"] < 5


def test_real_choices(task):
    text = real("lm_eval/arc_easy.jsonl", 12)
    fields = {"data.text_field": "query", "data.label_field": "gold"}
    found, lines = task("roberta", "multiple_choice", text, "jsonl", fields)
    gold = [json.loads(line)["gold"] for line in text.splitlines() if line]
    assert [line["label"] for line in lines] == gold
    assert found["eval/accuracy"] == np.mean([li["prediction"] == li["label"] for li in lines])


@pytest.mark.slow
def test_choices_in_fields_of_their_own_and_bad_ones(task):
    row = {"goal": "x", "sol1": "a", "sol2": "b", "label": 1}
    fields = {"data.text_field": "goal", "data.choice_fields": ("sol1", "sol2")}
    _, lines = task("bert", "multiple_choice", json.dumps(row) + "\n", "jsonl", fields)
    assert lines[0]["label"] == 1
    with pytest.raises(DataError, match=r"holds '2'; it must be the number of the right choice"):
        task("bert", "multiple_choice", json.dumps({**row, "label": 2}), "jsonl", fields)
    one = {**fields, "data.choice_fields": ("sol1",)}
    with pytest.raises(DataError, match="has 1 choices; at least two"):
        task("bert", "multiple_choice", json.dumps(row), "jsonl", one, workdir="one")
    # As COPA has it: the right one by the name of its field, the question behind the text.
    named = {**fields, "data.text_b_field": "question"}
    text = json.dumps({**row, "question": "why", "label": "sol2"}) + "\n"
    _, lines = task("bert", "multiple_choice", text, "jsonl", named, workdir="named")
    assert lines[0]["label"] == 1


def by_libraries(lines):
    pairs = [(line["answers"][0], line["prediction"]) for line in lines]
    rouge = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    return {
        "eval/exact_match": np.mean([a == b for a, b in pairs]),
        "eval/rougeL": np.mean([rouge.score(a, b)["rougeL"].fmeasure for a, b in pairs]),
        "eval/bleu": sacrebleu.corpus_bleu([b for _, b in pairs], [[a for a, _ in pairs]]).score,
    }


@pytest.mark.parametrize(("family", "objective"), [("t5", "text_to_text"), ("gpt", "instruction")])
def test_texts_are_answered(task, tmp_path, family, objective):
    (tmp_path / "t.jsonl").write_text(
        "".join(
            json.dumps({"q": q, "a": a}) + "\n"
            for q, a in [("one two", "red"), ("six", "blue sky")] * 8
        )
    )
    tasks = ((str(tmp_path / "t.jsonl"), "say {q}", "{a}"),)
    changes = {
        "data.tasks": tasks, "data.eval_tasks": tasks, "data.source": "", "length": 48,
        "model.max_length": 48,
        "objective.target_length": 8, "evaluation.generate": 16, "steps": 80,
        "evaluation.metric": "eval/rougeL", "optimizer.learning_rate": 1e-2,
        "tokenizer.kind": "bpe", "tokenizer.vocab_size": 300,
    }  # fmt: skip
    found, lines = task(family, objective, "", "txt", changes)
    assert len(lines) == 16
    for name, value in by_libraries(lines).items():
        assert found[name] == pytest.approx(value), name
    assert found["eval/exact_match"] == 1  # the two answers are learned
    assert {line["prediction"] for line in lines} == {"red", "blue sky"}


def test_conversations(task):
    def chat(*texts):
        roles = ["system", "user", "assistant", "user", "assistant"][-len(texts) :]
        messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]
        return json.dumps({"messages": messages}) + "\n"

    text = (chat("be kind", "hi", "hello", "bye", "so long") + chat("hi", "hello")) * 4
    changes = {
        "data.text_field": "messages", "tokenizer.path": "", "tokenizer.kind": "bpe",
        "tokenizer.vocab_size": 270, "evaluation.generate": 8, "length": 64,
        "model.max_length": 64,
    }  # fmt: skip
    found, lines = task("gpt", "instruction", text, "jsonl", changes)
    assert [line["answers"] for line in lines] == [["so long"], ["hello"]] * 4
    assert found["eval/loss"] > 0
    bad = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    with pytest.raises(DataError, match="no message of the role 'assistant'"):
        task("gpt", "instruction", bad, "jsonl", changes)
    bad = json.dumps(
        {"messages": [{"role": "robot", "content": "hi"}, {"role": "assistant", "content": "x"}]}
    )
    with pytest.raises(DataError, match=r"'robot', which config\.objective\.chat_template lacks"):
        task("gpt", "instruction", bad, "jsonl", changes)


def test_labels_that_training_lacks(task, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"text": "x", "label": "new"}\n')
    text = '{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'
    changes = {"data.eval_source": str(tmp_path / "dev.jsonl")}
    with pytest.raises(DataError, match=r"dev\.jsonl:1 has the label 'new', .* 'a', 'b'"):
        task("bert", "classification", text, "jsonl", changes)
    (tmp_path / "dev.jsonl").write_text("")
    with pytest.raises(DataError, match=r"dev\.jsonl' holds no example"):
        task("bert", "classification", text, "jsonl", changes)


def test_epochs_and_warmup_share(task, tmp_path):
    text = "".join(
        json.dumps({"text": s, "label": n % 2}) + "\n" for n, s in enumerate(SENTENCES * 4)
    )
    changes = {
        "epochs": 1.5, "batch_size": 6, "optimizer.warmup_share": 0.5, "logging.every": 1,
        "mesh.data": 1, "optimizer.learning_rate": 0.5, "evaluation.batch_size": 8,
    }  # fmt: skip
    task("bert", "classification", text, "jsonl", changes)
    lines = (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()
    rates = [row["train/learning_rate"] for row in map(json.loads, lines) if "train/loss" in row]
    np.testing.assert_allclose(rates, [0.5 / 3, 1 / 3, 0.5, 0.5, 1 / 3, 0.5 / 3], rtol=1e-5)
