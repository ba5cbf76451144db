"""The training step and the evaluation step, as pure functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model.api import Model
from train.state import State

Metrics = dict[str, tuple[jax.Array, jax.Array]]


def _gradients(model: Model, objective: Any, params: Any, batch: Any, rng: Any, accumulate: int):
    """Gradients of the loss over the global batch, and (sum, weight) of every loss and metric.

    The denominators are those of the whole batch, so that micro-batches with few and with many
    targets count as they would in one piece. Reading them off the loss costs nothing: its weights
    depend on the batch alone, and XLA drops the forward pass that nobody reads.
    """
    whole, _ = objective.loss(model.apply, params, batch, rng)
    denominators = {name: jnp.maximum(weight, 1) for name, (_, weight) in whole.items()}

    def loss(params: Any, rows: Any, rng: Any) -> tuple[jax.Array, Metrics]:
        losses, metrics = objective.loss(model.apply, params, rows, rng)
        total = sum(value / denominators[name] for name, (value, _) in losses.items())
        return total, {**metrics, **losses}

    gradient = jax.grad(loss, has_aux=True)
    if accumulate == 1:
        return gradient(params, batch, rng)

    def add(total: Any, xs: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, *xs)), None

    # Micro-batch i takes rows i, i + k, ...: every device keeps its own rows.
    micro = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, accumulate, *x.shape[1:]), 0, 1), batch
    )
    rngs = jax.random.split(rng, accumulate)
    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], micro), rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, (micro, rngs))[0]


def train_step(
    model: Model,
    objective: Any,
    optimizer: optax.GradientTransformation,
    accumulate: int,
    state: State,
    batch: dict[str, jax.Array],
    key: jax.Array,
) -> tuple[State, Metrics]:
    """One optimizer step.

    Args:
      model: the model.
      objective: its loss.
      optimizer: optax.
      accumulate: micro-batches; the result is that of one large batch.
      state: donated when jitted.
      batch: global arrays [B, ...].
      key: the run's key; dropout is keyed by (key, step).

    Returns:
      The next state, and (sum, weight) of every loss and metric, with `gradient_norm`.
    """
    rng = jax.random.fold_in(key, state.step)
    grads, metrics = _gradients(model, objective, state.params, batch, rng, accumulate)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics["gradient_norm"] = (optax.tree.norm(grads), jnp.ones(()))
    return State(state.step + 1, params, opt_state, state.carry), metrics


def eval_step(model: Model, objective: Any, params: Any, batch: dict[str, jax.Array]) -> Metrics:
    """(sum, weight) of every loss and metric on one batch, without dropout."""
    losses, metrics = objective.loss(model.apply, params, batch, None)
    return {**metrics, **losses}


def predict_step(model: Model, objective: Any, params: Any, batch: dict[str, jax.Array]) -> Any:
    """The objective's per-example outputs on one batch."""
    return objective.predict(model.apply, params, batch)


def bind(step: Callable[..., Any], *parts: Any) -> Callable[..., Any]:
    """`step` with its static parts filled in, under its own name for traces and profiles."""
    return functools.wraps(step)(functools.partial(step, *parts))
