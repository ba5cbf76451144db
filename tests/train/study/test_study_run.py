"""The plan, the runner and the summary, with a stand-in for the training loop."""

import json
import signal
import threading

import numpy as np
import pytest

from configs.base import ConfigError
from configs.studies import base
from tests.train.study.fakes import FakeLoop, small_study
from train.errors import Diverged, UserError
from train.study import costs, equal, plan, report, resources, results, runner, summary
from train.study.statistics import t_interval
from train.workdir import locked


def do(study, tmp_path, loop, watcher=None):
    workdir = tmp_path / "study"
    return runner.run_study(study, workdir, plan.make(study, workdir), loop, watcher)


def test_grid_is_paired_and_points_at_the_pretraining(tmp_path):
    study, loop = small_study(), FakeLoop()
    study.family.bert.finetune.model.dropout = 0.3
    records = do(study, tmp_path, loop)
    assert [r["stage"] for r in records] == ["pretrain"] + ["finetune"] * 18
    (name, first), *calls = loop.calls
    folder = tmp_path / "store" / name
    assert first.checkpoint.every > 0
    for (_, a), (_, b) in zip(calls[::2], calls[1::2], strict=True):
        assert a.init_from == str(folder)
        assert b.init_from == ""
        b.init_from = a.init_from
        assert a.to_json() == b.to_json()
        assert a.tokenizer.path == str(folder / "tokenizer")
        assert a.model.width == study.family.bert.pretrain.model.width
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
    study.family.bert.finetune.logging.every = 7  # changes nothing that is computed
    do(study, tmp_path, loop)
    assert len(loop.calls) == 25
    study.budget_steps = (100, 100, 111)  # of all labels only: the other budgets' runs stay
    do(study, tmp_path, loop)
    assert len(loop.calls) == 25 + 8
    study.budget_steps = ()
    study.family.bert.finetune.steps = 111
    do(study, tmp_path, loop)
    assert len(loop.calls) == 33 + 16  # those of all labels are there
    study.family.bert.pretrain.steps = 999  # another pre-training: all after it are other runs
    do(study, tmp_path, loop)
    assert len(loop.calls) == 49 + 25


def test_another_study_takes_the_pretraining_from_the_store(tmp_path):
    do(small_study(), tmp_path, FakeLoop())
    loop, study, workdir = FakeLoop(), small_study(), tmp_path / "another"
    study.seeds = (7,)
    runner.run_study(study, workdir, plan.make(study, workdir), loop)
    assert len(loop.calls) == 6
    study.store = str(tmp_path / "elsewhere")
    assert plan.make(study, workdir)[0].folder.parent == tmp_path / "elsewhere"


def test_arms_share_stages_and_change_them(tmp_path):
    study = small_study(
        more=base.arm("more", stages=("pretrain", "adapt", "finetune"), adapt={"steps": 7}),
        other=base.arm("other", pretrain={"objective": {"mask_rate": 0.5}}),
        lora=base.arm("LoRA", regime="lora", finetune={"optimizer": {"learning_rate": 0.5}}),
    )
    study.family.bert.unlock()
    study.family.bert.adapt = study.family.bert.pretrain.copy_and_resolve_references()
    study.budgets, study.seeds = (64,), (0,)
    runs = plan.make(study, tmp_path / "study")
    assert [(r.stage, r.arm) for r in runs] == [
        ("pretrain", ""), ("finetune", "pretrained"), ("finetune", "scratch"),
        ("adapt", ""), ("finetune", "more"), ("pretrain", ""), ("finetune", "other"),
        ("finetune", "lora"),
    ]  # fmt: skip
    first, tuned, scratch, adapt, more, changed, other, lora = runs
    assert adapt.config.steps == 7
    assert adapt.config.init_from == str(first.folder)
    assert more.config.init_from == str(adapt.folder)
    assert [r.key for r in more.before] == [first.key, adapt.key]
    assert changed.config.objective.mask_rate == 0.5
    assert other.needs == changed
    assert lora.needs == tuned.needs == scratch.needs == first
    assert scratch.before == ()
    assert lora.config.adapters.lora_rank == 8
    assert lora.config.optimizer.learning_rate == 0.5  # what the arm says comes after its regime
    for run in runs:  # needs come first
        assert run.needs is None or runs.index(run.needs) < runs.index(run)


def test_stages_that_are_done_anew_for_each_seed(tmp_path):
    study = small_study()
    study.seeded = ("pretrain",)
    runs = plan.make(study, tmp_path / "study")
    stages = [r for r in runs if not r.last]
    assert [r.seed for r in stages] == [0, 1, 2]
    for run in runs:
        assert run.needs is None or run.needs.seed == run.seed
    assert plan.title(study, stages[1]) == "bert, pretrain, seed 1"


def ablation():
    """Three arms of which two share a pre-training, and one from scratch."""
    study = small_study(
        half=base.arm("half masked", pretrain={"objective": {"mask_rate": 0.5}}),
        lora=base.arm("LoRA", regime="lora"),
    )
    study.budgets, study.seeds = (64,), (0, 1)
    return study


def test_shared_stages_name_their_arms_where_not_all_share_them(tmp_path):
    def titles(study):
        return [plan.title(study, r) for r in plan.make(study, tmp_path / "study") if not r.last]

    study = ablation()
    usual = "bert, pretrain of pre-trained and LoRA"
    assert titles(study) == [usual, "bert, pretrain of half masked"]
    study.seeded = ("pretrain",)
    found = titles(study)
    assert found[:3] == [f"{usual}, seed 0", "bert, pretrain of half masked, seed 0",
                         f"{usual}, seed 1"]  # fmt: skip
    study.arms = ("pretrained", "lora", "scratch")
    assert titles(study) == ["bert, pretrain, seed 0", "bert, pretrain, seed 1"]
    study.arms = ("scratch", "half")  # scratch takes its tokenizer: that is no stage of its own
    assert titles(study)[0] == "bert, pretrain, seed 0"
    assert plan.listed(["a", "b", "c"]) == "a, b and c"


def test_what_follows_a_stage_that_is_done_anew_names_its_seed(tmp_path):
    study = small_study(more=base.arm("more", stages=("pretrain", "adapt", "finetune")))
    study.family.bert.unlock()
    study.family.bert.adapt = study.family.bert.pretrain.copy_and_resolve_references()
    study.seeded, study.seeds = ("pretrain",), (0, 1)
    runs = plan.make(study, tmp_path / "study")
    titles = [plan.title(study, r) for r in runs if r.stage == "adapt"]
    assert titles == ["bert, adapt, seed 0", "bert, adapt, seed 1"]


def test_shared_stages_name_other_families_that_share_them(tmp_path):
    study = ablation()
    study.family.unlock()
    study.family.twin = study.family.bert
    study.families = ("bert", "twin")
    first = plan.make(study, tmp_path / "study")[0]
    assert plan.title(study, first) == "bert, pretrain of pre-trained and LoRA (also for twin)"


def test_costs_of_shared_stages_are_by_their_config(tmp_path):
    study, workdir = ablation(), tmp_path / "study"
    study.seeded = ("pretrain",)
    records, runs = do(study, tmp_path, FakeLoop()), plan.make(study, workdir)
    for run, record in zip(runs, records, strict=True):
        if not run.last:
            half = run.config.objective.mask_rate == 0.5
            record["flops"] = (10.0 if half else 1.0) + 2 * run.seed
            record["num_params"] = 7 if half else 100
    shared = [c for c in resources.costs(study, runs, records) if c.budget is None]
    assert [(c.name, c.runs, c.flops, c.num_params) for c in shared] == [
        ("pretrain of pre-trained and LoRA", 2, 2.0, 100),
        ("pretrain of half masked", 2, 11.0, 7),
    ]


def test_costs_are_of_the_family_that_asks_not_of_the_one_that_did_the_run(tmp_path):
    do(small_study(), tmp_path, FakeLoop())
    study, workdir = small_study(), tmp_path / "another"
    study.family = {"mine": study.family.bert}
    study.families = ("mine",)
    runs = plan.make(study, workdir)
    records = runner.run_study(study, workdir, runs, FakeLoop())
    assert {c.family for c in resources.costs(study, runs, records)} == {"mine"}
    assert {r["family"] for r in records} == {"mine"}


def test_killed_study_goes_on(tmp_path):
    study = small_study()
    loop = FakeLoop(failing={"scratch-256-seed1": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        do(study, tmp_path, loop)
    before = len(results.read(tmp_path / "study" / "results.jsonl"))
    assert before == 1 + 6 + 3
    again = FakeLoop()
    assert len(do(study, tmp_path, again)) == 19
    assert len(again.calls) == 19 - before
    assert again.calls[0][0].startswith("bert-scratch-256-seed1")


def test_a_run_that_was_stopped_by_a_signal_is_not_recorded(tmp_path):
    def stopped(config, workdir, **how):
        return FakeLoop()(config, workdir, **how) | {"stopped": True}

    with pytest.raises(KeyboardInterrupt):
        do(small_study(), tmp_path, stopped)
    assert results.read(tmp_path / "study" / "results.jsonl") == []


@pytest.mark.parametrize("error", [ValueError("no handler fits"), None])
def test_ctrl_c_that_a_library_swallows_stops_the_study(tmp_path, error):
    def swallowing(config, workdir, **how):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:  # the library's fault, here in place of Orbax's
            if error:
                raise error from None
        return FakeLoop()(config, workdir, **how)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        do(small_study(), tmp_path, swallowing)
    assert not list(tmp_path.rglob("record.json"))
    assert signal.getsignal(signal.SIGINT) is handler


def test_two_processes_divide_the_runs(tmp_path):
    """Two runners at once: no run is done twice, and both end with all records."""
    study, loop = small_study(), FakeLoop()
    both = threading.Barrier(2)
    found = []

    def work():
        both.wait()
        found.append(do(study, tmp_path, loop))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({name for name, _ in loop.calls}) == len(loop.calls) == 19
    assert found[0] == found[1]
    assert len(results.read(tmp_path / "study" / "results.jsonl")) == 19


def test_a_run_that_ended_just_before_the_claim_is_not_done_again(tmp_path, monkeypatch):
    study = small_study()
    study.budgets, study.seeds = (64,), (0,)
    scratch = plan.make(study, tmp_path / "study")[2]

    def late(folder, name):
        if folder == scratch.folder:
            results.save(folder, runner.attempt(study, scratch, FakeLoop()))
        return locked(folder, name)

    monkeypatch.setattr(runner, "locked", late)
    loop = FakeLoop()
    assert len(do(study, tmp_path, loop)) == 3
    assert len(loop.calls) == 2


def test_waits_for_what_another_process_is_doing(tmp_path, monkeypatch):
    study = small_study()
    study.budgets, study.seeds = (64,), (0,)
    first, tuned, scratch = plan.make(study, tmp_path / "study")
    waited = []

    class Watcher(runner.Watcher):
        def waits(self):
            waited.append(1)
            if len(waited) == 2:
                record = runner.attempt(study, scratch, FakeLoop())
                results.save(scratch.folder, record)

    monkeypatch.setattr(runner, "WAIT", 0.0)
    loop = FakeLoop()
    with locked(scratch.folder, runner.CLAIM):
        records = do(study, tmp_path, loop, Watcher())
    assert len(waited) == 2
    assert [r["key"] for r in records] == [first.key, tuned.key, scratch.key]
    assert len(loop.calls) == 2


def test_failed_run_is_reported_and_tried_again(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(failing={"pretrained-64-seed1": Diverged("NaN <3>")}))
    figures = summary.summarise(study, records)
    assert figures.cells[0].failed == (1,)
    assert figures.comparisons[0].seeds == (0, 2)
    assert [r["error"] for r in figures.failed] == ["Diverged: NaN <3>"]
    again = FakeLoop()
    records = do(study, tmp_path, again)
    assert len(again.calls) == 1
    assert summary.summarise(study, records).failed == ()


def test_what_builds_on_a_failed_stage_fails_with_it(tmp_path):
    study, loop = small_study(), FakeLoop(failing={"bert-masked_lm-": Diverged("NaN")})
    records = do(study, tmp_path, loop)
    assert len(loop.calls) == 1
    assert {r["status"] for r in records} == {"failed"}
    assert "what it builds on failed" in records[1]["error"]
    assert all("not resolved" in c.verdict for c in summary.summarise(study, records).comparisons)
    again = FakeLoop()
    assert {r["status"] for r in do(study, tmp_path, again)} == {"done"}
    assert len(again.calls) == 19


def test_user_error_stops_the_study(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        do(small_study(), tmp_path, FakeLoop(failing={"seed0": UserError("no such file")}))
    assert len(results.read(tmp_path / "study" / "results.jsonl")) == 1


def test_a_lost_stage_is_done_again_only_if_something_needs_it(tmp_path):
    study, loop = small_study(), FakeLoop()
    do(study, tmp_path, loop)
    first = plan.make(study, tmp_path / "study")[0]
    (first.folder / results.RECORD).unlink()
    for path in first.folder.iterdir():
        path.unlink()
    first.folder.rmdir()
    do(study, tmp_path, loop)
    assert len(loop.calls) == 19
    study.seeds = (0, 1, 2, 3)
    do(study, tmp_path, loop)
    assert len(loop.calls) == 19 + 1 + 6


@pytest.mark.parametrize(("stage", "key"), [("pretrain", "source"), ("finetune", "eval_source")])
def test_changed_files_are_not_taken_for_the_same_data(tmp_path, stage, key):
    text = tmp_path / "text.txt"
    text.write_text("one")
    study = small_study()
    study.family.bert[stage].data[key] = str(text)
    do(study, tmp_path, FakeLoop())
    text.write_text("another one")
    with pytest.raises(UserError, match="on other files"):
        do(study, tmp_path, FakeLoop())


def test_a_state_from_elsewhere_that_was_trained_anew_is_noticed(tmp_path, monkeypatch):
    study = small_study()
    study.family.bert.pretrain.init_from = "runs/theirs"
    monkeypatch.setattr(results, "state_hash", lambda folder: "0123")
    assert do(study, tmp_path, FakeLoop())[0]["sources"] == [["theirs", "0123"]]
    do(study, tmp_path, FakeLoop())
    monkeypatch.setattr(results, "state_hash", lambda folder: "4567")
    with pytest.raises(UserError, match="on other files"):
        do(study, tmp_path, FakeLoop())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"arms": ("pretrained", "scratsh")}, ConfigError, "did you mean 'scratch'"),
        ({"families": ("bart",)}, ConfigError, "did you mean 'bert'"),
        ({"budgets": ()}, UserError, "config.budgets"),
        ({"budgets": (-1,)}, UserError, "negative"),
        ({"budget_steps": (100,)}, UserError, "one number for each"),
        ({"seeds": (1, 1)}, UserError, "each once"),
        ({"metric": "accuracy"}, UserError, "eval/accuracy"),
        ({"comparisons": (("scratch",),)}, UserError, "two different arms"),
        ({"comparisons": (("scratch", "scratch"),)}, UserError, "two different arms"),
        (
            {"comparisons": (("pretrained", "scratch"),), "arms": ("scratch",)},
            UserError,
            "every one of config.comparisons",
        ),
        ({"arm": {"scratch": {"label": "pre-trained"}}}, UserError, "labels of config.arm"),
        ({"resamples": 0}, UserError, "at least 1"),
        ({"utilisation": 0.0}, UserError, "share of the peak"),
        ({"seeded": ("pretraining",)}, ConfigError, "did you mean 'pretrain'"),
        ({"effects": {"seeds": (7,)}}, UserError, "config.effects.seeds"),
        ({"comparisons": (("scratch", "best"),)}, ConfigError, "no arm"),
        ({"equal": {"what": "flop", "stages": ("finetune",)}}, ConfigError, "did you mean 'flops'"),
        ({"equal": {"what": "flops", "stages": ("tuning",)}}, ConfigError, "no stage"),
        ({"equal": {"stages": ("total", "finetune")}}, UserError, "stands alone"),
        ({"arm": {"scratch": {"stages": ("finetun",)}}}, ConfigError, "did you mean 'finetune'"),
        ({"arm": {"scratch": {"regime": "lara"}}}, ConfigError, "did you mean 'lora'"),
    ],
)
def test_bad_grids(tmp_path, change, error, words):
    study = small_study()
    study.update(change)
    with pytest.raises(error, match=words):
        plan.make(study, tmp_path / "study")


def test_changes_that_do_not_fit_are_told(tmp_path):
    study = small_study(bad=base.arm("bad", finetune={"optimiser": {"b1": 0.5}}))
    with pytest.raises(UserError, match=r"config\.arm\.bad\.changes\.finetune"):
        plan.make(study, tmp_path / "study")


def test_steps_by_budget(tmp_path):
    study = small_study()
    study.budget_steps = (40, 70, 200)
    steps = {r.budget: r.config.steps for r in plan.make(study, tmp_path / "study") if r.last}
    assert list(steps.values()) == [40, 70, 200]


def equal_study(what, *stages):
    study = small_study(
        head=base.arm("head", regime="head_only"),
        long=base.arm("long", finetune={"length": 32, "batch_size": 8}),
    )
    study.budgets, study.seeds = (64,), (0,)
    study.equal.what, study.equal.stages = what, stages
    return study


def steps_of(study, tmp_path):
    return {r.arm or r.stage: r.config.steps for r in plan.make(study, tmp_path / "study")}


def test_equal_tokens(tmp_path):
    steps = steps_of(equal_study("tokens", "finetune"), tmp_path)
    assert steps["pretrained"] == steps["head"] == 100
    assert steps["long"] == 100 * 32 * 64 / (8 * 32)


def test_equal_total_gives_scratch_the_steps_of_the_pretraining(tmp_path):
    steps = steps_of(equal_study("tokens", "total"), tmp_path)
    assert steps["pretrain"] == 2000
    assert steps["scratch"] == 2100  # rows of the same size in both stages


def test_equal_total_is_that_of_each_family(tmp_path):
    study = equal_study("tokens", "total")
    study.family.unlock()
    study.family.twin = study.family.bert.copy_and_resolve_references()
    study.family.twin.pretrain.steps = 500
    study.arms, study.families = ("pretrained", "scratch"), ("bert", "twin")
    runs = plan.make(study, tmp_path / "study")
    steps = {(r.family, r.arm): r.config.steps for r in runs}
    assert steps["bert", "pretrained"] == steps["twin", "pretrained"] == 100
    assert (steps["bert", "scratch"], steps["twin", "scratch"]) == (2100, 600)


@pytest.mark.parametrize("change", [{"epochs": 3.0}, {"evaluation": {"patience": 2}}])
def test_equal_needs_steps_that_are_known(tmp_path, change):
    study = equal_study("flops", "finetune")
    study.family.bert.pretrain.update(change)
    plan.make(study, tmp_path / "study")
    study.family.bert.finetune.update(change)
    with pytest.raises(UserError, match="in stage finetune of bert, pretrained"):
        plan.make(study, tmp_path / "study")


def test_steps_by_budget_take_the_place_of_epochs(tmp_path):
    study = small_study()
    study.family.bert.finetune.epochs = 3.0
    study.budget_steps = (40, 70, 200)
    assert {r.config.epochs for r in plan.make(study, tmp_path / "study") if r.last} == {0.0}


def test_equal_flops_gives_a_frozen_model_more_steps(tmp_path):
    study = equal_study("flops", "finetune")
    study.arms = ("pretrained", "head")
    steps = steps_of(study, tmp_path)
    # The head alone needs no backward pass through the layers, which is twice the forward one.
    assert 2.9 < steps["head"] / steps["pretrained"] < 3.2


def test_equal_seconds_are_probed_once(tmp_path, monkeypatch):
    study = equal_study("seconds", "finetune")
    speed = iter([0.2, 0.1, 0.1, 0.05, 9.9, 9.9, 9.9])
    probe = lambda config: type("Probe", (), {"seconds": next(speed)})  # noqa: E731
    monkeypatch.setattr(equal.costs, "probe", probe)
    first = steps_of(study, tmp_path)
    assert first["head"] == 200
    assert steps_of(study, tmp_path) == first


def test_what_costs_the_same_is_probed_as_one(tmp_path):
    config = plan.make(equal_study("steps"), tmp_path / "study")[1].config
    same = config.copy_and_resolve_references()
    same.optimizer.learning_rate, same.data.budget, same.logging.every = 0.5, 7, 3
    assert costs.shape(same) == costs.shape(config)
    same.length = 32
    assert costs.shape(same) != costs.shape(config)


def test_what_costs_more_than_the_whole_is_told(tmp_path):
    study = equal_study("tokens", "total")
    study.arms = ("scratch", "pretrained")
    with pytest.raises(UserError, match="no step for the last stage of bert, pretrained"):
        plan.make(study, tmp_path / "study")


def test_metric_that_the_task_lacks(tmp_path):
    study = small_study()
    study.metric = "eval/f1"
    with pytest.raises(UserError, match="eval/accuracy, eval/loss"):
        do(study, tmp_path, FakeLoop())


def test_undefined_metrics_are_null_and_no_result(tmp_path):
    def loop(config, workdir, **how):
        found = FakeLoop()(config, workdir, **how)
        found["eval"] |= {"eval/f1": float("nan")}
        return found

    study = small_study()
    records = do(study, tmp_path, loop)
    assert records[1]["eval"]["eval/f1"] is None
    assert "NaN" not in (tmp_path / "study" / "results.jsonl").read_text()
    study.metric = "eval/f1"
    calls = FakeLoop()
    records = do(study, tmp_path, calls)
    assert calls.calls == []
    assert {r["status"] for r in records if r["arm"]} == {"failed"}
    assert "eval/f1 is not defined" in records[1]["error"]
    figures = summary.summarise(study, records)
    assert len(figures.failed) == 18
    workdir = tmp_path / "study"
    report.write(study, figures, plan.make(study, workdir), records, workdir)


def test_another_metric_is_taken_from_the_runs_that_are_done(tmp_path):
    study, loop = small_study(), FakeLoop()
    do(study, tmp_path, loop)
    study.metric = "eval/loss"
    records = do(study, tmp_path, loop)
    assert len(loop.calls) == 19
    assert {(r["metric"], r["value"]) for r in records if r["arm"]} == {("eval/loss", 1.0)}
    figures = summary.summarise(study, records)
    assert figures.metric == "eval/loss"
    assert not figures.higher_is_better


def test_families_with_the_same_config_are_two(tmp_path):
    study = small_study()
    study.family.unlock()
    study.family.twin = study.family.bert
    study.families, loop = ("bert", "twin"), FakeLoop()
    records = do(study, tmp_path, loop)
    assert len(records) == 1 + 2 * 18
    assert summary.summarise(study, records).cell("twin", "scratch", 64).values
    pretraining, *runs = plan.make(study, tmp_path / "study")
    assert pretraining.folder.is_dir()
    for run in runs:
        assert run.needs is pretraining
        assert run.config.tokenizer.path == str(pretraining.folder / "tokenizer")
        assert run.config.init_from == (str(pretraining.folder) if run.before else "")
        assert run.before == ((pretraining,) if run.arm == "pretrained" else ())


def test_stages_with_the_same_config_are_one_folder_whatever_a_study_calls_them(tmp_path):
    study, other = small_study(), small_study()
    other.family = {
        "mine": {"first": study.family.bert.pretrain, "task": study.family.bert.finetune}
    }
    other.families = ("mine",)
    for arm, stages in (("pretrained", ("first", "task")), ("scratch", ("task",))):
        other.arm[arm].stages = stages
    first, second = (plan.make(one, tmp_path / "study") for one in (study, other))
    assert first[0].folder == second[0].folder
    assert first[0].folder.name == f"bert-masked_lm-{first[0].key[:12]}"
    study.family.bert.pretrain.steps += 1
    assert plan.make(study, tmp_path / "study")[0].folder != first[0].folder


def test_summary_by_hand(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop())
    figures = summary.summarise(study, records)
    assert figures.method == summary.SEEDS_ONLY
    first, second = figures.cells[:2]
    assert (first.family, first.arm, first.budget) == ("bert", "pretrained", 64)
    assert first.estimate.mean == pytest.approx(0.61)
    assert (second.estimate.low, second.estimate.high) == pytest.approx((0.50, 0.52))
    at_64, _, at_all = figures.comparisons
    assert at_64.verdict == (
        "pre-trained > scratch at 64 labels, +10.0 points [10.0, 10.0], p<0.001"
    )
    assert (at_64.separate, at_64.resolved) == (True, 1)
    assert at_all.verdict == "not resolved: pre-trained and scratch at all labels, +0.0 points " \
        "[0.0, 0.0], p=1.000"  # fmt: skip
    assert (at_all.separate, at_all.resolved) == (False, 0)
    runs = plan.make(study, tmp_path / "study")
    shared, arm = resources.costs(study, runs, records)[:2]
    assert (shared.name, shared.flops, shared.before_flops) == ("pretrain", 1e9, 0)
    assert (arm.name, arm.flops, arm.before_flops) == ("pre-trained", 1e9, 1e9)
    assert arm.dollars(peak=1e9, price=3600.0, utilisation=0.5) == pytest.approx(4.0)
    assert resources.total(records).runs == 19


def test_comparisons_that_are_asked_and_expected(tmp_path):
    study = small_study(third=base.arm("third"))
    study.comparisons = (("scratch", "pretrained"), ("third", "scratch"))
    study.published.expected = (("pretrained", "scratch"), ("scratch", "third"))
    found = summary.summarise(study, do(study, tmp_path, FakeLoop())).comparisons
    assert [c.arms for c in found[:2]] == list(study.comparisons)
    assert [c.ordering for c in found] == [
        "confirmed", "contradicted", "confirmed", "contradicted", "not resolved", "not resolved",
    ]  # fmt: skip


def test_lower_is_better(tmp_path):
    study = small_study()
    study.family.bert.finetune.evaluation.higher_is_better = False
    study.published.expected = (("pretrained", "scratch"),)
    first = summary.summarise(study, do(study, tmp_path, FakeLoop())).comparisons[0]
    assert (first.resolved, first.ordering) == (-1, "contradicted")


def test_degenerate_runs_are_no_better_than_the_most_frequent_class(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(examples=90))
    assert records[1]["majority"] == pytest.approx(1 / 3)
    records[2]["correct"] = "1" * 30 + "0" * 60
    for value in (1 / 3, -0.2, 0.9):  # whatever the metric: Matthews of such a run is about 0
        records[2]["value"] = value
        figures = summary.summarise(study, records)
        assert [c.degenerate for c in figures.cells[:2]] == [(), (0,)]


def test_forgetting_is_averaged_over_seeds(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop())
    changes = [0.1, 0.2, 0.6]
    for seed, change in enumerate(changes):
        mine = [
            r for r in records if (r["arm"], r["budget"], r["seed"]) == ("pretrained", 64, seed)
        ]
        mine[0]["forgetting"] = {"before": 2.0, "after": 2.0 + change}
    cells = summary.summarise(study, records).cells
    assert cells[0].forgetting.mean == pytest.approx(0.3)
    expected = t_interval(np.array([changes]).T)
    assert cells[0].forgetting.low == pytest.approx(expected.low)
    assert cells[1].forgetting is None


def test_reach_is_the_first_evaluation_that_is_as_good(tmp_path):
    study = small_study()
    workdir = tmp_path / "study"
    do(study, tmp_path, FakeLoop())
    runs = plan.make(study, workdir)
    at_64 = resources.reaches(study, runs, "eval/accuracy", higher=True)[0]
    assert (at_64.arms, at_64.target) == (("pretrained", "scratch"), pytest.approx(0.51))
    assert (at_64.seconds, at_64.other_seconds) == (pytest.approx(10), pytest.approx(10))
    at_64 = resources.reaches(study, runs, "eval/accuracy", higher=False)[0]
    assert at_64.seconds == pytest.approx(5)  # 0.305 at half of the steps


def test_means_over_seeds_are_of_the_evaluations_that_all_have():
    curves = [
        resources.Timed(0.1, {10: 0.2, 20: 0.4, 30: 0.6}), resources.Timed(0.3, {20: 0.8, 30: 0.0})
    ]  # fmt: skip
    seconds, values = resources.mean_curve(curves)
    assert (seconds.tolist(), values.tolist()) == (pytest.approx([4, 6]), pytest.approx([0.6, 0.3]))
    assert len(resources.mean_curve([*curves, resources.Timed(0.1, {40: 1.0})])[1]) == 0


def test_examples_widen_the_interval(tmp_path):
    study = small_study()
    figures = summary.summarise(study, do(study, tmp_path, FakeLoop(examples=100)))
    assert figures.method == summary.TWO_LEVEL
    cell = figures.cells[1]
    assert cell.estimate.mean == pytest.approx(0.51)
    # Binomial with n = 100: standard error 0.05, so about +-0.098 against +-0.01 over seeds alone.
    assert cell.estimate.high - cell.estimate.low == pytest.approx(0.196, abs=0.03)


def test_examples_that_do_not_give_the_metric_are_not_used(tmp_path):
    study = small_study()
    records = do(study, tmp_path, FakeLoop(examples=100))
    records[3]["value"] += 0.05
    assert summary.summarise(study, records).method == summary.SEEDS_ONLY


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "results.jsonl"
    results.write(path, [{"a": 1}])
    path.write_text(path.read_text() + '{"b": \n')
    with pytest.raises(UserError, match="line 2"):
        results.read(path)
    (tmp_path / results.RECORD).write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        results.load(tmp_path)


def test_curve_of_a_resumed_run(tmp_path):
    pairs = [(1, "train/loss", 3.0), (2, "train/loss", 2.0), (2, "eval/x", 1.0)]
    rows = [{"step": step, name: value} for step, name, value in [*pairs, (2, "train/loss", 2.5)]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert results.read_curve(tmp_path, "train/loss") == ([1, 2], [3.0, 2.5])
