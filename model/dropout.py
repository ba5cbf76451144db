"""Dropout and its keys: no key means no dropout."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, rng: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and rescales the rest; identity without a key.

    16 random bits an element: half the cost of a float draw, and the probability is off by less
    than 1e-5; the rescaling uses the probability that is really drawn.
    """
    if rng is None or rate == 0.0:
        return x
    threshold = round(rate * 65536)
    keep = jax.random.bits(rng, x.shape, jnp.uint16) >= threshold
    return jnp.where(keep, x * (65536 / (65536 - threshold)), 0).astype(x.dtype)


def split(rng: jax.Array | None, count: int) -> Sequence[jax.Array | None]:
    """`count` keys from one, or that many Nones: no key means no dropout."""
    return [None] * count if rng is None else list(jax.random.split(rng, count))
