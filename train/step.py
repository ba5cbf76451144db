"""The training step and the evaluation step, as pure functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from model.api import Model
from train.optimizer import Optimizer
from train.state import State
from train.trees import replace

Metrics = dict[str, tuple[jax.Array, jax.Array]]


def _gradients(
    model: Model, objective: Any, state: State, trained: Any, batch: Any, rng: Any, accumulate: int
) -> tuple[Any, Metrics, Any]:
    """Gradients of the loss over the global batch, (sum, weight) of every loss and metric, carry.

    They are with respect to `trained` only, a part of the state's parameters: for the others no
    gradient is computed, nor any below the lowest layer that trains.

    The denominators are those of the whole batch, so that micro-batches with few and with many
    targets count as they would in one piece. Reading them off a loss of their own costs no running
    time (its weights depend on the batch alone, and XLA drops the forward pass that nobody reads)
    but the time to trace it, which a batch in one piece does without.
    """
    whole = None
    if accumulate > 1:
        whole, _, _ = objective.loss(model.apply, state.params, batch, rng, state.carry)

    def loss(trained: Any, rows: Any, carry: Any, rng: Any) -> tuple[jax.Array, Any]:
        params = replace(state.params, trained)
        losses, metrics, carry = objective.loss(model.apply, params, rows, rng, carry)
        weights = {name: jnp.maximum(weight, 1) for name, (_, weight) in (whole or losses).items()}
        total = sum(value / weights[name] for name, (value, _) in losses.items())
        return total, ({**metrics, **losses}, carry)

    def gradient(rows: Any, carry: Any, rng: Any) -> tuple[Any, Any]:
        grads, (metrics, carry) = jax.grad(loss, has_aux=True)(trained, rows, carry, rng)
        return (grads, metrics), carry

    if accumulate == 1:
        (grads, metrics), carry = gradient(batch, state.carry, rng)
        return grads, metrics, carry

    def add(total: Any, xs: Any) -> tuple[Any, Any]:
        sums, carry = gradient(*xs)
        return jax.tree.map(jnp.add, total, sums), carry

    # Micro-batch i takes rows i, i + k, ...: every device keeps its own rows.
    micro, carry = jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(-1, accumulate, *x.shape[1:]), 0, 1), (batch, state.carry)
    )
    xs = (micro, carry, jax.random.split(rng, accumulate))
    shapes, _ = jax.eval_shape(gradient, *jax.tree.map(lambda x: x[0], xs))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (grads, metrics), carry = jax.lax.scan(add, zeros, xs)
    rejoin = lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])  # noqa: E731
    return grads, metrics, jax.tree.map(rejoin, carry)


def train_step(
    model: Model,
    objective: Any,
    optimizer: Optimizer,
    accumulate: int,
    state: State,
    batch: dict[str, jax.Array],
    key: jax.Array,
    rate: jax.Array | float,
) -> tuple[State, Metrics]:
    """One optimizer step.

    Args:
      model: the model.
      objective: its loss.
      optimizer: which parameters train, and how.
      accumulate: micro-batches; the result is that of one large batch.
      state: donated when jitted.
      batch: global arrays [B, ...].
      key: the run's key; dropout is keyed by (key, step).
      rate: the learning rate, by which the optimizer's updates are multiplied.

    Returns:
      The next state, and (sum, weight) of every loss and metric, with `gradient_norm`: that of the
      parameters that learn in this step.
    """
    rng = jax.random.fold_in(key, state.step)
    trained = optimizer.trained(state.params)
    grads, metrics, carry = _gradients(model, objective, state, trained, batch, rng, accumulate)
    grads = optimizer.learning(grads, state.step)
    updates, opt_state = optimizer.update(grads, state.opt_state, trained, state.step)
    trained = optax.apply_updates(trained, optax.tree.scale(rate, updates))
    average = optimizer.averaged(state.average, trained, state.step)
    params = replace(state.params, trained)
    metrics["gradient_norm"] = (optax.tree.norm(grads), jnp.ones(()))
    return State(state.step + 1, params, opt_state, carry, average), metrics


def eval_step(
    model: Model, objective: Any, params: Any, batch: dict[str, jax.Array], carry: Any
) -> tuple[Metrics, Any, dict[str, jax.Array]]:
    """One batch without dropout.

    Returns:
      (sum, weight) of every loss and metric; the next carry; the objective's outputs for each row,
      [B, ...], {} where it predicts nothing about rows. (Loss and outputs call the model on the
      same arguments: XLA computes that once.)
    """
    losses, metrics, carry = objective.loss(model.apply, params, batch, None, carry)
    predict = getattr(objective, "predict", lambda *_: {})
    return {**metrics, **losses}, carry, predict(model.apply, params, batch)


def bind(step: Callable[..., Any], *parts: Any) -> Callable[..., Any]:
    """`step` with its static parts filled in, under its own name for traces and profiles."""
    return functools.wraps(step)(functools.partial(step, *parts))
