"""Reads docstrings and comments of modules without importing them.

Sources are parsed with `ast`, so no foreign code runs; the language reference is the text behind
`help("...")`. A file that is not UTF-8 or does not parse contributes nothing.
"""

import ast
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator

from input_pipeline.datasets.installed import Module

LANGUAGE_REFERENCE = "pydoc_data.topics"
_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_COMMENT_BLOCK = re.compile(r"(?:^[ \t]*#(?!!).*\n){2,}", re.MULTILINE)
_HASH = re.compile(r"^[ \t]*#+ ?", re.MULTILINE)
_MIN_CONSTANT = 80  # characters; shorter string constants are names and messages, not prose


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


def language_reference() -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of each topic of the language reference, sorted."""
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
