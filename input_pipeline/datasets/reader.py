"""Reads and cleans the prose of many modules, in as many processes as there are cores.

The processes are programs of their own (`_serve`: modules in on stdin, paragraphs out on stdout):
unlike `multiprocessing`, that needs no guard in the user's script and forks no process in which
JAX's threads run.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from input_pipeline.datasets.docstrings import language_reference, read_module
from input_pipeline.datasets.installed import Module
from input_pipeline.datasets.prose import paragraphs

COMMENTS = "#"  # suffix of a module's name: the document of its comments
_PER_PROCESS = 500  # modules that make a process worth its start

Paragraphs = tuple[list[str], list[str]]  # of docstrings, of comments


def read_all(modules: list[Module]) -> Iterator[tuple[str, list[str]]]:
    """(name, paragraphs): the language reference, all docstrings by module, all comments by module.

    A module's comments come under its name and `COMMENTS`, after the docstrings of all modules:
    of two copies of a text the first one stays.
    """
    for name, texts in language_reference():
        yield name, _paragraphs(texts)
    processes = max(1, min(os.cpu_count() or 1, len(modules) // _PER_PROCESS))
    read = [None] * len(modules)
    with ThreadPoolExecutor(processes) as pool:
        for i, part in enumerate(
            pool.map(_start, (modules[i::processes] for i in range(processes)))
        ):
            read[i::processes] = part
    for module, (documentation, _) in zip(modules, read, strict=True):
        yield module.name, documentation
    for module, (_, comments) in zip(modules, read, strict=True):
        yield module.name + COMMENTS, comments


def _start(modules: list[Module]) -> list[Paragraphs]:
    """`_read` in a process of its own, if it is worth one."""
    if len(modules) < _PER_PROCESS:
        return _read(modules)
    given = json.dumps([(module.name, str(module.path)) for module in modules])
    command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
    done = subprocess.run(command, input=given.encode(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _read(modules: list[Module]) -> list[Paragraphs]:
    """Docstrings and comments of each module, as paragraphs of prose.

    The garbage collector rests meanwhile: syntax trees hold no cycles, and scanning them doubles
    the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        texts = map(read_module, modules)
        return [(_paragraphs(documentation), _paragraphs(notes)) for documentation, notes in texts]
    finally:
        if was_enabled:
            gc.enable()


def _paragraphs(texts: list[str]) -> list[str]:
    return [paragraph for text in texts for paragraph in paragraphs(text)]


def _serve() -> None:
    """`_read` from stdin to stdout."""
    json.dump(_read([Module(name, Path(path)) for name, path in json.load(sys.stdin)]), sys.stdout)
