"""What a training step reads and writes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from model.api import Model
from train.mesh import by_rows, param_shardings, replicated
from train.optimizer import Optimizer
from train.trees import replace


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The whole state of training; with the seed and the step's number it decides the rest.

    Attributes:
      step: [] int32, steps done.
      params: ``{"backbone": ..., "head": ...}``, and "adapters" where the model has some.
      opt_state: the optimizer's, of the parameters that train.
      carry: what the model keeps from step to step, each leaf [B, ...] (XLNet's memory); {} for
        others.
      average: the parameters that train, averaged over the steps; {} where none is kept.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any
    average: Any = dataclasses.field(default_factory=dict)

    @property
    def evaluated(self) -> Any:
        """The parameters that are evaluated and handed on: the averaged ones, where there are."""
        return replace(self.params, self.average)


def start(model: Model, optimizer: Optimizer, params: Any, rows: int = 0) -> State:
    """The state at step 0; with an empty carry for `rows` contiguous rows, 0 where they are not."""
    trained = optimizer.trained(params)
    # A copy: the step is given both to write over.
    average = jax.tree.map(jnp.copy, trained) if optimizer.ema_decay else {}
    carry = model.carry(rows) if rows else {}
    return State(jnp.zeros((), jnp.int32), params, optimizer.init(trained), carry, average)


def shardings(model: Model, optimizer: Optimizer, mesh: Mesh, rules: Any, rows: int) -> State:
    """The state's tree with a sharding for each array.

    Moments and averages lie where their parameter lies, the carry where the rows of a batch lie.
    What the optimizer keeps in another shape (factored moments, counts) is on every device.
    """
    params = param_shardings(model.axes, model.shapes, mesh, rules)
    state = jax.eval_shape(lambda shapes: start(model, optimizer, shapes, rows), model.shapes)
    whole = replicated(mesh)
    places = {_name(path): place for path, place in jax.tree.leaves_with_path(params)}
    sizes = {_name(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(model.shapes)}

    def of_parameter(path: Any, leaf: Any) -> Any:
        # A parameter's path ends the path of all that is kept for it.
        name = _name(path)
        ends = (name[at:] for at in range(len(name)) if at == 0 or name[at - 1] == "/")
        own = next((end for end in ends if end in places), None)
        return places[own] if own and leaf.shape == sizes[own] else whole

    carry = jax.tree.map(lambda _: by_rows(mesh), state.carry)
    kept = jax.tree.map_with_path(of_parameter, (state.opt_state, state.average))
    return State(whole, params, kept[0], carry, kept[1])


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
