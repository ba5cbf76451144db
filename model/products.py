"""Matrix products with the dtypes and the gradients that are fast.

Legend: B batch, P predicted positions, D width, V vocabulary; *I inputs, *O outputs.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def accumulator(dtype: Any) -> Any:
    """The dtype of sums and statistics over `dtype`: float32, float64 for float64 itself."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def _contract(x: jax.Array, y: jax.Array, x_dims: range, y_dims: range) -> jax.Array:
    dims = ((tuple(x_dims), tuple(y_dims)), ((), ()))
    return lax.dot_general(x, y, dims, preferred_element_type=accumulator(x.dtype))


def _weight_gradient(x: jax.Array, g: jax.Array, rows: int) -> jax.Array:
    """``x^T g`` over the first `rows` dimensions, in one product that accumulates in float32.

    XLA:CPU contracts a single leading dimension as it lies, and transposes a copy of `x` to
    contract several. In float32 the copy costs more than it brings. In bfloat16 it is what brings
    the fast matrix units into play, and a single dimension is not supported at all.
    """
    if x.dtype == jnp.float32:
        x, g, rows = x.reshape(-1, *x.shape[rows:]), g.reshape(-1, *g.shape[rows:]), 1
    elif rows == 1:
        x, g = x.astype(accumulator(x.dtype)), g.astype(accumulator(x.dtype))
    return _contract(x, g, range(rows), range(rows))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, w: jax.Array, contracted: int = 1) -> jax.Array:
    """Contracts the last `contracted` dimensions of `x` with the first ones of `w`.

    Args:
      x: [..., *I].
      w: [*I, *O], of any float dtype; it is cast to that of `x`.
      contracted: the number of dimensions in I.

    Returns:
      [..., *O] in the dtype of `x`. Products accumulate in float32 (at least). The weight's
      gradient is formed as ``x^T g`` in one product and never leaves float32; what autodiff emits
      instead transposes the large result, which costs a third of a GPT-2 step on a CPU.
    """
    return _product(x, w, contracted)


def _product(x: jax.Array, w: jax.Array, contracted: int) -> jax.Array:
    last = range(x.ndim - contracted, x.ndim)
    return _contract(x, w.astype(x.dtype), last, range(contracted)).astype(x.dtype)


def _matmul_forward(x: jax.Array, w: jax.Array, contracted: int) -> tuple[jax.Array, Any]:
    # Not by way of `matmul`: a remat policy does not see products behind a custom gradient.
    return _product(x, w, contracted), (x, w)


def _matmul_backward(contracted: int, saved: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    rows = x.ndim - contracted
    dx = _contract(g, w.astype(x.dtype), range(rows, g.ndim), range(contracted, w.ndim))
    dw = _weight_gradient(x, g, rows)
    return dx.astype(x.dtype), dw.astype(w.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def unembed(x_BPD: jax.Array, table_VD: jax.Array) -> jax.Array:
    """Logits [B, P, V], float32 at least, from the rows of an embedding table.

    Both gradients come out in their own layout, without a transposed copy of [V, D].
    """
    return _contract(x_BPD, table_VD.astype(x_BPD.dtype), range(2, 3), range(1, 2))


def _unembed_backward(saved: Any, g_BPV: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, table = saved
    g_BPV = g_BPV.astype(x.dtype)
    dx = _contract(g_BPV, table.astype(x.dtype), range(2, 3), range(1))
    dtable = _weight_gradient(g_BPV, x, 2)
    return dx.astype(x.dtype), dtable.astype(table.dtype)


unembed.defvjp(lambda x, table: (unembed(x, table), (x, table)), _unembed_backward)
