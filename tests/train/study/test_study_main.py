"""The command line of a study, its plan and its progress."""

import io
import re

import pytest
from rich.console import Console

from configs.studies import base
from tests.train.study.fakes import FakeLoop, small_study
from train import cli
from train.errors import Diverged
from train.study import costs, estimate, live, plan, runner
from train.study.live import Progress

CONFIG = "--config=configs/studies/quickstart.py"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.arms=('pretrained','scratsh')", "did you mean 'scratch'"),
        ("--config.budgets=(-3,)", "none may be negative"),
        ("--config.family.bert.finetune.stepz=3", "stepz"),
        ("--config.effects.score=('crow:x.csv',)", "names no kind of task"),
        ("--jobs=0", "jobs"),
    ],
)
def test_bad_config_is_one_sentence_and_leaves_no_folder(
    tmp_path, capsys, monkeypatch, override, words
):
    workdir = tmp_path / "study"
    arguments = ["study", CONFIG, f"--workdir={workdir}", override]
    monkeypatch.setattr("sys.argv", ["pretune", *arguments])  # ml_collections reads overrides there
    assert cli.main() == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not workdir.exists()


def test_help_tells_how_to_go_on(capsys):
    assert cli.main(["study", "--help"]) == 0
    assert "same command continues" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def probed(monkeypatch):
    """A probe that measures nothing: a step of the first stage takes 0.1 s, compiling it 3 s."""
    made = lambda config: costs.Probe(0.1, 3.0, costs.flops(config), 2**20)  # noqa: E731
    monkeypatch.setattr(costs, "probe", made)


def test_plan_adds_up_what_is_missing(tmp_path, probed):
    study = small_study()
    study.budgets, study.budget_steps, study.seeds = (64, 0), (10, 20), (0, 1)
    workdir = tmp_path / "study"
    runs = plan.make(study, workdir)
    stage, tuned, scratch = estimate.estimates(study, runs, set())
    assert (stage.name, stage.runs, stage.steps) == ("pretrain", 1, (2000,))
    assert stage.seconds == pytest.approx(2000 * 0.1 + 3)
    assert (tuned.name, tuned.runs, tuned.steps) == ("pre-trained", 4, (10, 20))
    one = costs.flops(runs[1].config)
    assert tuned.flops == scratch.flops == 2 * (10 + 20) * one
    assert tuned.seconds == pytest.approx(60 * 0.1 * one / costs.flops(runs[0].config) + 3)
    assert (tuned.disk, scratch.disk) == (0, 0)
    # Parameters and two moments in float32, of the newest checkpoint and the best.
    count = costs.program(runs[0].config).model.num_params
    assert stage.disk == pytest.approx(2 * 4 * 3 * count, rel=0.01)
    done = {run.key for run in runs if run.arm != "scratch"}
    left = estimate.estimates(study, runs, done)
    assert [one.missing for one in left] == [0, 0, 4]
    assert left[0].seconds == left[1].seconds == 0


def test_plan_of_a_family_whose_pretraining_is_anothers(tmp_path, probed):
    study = small_study()
    study.family.unlock()
    study.family.twin = study.family.bert
    study.families, study.arms, study.budgets = ("bert", "twin"), ("pretrained",), (64,)
    runs = plan.make(study, tmp_path / "study")
    stage, tuned, twin = estimate.estimates(study, runs, set())
    assert (stage.family, stage.runs) == ("bert", 1)
    assert (twin.family, twin.runs, twin.seconds) == ("twin", 3, tuned.seconds)


def test_plan_is_shown_and_trains_nothing(tmp_path, probed):
    out = io.StringIO()
    study, workdir = small_study(), tmp_path / "study"
    estimate.show(study, plan.make(study, workdir), set(), Console(file=out, width=120))
    assert "19 runs, 19 of them missing" in out.getvalue()
    assert not list(tmp_path.iterdir())


def test_stages_that_differ_are_planned_and_told_apart(tmp_path, probed):
    study = small_study(half=base.arm("half", pretrain={"steps": 1000}))
    study.budgets, study.seeds = (64,), (0,)
    runs = plan.make(study, tmp_path / "study")
    found = {one.name: one.steps for one in estimate.estimates(study, runs, set())}
    assert found["pretrain of pre-trained"] == (2000,)
    assert found["pretrain of half"] == (1000,)
    text, progress = watched(study, tmp_path, FakeLoop())
    assert "bert, pretrain of half\n" in re.sub(r"  about .*", "", text)
    assert {"bert pretrain of pre-trained 1/1", "bert pretrain of half 1/1"} <= set(shown(progress))


def watched(study, tmp_path, loop, **console):
    workdir = tmp_path / "study"
    runs = plan.make(study, workdir)
    out = io.StringIO()
    with Progress(study, runs, Console(file=out, width=120, **console), 100.0) as progress:
        runner.run_study(study, workdir, runs, loop, progress)
    return out.getvalue(), progress


def shown(progress):
    """The lines of the live table."""
    out = io.StringIO()
    Console(file=out, width=120).print(progress._table())
    return [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]


def test_each_run_has_a_line_where_there_is_no_terminal(tmp_path):
    study = small_study()
    failing = {"scratch-64-seed1": Diverged("NaN [x]")}
    text, _ = watched(study, tmp_path, FakeLoop(failing))
    assert "[1/19] bert, pretrain" in text
    assert "[19/19] bert, scratch, all labels, seed 2  about" in text
    assert "eval/accuracy 61.0," in text
    assert "seed 1 failed: Diverged: NaN [x]" in text
    again, _ = watched(study, tmp_path, FakeLoop())
    assert again.count("\n") == 2  # what is there is not told again
    assert "[19/19] bert, scratch, 64 labels, seed 1" in again


def test_live_table_counts_arms_and_budgets(tmp_path):
    study = small_study()
    _, progress = watched(study, tmp_path, FakeLoop({"scratch-64-seed1": Diverged("NaN")}))
    lines = shown(progress)
    assert "bert pretrain 1/1" in lines
    assert "bert pre-trained 61.0 (3) 56.0 (3) 51.0 (3) 9/9" in lines
    assert "bert scratch 51.0 (2) 51.0 (3) 51.0 (3) 9/9, 1 failed" in lines
    assert "19 of 19 runs, about 0.0 s to go" in lines


def test_time_to_go_is_by_what_such_runs_took(tmp_path):
    study = small_study()
    study.budgets, study.seeds = (64,), (0, 1)
    runs = plan.make(study, tmp_path / "study")
    progress = Progress(study, runs, Console(file=io.StringIO()), 1.0)
    done = {"status": "done"}
    progress.ended(runs[0], done | {"wall_seconds": 100.0})
    assert progress.time_to_go() is None  # a pre-training says nothing of fine-tunings
    progress.ended(runs[1], done | {"wall_seconds": 7.0})
    assert progress.time_to_go() == 21.0
    progress.ended(runs[2], done | {"wall_seconds": 5.0})
    assert progress.time_to_go() == 12.0


def test_processes_beside_this_one_shorten_the_time_to_go(tmp_path, monkeypatch):
    study = small_study()
    study.budgets, study.seeds = (64,), (0, 1)
    runs = plan.make(study, tmp_path / "study")
    progress = Progress(study, runs, Console(file=io.StringIO()), 1.0)
    record = {"status": "done", "started": runner.now()}
    for run, seconds in zip(runs[:3], (20.0, 10.0, 10.0), strict=True):
        progress.ended(run, record | {"wall_seconds": seconds})
    monkeypatch.setattr(live.time, "monotonic", lambda: progress._began + 20)
    assert progress.time_to_go() == pytest.approx(20 / 2)


def test_last_line_of_a_file_that_is_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert live.last_line(path) == {}
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert live.last_line(path) == {"step": 2}
    path.write_text('{"step": 1}\n{"ste')
    assert live.last_line(path) == {}
