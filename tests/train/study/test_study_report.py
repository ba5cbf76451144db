"""The report of a study: what it says, that it is whole, and that it loads nothing."""

import html.parser
import io
import json
import re
import shutil

import numpy as np
import pytest
from rich.console import Console

from tests.train.study import pretend
from train.study import captions, figures, panels, plan, plots, report, results, summary, tables
from train.study.units import memory, money, si


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Study, records, summary and folder of a study with all there is, one run of it failed."""
    workdir = tmp_path_factory.mktemp("reported") / "study"
    study = pretend.study()
    records = pretend.records(study, workdir, failing=["gpt-lora-64-seed1"])
    return study, records, pretend.write(study, records, workdir), workdir


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Likewise of one family and two arms, without curves, scores or forgetting."""
    workdir = tmp_path_factory.mktemp("plain") / "study"
    study = pretend.study(families=1, arms=2)
    study.effects.forgetting, study.published.expected = False, ()
    records = pretend.records(study, workdir, curve=0, scored=False, measured=False)
    return study, records, pretend.write(study, records, workdir), workdir


class Page(html.parser.HTMLParser):
    """Gathers what a page would load, its values and headings, and checks that tags close."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.addresses, self.values, self.tags, self.open, self.ids = [], [], set(), [], []
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
            if name == "id":
                self.ids.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def show(study, figures, records, workdir, console):
    report.show(study, figures, plan.make(study, workdir), records, workdir, console)


def read(workdir):
    return (workdir / "report.html").read_text()


def embedded(text):
    """The page's data, read as strictly as a browser does."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(found[1], parse_constant=refuse)


@pytest.mark.parametrize("which", ["made", "plain"])
def test_page_is_whole_and_loads_nothing(which, request):
    text = read(request.getfixturevalue(which)[-1])
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert {a for a in page.addresses if not a.startswith("#")} == {"data:,"}
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert not page.tags & {"iframe", "img", "object", "embed"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\"\s<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


def test_text_is_escaped(made):
    text = read(made[-1])
    assert "A &lt;b&gt; &amp; c" in text
    assert "Diverged: NaN &lt;3&gt;" in text
    assert "pretune &#39;a &lt;b&gt;&#39;" in text
    assert "Nobody et al. &lt;2026&gt;" in text
    assert text.count("</script>") == 2


def test_numbers_are_those_of_the_results(made):
    _, _, figures, workdir = made
    text = read(workdir)
    recorded = results.read(workdir / "results.jsonl")
    done = [r for r in recorded if r["arm"] and r["status"] == "done"]
    assert len(done) == 2 * 4 * 2 * 3 - 1
    assert Page(text).values == [r["value"] for r in done]
    data = embedded(text)
    for record, shown in zip(recorded, data["records"], strict=True):
        left_out = {"eval", "correct"}
        assert {k: v for k, v in record.items() if k not in left_out} == {
            k: v for k, v in shown.items() if k not in left_out
        }
        if record["status"] == "done":
            assert shown["eval"]["eval/matthews"] is None
    for c in figures.cells:
        mean = np.mean(
            [
                r["value"]
                for r in done
                if (r["family"], r["arm"], r["budget"]) == (c.family, c.arm, c.budget)
            ]
        )
        assert f"<td>{100 * mean:.1f}</td>" in text
    dots = [
        (100 * recorded[run]["value"], y)
        for panel in next(f for f in data["figures"] if f["name"] == "efficiency")["panels"]
        for series in panel["series"]
        if series["kind"] == "dots"
        for run, y in zip(series["runs"], series["y"], strict=True)
    ]
    assert len(dots) == len(done)
    assert all(mine == pytest.approx(theirs, rel=1e-4) for theirs, mine in dots)


def test_every_run_has_its_lineage(made):
    _, records, _, workdir = made
    text = read(workdir)
    table = text[text.index('<table id="lineage-table"') :]
    for record in records:
        assert record["key"] in table
        assert record["folder"] in table
    assert "revision <b>abc</b>" in text


def test_figures_are_there_only_with_something_to_show(made, plain):
    everything = {"efficiency", "compute", "time", "progress", "forgetting", "learning", "stages"}
    for (*_, workdir), names in ((made, everything), (plain, {"efficiency", "compute", "time"})):
        assert {f["name"] for f in embedded(read(workdir))["figures"]} == names
        files = {path.name for path in (workdir / "plots").iterdir()}
        assert files == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for section in ("forgetting", "scores", "learning"):
        assert f'<section id="{section}">' in read(made[-1])
        assert f'<section id="{section}">' not in read(plain[-1])


def test_one_family_has_no_column(made, plain):
    study, _, figures, _ = plain
    assert tables.Maker(study, figures).results().header[:2] == ("labels", "arm")
    study, _, figures, _ = made
    assert tables.Maker(study, figures).results().header[:2] == ("family", "labels")


def test_expected_orderings(made):
    _, _, figures, workdir = made
    outcomes = [c.ordering for c in figures.comparisons if c.ordering]
    assert len(outcomes) == 4
    text = read(workdir)
    assert len(re.findall('<span class="order [a-z]', text)) == 4
    assert "paper: acc" in text
    assert "<td>80.25</td>" in text


def test_report_is_the_same_twice(made, tmp_path):
    study, records, _, workdir = made
    names = ["report.html", "report.md", "plots/efficiency.svg", "plots/efficiency.png"]
    first = [(workdir / name).read_bytes() for name in names]
    for path in (workdir / "plots").glob("efficiency.*"):
        path.unlink()
    pretend.write(study, records, workdir)
    assert [(workdir / name).read_bytes() for name in names] == first


def test_plots_that_are_there_are_not_drawn_again(plain):
    study, records, _, workdir = plain
    before = {path: path.stat().st_mtime_ns for path in (workdir / "plots").iterdir()}
    pretend.write(study, records, workdir)
    assert {path: path.stat().st_mtime_ns for path in (workdir / "plots").iterdir()} == before
    changed = [dict(r) for r in records]
    next(r for r in changed if r["arm"])["value"] += 0.01
    pretend.write(study, changed, workdir)
    now = {path: path.stat().st_mtime_ns for path in (workdir / "plots").iterdir()}
    assert all(now[path] > before[path] for path in now)
    pretend.write(study, records, workdir)


def test_undefined_metrics_and_failed_runs_are_not_in_the_means(made, tmp_path):
    study, records, _, workdir = made
    shutil.copytree(workdir.parent, tmp_path / "copy")
    workdir = tmp_path / "copy" / workdir.name
    cell = [r for r in records if (r["arm"], r["family"], r["budget"]) == ("full", "bert", 64)]
    first, second, third = (workdir / "runs" / r["folder"] / "metrics.jsonl" for r in cell)
    values = [json.loads(line).get(study.metric) for line in third.read_text().splitlines()]
    text = first.read_text().splitlines()
    place = next(i for i, line in enumerate(text) if study.metric in line)
    second.write_text("\n".join(text[: place + 1]) + "\n")
    text[place] = json.dumps(json.loads(text[place]) | {study.metric: None})
    first.write_text("\n".join(text) + "\n")
    diverged = {"status": "failed", "error": "Diverged"}
    changed = [r | diverged if r["key"] == cell[1]["key"] else r for r in records]
    drawn = figures.make(
        study, summary.summarise(study, changed), plan.make(study, workdir), changed
    )
    line = next(f for f in drawn if f["name"] == "progress")["panels"][0]["series"][0]
    assert len(line["x"]) == sum(value is not None for value in values) - 1
    final = [cell[i]["value"] for i in (0, 2)]
    assert line["y"][-1] == pytest.approx(100 * np.mean(final), rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_a_plot_has_no_empty_panels(count):
    dots = {"kind": "dots", "arm": 0, "x": [1.0], "y": [2.0], "runs": [0]}
    panel = {"title": "t", "family": "bert", "series": [dots]}
    x = {"label": "seconds", "kind": "linear"}
    drawn = plots.draw(panels.figure("time", "Time", x, "y", [panel] * count), ["full"])
    assert sum(axes.get_visible() for axes in drawn.axes) == count


def test_svg_loads_nothing(made):
    for path in (made[-1] / "plots").glob("*.svg"):
        addresses = set(re.findall(r"https?://[^\"\s<]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize("which", ["made", "plain"])
def test_markdown_tables_are_whole(which, request):
    *_, workdir = request.getfixturevalue(which)
    text = (workdir / "report.md").read_text()
    columns = 0
    for line in text.splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (columns and bars) or bars == columns
        columns = bars
    assert "\n\n\n" not in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (workdir / link).exists()
    assert len(re.findall("^## ", text, re.M)) == len(set(re.findall("^## .*", text, re.M)))


def test_markdown_is_escaped(made):
    text = (made[-1] / "report.md").read_text()
    assert text.startswith("# A &lt;b> & c\n")
    assert "Diverged: NaN &lt;3> \\| \\`x\\`" in text


def test_terminal(made):
    study, records, figures, workdir = made
    out = io.StringIO()
    show(study, figures, records, workdir, Console(file=out, width=120))
    text = out.getvalue()
    estimate = figures.cells[0].estimate
    assert f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" in text
    assert all(c.verdict[:40] in text for c in figures.comparisons)
    assert "failed: gpt, LoRA, 64 labels, seed 1: Diverged: NaN <3>" in text
    assert text.rstrip().endswith(str(workdir / "report.html"))
    assert max(map(len, text.rstrip().splitlines()[:-1])) <= 120


def test_every_run_of_an_arm_failed(tmp_path):
    study = pretend.study(families=1, arms=2)
    workdir = tmp_path / "study"
    records = pretend.records(study, workdir, failing=["scratch"])
    figures = pretend.write(study, records, workdir)
    assert all("not resolved" in c.verdict for c in figures.comparisons)
    assert Page(read(workdir)).open == []
    show(study, figures, records, workdir, Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("arms", "budgets", "seeds"), [(1, (64, 0), (0, 1)), (2, (64,), (0,)), (3, (0,), (1, 2))]
)
def test_small_studies(tmp_path, arms, budgets, seeds):
    study = pretend.study(1, arms, budgets, seeds)
    if arms < 2:
        study.published.expected = ()
    workdir = tmp_path / "study"
    records = pretend.records(study, workdir, curve=1)
    study.title = f"{arms} arms"
    figures = pretend.write(study, records, workdir)
    text = read(workdir)
    assert Page(text).open == []
    assert "nan" not in re.sub("<script.*?</script>", "", text, flags=re.S).lower()
    assert all(panel["series"] for f in embedded(text)["figures"] for panel in f["panels"])
    show(study, figures, records, workdir, Console(file=io.StringIO()))


def test_scores_over_seeds(made):
    study, records, figures, _ = made
    row = tables.Maker(study, figures).scores(records).rows[0].cells
    # Values 3, 4, 5 with an error of 2 by item: sqrt(2^2 + 1^2 / 3).
    assert row[-5:] == ["61.0", "64.0", "+4.0", f"{np.sqrt(4 + 1 / 3):.1f}", "3"]


def test_resources(made):
    study, records, figures, workdir = made
    costs = tables.Maker(study, figures).costs(plan.make(study, workdir), records)
    rows = {tuple(row.cells[:3]): dict(zip(costs.header, row.cells, strict=True))
            for row in costs.rows}  # fmt: skip
    full, scratch = rows["bert", "64", "full"], rows["bert", "64", "scratch"]
    assert (full["FLOPs"], full["FLOPs before"], scratch["FLOPs before"]) == ("2 T", "2 T", "–")
    assert (scratch["trained"], scratch["share trained"]) == ("900", "90%")
    # 4e12 FLOPs at 0.4 of 312e12 a second, 3.67 dollars an hour.
    assert full["A100, $"] == f"{4e12 / (0.4 * 312e12) / 3600 * 3.67:.1g}"


def test_stages_that_differ_are_told_apart(tmp_path):
    study, workdir = pretend.study(families=1, arms=3, budgets=(64,), seeds=(0,)), tmp_path / "s"
    with study.unlocked():
        study.arm.lora.changes.pretrain = {"steps": 7}
    records = pretend.records(study, workdir)
    names = ["pretrain of full", "pretrain of LoRA"]
    failed = next(r for r in records if r["stage"] == "pretrain")
    pretend.write(study, records, workdir)
    data = embedded(read(workdir))
    stages = next(f for f in data["figures"] if f["name"] == "stages")
    assert [panel["title"] for panel in stages["panels"]] == names
    for name in names:
        assert f"bert, {name}" in data["titles"]
        assert len(re.findall(rf"\b{name}</button>", read(workdir))) == 1
        assert f"| bert, {name} |" in (workdir / "report.md").read_text()
        assert f"| – | {name} |" in (workdir / "report.md").read_text()
    failed |= {"status": "failed", "error": "Diverged: NaN"}
    pretend.write(study, records, workdir)
    assert "- bert, pretrain of full: Diverged: NaN" in (workdir / "report.md").read_text()


def test_opening_counts_failed_runs_and_shared_stages_apart(tmp_path):
    study = pretend.study(families=1, arms=2, budgets=(64,), seeds=(0, 1))
    records = pretend.records(study, tmp_path / "s", failing=["-"])  # all
    size = "1 family × 2 arms × 1 label budget × 2 seeds = 4 runs"
    opening = lambda found: captions.opening(study, summary.summarise(study, found))  # noqa: E731
    assert opening(records) == f"{size}, 4 failed; 1 shared stage failed"
    assert opening(records[1:]) == f"{size}, 4 failed"
    assert opening([]) == size


def test_warning_names_the_stages_that_are_run_once(tmp_path):
    study = pretend.study(arms=4)

    def warning():
        found = summary.summarise(study, [])
        return captions.warning(study, found, plan.make(study, tmp_path / "s"))

    assert "Each pretrain and adapt was run once" in warning()
    study.seeded = ("adapt",)
    assert "Each pretrain was run once" in warning()
    study.seeded = ("pretrain",)  # each continued from another
    assert "run once" not in warning()


def test_intervals_that_are_not_there_do_not_overlap(tmp_path, made):
    column = lambda table: {  # noqa: E731
        row.cells[table.header.index("intervals overlap")] for row in table.rows
    }
    study, _, figures, _ = made
    assert column(tables.Maker(study, figures).differences()) <= {"yes", "no"}
    study = pretend.study(1, 2, seeds=(0,))
    figures = summary.summarise(study, pretend.records(study, tmp_path / "s"))
    assert column(tables.Maker(study, figures).differences()) == {"–"}


def test_words_that_need_it_are_explained_wherever_they_stand(made):
    study, records, figures, workdir = made
    out = io.StringIO()
    show(study, figures, records, workdir, Console(file=out, width=120))
    for text in (read(workdir), (workdir / "report.md").read_text(), out.getvalue()):
        words = " ".join(text.split())
        assert "Degenerate: no better than always naming the most frequent class" in words
        assert "In verdicts: the 95% t interval, which is not corrected" in words
    for text in (read(workdir), (workdir / "report.md").read_text()):
        assert "Before: at the end of the first stage. After: at the end of the run" in text
        assert "where a run saves checkpoints, saving them included" in text


def test_units():
    assert [si(x) for x in (0, 12, 999, 1e3, 30.2e9, 9.996e11, 2e18)] == [
        "0", "12", "999", "1 k", "30.2 G", "1000 G", "2 E",
    ]  # fmt: skip
    assert [memory(x) for x in (2**20, 3 * 2**30)] == ["1.0 MiB", "3.00 GiB"]
    assert [money(x) for x in (1234.5, 0.02, 0.0031)] == ["1,234.50", "0.02", "0.003"]
