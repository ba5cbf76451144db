"""The runner, the summary and the report, with a stand-in for the training loop."""

import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from configs.base import ConfigError
from configs.studies import quickstart
from train.errors import UserError
from train.loop import Diverged
from train.study import plan, report, results, runner, summary

GAIN = {64: 0.1, 256: 0.05, 0: 0.0}


def small_study():
    study = quickstart.get_config()
    study.resamples, study.seeds = 2000, (0, 1, 2)
    return study


class FakeLoop:
    """Accuracies by a rule: base by budget, a gain for the pre-trained arm, a wobble by seed."""

    def __init__(self, failing=(), examples=0):
        self.failing, self.examples, self.calls = dict(failing), examples, []

    def __call__(self, config, workdir, *, force):
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        self.calls.append((folder.name, config))
        pretraining = config.objective.name == "masked_lm"
        for name, error in self.failing.items():
            if name in folder.name:
                raise error
        (folder / "lineage.json").write_text(
            json.dumps({"revision": "abc", "device": "cpu", "command": ["pretune", "a b"],
                        "versions": {"jax": "1"}, "summary": {}, "labels": []})
        )  # fmt: skip
        value = 0.5 + 0.01 * (config.seed % 3)
        if not pretraining:
            value += GAIN[config.data.budget] * bool(config.init_from)
        if self.examples and not pretraining:
            correct = np.arange(self.examples) < round(value * self.examples)
            np.savez(folder / "predictions.npz", correct=correct)
        rows = [{"step": s, "train/loss": 2 - s / 100, "eval/accuracy": value} for s in (50, 100)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"step": config.steps, "seconds": 10.0, "flops": 1e9, "tokens": 1000,
                "eval": {"eval/loss": 1.0, "eval/accuracy": value}, "stopped": False}  # fmt: skip


def do(study, workdir, loop):
    return runner.run_study(study, workdir, loop, Console(file=io.StringIO()))


def test_grid_is_paired_and_points_at_the_pretraining(tmp_path):
    study, loop = small_study(), FakeLoop()
    study.finetune.model.dropout = 0.3
    records = do(study, tmp_path, loop)
    assert [r["role"] for r in records] == ["pretrain"] + ["finetune"] * 18
    base, *calls = loop.calls
    assert base[1].checkpoint.every > 0
    for (_, a), (_, b) in zip(calls[::2], calls[1::2], strict=True):
        assert a.init_from == str(tmp_path / base[0])
        assert b.init_from == ""
        b.init_from = a.init_from
        assert a.to_json() == b.to_json()
        assert a.tokenizer.path == str(tmp_path / base[0] / "tokenizer")
        assert a.model.width == study.pretrain.model.width
        assert (a.model.family, a.model.dropout) == ("bert", 0.3)
    assert {(c.seed, c.data.budget) for _, c in calls} == {
        (s, b) for s in (0, 1, 2) for b in (64, 256, 0)
    }
    assert len({name for name, _ in loop.calls}) == 19


def test_finished_runs_are_skipped_and_changed_ones_are_not(tmp_path):
    study, loop = small_study(), FakeLoop()
    first = do(study, tmp_path, loop)
    assert do(study, tmp_path, loop) == first
    assert len(loop.calls) == 19
    study.seeds = (0, 1, 2, 3)
    do(study, tmp_path, loop)
    assert len(loop.calls) == 25  # one more seed, the pre-training is there
    study.finetune.logging.every = 7  # changes nothing that is computed
    do(study, tmp_path, loop)
    assert len(loop.calls) == 25
    study.budget_steps = (60, 100, 111)  # of all labels only: the other budgets' runs stay
    do(study, tmp_path, loop)
    assert len(loop.calls) == 25 + 8
    study.budget_steps = ()
    study.finetune.steps = 111
    do(study, tmp_path, loop)
    assert len(loop.calls) == 33 + 16  # those of all labels are there
    study.pretrain.steps = 999  # another pre-training: everything after it is another run
    do(study, tmp_path, loop)
    assert len(loop.calls) == 49 + 25


def test_killed_study_goes_on(tmp_path):
    study, loop = small_study(), FakeLoop(failing={"scratch-256-seed1": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        do(study, tmp_path, loop)
    before = len(results.read(tmp_path / "results.jsonl"))
    assert before == 1 + 6 + 3
    again = FakeLoop()
    assert len(do(study, tmp_path, again)) == 19
    assert len(again.calls) == 19 - before
    assert again.calls[0][0].startswith("scratch-256-seed1")


def test_a_run_that_was_stopped_by_a_signal_is_not_recorded(tmp_path):
    def stopped(config, workdir, *, force):
        return FakeLoop()(config, workdir, force=force) | {"stopped": True}

    with pytest.raises(KeyboardInterrupt):
        do(small_study(), tmp_path, stopped)
    assert results.read(tmp_path / "results.jsonl") == []


def test_failed_run_is_reported_and_tried_again(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(failing={"pretrained-64-seed1": Diverged("NaN <3>")}))
    figures = summary.summarise(study, records)
    assert figures.cells[0].failed == (1,)
    assert figures.comparisons[0].seeds == (0, 2)
    assert figures.costs[0].runs == 8
    report.write(study, figures, records, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Diverged: NaN &lt;3&gt;" in page
    assert "2 of 3" in page
    report.show(study, figures, tmp_path, Console(file=io.StringIO()))
    again = FakeLoop()
    records = do(study, tmp_path, again)
    assert len(again.calls) == 1
    assert summary.summarise(study, records).failed == ()


def test_every_run_of_an_arm_failed(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(failing={"scratch": Diverged("NaN")}))
    figures = summary.summarise(study, records)
    assert all("not resolved" in c.verdict for c in figures.comparisons)
    report.write(study, figures, records, tmp_path)


def test_user_error_stops_the_study(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        do(small_study(), tmp_path, FakeLoop(failing={"seed0": UserError("no such file")}))
    assert len(results.read(tmp_path / "results.jsonl")) == 1


def test_failed_pretraining_stops_the_study(tmp_path):
    with pytest.raises(Diverged):
        do(small_study(), tmp_path, FakeLoop(failing={"pretrain-": Diverged("NaN")}))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"arms": ("pretrained", "scratsh")}, ConfigError, "did you mean 'scratch'"),
        ({"budgets": ()}, UserError, "config.budgets"),
        ({"budgets": (-1,)}, UserError, "negative"),
        ({"budget_steps": (100,)}, UserError, "one number for each"),
        ({"seeds": (1, 1)}, UserError, "each once"),
        ({"metric": "accuracy"}, UserError, "eval/accuracy"),
    ],
)
def test_bad_grids(tmp_path, change, error, words):
    study = small_study()
    study.update(change)
    with pytest.raises(error, match=words):
        plan.make(study, tmp_path)


def test_steps_by_budget(tmp_path):
    study = small_study()
    study.budget_steps = (40, 70, 200)
    _, runs = plan.make(study, tmp_path)
    steps = {r.budget: r.config.steps for r in runs}
    assert list(steps.values()) == [40, 70, 200]


def test_metric_that_the_task_lacks(tmp_path):
    study = small_study()
    study.metric = "eval/f1"
    with pytest.raises(UserError, match="eval/accuracy, eval/loss"):
        do(study, tmp_path, FakeLoop())


def test_summary_by_hand(tmp_path):
    study = small_study()
    figures = summary.summarise(study, do(study, tmp_path, FakeLoop()))
    assert figures.method == summary.SEEDS_ONLY
    first, second = figures.cells[:2]
    assert (first.arm, first.budget) == ("pretrained", 64)
    assert first.estimate.mean == pytest.approx(0.61)
    assert (second.estimate.low, second.estimate.high) == pytest.approx((0.50, 0.52))
    at_64, _, at_all = figures.comparisons
    assert at_64.verdict == (
        "pre-trained > scratch at 64 labels, +10.0 points [10.0, 10.0], p<0.001"
    )
    assert at_64.separate
    assert at_all.verdict == "not resolved: pre-trained and scratch at all labels, +0.0 points " \
        "[0.0, 0.0], p=1.000"  # fmt: skip
    assert not at_all.separate
    assert (figures.costs[0].flops, figures.costs[0].seconds) == (9e9, 90.0)
    rows = {row[0]: row[1:] for row in report.cost_rows(figures)}
    assert rows["pre-trained: one run on average + pre-training shared by 9"][1:3] == [
        "11.1 s",
        "1.11e+09",
    ]
    assert rows["pre-trained: one run on average + pre-training in full"][1:3] == [
        "20.0 s",
        "2e+09",
    ]


def test_examples_widen_the_interval(tmp_path):
    study = small_study()
    figures = summary.summarise(study, do(study, tmp_path, FakeLoop(examples=100)))
    assert figures.method == summary.TWO_LEVEL
    cell = figures.cells[1]
    assert cell.estimate.mean == pytest.approx(0.51)
    # Binomial with n = 100: standard error 0.05, so about +-0.098 against +-0.01 over seeds alone.
    assert cell.estimate.high - cell.estimate.low == pytest.approx(0.196, abs=0.03)
    assert "evaluation examples" in report.caption(study, figures)


def test_examples_that_do_not_give_the_metric_are_not_used(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(examples=100))
    records[3]["value"] += 0.05
    assert summary.summarise(study, records).method == summary.SEEDS_ONLY


class Page(html.parser.HTMLParser):
    """Gathers what a page would load, its run table's values, and checks that tags close."""

    VOID = ("meta", "br", "link", "img", "hr")

    def __init__(self, text):
        super().__init__()
        self.addresses, self.values, self.tags, self.open = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                self.addresses.append(value)
            if tag == "data" and name == "value":
                self.values.append(float(value))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_self_contained_and_tells_the_results(tmp_path):
    study = small_study()
    study.title = "A <b> & c"
    records = do(study, tmp_path, FakeLoop())
    figures = summary.summarise(study, records)
    report.write(study, figures, records, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "img"}
    assert not re.search(r"@import|url\((?!#)", text)
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"\s<]+", text)) <= namespaces
    assert "A &lt;b&gt; &amp; c" in text
    assert len(re.findall("<svg", text)) == 3
    assert "var(--arm-0)" in text
    assert "#010203" not in text
    recorded = results.read(tmp_path / "results.jsonl")
    assert page.values == [r["value"] for r in recorded if r["role"] == "finetune"]
    for c in figures.cells:
        mean = np.mean(
            [r["value"] for r in recorded if (r["arm"], r["budget"]) == (c.arm, c.budget)]
        )
        assert f"<td>{100 * mean:.1f}</td>" in text
    assert "pretune &#39;a b&#39;" in text


def test_markdown_tables_are_whole(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop())
    report.write(study, summary.summarise(study, records), records, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    start = lines.index("| labels | arm | mean | 95% interval | by seed | runs |")
    assert lines[start + 1].count("---") == 6
    assert (
        lines[start + 2] == "| 64 | pre-trained | 61.0 | [60.0, 62.0] | 60.0 61.0 62.0 | 3 of 3 |"
    )
    assert lines[start + 7].startswith("| all | scratch | 51.0 |")
    assert lines[start + 8] == ""


def test_report_is_the_same_twice(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop())
    pages = []
    for _ in range(2):
        report.write(study, summary.summarise(study, records), records, tmp_path)
        pages.append((tmp_path / "report.html").read_text())
    assert pages[0] == pages[1]


def test_terminal_shows_intervals(tmp_path):
    study = small_study()
    figures = summary.summarise(study, do(study, tmp_path, FakeLoop()))
    out = io.StringIO()
    report.show(study, figures, tmp_path, Console(file=out, width=120))
    assert "[60.0, 62.0]" in out.getvalue()
    assert "pre-trained > scratch at 64 labels, +10.0 points [10.0, 10.0]" in out.getvalue()


def test_broken_results_file_names_the_line(tmp_path):
    path = tmp_path / "results.jsonl"
    results.append(path, {"a": 1})
    path.write_text(path.read_text() + '{"b": \n')
    with pytest.raises(UserError, match="line 2"):
        results.read(path)


def test_correct_from_predictions(tmp_path):
    assert results.read_correct(tmp_path) is None
    np.savez(
        tmp_path / "predictions.npz", predictions=np.array([1, 2, 0]), labels=np.array([1, 0, 0])
    )
    assert results.read_correct(tmp_path) == [1, 0, 1]


def test_curve_of_a_resumed_run(tmp_path):
    pairs = [(1, "train/loss", 3.0), (2, "train/loss", 2.0), (2, "eval/x", 1.0)]
    rows = [{"step": step, name: value} for step, name, value in [*pairs, (2, "train/loss", 2.5)]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert results.read_curve(tmp_path, "train/loss") == ([1, 2], [3.0, 2.5])
