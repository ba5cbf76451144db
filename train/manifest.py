"""SHA-256 manifests: a flipped bit in a checkpoint restores wrong weights without a word."""

import hashlib
import json
import pathlib

from train.workdir import write_text


def digests(folder: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of every file below `folder`, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return found


def path_of(folder: pathlib.Path) -> pathlib.Path:
    """Where the manifest of `folder` lies: beside it."""
    return folder.with_name(folder.name + ".sha256.json")


def write(folder: pathlib.Path) -> None:
    """Writes the manifest of a finished folder, whole or not at all."""
    write_text(path_of(folder), json.dumps(digests(folder), indent=1))


def problem(folder: pathlib.Path) -> str:
    """What is wrong with `folder` by its manifest, or "" if nothing is."""
    try:
        expected = json.loads(path_of(folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "its manifest is missing (the save did not finish)"
    except ValueError:
        return "its manifest is damaged"
    found = digests(folder)
    if missing := sorted(expected.keys() - found.keys()):
        return f"the file {missing[0]} is missing"
    changed = [name for name in sorted(expected) if expected[name] != found[name]]
    return f"the file {changed[0]} is damaged" if changed else ""
