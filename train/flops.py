"""Floating-point operations of a function, counted in its program: matrix products only.

A product of [m, k] and [k, n] is 2mkn (Chowdhery et al. 2022, PaLM, appendix B); the causal half
that a kernel could skip is not taken off. What nobody reads, such as the gradient of a frozen
weight, is not counted: XLA drops it as well. (XLA's own count takes the body of a scan once.)
"""

import math
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval


def count(jaxpr: core.ClosedJaxpr) -> int:
    """FLOPs of one run of a traced function (``jax.jit(f).trace(...).jaxpr``).

    The body of a scan counts as often as it runs; of a conditional's branches the dearest counts.
    """
    program = jaxpr.jaxpr
    needed, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return _count(needed)


def _count(program: core.Jaxpr) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            total += _product(equation)
            continue
        parts = [_count(inner) for inner in core.jaxprs_in_params(equation.params)]
        if equation.primitive.name == "cond":
            parts = [max(parts)]
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(parts)
    return total


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
