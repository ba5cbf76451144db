"""The models never promote a dtype by themselves (optax does, so this is not for all tests)."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield
