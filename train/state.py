"""What a training step reads and writes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from model.api import Model
from train.mesh import param_shardings, replicated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The whole state of training; with the seed and the step's number it decides the rest.

    Attributes:
      step: [] int32, steps done.
      params: ``{"backbone": ..., "head": ...}``.
      opt_state: optax's.
      carry: what a model carries from step to step (XLNet's memory); {} for others.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any


def create(model: Model, optimizer: optax.GradientTransformation, rng: jax.Array) -> State:
    """A fresh state."""
    params = model.init(rng)
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), {})


def shardings(
    model: Model, optimizer: optax.GradientTransformation, mesh: Mesh, rules: Any
) -> State:
    """The state's tree with a sharding for each array; moments lie where their parameter lies."""
    shapes = jax.eval_shape(lambda: create(model, optimizer, jax.random.key(0)))
    params = param_shardings(model.axes, model.shapes, mesh, rules)
    whole = replicated(mesh)
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda moment, place: moment if isinstance(moment, optax.MaskedNode) else place,
        shapes.opt_state,
        params,
        transform_non_params=lambda _: whole,
        is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
    )
    return State(whole, params, opt_state, {})
