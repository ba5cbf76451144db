"""optax from the config: schedule, clipping, six optimizers, each parameter at its own pace.

The optimizer gives updates for a learning rate of 1. The rate is an argument of the training step,
so runs that differ in their schedule or in their number of steps share one compiled step.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.base import choose
from model.api import Model
from train.directions import DIRECTIONS, Direction, part_axis
from train.errors import UserError
from train.paces import Pace, assign
from train.trees import Tree, pick, replace


def learning_rates(config: Any, steps: int) -> np.ndarray:
    """The learning rate of each step, [steps] float32: linear warmup to the peak, then decay.

    Args:
      config: ``config.optimizer``.
      steps: steps of the whole run; linear and cosine end there at ``end_factor`` of the peak.

    `rsqrt` is peak * sqrt(warmup / step) (Raffel et al. 2020, 3.1.2, scaled to meet the warmup).
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    decay = max(1, steps - warmup)

    def rsqrt(step: jax.Array) -> jax.Array:
        # join_schedules asks for negative steps too, during the warmup.
        return peak * (1 + jnp.maximum(step, 0) / max(1, warmup)) ** -0.5

    after = {
        "linear": lambda: optax.linear_schedule(peak, peak * config.end_factor, decay),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay, config.end_factor),
        "constant": lambda: optax.constant_schedule(peak),
        "rsqrt": lambda: rsqrt,
    }
    after = choose("schedule", config.schedule, after)()
    # The first step already learns: counted from 1, it reaches the peak at step `warmup`.
    rise = optax.linear_schedule(peak / max(1, warmup), peak, max(1, warmup - 1))
    rate = optax.join_schedules([rise, after], [warmup])
    return np.broadcast_to(np.asarray(rate(np.arange(steps)), np.float32), (steps,))


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: a static argument of jit
class Optimizer:
    """An optimizer of the parameters that train; for the others nothing is kept or computed.

    Attributes:
      paces: the model's tree with a Pace for each parameter.
      directions: label -> what gives the direction of a step, each with a state of its own.
      labels: the tree of trained parameters with the label of each one's direction.
      clip_norm: of the gradient of what learns; 0: no clipping.
      weight_decay: at a factor of 1.
      part_axes: for LAMB, which scales each step to the size of its parameter, the tree of trained
        parameters with the dimension of each that numbers the parts of a fused map, -1 for none;
        {} for other optimizers.
      ema_decay: of the average of the weights; 0: none is kept.
    """

    paces: Tree
    directions: dict[str, optax.GradientTransformation]
    labels: Tree
    clip_norm: float
    weight_decay: float
    part_axes: Tree
    ema_decay: float

    def trained(self, params: Tree) -> Tree:
        """The part of a model's tree that trains (held parameters included)."""
        return pick(params, self.paces, lambda pace: pace.rate)

    def init(self, trained: Tree) -> dict[str, Any]:
        """The state at step 0: optax's, by label."""
        return {
            label: direction.init(self._part(trained, label))
            for label, direction in self.directions.items()
        }

    def _part(self, trained: Tree, label: str) -> Tree:
        return pick(trained, self.labels, lambda own: own == label)

    @functools.cached_property
    def _trained_paces(self) -> Tree:
        return self.trained(self.paces)

    def learning(self, grads: Tree, step: jax.Array) -> Tree:
        """Gradients with zeros for what is still held."""
        return jax.tree.map(
            lambda pace, g: g * (step >= pace.start) if pace.start else g,
            self._trained_paces,
            grads,
        )

    def update(
        self, grads: Tree, state: dict[str, Any], trained: Tree, step: jax.Array
    ) -> tuple[Tree, dict[str, Any]]:
        """Updates at a learning rate of 1, and the next state.

        Args:
          grads: what `learning` gave.
          state: of `init` or the step before.
          trained: the parameters.
          step: [] int32, steps done: decides what is held, without another compilation.
        """
        if self.clip_norm:
            clip = optax.clip_by_global_norm(self.clip_norm)
            grads, _ = clip.update(grads, clip.init(grads))
        updates, after = trained, {}
        for label, direction in self.directions.items():
            part, own = self._part(grads, label), self._part(trained, label)
            found, after[label] = direction.update(part, state[label], own, step=step)
            updates = replace(updates, found)

        def decayed(pace: Pace, u: jax.Array, p: jax.Array) -> jax.Array:
            return u + self.weight_decay * pace.decay * p if self.weight_decay * pace.decay else u

        def trusted(part: int, u: jax.Array, p: jax.Array) -> jax.Array:
            over = [axis for axis in range(u.ndim) if axis != part]
            size, length = (jnp.sqrt(jnp.sum(x * x, over, keepdims=True)) for x in (p, u))
            return u * jnp.where((size == 0) | (length == 0), 1.0, size / length)

        def scaled(pace: Pace, u: jax.Array) -> jax.Array:
            held = step < pace.start if pace.start else False
            return jnp.where(held, 0, -pace.rate * u)

        updates = jax.tree.map(decayed, self._trained_paces, updates, trained)
        if self.part_axes:
            updates = jax.tree.map(trusted, self.part_axes, updates, trained)
        return jax.tree.map(scaled, self._trained_paces, updates), after

    def averaged(self, average: Tree, trained: Tree, step: jax.Array) -> Tree:
        """The average of the weights after a step; {} stays {}.

        The early steps are averaged over a shorter time, min(ema_decay, (1 + step)/(10 + step)), as
        in TensorFlow's ExponentialMovingAverage: the initial weights would else weigh too much.
        """
        decay = jnp.minimum(self.ema_decay, (1.0 + step) / (10.0 + step))
        part = lambda old, new: decay * old + (1 - decay) * new  # noqa: E731
        return jax.tree.map(part, average, trained) if average else average


def hold(direction: Direction, start: int) -> optax.GradientTransformationExtraArgs:
    """`direction` with a state that stands still until step `start`: its counts begin there."""

    def update(grads: Tree, state: Any, params: Tree, *, step: jax.Array) -> tuple[Tree, Any]:
        updates, after = direction.update(grads, state, params)
        if start:
            after = jax.tree.map(lambda new, old: jnp.where(step >= start, new, old), after, state)
        return updates, after

    return optax.GradientTransformationExtraArgs(direction.init, update)


def make_optimizer(config: Any, model: Model) -> Optimizer:
    """The optimizer of ``config.optimizer`` for the parameters of a model.

    Raises:
      UserError, ConfigError: an optimizer, rule or group that does not exist or fit.
    """
    make: Callable[..., dict[str, Any]] = choose("optimizer", config.name, DIRECTIONS)
    for name in (
        "learning_rate",
        "warmup_steps",
        "end_factor",
        "clip_norm",
        "weight_decay",
        "epsilon",
    ):
        # A Program's config leaves out what makes the rate alone.
        if name in config and not config[name] >= 0:
            raise UserError(f"config.optimizer.{name} is {config[name]}; it must be 0 or more.")
    for name in ("b1", "b2", "momentum", "ema_decay"):
        if not 0 <= config[name] < 1:
            raise UserError(
                f"config.optimizer.{name} is {config[name]}; it must be 0 or more, and below 1."
            )
    paces = assign(config, model)
    trains = lambda pace: pace.rate  # noqa: E731
    trained = pick(paces, paces, trains)
    axes, shapes = pick(model.axes, paces, trains), pick(model.shapes, paces, trains)
    number = lambda path, _, own: -1 if (at := part_axis(path, own)) is None else at  # noqa: E731
    parts = jax.tree.map_with_path(number, shapes, axes)
    directions, labels = {}, {}
    for start in sorted({pace.start for pace in jax.tree.leaves(trained)}):
        begins = lambda pace, start=start: pace.start == start  # noqa: E731
        kinds, chosen = make(config, pick(axes, trained, begins), pick(shapes, trained, begins))
        label = lambda kind, start=start: f"{kind}_from_{start}" if start else kind  # noqa: E731
        directions |= {label(kind): hold(direction, start) for kind, direction in kinds.items()}
        labels = _merge(labels, jax.tree.map(label, chosen))
    return Optimizer(
        paces=paces,
        directions=directions,
        labels=labels,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        part_axes=parts if config.name == "lamb" else {},
        ema_decay=config.ema_decay,
    )


def _merge(first: Tree, second: Tree) -> Tree:
    """Two trees without a common leaf as one."""
    both = first.keys() & second.keys()
    return {**first, **second, **{key: _merge(first[key], second[key]) for key in both}}
