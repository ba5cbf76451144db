"""optax from the config: schedule, clipping, AdamW, and one rule list for what trains how fast.

The optimizer gives updates for a learning rate of 1. The rate is an argument of the training step,
so runs that differ in their schedule or in their number of steps share one compiled step.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.base import choose
from train.errors import UserError


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


def parameter_groups(rules: Any, params: Any) -> Any:
    """The tree of `params` with each parameter's group name, by the first rule that matches.

    Raises:
      UserError: a parameter that no rule matches, or a rule that no parameter reaches.
    """
    used = set()

    def group(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for index, (pattern, chosen) in enumerate(rules):
            if re.search(pattern, name):
                used.add(index)
                return chosen
        raise UserError(
            f"No pattern of config.optimizer.rules matches the parameter {name}; "
            "end the list with ('', GROUP)."
        )

    tree = jax.tree_util.tree_map_with_path(group, params)
    unused = [pattern for index, (pattern, _) in enumerate(rules) if index not in used]
    if unused:
        raise UserError(
            f"The pattern {unused[0]!r} of config.optimizer.rules decides for no parameter; "
            "correct it or take it out."
        )
    return tree


def make_optimizer(config: Any, params: Any) -> optax.GradientTransformation:
    """The optimizer of ``config.optimizer`` for parameters of the given tree (shapes suffice).

    Its updates are those at learning rate 1: the training step multiplies them by its rate.

    AdamW (Loshchilov & Hutter 2019). Each group of the rule list has a factor on the learning rate
    and one on the weight decay; (0, 0) freezes it: no moments are kept for it.
    """
    groups = parameter_groups(config.rules, params)
    names = set(jax.tree.leaves(groups))

    def transformation(name: str) -> optax.GradientTransformation:
        rate_factor, decay_factor = choose(
            "parameter group (config.optimizer.groups)", name, dict(config.groups)
        )
        if rate_factor == 0:
            return optax.set_to_zero()
        return optax.chain(
            optax.scale_by_adam(config.b1, config.b2, config.epsilon),
            optax.add_decayed_weights(config.weight_decay * decay_factor),
            optax.scale(-rate_factor),
        )

    choose("optimizer", config.name, {"adamw": None})
    if config.clip_norm < 0:
        raise UserError("config.optimizer.clip_norm must be positive, or 0 for no clipping.")
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, optax.partition({n: transformation(n) for n in names}, groups))
