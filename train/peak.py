"""How fast this device multiplies matrices, measured: the denominator of utilisation."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SIZE = {"cpu": 2048}  # rows and columns of the product that measures the peak
SIZE_ELSEWHERE = 8192


def timed(call: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each of `count` calls, each waited for."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - began)
    return seconds


@functools.cache
def matrix_peak(dtype: str) -> float:
    """FLOP/s of one device: the best of several large square products, accumulated in float32.

    Fake CPU devices share the cores, so each is given its share.
    """
    size = SIZE.get(jax.default_backend(), SIZE_ELSEWHERE)
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    jax.block_until_ready(product(x, x))
    peak = 2 * size**3 / min(timed(lambda: product(x, x), 8))
    return peak / jax.local_device_count() if jax.default_backend() == "cpu" else peak
