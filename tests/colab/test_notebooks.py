"""The notebooks of colab/: valid and clean as committed, and executed on tiny settings."""

import csv
import json
import os
import pathlib
import re
import sys

import jax
import nbclient
import nbformat
import numpy as np
import pytest

from input_pipeline.tokenizer_export import export_tokenizer
from input_pipeline.tokenizers import train_tokenizer
from model.api import build
from model.pretrained.describe import LAYOUTS, architecture_of, heads_of
from model.pretrained.save import save

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
# A tiny study; these flags follow the keys of configs/studies/.
PRE, TUNE = "--config.family.bert.pretrain", "--config.family.bert.finetune"
TINY = (
    f"{PRE}.batch_size=8 {PRE}.length=16 {PRE}.evaluation.max_rows=32 {TUNE}.length=16 "
    f"{PRE}.tokenizer.vocab_size=300 --config.budgets=(64,) --config.resamples=100"
)


def code_of(notebook):
    """Its code cells as Python, without IPython's commands."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield re.sub(r"^( *)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE)


def parameters(notebook):
    """The cell of the settings."""
    found = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(found) == 1
    return found[0]


def test_there_are_notebooks():
    names = {path.stem for path in NOTEBOOKS}
    assert names == {"five_objectives", "finetune_your_data", "quickstart", "study"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_as_committed(path):
    """Valid, without outputs, counts and paths of somebody's machine; all cells are Python."""
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        for place in ("/work", "/home", "/root", "/Users", "/tmp", "C:\\"):
            assert place not in cell.source
    for number, source in enumerate(code_of(notebook)):
        compile(source, f"{path.name}, code cell {number}", "exec")
    assert "import" not in parameters(notebook).source


def test_all_install_in_the_same_way():
    """Asks nobody but the repository that the form names, and only where Pretune is not there."""
    first = {next(code_of(nbformat.read(path, nbformat.NO_CONVERT))) for path in NOTEBOOKS}
    assert len(first) == 1
    install = first.pop()
    assert 'OWNER = "OWNER"' in install
    assert install.index("find_spec") < install.index("pass")  # of git and pip


@pytest.fixture
def execute(tmp_path):
    """``execute(name, settings) -> text``: runs all cells; what they printed or showed as text."""

    def run(name, settings):
        notebook = nbformat.read(ROOT / "colab" / f"{name}.ipynb", nbformat.NO_CONVERT)
        cell = parameters(notebook)
        for key, value in settings.items():
            assert f"\n{key} = " in cell.source
            cell.source += f"\n{key} = {value!r}"
        paths = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # Without the eight devices of the other tests: as on a user's machine.
        flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": paths, "XLA_FLAGS": flags}
        nbclient.NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}}
        ).execute(env=env)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        shown = [dict(output.get("data", {})) for output in outputs]
        texts = [output.get("text", "") for output in outputs]
        texts += [data.get("text/markdown", data.get("text/html", "")) for data in shown]
        return "\n".join(texts), sum("image/png" in data for data in shown)

    return run


@pytest.mark.slow
def test_five_objectives(execute):
    text, figures = execute("five_objectives", {"SENTENCE": "The list keeps its order.", "SEED": 1})
    assert figures == 8
    assert "every prediction sees every token: True" in text
    rows = [line.split(" | ") for line in text.split("\n") if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["| gpt", "| bert", "| roberta", "| xlnet", "| t5"]
    read, predicted, seen, loss, guess = (
        [float(row[n].strip(" |")) for row in rows] for n in (1, 2, 3, 4, 5)
    )
    assert read[0] == predicted[0]  # GPT predicts at each place, from half of the row on average
    assert seen[0] == (read[0] + 1) / 2
    assert seen[1:3] == read[1:3]  # both sides
    assert all(0.5 * read[n] < seen[n] < read[n] for n in (3, 4))  # in an order
    np.testing.assert_allclose(loss, guess, atol=1)  # the models are untrained


@pytest.fixture
def published(tiny, tmp_path):
    """A tiny BERT as it would lie on the hub."""
    texts = ["good bad fine poor film book it was a the ."] * 3
    own = train_tokenizer("wordpiece", texts, 60, lowercase=True)
    sizes = {"model.vocab_size": own.vocab_size, "model.initializer_std": 0.25}
    config, layout = tiny("bert", sizes).model, LAYOUTS["bert"]
    params = jax.jit(build(config, heads_of(("lm",), 0)).init)(jax.random.key(0))
    folder = tmp_path / "published"
    folder.mkdir()
    architecture = architecture_of(layout, ("lm",))
    save(folder, layout, config, params, architecture, layout.special_tokens(own))
    export_tokenizer(own, folder, config.max_length, layout.framed, second_type=1)
    return folder


@pytest.mark.slow
def test_finetune_your_data(execute, published, tmp_path):
    train, work = tmp_path / "reviews.csv", tmp_path / "work"
    words = {"good": "yes", "fine": "yes", "bad": "no", "poor": "no"}
    rows = [(f"it was a {w} {thing}.", label) for w, label in words.items() for thing in
            ("film", "book")] * 5  # fmt: skip
    with train.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "liked"), *rows])
    settings = {
        "CHECKPOINT": str(published), "TRAIN": str(train), "TEXT_COLUMN": "review",
        "LABEL_COLUMN": "liked", "EPOCHS": 20.0, "LEARNING_RATE": 0.005, "BATCH_SIZE": 8,
        "LENGTH": 16, "WORKDIR": str(work),
    }  # fmt: skip
    text, figures = execute("finetune_your_data", settings)
    assert "32 lines to train on, 8 to evaluate on" in text
    assert "BertForMaskedLM" in text
    assert figures == 2
    (run,) = {path.parent for path in work.glob("*/predictions.jsonl")}
    found = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    wrong = sum(line["prediction"] != line["label"] for line in found)
    assert wrong <= 2
    assert f"{wrong} of 8 are wrong" in text
    assert f"accuracy   {1 - wrong / 8:.3f}" in text
    exported = work / f"{run.name}-exported"
    theirs = json.loads((exported / "config.json").read_text())
    assert theirs["architectures"] == ["BertForSequenceClassification"]
    assert set(theirs["label2id"]) == {"yes", "no"}
    ours = text[text.index("model.safetensors") :]
    assert ours.count("\nyes ") + ours.count("\nno ") == 3  # the notebook's own sentences


def shown(report):
    """What a notebook shows of a report: all but its plots, which are files."""
    plots = re.compile(r"!\[.*?\]\(plots/.*?\)")
    text = report.read_text()
    assert plots.search(text)
    return plots.sub("", text)


@pytest.mark.slow
def test_quickstart(execute, tmp_path):
    work = tmp_path / "study"
    flags = f"{TINY} {PRE}.steps=4 --config.budget_steps=(2,) --config.seeds=(0,1)"
    text, _ = execute("quickstart", {"OVERRIDES": flags, "WORKDIR": str(work)})
    assert shown(work / "report.md") in text
    assert "<iframe" in text
    runs = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    assert f"{len(runs)} runs: {{'done': {len(runs)}}}" in text


@pytest.mark.slow
def test_study(execute, tmp_path):
    work = tmp_path / "study"
    settings = {
        "STEPS": 4, "FINETUNING_STEPS": 2, "SEEDS": 2, "WORKDIR": str(work), "OVERRIDES": TINY,
    }  # fmt: skip
    text, _ = execute("study", settings)
    assert "10 runs, 10 of them missing" in text
    assert shown(work / "report.md") in text
    runs = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["arm"], r["seed"]) for r in runs if not r["arm"]] == [
        ("pretrain", "", seed) for seed in (0, 0, 1, 1)
    ]
    assert {r["arm"] for r in runs} == {"", "devlin", "wettig", "scratch"}
    assert {r["status"] for r in runs} == {"done"}
