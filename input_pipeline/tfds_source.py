"""TFDS data sets as a source, read through `as_data_source`: neither TensorFlow nor tf.data."""

import contextlib
import functools
import io
import sys
from collections.abc import Iterator

# These imports take seconds (so `sources` imports this module only for tfds: sources) and are made
# for their effect: each registers builders, ours and the library's text data sets.
import tensorflow_datasets as tfds
import tensorflow_datasets.question_answering
import tensorflow_datasets.summarization
import tensorflow_datasets.text

from input_pipeline.datasets.pydocs import Pydocs
from input_pipeline.errors import DataError
from input_pipeline.records import Record

_BATCH = 256  # examples asked for at once
_FORMATS = ("array_record", "parquet")  # the file formats TFDS reads at random without TensorFlow


@functools.cache
def _builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """Find the builder and see to it that its data are there."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a banner where TensorFlow is missed
            builder = tfds.builder(name, data_dir=data_dir or None)
    except ModuleNotFoundError as error:
        raise DataError(
            f"TFDS's builder of '{name}' needs the package {error.name or 'tensorflow'}, which"
            " Pretune does without; give the data as files (jsonl, csv, tsv, parquet)"
        ) from error
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"TFDS data set '{name}' cannot be opened: {reason}") from error
    if not builder.is_prepared():
        _prepare(builder, name)
    found = builder.info.file_format
    if found is not None and found.value not in _FORMATS:
        raise DataError(
            f"TFDS data set '{name}' in {builder.data_dir} is stored as {found.value}, which needs"
            " TensorFlow; prepare it again with file_format='array_record', or set"
            " --config.data.data_dir to another folder"
        )
    return builder


def _prepare(builder: tfds.core.DatasetBuilder, name: str) -> None:
    ours = isinstance(builder, Pydocs)
    print(f"Preparing tfds:{name} in {builder.data_dir} (once) ...", file=sys.stderr)
    try:
        if ours:  # nothing is downloaded: TFDS's talk of it would only confuse
            tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(file_format="array_record")
        else:
            builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        # Of two processes that prepare one data set, the second to finish fails; all is there.
        if builder.is_prepared():
            return
        if ours:
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(
            f"TFDS data set '{name}' is not in {builder.data_dir} and could not be prepared"
            f" ({reason}); set --config.data.data_dir to a prepared copy, or run with network"
        ) from error


def _split_info(builder: tfds.core.DatasetBuilder, name: str, split: str):
    try:
        return builder.info.splits[split]
    except (KeyError, ValueError) as error:
        known = ", ".join(builder.info.splits)
        raise DataError(f"TFDS data set '{name}' has no split '{split}'; it has {known}") from error


def identity(name: str, split: str, data_dir: str) -> list:
    """Name with version, split, its examples and bytes: what tells one content from another."""
    builder = _builder(name, data_dir)
    info = _split_info(builder, name, split)
    # A part of a split ("train[:10%]") does not know its bytes; the whole split's do as well.
    whole = {key: value.num_bytes for key, value in builder.info.splits.items()}
    return [builder.info.full_name, split, info.num_examples, whole]


def read(name: str, split: str, data_dir: str, fields: list[str]) -> Iterator[Record]:
    """Yield (where, values of `fields`) of each example; class labels as their names.

    Raises:
        DataError: no such data set, split or field; data that cannot be had; unlabelled examples.
    """
    builder = _builder(name, data_dir)
    count = _split_info(builder, name, split).num_examples
    features = builder.info.features
    for field in fields:
        if field not in features:
            raise DataError(
                f"TFDS data set '{name}' has no field '{field}', only {', '.join(features)};"
                " name the right one in --config.data (text_field, text_b_field, label_field, ...)"
            )
    source = builder.as_data_source(split=split)
    for start in range(0, count, _BATCH):
        examples = source.__getitems__(list(range(start, min(start + _BATCH, count))))
        for number, example in enumerate(examples, start=start):
            where = f"tfds:{name} {split}:{number}"
            yield where, [_value(features[field], example[field], where) for field in fields]


def _value(feature: tfds.features.FeatureConnector, value: object, where: str) -> object:
    """Plain Python: class labels as their names, also within lists and objects."""
    if isinstance(feature, tfds.features.ClassLabel):
        if value < 0:
            raise DataError(
                f"{where} is unlabelled (label {value}), as GLUE's test splits are;"
                " choose another split with --config.data.split or eval_split"
            )
        return feature.int2str(int(value))
    inner = getattr(feature, "feature", None)
    if isinstance(value, dict):
        parts = inner or feature
        return {
            key: _value(tfds.features.Sequence(parts[key]) if inner else parts[key], item, where)
            for key, item in value.items()
        }
    if inner is not None:
        return [_value(inner, item, where) for item in value]
    return value.item() if hasattr(value, "item") else value
