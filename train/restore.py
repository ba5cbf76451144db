"""Parameters of finished runs for others to use, with their adapters."""

import dataclasses
import pathlib
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from model.adapters import from_config
from model.api import Model, build
from model.heads import Heads
from model.lora import merge
from train.checkpoint import abstract, load_parts
from train.errors import UserError
from train.mesh import ONE_DEVICE, make_mesh, param_shardings
from train.workdir import read_config


def load_adapted(workdir: pathlib.Path, config: ConfigDict, heads: Heads) -> tuple[Model, Any]:
    """A run's model and its best parameters on one device, as they were trained.

    Args:
      workdir: the run's folder.
      config: of the run, with the vocabulary's size.
      heads: those of the run.
    """
    model = build(config.model, heads, config.adapters)
    return model, load_parts(workdir, _aim(model, make_mesh(ONE_DEVICE), config))


def load_model(workdir: pathlib.Path, config: ConfigDict, heads: Heads) -> tuple[Model, Any]:
    """As `load_adapted`, with LoRA merged into the weights."""
    _, params = load_adapted(workdir, config, heads)
    params, rest = merge(params, from_config(config.adapters))
    return build(config.model, heads, rest), params


def load_backbone(
    source: pathlib.Path, config: ConfigDict, mesh: Mesh, aim: dict[str, Any]
) -> dict[str, Any]:
    """Parts of a run that another one starts from.

    Adapters go along where the new run has the same ones; else LoRA is merged into the backbone.

    Args:
      source: the run's folder.
      config: the new run's.
      mesh: where the new run lives.
      aim: the new run's parts that are wanted (see `load_parts`), all with "backbone".

    Raises:
      UserError: bottleneck adapters, which are no part of a backbone.
    """
    ours, theirs = from_config(config.adapters), from_config(read_config(source).adapters)
    if theirs == dataclasses.replace(ours, lora_dropout=theirs.lora_dropout):
        return load_parts(source, aim)
    if theirs.bottleneck:
        raise UserError(
            f"{source} has bottleneck adapters, which cannot be merged into its backbone; give "
            "this run the same config.adapters, or start from what that run started from."
        )
    aim = {name: part for name, part in aim.items() if name != "adapters"}
    if theirs.lora_rank:
        aim["adapters"] = _aim(build(config.model, Heads(), theirs), mesh, config)["adapters"]
    params, _ = merge(load_parts(source, aim), theirs)
    return params


def _aim(model: Model, mesh: Mesh, config: ConfigDict) -> dict[str, Any]:
    return abstract(model.shapes, param_shardings(model.axes, model.shapes, mesh, config.sharding))
