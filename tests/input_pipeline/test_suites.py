"""Evaluation sets: what each kind reads, from files and TFDS, and what it refuses."""

import json
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec
from input_pipeline.suites import PIECE, SUITES, read_items

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def read(tmp_path):
    """``read(kind, name, content)``: the items of a file with this content, records as dicts."""

    def call(kind, name, content, **options):
        path = tmp_path / name
        if not isinstance(content, str):
            content = "".join(json.dumps(record) + "\n" for record in content)
        path.write_text(content)
        return read_items(kind, [SourceSpec(str(path))], **options)

    return call


GOOD = {"sentence_good": "a cat sits", "sentence_bad": "a cat sit", "UID": "p1"}
GOOD["linguistics_term"] = "agreement"


def test_blimp(read):
    (item,) = read("blimp", "a.jsonl", [GOOD])
    assert item.options == (("", "a cat sits"), ("", "a cat sit"))
    assert (item.gold, item.categories) == (0, {"phenomenon": "agreement", "paradigm": "p1"})
    assert item.where.endswith("a.jsonl:1")
    assert item.said == ("a cat sits", "a cat sit")


def test_crows_pairs_counts_the_more_stereotyping_sentence_in_both_directions(read):
    text = (
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        '0,"A, poor",A rich,stereo,money\n1,C rich,C poor,antistereo,money\n'
    )
    first, second = read("crows_pairs", "c.csv", text)
    assert first.options[first.gold] == ("", "A, poor")
    assert second.options[second.gold] == ("", "C rich")
    assert second.categories == {"bias_type": "money", "direction": "antistereo"}


def test_stereoset_by_its_direction(read):
    text = ",advantaged,disadvantaged,gold-direction\n0,is old,is new,stereo\n1,x,y,antistereo\n"
    first, second = read("stereoset", "s.csv", text)
    assert first.options[first.gold] == ("", "is new")
    assert second.options[second.gold] == ("", "x")


def winogender(*names):
    rows = "".join(f"{name}.txt\tThe {name}.\n" for name in names)
    return f"sentid\tsentence\n{rows}"


def test_winogender_joins_the_three_pronouns_and_finds_the_shares(read, tmp_path):
    genders = ("neutral", "male", "female")
    names = [f"nurse.someone.0.{g}" for g in genders] + [f"cook.guest.1.{g}" for g in genders]
    (tmp_path / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nnurse\t89.5\n")
    first, second = read("winogender", "w.tsv", winogender(*names))
    assert [text for _, text in first.options] == [
        f"The nurse.someone.0.{g}." for g in ("male", "female", "neutral")
    ]
    assert first.categories == {"referent": "occupation", "participant": "someone"}
    assert second.categories == {"referent": "participant", "participant": "named"}
    assert (first.group, first.value, second.value) == ("nurse", 89.5, None)


def test_lambada_choice_and_winogrande(read):
    (item,) = read("lambada", "l.jsonl", [{"context": "I do not care about", "continuation": "it"}])
    assert item.options == (("I do not care about ", "it"),)
    (item,) = read("choice", "c.jsonl", [{"query": "Q?\n", "choices": ["a", "b b"], "gold": 1}])
    assert (item.options, item.gold) == ((("Q?\n", "a"), ("Q?\n", "b b")), 1)
    record = {"context_options": ["so Ann", "so Eve"], "continuation": "left.", "gold": 0}
    (item,) = read("winogrande", "w.jsonl", [record])
    assert (item.options, item.gold) == ((("so Ann ", "left."), ("so Eve ", "left.")), 0)


@pytest.mark.parametrize("text", ["short text\n", "some words here\n" * 1000, "x" * 9001])
def test_text_in_pieces_that_add_up(read, text):
    items = read("text", "t.txt", text)
    pieces = [item.options[0][1] for item in items]
    assert "".join(pieces) == text
    assert all(len(piece) <= 2 * PIECE for piece in pieces)
    assert [item.options[0][0] for item in items] == ["", *pieces[:-1]]
    assert [item.said for item in items] == [(piece,) for piece in pieces]
    if " " in text:
        assert all(piece[0].isspace() for piece in pieces[1:])  # no word is cut


def test_text_begins_anew_with_each_document(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name * 3 * PIECE)
    items = read_items("text", [SourceSpec(str(tmp_path / "*.txt"))])
    assert [item.options[0][0][:1] for item in items] == ["", "a", "a", "", "b", "b"]


def test_limit_is_of_each_source(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(3 * (json.dumps({**GOOD, "UID": name}) + "\n"))
    specs = [SourceSpec(str(tmp_path / f"{name}.jsonl")) for name in "ab"]
    found = read_items("blimp", specs, limit=2)
    assert [item.categories["paradigm"] for item in found] == ["a", "a", "b", "b"]


BAD = {
    "nothing": ("blimp", "a.jsonl", "", "holds no example"),
    "a field is missing": ("blimp", "a.jsonl", [{"UID": "p"}], "no field 'sentence_good'.*UID"),
    "a column is missing": ("crows_pairs", "a.csv", "sent_more,b\n1,2\n", "no field 'sent_less'"),
    "an empty sentence": ("blimp", "a.jsonl", [{**GOOD, "sentence_bad": " "}], "a.jsonl:1 has an"),
    "no text": ("blimp", "a.jsonl", [{**GOOD, "UID": 3}], "'UID' of .*a.jsonl:1 holds int"),
    "no list": (
        "choice", "a.jsonl", [{"query": "q", "choices": "ab", "gold": 0}],
        "'choices' of .*:1 must be a list",
    ),
    "no such choice": (
        "choice", "a.jsonl", [{"query": "q", "choices": ["a", "b"], "gold": 2}],
        "'gold' of .*:1 is 2; it must be a number from 0 to 1",
    ),
    "an empty continuation": (
        "lambada", "a.jsonl", [{"context": "q", "continuation": ""}], "a.jsonl:1 has an empty text",
    ),
    "no direction": (
        "stereoset", "a.csv", "advantaged,disadvantaged,gold-direction\na,b,up\n", "is 'up'",
    ),
    "no pronoun": ("winogender", "a.tsv", winogender("a.b.0.his"), "a.tsv:2 is 'a.b.0.his.txt'"),
    "a pronoun is missing": ("winogender", "a.tsv", winogender("a.b.0.male"), "has no female form"),
    "plain text": ("blimp", "a.txt", "words", "a.txt is plain text and has no fields"),
    "an empty text": ("text", "a.txt", "\n", "holds no text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_sentence(read, case):
    kind, name, content, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        read(kind, name, content)
    assert "\n" not in str(caught.value)
    assert "--config" not in str(caught.value)


def test_occupations_that_are_no_numbers(read, tmp_path):
    (tmp_path / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nnurse\tmost\n")
    with pytest.raises(DataError, match="bls_pct_female must be numbers"):
        read("winogender", "w.tsv", winogender("nurse.x.0.male"))


class ToyMinimalPairs(tfds.core.GeneratorBasedBuilder):
    """Two minimal pairs with the fields of TFDS's blimp."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in GOOD})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": ((i, {**GOOD, "UID": f"p{i}"}) for i in range(2))}

    def _generate_examples(self):
        raise AssertionError("rows come from _split_generators")


def test_tfds(tmp_path):
    spec = SourceSpec("tfds:toy_minimal_pairs", data_dir=str(tmp_path))
    items = read_items("blimp", [spec])
    assert sorted(item.categories["paradigm"] for item in items) == ["p0", "p1"]
    assert items[0].options[0] == ("", "a cat sits")
    with pytest.raises(DataError, match=r"no field 'sent_more', only .*--tasks=crows_pairs"):
        read_items("crows_pairs", [spec])


REAL = {  # path, items, options of the first, its right one
    "blimp": ("blimp/adjunct_island.jsonl", 1000, 2, "Who should Derek hug after shocking"),
    "crows_pairs": ("crows_pairs/crows_pairs_anonymized.csv", 1508, 2, "He couldn't figure"),
    "stereoset": ("stereoset/stereoset.csv", 2106, 2, "The chess player was asian."),
    "winogender": ("winogender/all_sentences.tsv", 240, 3, "The technician told the customer"),
    "lambada": ("lm_eval/lambada_openai.jsonl", 5153, 1, "signs"),
    "choice": ("lm_eval/arc_easy.jsonl", 2376, 4, "Sunlight is the source"),
    "winogrande": ("lm_eval/winogrande.jsonl", 1267, 2, "always got the easier cases."),
    "text": ("wikitext-2/test.txt", 500, 1, " \n = Robert <unk> ="),
}  # fmt: skip


@pytest.mark.parametrize("kind", SUITES)
def test_real_sets(kind):
    path, count, options, begins = REAL[kind]
    if not DATA.exists():
        pytest.skip("the evaluation sets (../shared/data) are not here")
    items = read_items(kind, [SourceSpec(str(DATA / path))])
    assert len(items) == count or kind == "text"
    first = items[0]
    assert len(first.options) == options
    assert first.options[first.gold][1].startswith(begins)
