"""What a training step reads and writes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from model.api import Model
from train.mesh import by_rows, param_shardings, replicated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The whole state of training; with the seed and the step's number it decides the rest.

    Attributes:
      step: [] int32, steps done.
      params: ``{"backbone": ..., "head": ...}``.
      opt_state: optax's.
      carry: what the model keeps from step to step, each leaf [B, ...] (XLNet's memory); {} for
        others.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any


def create(
    model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, rows: int = 0
) -> State:
    """A fresh state; with an empty carry for `rows` contiguous rows, 0 where they are not."""
    params = model.init(rng)
    carry = model.carry(rows) if rows else {}
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry)


def shardings(
    model: Model, optimizer: optax.GradientTransformation, mesh: Mesh, rules: Any, rows: int
) -> State:
    """The state's tree with a sharding for each array.

    Moments lie where their parameter lies, the carry where the rows of a batch lie.
    """
    params = param_shardings(model.axes, model.shapes, mesh, rules)
    whole = replicated(mesh)
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda moment, place: moment if isinstance(moment, optax.MaskedNode) else place,
        jax.eval_shape(optimizer.init, model.shapes),
        params,
        transform_non_params=lambda _: whole,
        is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode),
    )
    carry = jax.eval_shape(lambda: model.carry(rows) if rows else {})
    carry = jax.tree.map(lambda _: by_rows(mesh), carry)
    return State(whole, params, opt_state, carry)
