"""`pretune score`: from folders and files to a table, JSON and details; and what it refuses."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import regimes
from input_pipeline.tokenizers import load_tokenizer
from train import cli
from train.errors import UserError
from train.loop import run
from train.score import _names, parse_tasks
from train.scoring.language_model import find_head, load_language_model
from train.setup import complete

BERT = {
    "objective.name": "masked_lm", "model.num_layers": 1, "steps": 2,
    "model.max_length": 16, "length": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small evaluation sets of the corpus's words."""
    path = tmp_path_factory.mktemp("score")
    rng = np.random.default_rng(1)
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "and"]
    line = lambda size: " ".join(rng.choice(words, size))  # noqa: E731
    pairs = [
        {
            "sentence_good": line(4) + ".", "sentence_bad": line(4) + ".",
            "UID": f"p{i % 2}", "linguistics_term": "order",
        }
        for i in range(6)
    ]  # fmt: skip
    choices = [
        {"query": line(3), "choices": [line(2), line(1), line(3)], "gold": i} for i in range(3)
    ]
    for name, records in (("pairs", pairs), ("choices", choices)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (path / f"{name}.jsonl").write_text(text)
    rows = "".join(f"a {w} cat,a {w} dog,stereo,animals\n" for w in words[:4])
    (path / "crows.csv").write_text(f"sent_more,sent_less,stereo_antistereo,bias_type\n{rows}")
    (path / "empty.jsonl").write_text("")
    (path / "text.txt").write_text(line(60) + "\n")
    (path / "book.txt").write_text("nothing. " + pairs[2]["sentence_bad"].upper() + " and more")
    return path


@pytest.fixture(scope="module")
def gpt(run_config, folder):
    run(run_config("gpt", {"steps": 2, "model.max_length": 32}), folder / "gpt", progress=False)
    return folder / "gpt"


@pytest.fixture(scope="module")
def bert(run_config, folder):
    run(run_config("bert", BERT), folder / "bert", progress=False)
    return folder / "bert"


@pytest.fixture(scope="module")
def tuned(run_config, folder, bert):
    """BERT fine-tuned on labels, and a fine-tuned one of that: neither has an LM head."""
    rows = "the cat sat\tx\na dog ran\ty\n" * 20
    (folder / "train.tsv").write_text(f"text\tlabel\n{rows}")
    before = bert
    for name in ("tuned", "again"):
        changes = {
            **BERT, "objective.name": "classification", "model.family": "",
            "init_from": str(before), "data.source": str(folder / "train.tsv"),
            "data.eval_source": str(folder / "train.tsv"), "evaluation.metric": "eval/loss",
            "optimizer.learning_rate": 0.1,
        }  # fmt: skip
        config = run_config("bert", changes)
        run(complete(config), folder / name, progress=False)
        before = folder / name
    return before


@pytest.fixture
def pretune(capsys):
    """``pretune("--tasks=...", ...) -> (exit code, stdout, stderr)`` of `pretune score`."""

    def call(*argv):
        capsys.readouterr()
        code = cli.main(["score", *map(str, argv)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_tasks():
    given = ["blimp:a.jsonl,b.jsonl,text:gs://x/*.txt,gs://y/*.txt", "blimp:tfds:blimp/p,tfds:q"]
    assert parse_tasks(given) == [
        ("blimp", ["a.jsonl", "b.jsonl"]),
        ("text", ["gs://x/*.txt", "gs://y/*.txt"]),
        ("blimp", ["tfds:blimp/p", "tfds:q"]),
    ]
    for wrong, message in (
        ("blimb:a", "no kind of task at 'blimb:a' .did you mean 'blimp'"),
        ("a.jsonl", "no kind of task at 'a.jsonl'"),
        ("blimp:a,chioce:b", "did you mean 'choice'"),
        ("text:", "text: names no source"),
    ):
        with pytest.raises(UserError, match=message):
            parse_tasks([wrong])


def test_names_tell_runs_apart():
    assert _names(["runs/a", "runs/b"]) == ["a", "b"]
    assert _names(["x/run", "y/run", "z"]) == ["x/run", "y/run", "z"]


def test_one_run(pretune, gpt, folder):
    code, out, err = pretune(
        f"--workdir={gpt}", f"--tasks=blimp:{folder}/pairs.jsonl,text:{folder}/text.txt",
        f"--json={folder}/out.json", f"--details={folder}/out.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert "gpt: gpt, log-likelihood, left to right, rows of 16 tokens" in out
    assert "blimp: 6 items" in out
    assert "texts in" in err
    assert "a minute" in err
    record = json.loads((folder / "out.json").read_text())
    blimp, text = record["tasks"]
    found = {(f["dimension"], f["category"]): f["runs"][0] for f in blimp["figures"]}
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    own = [line["runs"][str(gpt)]["log_prob"] for line in lines if line["task"] == "blimp"]
    hits = np.asarray([good > bad for good, bad in own])
    assert found["", "all"]["value"] == pytest.approx(100 * hits.mean())
    assert found["", "all"]["standard_error"] == pytest.approx(
        100 * np.std(hits, ddof=1) / math.sqrt(6)
    )
    assert found["paradigm", "p1"]["value"] == pytest.approx(100 * hits[1::2].mean())
    figures = {f["metric"]: f["runs"][0] for f in text["figures"]}
    (of_text,) = (line["runs"][str(gpt)] for line in lines if line["task"] == "text")
    nats, size = -of_text["log_prob"][0], of_text["bytes"][0]
    assert size == len((folder / "text.txt").read_bytes())
    assert figures["bits a byte"]["value"] == pytest.approx(nats / size / math.log(2))
    assert figures["bits a byte"] | {"value": 0} == {"n": 1, "value": 0, "standard_error": None}
    assert text["cut"] == [1]  # far longer than a row
    assert "± undefined" in out
    assert set(blimp["definitions"]) == {"accuracy"}


def test_before_and_after_fine_tuning(pretune, bert, tuned, folder):
    """The head comes from the run at the chain's beginning; the difference is paired."""
    assert find_head(tuned)[0] == bert
    code, out, err = pretune(
        f"--workdir={bert},{tuned}", f"--tasks=crows_pairs:{folder}/crows.csv",
        f"--json={folder}/two.json", f"--details={folder}/two.jsonl",
    )  # fmt: skip
    assert code == 0, err
    assert "again: bert, pseudo-log-likelihood, each token masked in turn" in out
    assert f"head of {bert}" in out
    assert "again - bert" in out
    record = json.loads((folder / "two.json").read_text())
    assert [told["head_from"] for told in record["runs"]] == [None, str(bert)]
    figure = record["tasks"][0]["figures"][0]
    before, after = (one["value"] for one in figure["runs"])
    assert figure["differences"][0]["value"] == pytest.approx(after - before)
    lines = [json.loads(line) for line in (folder / "two.jsonl").read_text().splitlines()]
    apart = [
        abs(a - b)
        for line in lines
        for a, b in zip(*(one["log_prob"] for one in line["runs"].values()), strict=True)
    ]
    assert min(apart) > 1e-3  # the backbone is the fine-tuned one
    theirs, own = load_language_model(bert), load_language_model(tuned)
    same = lambda a, b: bool(jnp.array_equal(a, b))  # noqa: E731
    assert same(theirs.params["head"]["lm"]["bias"], own.params["head"]["lm"]["bias"])
    table = lambda lm: lm.params["backbone"]["tokens"]["table"]  # noqa: E731
    assert not same(table(theirs), table(own))
    assert own.layout.length == 16


def test_adapters_and_another_mesh(pretune, run_config, folder, gpt):
    """A run with LoRA is scored with it; one of more devices than there are, on one of them."""
    config = run_config("gpt", {"steps": 4, "model.max_length": 32, "init_from": str(gpt)})
    regimes.apply(config, "lora")
    config.optimizer.learning_rate = 0.1
    run(config, folder / "lora", progress=False)
    written = json.loads((folder / "lora" / "config.json").read_text())
    written["mesh"] |= {"data": 2, "tensor": 16}
    (folder / "lora" / "config.json").write_text(json.dumps(written))
    to = folder / "lora.json"
    code, _, error = pretune(
        f"--workdir={gpt},{folder / 'lora'}", f"--tasks=text:{folder / 'text.txt'}",
        f"--details={to}",
    )  # fmt: skip
    assert code == 0, error
    for line in map(json.loads, to.read_text().splitlines()):
        before, after = (one["log_prob"] for one in line["runs"].values())
        assert before != after
    before, after = (load_language_model(path) for path in (gpt, folder / "lora"))
    assert after.mesh.size == 1
    for part in ("backbone", "head"):  # so that the difference is the adapters' alone
        jax.tree.map(np.testing.assert_array_equal, before.params[part], after.params[part])


def test_contamination(pretune, gpt, folder):
    code, out, err = pretune(
        f"--workdir={gpt}", f"--tasks=blimp:{folder}/pairs.jsonl", f"--corpus={folder}/book.txt",
        "--ngram=4", f"--json={folder}/c.json", f"--details={folder}/c.jsonl",
    )  # fmt: skip
    assert code == 0, err
    lines = [json.loads(line) for line in (folder / "c.jsonl").read_text().splitlines()]
    assert [line["contaminated"] for line in lines] == [False] * 2 + [True] + [False] * 3
    assert "1 items stand in the corpus" in out
    record = json.loads((folder / "c.json").read_text())
    assert (record["ngram"], record["tasks"][0]["contaminated"]) == (4, 1)
    figure = record["tasks"][0]["figures"][0]
    assert (figure["runs"][0]["n"], figure["clean"][0]["n"]) == (6, 5)
    code, out, _ = pretune(
        f"--workdir={gpt}", f"--tasks=blimp:{folder}/pairs.jsonl", f"--corpus={folder}/book.txt",
        f"--json={folder}/c.json",
    )  # fmt: skip
    assert code == 0
    record = json.loads((folder / "c.json").read_text())
    assert record["ngram"] == 13


def test_a_task_without_an_lm_head_anywhere(pretune, run_config, folder, tuned):
    changes = {
        **BERT, "objective.name": "classification", "data.source": str(folder / "train.tsv"),
        "data.eval_source": str(folder / "train.tsv"), "evaluation.metric": "eval/loss",
    }  # fmt: skip
    run(run_config("bert", changes), folder / "scratch", progress=False)
    code, out, err = pretune(f"--workdir={folder}/scratch", f"--tasks=text:{folder}/text.txt")
    assert (code, out) == (2, "")
    assert "scratch was trained with classification, which predicts no tokens" in err
    assert err.count("\n") == 1
    config = json.loads((tuned / "config.json").read_text())
    config["init_from"] = str(folder / "gone")
    (folder / "orphan").mkdir()
    (folder / "orphan" / "config.json").write_text(json.dumps(config))
    code, out, err = pretune(f"--workdir={folder}/orphan", f"--tasks=text:{folder}/text.txt")
    assert (code, out) == (2, "")
    assert "orphan predicts no tokens and the run that it began from" in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tasks=blimp:{0}/empty.jsonl"], "empty.jsonl' holds no example"),
        (["--tasks=blimp:{0}/choices.jsonl"], "choices.jsonl:1 has no field 'sentence_good'"),
        (["--tasks=blimp:{0}/none.jsonl"], "none.jsonl' does not exist"),
        (["--tasks=blimp:{0}/text.txt"], "text.txt is plain text and has no fields"),
        (["--tasks=grammar:{0}/pairs.jsonl"], "no kind of task at 'grammar:"),
        (["--tasks=text:{0}/text.txt", "--length=64"], "longer than the position table"),
        (["--tasks=text:{0}/text.txt", "--length=3"], "--length=3 is too short"),
        (["--tasks=text:{0}/text.txt", "--ngram=5"], "--ngram is for the search in a corpus"),
        (["--tasks=text:{0}/text.txt", "--corpus={0}/no*.md"], "no file matches"),
        (["--tasks=text:{0}/text.txt", "--corpus={0}/empty.jsonl"], "--corpus="),
        (["--tasks=text:{0}/text.txt", "--workdir={0}/nowhere"], "nowhere holds no run"),
        (["--tasks=text:{0}/text.txt", "--workdir={0}/gpt,{0}/gpt"], "names a run twice"),
        (["--tasks=text:{0}/text.txt", "--workdir="], "--workdir names no run"),
        (["--tasks=text:{0}/text.txt", "--json={0}"], "is no file that can be written"),
        (["--tasks=text:{0}/text.txt", "--details={0}/no/x.jsonl"], "is no file that can be"),
        ([], "--tasks"),
    ],
)
def test_bad_input(pretune, gpt, folder, flags, expected):
    code, out, err = pretune(f"--workdir={gpt}", *(flag.format(folder) for flag in flags))
    assert code == 2, (out, err)
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert "--config." not in err


def test_the_vocabulary_of_a_run_is_that_of_its_folder(gpt):
    lm = load_language_model(gpt)
    start = load_tokenizer(gpt / "tokenizer").id_of("\n")
    assert lm.layout.before.tolist() == [start]  # characters have no end of text
