"""`pydocs`: English prose that every Python installation carries, as a TFDS data set.

    tfds.builder("pydocs/text")   # pre-training text, one record a module
    tfds.builder("pydocs/area")   # labelled passages: which library area is described?

Nothing is downloaded: the text is read from the language reference and from the docstrings and
block comments of the standard library and of Pretune's dependencies. The splits share no
module and no paragraph, neither within a config nor between the two.
"""

import hashlib
import platform
from collections.abc import Iterator
from functools import lru_cache

import tensorflow_datasets as tfds

from input_pipeline.datasets.areas import LABELS, area_of, divide
from input_pipeline.datasets.corpus import Prose, deduplicate, fraction
from input_pipeline.datasets.installed import Module, dependencies, find_modules
from input_pipeline.datasets.reader import COMMENTS, read_all

VALIDATION_SHARE = 0.03  # of the pre-training modules


def environment_number() -> int:
    """A number that changes with the versions of Python and of Pretune's dependencies.

    It is the patch number of the data set's version, so that an upgrade builds anew beside the old.
    """
    needed = [f"{d.metadata['Name']} {d.version}" for d in dependencies()]
    identity = "\n".join([platform.python_version(), *needed])
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=3).digest(), "big")


def split_modules(modules: list[Module] | None = None) -> dict[str, Prose]:
    """All splits of both configs: "text/train" -> module -> its records' paragraphs or passages."""
    whole = deduplicate(read_all(find_modules() if modules is None else modules))
    labelled = divide(whole)
    taken = set().union(*labelled.values())
    splits = {"text/train": {}, "text/validation": {}}
    order = {name: _validation_order(name) for name in sorted(whole) if _base(name) not in taken}
    # A tiny installation still gets one validation module: TFDS refuses an empty split.
    limit = max(VALIDATION_SHARE, min(order.values(), default=0.0))
    for name, position in order.items():
        held_out = position <= limit
        splits["text/validation" if held_out else "text/train"][name] = whole[name]
    return splits | {f"area/{split}": part for split, part in labelled.items()}


def _base(name: str) -> str:
    """The module to which a document belongs: comments go where their module goes."""
    return name.removesuffix(COMMENTS)


def _validation_order(name: str) -> float:
    return fraction(_base(name), "validation")


@lru_cache(maxsize=1)
def installed_splits() -> dict[str, Prose]:
    """`split_modules()` of this installation, read once for both configs."""
    return split_modules()


class Pydocs(tfds.core.GeneratorBasedBuilder):
    """English documentation of this Python installation: text, and passages labelled by area."""

    VERSION = tfds.core.Version(f"1.0.{environment_number()}")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="text", description="One module's prose a record."),
        tfds.core.BuilderConfig(name="area", description="Passages of 30 to 80 words, labelled."),
    )

    def __init__(
        self,
        *,
        modules: list[Module] | None = None,
        file_format="array_record",
        **kwargs,
    ):
        """Reads `modules`, or all of this installation; array_record needs no TensorFlow."""
        self._modules = modules
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Text(), "module": tfds.features.Text()}
        if self.builder_config.name == "area":
            features["label"] = tfds.features.ClassLabel(names=LABELS)
        return tfds.core.DatasetInfo(
            builder=self,
            description="English prose from the documentation in this Python installation.",
            features=tfds.features.FeaturesDict(features),
            homepage="https://docs.python.org",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        splits = installed_splits() if self._modules is None else split_modules(self._modules)
        config = self.builder_config.name
        return {
            key.partition("/")[2]: self._generate_examples(part)
            for key, part in splits.items()
            if key.startswith(f"{config}/")
        }

    def _generate_examples(self, part: Prose) -> Iterator[tuple[str, dict]]:
        for name, texts in part.items():
            module = _base(name)
            if self.builder_config.name == "text":
                yield name, {"module": module, "text": "\n\n".join(texts)}
                continue
            label = area_of(module)
            for number, text in enumerate(texts):
                yield f"{module} {number}", {"module": module, "text": text, "label": label}
