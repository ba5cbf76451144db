"""The report's page in a browser: it sorts, filters, names runs, fits a phone, loads nothing."""

import json

import pytest

from tests.train.study import browser, pretend
from train.study import plan, results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not browser.PATH, reason="needs Debian's package chromium"),
]
ROWS = "[...document.querySelectorAll('#run-table tbody tr')].filter(r => r.offsetHeight)"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Study, records and folder."""
    workdir = tmp_path_factory.mktemp("page") / "study"
    study = pretend.study()
    records = pretend.records(study, workdir, failing=["gpt-lora-64-seed1"])
    pretend.write(study, records, workdir)
    return study, records, workdir


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One browser for all tests."""
    with browser.browse(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(made, chromium):
    """The page in a wide window."""
    chromium.open(made[-1] / "report.html", 1200, 900)
    return chromium


def shown(page, column):
    """The texts of a column of the rows that are seen."""
    return page(f"{ROWS}.map(r => r.cells[{column}].textContent.trim())")


def test_nothing_is_said_or_asked_for(page, made):
    page.hover("#efficiency .panel circle")
    page.click("#run-table th:nth-child(4) button")
    assert page.told == []
    outside = [u for u in page.requested if not u.startswith(("data:", "about:"))]
    assert set(outside) == {(made[-1] / "report.html").as_uri()}


def test_values_are_those_of_the_results(page, made):
    recorded = results.read(made[-1] / "results.jsonl")
    values = page("[...document.querySelectorAll('#run-table data')].map(d => Number(d.value))")
    assert values == [r["value"] for r in recorded if "value" in r]
    keys = page(f"{ROWS}.map(r => r.dataset.key)")
    assert keys == [r["key"] for r in recorded]


def test_sorting_by_mouse_and_by_key(page, made):
    def values():
        texts = shown(page, 5)
        return [float(text) for text in texts if text], texts

    head = "#run-table th:nth-child(6)"
    page.click(f"{head} button")
    found, texts = values()
    assert found == sorted(found)
    assert found[0] < found[-1]
    assert texts[len(found) :] == [""] * (len(texts) - len(found))  # without a value: last
    assert page(f"{browser.find(head)}.ariaSort") == "ascending"
    page(f"{browser.find(head + ' button')}.focus()")
    page.press("Enter", 13, "\r")
    found, texts = values()
    assert found == sorted(found, reverse=True)
    assert texts[-1] == ""
    assert page(f"{browser.find(head)}.ariaSort") == "descending"
    page.click("#run-table th:nth-child(3) button")
    labels = [text for text in shown(page, 2) if text]
    assert labels == ["64"] * 24 + ["all"] * 24
    assert page("document.querySelectorAll('#run-table [aria-sort=ascending]').length") == 1
    assert page(f"{browser.find(head)}.ariaSort") == "none"


def choose(page, form, name, value):
    page(
        f"(e => {{ e.value = {json.dumps(value)};"
        " e.dispatchEvent(new Event('input', { bubbles: true })) })"
        f"(document.querySelector('[data-for={form}] [name={name}]'))"
    )


def test_filters(page):
    everything = len(shown(page, 0))
    choose(page, "run-table", "family", "gpt")
    assert set(shown(page, 1)) == {"gpt"}
    choose(page, "run-table", "arm", "lora")
    choose(page, "run-table", "labels", "64")
    assert shown(page, 0) == ["LoRA"] * 3
    choose(page, "run-table", "status", "failed")
    assert shown(page, 4) == ["failed: Diverged: NaN <3> | `x`"]
    output = browser.find("[data-for=run-table] output")
    assert page(f"{output}.textContent") == f"1 of {everything}"
    for name in ("family", "arm", "labels", "status"):
        choose(page, "run-table", name, "")
    page.click("[data-for=run-table] [name=text]")
    page.call("Input.insertText", text="lora done")
    assert shown(page, 0) == ["LoRA"] * 11
    choose(page, "run-table", "text", "")
    assert len(shown(page, 0)) == everything


def test_filter_of_verdicts(page):
    rows = "[...document.querySelectorAll('#verdict-table tr.item:not(.group)')]"
    statuses = page(f"{rows}.map(r => r.dataset.status.split(' ')[0])")
    per_family = len(statuses) // 2
    for part in (statuses[:per_family], statuses[per_family:]):
        assert part == sorted(part, key=lambda s: s != "resolved")
    choose(page, "verdict-table", "status", "not resolved")
    seen = page(f"{rows}.filter(r => r.offsetHeight).map(r => r.dataset.status)")
    assert len(seen) < len(statuses)
    assert all("not resolved" in status for status in seen)


def test_filter_of_learning_curves(page):
    panels = "[...document.querySelectorAll('#curves .panel')].filter(p => p.offsetHeight)"
    lines = (
        "[...document.querySelectorAll('#curves .series')].filter(s => s.getClientRects().length)"
    )
    assert page(f"{panels}.length") == 8
    choose(page, "curves", "family", "bert")
    choose(page, "curves", "labels", "all")
    assert page(f"{panels}.map(p => p.dataset.family + p.dataset.labels)") == ["bertall"] * 2
    before = page(f"{lines}.length")
    choose(page, "curves", "arm", "lora")
    assert 0 < page(f"{lines}.length") == before / 4


def test_pointing_names_the_run(page, made):
    study, records, _ = made
    titles = {run.key: plan.title(study, run) for run in plan.make(study, made[-1])}
    page.hover("#efficiency .panel .dots[data-arm=scratch] circle")
    told = page("document.getElementById('tip').textContent")
    record = next(r for r in records if r["status"] == "done" and told.startswith(titles[r["key"]]))
    assert (record["family"], record["arm"]) == ("bert", "scratch")
    value = 100 * record["value"]
    assert f"accuracy, %: {float(f'{value:.4g}'):g}" in told
    assert not page("document.getElementById('tip').hidden")
    page.hover("h1")
    assert page("document.getElementById('tip').hidden")


def test_arrow_keys_read_points(page):
    page(f"{browser.find('#curves .panel svg')}.focus()")
    page.press("ArrowRight", 39)
    first = page("document.getElementById('tip').textContent")
    assert first.startswith("bert, full, 64 labels, seed 0")
    page.press("ArrowRight", 39)
    assert page("document.getElementById('tip').textContent") != first
    page.press("Escape", 27)
    assert page("document.getElementById('tip').hidden")


def test_one_arm_by_itself(page):
    seen = (
        "[...new Set([...document.querySelectorAll('#efficiency .series')]"
        ".filter(s => s.getClientRects().length).map(s => s.dataset.arm))]"
    )
    assert page(seen) == ["full", "scratch", "lora", "cont"]
    page.click(".legend [data-arm=lora]")
    assert page(seen) == ["lora"]
    page.click(".legend [data-arm=lora]")
    assert len(page(seen)) == 4


def test_a_run_tells_all_of_itself(page, made):
    record = made[1][1]
    page.click(f"[data-key='{record['key']}'] .run")
    told = page("document.querySelector('dialog[open]').textContent")
    for text in (record["key"], "d" * 64, "jax", "matthews", str(record["value"])):
        assert text in told
    page.press("Escape", 27)
    assert page("document.querySelector('dialog[open]')") is None


def test_phone_needs_no_sideways_scroll(made, chromium):
    chromium.open(made[-1] / "report.html", 390, 844)
    assert chromium("document.documentElement.scrollWidth") == 390
    assert chromium("document.body.scrollWidth") <= 390
    assert chromium("document.querySelector('.panel svg').getBoundingClientRect().right") <= 390


def luminance(page):
    values = page("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    return sum(values[:3]) / 3


def test_dark_light_and_paper(made, chromium):
    chromium.open(made[-1] / "report.html", 1200, 900, dark=True)
    assert luminance(chromium) < 40
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert luminance(chromium) == 255
    choose(chromium, "run-table", "family", "gpt")
    assert len(shown(chromium, 0)) == len(made[1])  # on paper everything is there
    chromium.call("Emulation.setEmulatedMedia", media="")
    chromium.open(made[-1] / "report.html", 1200, 900)
    assert luminance(chromium) == 255


def test_tables_are_there_without_scripts(made, chromium):
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        chromium.open(made[-1] / "report.html", 1200, 900)
        document = chromium.call("DOM.getDocument")["root"]["nodeId"]
        found = chromium.call(
            "DOM.querySelectorAll", nodeId=document, selector="#run-table tbody tr"
        )
        assert len(found["nodeIds"]) == len(made[1])
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)
