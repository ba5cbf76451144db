"""Saving and restoring states with Orbax: asynchronous, atomic, verified.

``checkpoints/00001000/`` holds parts that can be read by themselves: `backbone`, `head` and, where
there are some, `adapters`, as they are evaluated; and `training` (step, optimizer, carry, and of
averaged weights what training goes on from); ``00001000.sha256.json`` beside it is its manifest and
``best.json`` names the best step.
"""

import concurrent.futures
import json
import logging
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.multihost_utils import sync_global_devices
from orbax.checkpoint import v1 as ocp

from train import manifest
from train.errors import UserError
from train.state import State
from train.trees import like, replace
from train.workdir import write_text


def _parts(state: State) -> dict[str, Any]:
    """The state by checkpoint part; empty parts are left out."""
    training = {"step": state.step, "opt_state": state.opt_state, "carry": state.carry}
    training["raw"] = like(state.params, state.average)
    parts = {**state.evaluated, "training": training}
    return {name: part for name, part in parts.items() if jax.tree.leaves(part)}


def abstract(tree: Any, shardings: Any) -> Any:
    """Shapes, dtypes and places of a tree: what a restore aims at."""
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree, shardings
    )


class Checkpoints:
    """The checkpoints of one run. Use as a context manager: leaving it finishes the last save."""

    def __init__(self, workdir: pathlib.Path, keep: int) -> None:
        """`keep` newest checkpoints stay, and the best one."""
        self._folder = (workdir / "checkpoints").resolve()
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self._best: dict[str, Any] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.wait()
        self._thread.shutdown()

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, oldest first."""
        if not self._folder.exists():
            return []
        return sorted(
            int(p.name) for p in self._folder.iterdir() if p.is_dir() and p.name.isdigit()
        )

    def path(self, step: int) -> pathlib.Path:
        """The folder of one step."""
        return self._folder / f"{step:08d}"

    def best(self) -> dict[str, Any] | None:
        """``{"step", "metric", "value"}`` of the best evaluation so far."""
        if self._best:  # its save may not have finished
            return self._best
        path = self._folder / "best.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def save(self, step: int, state: State, best: dict[str, Any] | None = None) -> None:
        """Starts saving; it goes on while training does. `best` marks this step as the best."""
        self.wait()
        self._best = best or self._best
        if step in self.steps() and manifest.problem(self.path(step)):
            self._clear(step)
        if step not in self.steps():
            response = ocp.save_checkpointables_async(self.path(step), _parts(state))
            self._pending = self._thread.submit(self._finish, response.result, step, best)
        elif best:
            self._finish(lambda: None, step, best)

    def _clear(self, step: int) -> None:
        """Makes room for a save where a damaged checkpoint was passed over."""
        if jax.process_count() > 1:
            sync_global_devices("all know that it is damaged")
        if jax.process_index() == 0:
            self._remove(step)
        if jax.process_count() > 1:
            sync_global_devices("the damaged checkpoint is gone")

    def _remove(self, step: int) -> None:
        manifest.path_of(self.path(step)).unlink(missing_ok=True)
        shutil.rmtree(self.path(step))

    def _finish(self, committed: Callable[[], Any], step: int, best: dict[str, Any] | None) -> None:
        committed()
        if jax.process_index() != 0:
            return
        if not manifest.path_of(self.path(step)).exists():
            manifest.write(self.path(step))
        if best:
            write_text(self._folder / "best.json", json.dumps(best))
        marked = self.best()
        keep = {*self.steps()[-self._keep :], step, marked["step"] if marked else step}
        for old in set(self.steps()) - keep:
            self._remove(old)

    def wait(self) -> None:
        """Blocks until the last save is committed and has its manifest."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def newest_good(self) -> tuple[int | None, list[str]]:
        """The newest step that verifies, and a sentence for each newer one that does not."""
        self.wait()
        passed_over = []
        for step in reversed(self.steps()):
            problem = manifest.problem(self.path(step))
            if not problem:
                return step, passed_over
            passed_over.append(f"Passed over checkpoint {self.path(step)}: {problem}.")
        return None, passed_over

    def restore(self, step: int, state: State) -> State:
        """The whole state at `step`; `state` is the abstract tree (shapes, dtypes, shardings)."""
        aim = _parts(state)
        check_shapes(self.path(step), aim)
        got = ocp.load_checkpointables(self.path(step), aim)
        params = {name: got.get(name, part) for name, part in state.params.items()}
        training = got["training"]
        raw = training.get("raw", {})
        return State(
            training["step"],
            replace(params, raw),
            training.get("opt_state", state.opt_state),
            training.get("carry", {}),
            like(params, raw),
        )


def check_shapes(folder: pathlib.Path, aim: dict[str, Any]) -> None:
    """UserError naming the first array whose shape or dtype is not what `aim` expects."""
    there = stored(folder)
    for part in aim:
        found = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(there.get(part, {}))}
        wanted = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(aim[part])}
        for name in sorted(wanted.keys() | found.keys()):
            is_there = _describe(found.get(name))
            is_wanted = _describe(wanted.get(name))
            if is_there != is_wanted:
                raise UserError(
                    f"{folder}: {part}/{name} is {is_there} in the checkpoint but {is_wanted} in "
                    "this config; use the config that the checkpoint was made with."
                )


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _describe(leaf: Any) -> str:
    return "absent" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def best_folder(workdir: pathlib.Path, newest: bool = False) -> pathlib.Path:
    """A run's best verified checkpoint, else its newest; UserError if none verifies.

    With `newest`, the newest even if another one is the best.
    """
    with Checkpoints(workdir, keep=1) as checkpoints:
        best = None if newest else checkpoints.best()
        step = best["step"] if best and best["step"] in checkpoints.steps() else None
        if step is None or manifest.problem(checkpoints.path(step)):
            step, passed_over = checkpoints.newest_good()
            for sentence in passed_over:
                logging.warning(sentence)
        if step is None:
            raise UserError(
                f"{workdir} has no checkpoint that verifies; train it first "
                "(pretune train --workdir=...), or check the path."
            )
        return checkpoints.path(step)


def stored(folder: pathlib.Path) -> dict[str, Any]:
    """Part name -> tree of what a checkpoint holds (shapes and dtypes)."""
    return ocp.checkpointables_metadata(folder).metadata


def load_parts(workdir: pathlib.Path, aim: dict[str, Any], newest: bool = False) -> dict[str, Any]:
    """Parts of a run's best verified checkpoint (else its newest), e.g. the backbone only.

    Args:
      workdir: another run's folder, read only.
      aim: part name ("backbone", "head") -> abstract tree with shardings.
      newest: of the newest checkpoint, even if another one is the best.

    Returns:
      part name -> arrays; {} for a part that has none (no checkpoint holds it).

    Raises:
      UserError: no checkpoint that verifies, or one of other shapes.
    """
    folder = best_folder(workdir, newest)
    held = {name: part for name, part in aim.items() if jax.tree.leaves(part)}
    check_shapes(folder, held)
    return {**aim, **ocp.load_checkpointables(folder, held)}
