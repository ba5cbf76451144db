"""A run's folder: its lock, its config, and where its results came from."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from typing import IO, Any

import jax
from ml_collections import ConfigDict

from configs.base import get_config
from train.errors import Busy, UserError

# Keys that may change when a run goes on: they do not change what is computed.
FREE = ("logging.", "mesh.", "sharding", "data.prefetch", "checkpoint.", "compilation_cache")


@contextlib.contextmanager
def locked(workdir: pathlib.Path, name: str = ".lock") -> Iterator[None]:
    """Holds the run's lock, which ends with the process.

    With several processes, the first one holds it for all. A run that fails before it has written
    anything leaves no folder behind that was not there before.

    Raises:
      Busy: another process has it.
      UserError: the folder cannot be made or written, or there are no locks on its file system.
    """
    if jax.process_index() != 0:
        yield
        return
    new = not workdir.exists()
    with _opened(workdir, name) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(
                f"Another process ({file.read().strip() or 'unknown'}) is training in {workdir}; "
                "wait for it, stop it, or choose another --workdir."
            ) from None
        except OSError as error:
            if new:
                _remove_unused(workdir, name)
            raise UserError(
                f"{workdir} cannot be locked ({error.strerror}); choose a folder on a file system "
                "with locks (flock)."
            ) from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            if new:
                _remove_unused(workdir, name)


def _opened(workdir: pathlib.Path, name: str) -> IO[str]:
    """A file in a folder that is made if it is not there."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        return open(workdir / name, "a+", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{workdir} cannot be written ({error.strerror}); choose another --workdir."
        ) from error


def _remove_unused(workdir: pathlib.Path, name: str) -> None:
    """Removes a folder in which there is nothing but its lock."""
    if [path.name for path in workdir.iterdir()] == [name]:
        (workdir / name).unlink()
        workdir.rmdir()


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a.b": value}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def read_config(workdir: pathlib.Path) -> ConfigDict:
    """The config of the run in `workdir`; keys that are younger than the run have their defaults.

    Raises:
      UserError: there is none, or it is not of a run of ours.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no run (no config.json in it); check the path.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON ({error}); copy it again.") from error
    if not isinstance(found, dict) or not {"model", "objective"} <= found.keys():
        raise UserError(
            f"{path} is not the config of a run; published weights become one with "
            f"pretune import --from={workdir} --to=WORKDIR."
        )
    for key, default in get_config().to_dict().items():
        own = found.get(key, default)
        found[key] = {**default, **own} if isinstance(default, dict) else own
    objective = found["objective"]
    if objective.pop("whole_sentences", False):  # of runs older than `packing`
        isolated = objective["isolate_documents"]
        objective["packing"] = "doc_sentences" if isolated else "full_sentences"
    return ConfigDict(found)


def check_config(workdir: pathlib.Path, config: ConfigDict, force: bool) -> None:
    """UserError if `workdir` holds a run of another config, with the differences."""
    if force or not (workdir / "config.json").exists():
        return
    old = flatten(json.loads((workdir / "config.json").read_text(encoding="utf-8")))
    new = flatten(json.loads(config.to_json()))
    changed = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} asked"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(FREE)
    ]
    if changed:
        raise UserError(
            f"{workdir} holds another run's config ({'; '.join(changed)}); choose another "
            "--workdir, or pass --force_config to go on with the new values."
        )


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to that becomes `path` at the end, or vanishes if anything fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes of other machines may write here too.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to fill that becomes `folder` at the end, or vanishes if anything fails.

    Raises:
      UserError: `folder` is there already and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; choose another folder or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def config_hash(config: ConfigDict) -> str:
    """Sixteen hex digits that name a config."""
    return hashlib.sha256(config.to_json(sort_keys=True).encode()).hexdigest()[:16]


def revision() -> str:
    """The code's git revision, with "+" after it if files were changed; "" outside a checkout."""
    here = pathlib.Path(__file__).resolve().parent.parent

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *args], capture_output=True, text=True, check=False
        ).stdout.strip()

    if not (here / ".git").exists():
        return ""
    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")


def lineage(config: ConfigDict, data: str, tokenizer: str) -> dict[str, Any]:
    """Everything that a figure of this run depends on."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers")
    return {
        "revision": revision(),
        "config_hash": config_hash(config),
        "data": data,
        "tokenizer": tokenizer,
        "seed": config.seed,
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
        "command": command_line(),
    }


def command_line() -> list[str]:
    """This process's command line, but for where on this machine its program lies."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else [pathlib.Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]
