"""TFDS data sets as sources: two small builders of the test's own, no network."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from input_pipeline.errors import DataError
from input_pipeline.sources import SourceSpec, fingerprint, read_documents, read_records


class ToyReviews(tfds.core.GeneratorBasedBuilder):
    """Five labelled reviews, and a split without labels, as in GLUE."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        features["label"].names = ["bad", "good"]
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._rows(False), "test": self._rows(True)}

    def _rows(self, unlabelled):
        for i in range(5):
            yield i, {"text": f"review é {i}", "label": -1 if unlabelled else i % 2}

    def _generate_examples(self):
        raise AssertionError("rows come from _split_generators")


class ToyNested(ToyReviews):
    """Lists of words and classes, and SQuAD's list of objects."""

    def _info(self):
        features = {
            "words": tfds.features.Sequence(tfds.features.Text()),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["O", "B-X"])),
            "answers": tfds.features.Sequence(
                {"text": tfds.features.Text(), "answer_start": np.int32}
            ),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _rows(self, unlabelled):
        answers = [{"text": "é", "answer_start": 3}, {"text": "b", "answer_start": 1}]
        yield 0, {"words": ["é", "b"], "tags": ["O", "B-X"], "answers": answers}
        yield 1, {"words": ["c"], "tags": ["O"], "answers": []}


class ToyOffline(ToyReviews):
    """A data set that cannot be downloaded."""

    def _split_generators(self, dl_manager):
        raise ConnectionError("no route\nto host")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


def test_prepares_and_reads_without_tensorflow(data_dir):
    spec = SourceSpec("tfds:toy_reviews", data_dir=data_dir)
    assert sorted(d.text for d in read_documents(spec)) == [f"review é {i}" for i in range(5)]
    found = dict(values for _, values in read_records(spec, ("text", "label")))
    assert found == {f"review é {i}": ("bad", "good")[i % 2] for i in range(5)}


def test_lists_and_objects_are_plain(data_dir):
    spec = SourceSpec("tfds:toy_nested", data_dir=data_dir)
    found = [values for _, values in read_records(spec, ("words", "tags", "answers"))]
    assert sorted(found) == [
        [["c"], ["O"], {"text": [], "answer_start": []}],
        [["é", "b"], ["O", "B-X"], {"text": ["é", "b"], "answer_start": [3, 1]}],
    ]
    assert type(found[0][2]["answer_start"]) is list
    assert sorted(d.text for d in read_documents(
        SourceSpec("tfds:toy_nested", data_dir=data_dir, text_field="words")
    )) == ["c", "é b"]  # fmt: skip
    with pytest.raises(DataError, match="'super_glue/boolq' needs the package tensorflow"):
        next(read_records(SourceSpec("tfds:super_glue/boolq", data_dir=data_dir), ("question",)))


def test_fingerprint_tells_splits_apart(data_dir):
    train = SourceSpec("tfds:toy_reviews", data_dir=data_dir)
    test = SourceSpec("tfds:toy_reviews", split="test", data_dir=data_dir)
    assert fingerprint(train) == fingerprint(train)
    assert fingerprint(train) != fingerprint(test)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("toy_reviews", {"split": "test"}, "test:0 is unlabelled"),
        ("toy_reviews", {"split": "dev"}, "no split 'dev'; it has .*train"),
        ("toy_offline", {}, r"could not be prepared \(no route\); set --config.data.data_dir"),
        ("toy_absent", {}, "'toy_absent' cannot be opened"),
    ],
)
def test_complaints(name, options, message, data_dir):
    spec = SourceSpec(f"tfds:{name}", data_dir=data_dir, **options)
    with pytest.raises(DataError, match=message) as caught:
        list(read_records(spec, ("text", "label")))
    assert "\n" not in str(caught.value)
