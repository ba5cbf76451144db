"""From a config to what a run trains: its full config, tokenizer, rows and compiled program."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from input_pipeline.contiguous import Lanes
from input_pipeline.dataset import Prepared, prepare_rows, prepare_tokenizer
from input_pipeline.tokenizers import load_tokenizer
from model.api import architecture, build, family_config
from model.heads import WAYS, Heads
from train import objectives
from train.checkpoint import abstract, best_folder, stored
from train.errors import UserError
from train.mesh import check_batch, make_mesh
from train.optimizer import make_optimizer
from train.paces import matching
from train.program import Program, make_program
from train.restore import load_backbone
from train.room import cut
from train.state import State
from train.trees import pick, replace
from train.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that the loop needs.

    Attributes:
      config: complete: nothing in it is left to be taken from elsewhere.
      tokenizer: of the run.
      data: rows for training and evaluation.
      program: compiled functions.
      features: the objective's host half, with the tokenizer filled in.
    """

    config: ConfigDict
    tokenizer: Any
    data: Prepared
    program: Program
    features: Any

    def described(self, *purposes: str) -> list[str]:
        """What of the examples for "training" or "evaluation" is left out or cut: a line each."""
        lines, rows_of = [], dict(zip(("training", "evaluation"), self.data.examples, strict=True))
        for name in purposes:
            rows = rows_of[name]
            short, count = cut(self.program.objective, self.tokenizer, rows)
            if short:
                lines.append(
                    f"{short:,} of {count:,} examples for {name} are longer than their row "
                    f"(config.length {self.config.length}) and lose the end of a text"
                )
            skipped = sum(some.store.meta["skipped"] for some in rows)
            if skipped:
                records = sum(some.store.meta["records"] for some in rows)
                lines.append(f"{skipped:,} of {records:,} records for {name} are left out as bad")
        return lines


def complete(config: ConfigDict) -> ConfigDict:
    """Fills in what `init_from` decides (architecture, tokenizer) and checks that it fits.

    Raises:
      UserError: no run there, or one of another family or size.
    """
    config = config.copy_and_resolve_references()
    config.lock()
    if not config.init_from:
        if not config.model.family:
            raise UserError(
                "config.model.family is empty, which takes the architecture from a pre-trained "
                "run; set --config.init_from=WORKDIR, or a family and its sizes."
            )
        return config
    source = pathlib.Path(config.init_from)
    own = source / "tokenizer"
    pretrained = read_config(source).model
    if not config.model.family:
        config.update({"model": architecture(pretrained)})
    config.model.vocab_size = config.model.vocab_size or pretrained.vocab_size
    if config.model.vocab_size and not pretrained.vocab_size:
        pretrained.vocab_size = load_tokenizer(own).vocab_size
    there = architecture(pretrained)
    for key, ours in architecture(config.model).items():
        if ours != there[key]:
            raise UserError(
                f"config.model.{key} is {ours!r} but {source} was trained with {there[key]!r}; "
                "use its architecture (--config.model.family= takes all of it)."
            )
    if config.tokenizer.path:
        ours, theirs = load_tokenizer(config.tokenizer.path), load_tokenizer(own)
        if ours.fingerprint != theirs.fingerprint:
            raise UserError(
                f"The tokenizer {config.tokenizer.path} ({ours.vocab_size} ids) is not the one "
                f"that {source} was trained with ({theirs.vocab_size} ids); leave "
                "config.tokenizer.path empty to use that."
            )
    config.tokenizer.path = config.tokenizer.path or str(own)
    return config


def check(config: ConfigDict) -> None:
    """Raises what is wrong with a config by itself, before anything is read or written."""
    kind = objectives.build(config, 0).rows
    family_config(config.model)
    if not 0 <= config.seed < 2**63:
        raise UserError(f"config.seed is {config.seed}; it must be at least 0 and below 2^63.")
    check_length(config)
    mesh = make_mesh(config.mesh)
    check_batch("batch_size", config.batch_size, config.accumulate, mesh)
    check_batch("evaluation.batch_size", config.evaluation.batch_size or config.batch_size, 1, mesh)
    objective = objectives.build(config, num_labels=int(kind == "examples"))
    check_fit(config)
    model = ConfigDict(config.model)
    model.vocab_size = model.vocab_size or 1  # not known yet
    model = build(model, objective.head(), config.adapters)
    make_optimizer(config.optimizer, model)
    if config.evaluation.generate and jax.process_count() > 1:
        raise UserError(
            "config.evaluation.generate needs a single process; set it to 0, and let one process "
            "answer afterwards with 'pretune evaluate --generate=N'."
        )
    matching("config.reinit", config.reinit, model)
    check_patience(config)


def check_patience(config: ConfigDict) -> None:
    """UserError if nothing could tell when the patience has run out."""
    rule = config.evaluation
    if rule.patience < 0 or (rule.patience and not (rule.every and config.checkpoint.every)):
        raise UserError(
            f"config.evaluation.patience is {rule.patience}; it must be 0 (off) or more, and needs "
            "evaluation.every and checkpoint.every, by which the best evaluation is known."
        )


def check_fit(config: ConfigDict) -> None:
    """UserError if the objective predicts tokens in a way that is none of the model's."""
    ways, family = ("", *family_config(config.model).predicts), config.model.family
    way = objectives.load(config).predicts
    if way not in ways:
        fit = [name for name in objectives.NAMES if objectives.load_name(name).predicts in ways]
        raise UserError(
            f"Objective {config.objective.name!r} needs a model that {WAYS[way]}, which family "
            f"{family!r} is not; use another family, or one of {', '.join(fit)}."
        )


def check_length(config: ConfigDict) -> None:
    """UserError if rows are longer than the model's position table or too short to hold text."""
    limit = getattr(family_config(config.model), "max_length", config.length)
    if config.length > limit:
        raise UserError(
            f"config.length {config.length} is longer than the model's position table "
            f"(config.model.max_length {limit}); shorten the rows or, when "
            "training from scratch, enlarge the table."
        )
    if config.length < 8:
        raise UserError(f"config.length {config.length} is too short; use at least 8 tokens.")


def set_up(config: ConfigDict, workdir: pathlib.Path) -> Setup:
    """Tokenizer, rows and program of a completed config.

    With several processes the first one builds what is missing, the others then find it.
    """
    kind = objectives.build(config, 0).rows
    cache = config.data.cache_dir or str(workdir / "data")
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        if jax.process_index() != 0:
            sync_global_devices("data is ready")
    tokenizer = prepare_tokenizer(config.tokenizer, config.data, workdir / "tokenizer")
    if config.model.vocab_size == 0:
        config.model.vocab_size = tokenizer.vocab_size
    if tokenizer.vocab_size > config.model.vocab_size:
        raise UserError(
            f"The tokenizer has {tokenizer.vocab_size} ids but the model only "
            f"{config.model.vocab_size} (config.model.vocab_size); use the tokenizer that the "
            "model was trained with, or a larger table."
        )
    objective = objectives.build(config, num_labels=1 if kind == "examples" else 0)
    task = objective.task(config.data) if hasattr(objective, "task") else None
    lanes = None
    if kind == "contiguous":
        lanes = Lanes(
            train=config.batch_size,
            evaluation=config.evaluation.batch_size or config.batch_size,
            stride=objective.stride,
            bidirectional=config.objective.bidirectional,
        )
    data = prepare_rows(
        config.data, tokenizer, kind, objective.window, cache, config.seed, lanes, task
    )
    set_steps(config, sum(len(rows) for rows in data.train))
    set_unfreezing(config, objective.head())
    if jax.process_count() > 1 and jax.process_index() == 0:
        sync_global_devices("data is ready")
    program = make_program(config, len(data.label_names))
    features = functools.partial(program.objective.features, tokenizer=tokenizer)
    return Setup(config, tokenizer, data, program, features)


def set_steps(config: ConfigDict, rows: int) -> None:
    """Fills in what is given in passes over `rows` rows, or as a share of the steps."""
    if config.epochs < 0 or not 0 <= config.optimizer.warmup_share < 1:
        raise UserError(
            f"config.epochs {config.epochs} must not be negative, and config.optimizer."
            f"warmup_share {config.optimizer.warmup_share} must be at least 0 and below 1."
        )
    if config.epochs:
        config.steps = max(1, round(config.epochs * rows / config.batch_size))
    if config.optimizer.warmup_share:
        config.optimizer.warmup_steps = round(config.optimizer.warmup_share * config.steps)


def set_unfreezing(config: ConfigDict, heads: Heads) -> None:
    """Fills in the steps from depth to depth that are given as a share of the steps.

    Raises:
      UserError: a share that is none, or parameters that would start after the last step.
    """
    rule = config.optimizer
    if not 0 <= rule.unfreeze_by < 1 or (rule.unfreeze_by and rule.unfreeze_every):
        raise UserError(
            f"config.optimizer.unfreeze_by is {rule.unfreeze_by}; it must be at least 0 and below "
            "1, and 0 where unfreeze_every is set."
        )
    if not rule.unfreeze_by and not rule.unfreeze_every:
        return
    deepest = max(jax.tree.leaves(build(config.model, heads, config.adapters).depths))
    if rule.unfreeze_by:
        rule.unfreeze_every = max(1, int(rule.unfreeze_by * config.steps / max(1, deepest)))
    if rule.unfreeze_every * deepest >= config.steps:
        raise UserError(
            f"The deepest parameters would start to learn at step {rule.unfreeze_every * deepest} "
            f"of {config.steps}; lower config.optimizer.unfreeze_every, or take more steps."
        )


def initial_state(setup: Setup, key: jax.Array) -> State:
    """A fresh state, or one whose backbone is that of ``config.init_from`` under a fresh head.

    Pre-training that goes on, of an objective that predicts tokens, takes the head along where
    there is one with the same parts. Parameters of ``config.reinit`` stay fresh.
    """
    program, config = setup.program, setup.config
    state = program.init(key)
    if not config.init_from:
        return state
    source = pathlib.Path(config.init_from)
    aim = abstract(state.params, program.shardings.params)
    there = stored(best_folder(source)).get("head", {})
    if not program.objective.predicts or there.keys() != aim["head"].keys():
        del aim["head"]
    found = load_backbone(source, config, program.mesh, aim)
    fresh = matching("config.reinit", config.reinit, program.model)
    return program.reset(replace({**state.params, **found}, pick(state.params, fresh)))


def enable_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder` across processes ("" turns it off)."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
