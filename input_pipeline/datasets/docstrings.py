"""Finds the modules of this installation; reads docstrings and comments without importing them.

The standard library comes from `sysconfig`, installed distributions from `importlib.metadata`, the
language reference from `pydoc_data.topics` (the text behind `help("...")`). Sources are parsed with
`ast`, so no foreign code runs. A file that is not UTF-8 or does not parse contributes nothing.
"""

import ast
import gc
import importlib
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath

# Folders with test code, copies of other distributions, or programs that only happen to be shipped.
SKIPPED_FOLDERS = (
    "test tests testing test_utils test_util _vendor _vendored vendored third_party __pycache__"
    " site-packages dist-packages idlelib lib2to3 turtledemo ensurepip pydoc_data"
)
_SKIPPED = frozenset(SKIPPED_FOLDERS.split())
SUFFIXES = (".py", ".pyi")  # a stub documents a compiled module
OWN_DISTRIBUTION = "pretune"  # its text changes with every commit; the data set must not
COMMENTS = "#"  # suffix of a module's name: the document of its comments
LANGUAGE_REFERENCE = "pydoc_data.topics"
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_COMMENT_BLOCK = re.compile(r"(?:^[ \t]*#(?!!).*\n){2,}", re.MULTILINE)
_HASH = re.compile(r"^[ \t]*#+ ?", re.MULTILINE)
_MIN_CONSTANT = 80  # characters; shorter string constants are names and messages, not prose


@dataclass(frozen=True)
class Module:
    """A module by dotted name, with the file that holds it."""

    name: str
    path: Path


def find_modules() -> list[Module]:
    """All modules of the standard library and of the installed distributions, sorted by name.

    Where two folders on `sys.path` hold the same name, the first wins, as in an import.
    """
    found: dict[str, Path] = {}
    for root, relative in [*_standard_library(), *_distributions()]:
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


def read_module(module: Module) -> tuple[list[str], list[str]]:
    """Docstrings of a module, its classes and functions, in source order; and its block comments.

    Both are empty where the file cannot be read.

    Long string constants at the top level count too: NumPy and SciPy document compiled functions
    through `add_newdoc(name, text)` and TensorFlow Datasets through `_DESCRIPTION = text`.
    """
    try:
        source = module.path.read_bytes().decode("utf-8")
        with warnings.catch_warnings():  # invalid escapes in other people's files
            warnings.simplefilter("ignore")
            # Parsing is most of the cost, so files that hold no long string are not parsed.
            tree = ast.parse(source if '"""' in source or "'''" in source else "")
    except (OSError, ValueError, SyntaxError, RecursionError):
        return [], []
    comments = [_HASH.sub("", block) for block in _COMMENT_BLOCK.findall(source)]
    return [inspect.cleandoc(text) for text in _texts(tree)], comments


def read_all(modules: list[Module]) -> Iterator[tuple[str, list[str]]]:
    """(name, texts): the language reference, all docstrings by module, all comments by module.

    A module's comments come under its name and `COMMENTS`, after the docstrings of all modules:
    of two copies of a text the first one stays.

    The garbage collector rests meanwhile: syntax trees hold no cycles, and scanning them doubles
    the time.
    """
    yield from _language_reference()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        texts = [read_module(module) for module in modules]
    finally:
        if was_enabled:
            gc.enable()
    for module, (docstrings, _) in zip(modules, texts, strict=True):
        yield module.name, docstrings
    for module, (_, comments) in zip(modules, texts, strict=True):
        yield module.name + COMMENTS, comments


def _standard_library() -> Iterator[tuple[Path, PurePath]]:
    root = Path(sysconfig.get_path("stdlib"))
    for name in sorted(sys.stdlib_module_names):
        if (root / f"{name}.py").is_file():
            yield root, PurePath(f"{name}.py")
        for path in sorted((root / name).rglob("*.py")):
            yield root, path.relative_to(root)


def _distributions() -> Iterator[tuple[Path, PurePath]]:
    for distribution in metadata.distributions():
        if (distribution.metadata["Name"] or "").lower() == OWN_DISTRIBUTION:
            continue
        root = Path(distribution.locate_file(""))
        for file in distribution.files or ():
            if file.suffix in SUFFIXES and (root / file).is_file():
                yield root, PurePath(file)


def _language_reference() -> Iterator[tuple[str, list[str]]]:
    try:
        topics = importlib.import_module(LANGUAGE_REFERENCE).topics  # data only, nothing runs
    except ImportError:  # some distributions of Python strip it
        return
    for name, text in sorted(topics.items()):
        yield f"{LANGUAGE_REFERENCE}.{name}", [inspect.cleandoc(text)]


def _texts(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            yield from _constants([statement.value])
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield from _constants(statement.value.args)
    yield from _documented(tree)


def _constants(expressions: list[ast.expr]) -> Iterator[str]:
    for expression in expressions:
        if isinstance(expression, ast.Tuple):
            yield from _constants(expression.elts)
            continue
        value = expression.value if isinstance(expression, ast.Constant) else None
        if isinstance(value, str) and len(value) >= _MIN_CONSTANT:
            yield value


def _documented(node: ast.AST) -> Iterator[str]:
    text = ast.get_docstring(node, clean=False)
    if text:
        yield text
    # Definitions may sit under `if` and `try`, whose bodies are statements as well.
    pending = list(getattr(node, "body", ()))[::-1]
    while pending:
        child = pending.pop()
        if isinstance(child, _DOCUMENTED):
            yield from _documented(child)
        elif isinstance(child, ast.If | ast.Try | ast.With):
            pending.extend([*child.body, *getattr(child, "orelse", ())][::-1])
