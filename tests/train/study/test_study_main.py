"""The command line of a study, its plan and its progress."""

import ast
import contextlib
import io
import pathlib
import re
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from configs.studies import base
from tests.train.study.fakes import FakeLoop, small_study
from train import cli, loop
from train.errors import Diverged, UserError
from train.study import costs, estimate, live, main, plan, plots, runner
from train.study.live import Progress
from train.workdir import flatten

CONFIG = "--config=configs/studies/quickstart.py"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.arms=('pretrained','scratsh')", "did you mean 'scratch'"),
        ("--config.budgets=(-3,)", "none may be negative"),
        ("--config.family.bert.finetune.stepz=3", "stepz"),
        ("--config.effects.score=('crow:x.csv',)", "names no kind of task"),
        ("--config.metric=eval/acuracy", "the task measures eval/accuracy"),
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


def test_help_tells_how_to_go_on_and_the_keys_of_a_study(capsys):
    assert cli.main(["study", "--help"]) == 0
    text = capsys.readouterr().out
    assert "same command continues" in " ".join(text.split())
    assert "--config.family.NAME.STAGE.KEY=VALUE" in text
    told = dict(re.findall(r"^  ([\w.]+) +(\S+(?: \S+)*)", text.split("Config keys")[1], re.M))
    asked = flatten(base.get_config({}, {}).to_dict())
    assert set(told) == set(asked) - {"family", "arm"}
    written = {"families": "tuple(families)", "arms": "tuple(arms)", "accelerators": "ACCELERATORS"}
    for key, default in asked.items():
        if key in written:
            assert told[key].startswith(written[key])
        elif key in told:
            assert ast.literal_eval(told[key]) == default, key


def test_help_of_a_key_with_a_long_comment_or_default():
    text = cli.config_keys("configs.base")
    assert re.search(
        r"^  data.copies +0 +0: each epoch .* k epochs .* repeat for ever \(", text, re.M
    )
    assert re.search(r"^  sharding +\(\.\.\.\) +logical axis", text, re.M)
    assert "optimizer.groups" not in text


class Helper:
    """A process of --jobs that does nothing."""

    def __init__(self, call, **_):
        self.call, self.told = call, []
        self.cores = main._cores()

    def terminate(self):
        self.told.append("end")

    def wait(self):
        self.told.append("wait")


@pytest.fixture
def started(monkeypatch):
    """The helpers that a study in this process has started; its runs are pretended."""
    found = []

    def start(*args, **how):
        found.append(Helper(*args, **how))
        return found[-1]

    monkeypatch.setattr(main, "subprocess", SimpleNamespace(Popen=start, DEVNULL=-3))
    monkeypatch.setattr("train.loop.run", FakeLoop())
    return found


ARGUMENTS = ["--config.effects.forgetting=False", "--workdir", "study", "--jobs=2"]


def test_helpers_do_the_same_study_and_write_no_report(tmp_path, monkeypatch, started):
    """With the arguments of the command, not of the process; one of them may be called "study"."""
    monkeypatch.setattr("sys.argv", ["pytest", "--workdir=elsewhere"])
    arguments = [f"--config={pathlib.Path(CONFIG[9:]).resolve()}", *ARGUMENTS]
    monkeypatch.chdir(tmp_path)
    cores = main._cores()
    assert cli.main(["study", *arguments, "--noreport"]) == 0
    (helper,) = started
    assert helper.call[1:3] == ["-m", "train.study.main"]
    assert helper.call[3:] == [*arguments, "--noreport", "--jobs=1", "--noreport"]
    assert helper.told == ["end", "wait"]
    assert helper.cores == cores[1::2] or len(cores) == 1
    assert main._cores() == cores
    assert [path.name for path in (tmp_path / "study").iterdir() if path.is_file()] == [
        "results.jsonl"
    ]
    assert main.main(helper.call[3:]) == 0
    assert len(started) == 1  # a helper has no helpers
    assert len(list((tmp_path / "study").iterdir())) == 2  # and writes no report


def test_cores_are_not_chosen_where_they_cannot_be(monkeypatch, started):
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(f"os.{name}")
    with main._helpers(3, []):
        assert len(started) == 2


def test_helpers_end_where_one_of_them_cannot_be_started(monkeypatch, started):
    start = main.subprocess.Popen

    def full(*args, **how):
        if started:
            raise BlockingIOError("no more processes")
        return start(*args, **how)

    monkeypatch.setattr(main.subprocess, "Popen", full)
    with pytest.raises(BlockingIOError), main._helpers(3, []):
        pass
    assert started[0].told == ["end", "wait"]


def test_helpers_end_where_the_plan_is_refused(tmp_path, monkeypatch, started):
    def refuse(*_):
        assert len(started) == 1
        raise UserError("No.")

    monkeypatch.setattr(plan, "make", refuse)
    assert cli.main(["study", CONFIG, f"--workdir={tmp_path}/study", "--jobs=2"]) == 2
    assert started[0].told == ["end", "wait"]


@pytest.mark.parametrize("where", ["plan", "training", "loop"])
def test_sigterm_ends_the_study_and_its_helpers(tmp_path, monkeypatch, capsys, started, where):
    def training(config, workdir, **how):
        if where == "training":  # before the loop has handlers of its own
            with contextlib.suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)
            raise ValueError("no handler fits")
        with loop._StopFlag() as stop:
            signal.raise_signal(signal.SIGTERM)
        return FakeLoop()(config, workdir, **how) | {"stopped": stop.signal}

    monkeypatch.setattr("train.loop.run", training)
    if where == "plan":
        monkeypatch.setattr(plan, "make", lambda *_: signal.raise_signal(signal.SIGTERM))
    arguments = [CONFIG, *ARGUMENTS, f"--workdir={tmp_path}/study"]
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["study", *arguments]) == 143
    assert signal.getsignal(signal.SIGTERM) == before
    out, err = capsys.readouterr()
    assert out.endswith("The same command goes on from here.\n")
    assert err == ""
    assert started[0].told == ["end", "wait"]


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
    estimate.show(study, plan.make(study, workdir), set(), Console(file=out, width=80))
    assert "19 runs, 19 of them missing" in " ".join(out.getvalue().split())
    assert "pre-trained" in out.getvalue()
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


def test_a_plot_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    series = {"arm": 0, "kind": "line", "x": [0, 1], "y": [1, 2]}
    figure = {
        "name": "loss", "title": "Loss", "columns": 1, "y": "loss",
        "x": {"label": "step", "kind": "linear"}, "panels": [{"title": "", "series": [series]}],
    }  # fmt: skip
    plots.write([figure], ["full"], tmp_path)
    names = ["loss.png", "loss.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    before = (tmp_path / "loss.png").read_bytes()

    def stopped(_, file, **__):
        pathlib.Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(plots.Drawing, "savefig", stopped)
    with pytest.raises(KeyboardInterrupt):
        plots.write([figure | {"y": "other"}], ["full"], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "loss.png").read_bytes() == before
