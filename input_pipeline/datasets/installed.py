"""Finds the modules whose documentation `pydocs` reads, without importing them.

They are those of the standard library (by `sysconfig`), of the packages that Pretune is built on,
and of what these need (by `importlib.metadata`). What else is installed beside them does not count,
nor what Pretune may need later, so that the data set follows from the versions of these alone.
"""

import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath

from packaging.requirements import Requirement

# Folders with test code, copies of other distributions, or programs that only happen to be shipped.
SKIPPED_FOLDERS = (
    "test tests testing test_utils test_util _vendor _vendored vendored third_party __pycache__"
    " site-packages dist-packages idlelib lib2to3 turtledemo ensurepip pydoc_data"
)
_SKIPPED = frozenset(SKIPPED_FOLDERS.split())
SUFFIXES = (".py", ".pyi")  # a stub documents a compiled module
ROOTS = (
    "jax", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets",
    "importlib-resources", "array-record", "pyarrow", "fsspec", "packaging", "tokenizers",
    "sentencepiece", "protobuf", "safetensors", "ml-collections", "absl-py", "numpy", "scipy",
    "rich", "tensorboardx", "matplotlib", "jinja2",
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    """A module by dotted name, with the file that holds it."""

    name: str
    path: Path


def find_modules() -> list[Module]:
    """All modules of the standard library and of Pretune's dependencies, sorted by name.

    Where two folders on `sys.path` hold the same name, the first wins, as in an import.
    """
    found: dict[str, Path] = {}
    for root, relative in [*_standard_library(), *_dependencies()]:
        name = module_name(relative)
        if name:
            found.setdefault(name, root / relative)
    return [Module(name, path) for name, path in sorted(found.items())]


def module_name(relative: PurePath) -> str:
    """Dotted name of a source file given relative to its root; "" where it is to be skipped."""
    parts = [*relative.parts[:-1], relative.stem]
    wanted = relative.suffix in SUFFIXES and not _SKIPPED.intersection(parts)
    if parts[-1] == "__init__":
        parts.pop()
    # Also drops "..", and folders such as "config-3.11-x86_64" that no import can reach.
    if not (wanted and parts and all(part.isidentifier() for part in parts)):
        return ""
    if parts[-1].startswith(("test_", "__editable__")) or parts[-1].endswith("_test"):
        return ""
    return ".".join(parts)


def dependencies() -> list[metadata.Distribution]:
    """The distributions of `ROOTS`, and those that they need, sorted by name.

    Extras count where somebody on the way asks for them.
    """
    found: dict[str, metadata.Distribution] = {}
    pending, seen = [(name, "") for name in ROOTS], set()
    while pending:
        name, extra = pending.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform, or an optional one
        found[_normal(name)] = distribution
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                pending += [(_normal(needed.name), extra) for extra in ["", *needed.extras]]
    return [found[name] for name in sorted(found)]


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _standard_library() -> Iterator[tuple[Path, PurePath]]:
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if (root / f"{name}.py").is_file():
            yield root, PurePath(f"{name}.py")
        for path in sorted((root / name).rglob("*.py")):
            yield root, path.relative_to(root)


def _dependencies() -> Iterator[tuple[Path, PurePath]]:
    for distribution in dependencies():
        root = Path(distribution.locate_file(""))
        for file in distribution.files or ():
            if file.suffix in SUFFIXES and (root / file).is_file():
                yield root, PurePath(file)
