"""A stack of equal layers, run one by one or as a scan, with or without recomputation."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from model.adapters import DROPOUT
from model.errors import ModelError

REMAT_POLICIES = {
    "full": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def apply_layers(
    layers: Sequence[nn.Module],
    x: jax.Array,
    shared: Any,
    per_layer: Sequence[Any],
    *,
    scan: bool,
    remat: str,
) -> tuple[jax.Array, list[Any]]:
    """Runs a stack of equal layers ``layer(x, shared, own) -> (x, out)``.

    Parameters are always stored layer by layer, so that checkpoints, freezing and import do not
    depend on how the stack is run. With `scan` they are stacked inside the step: a copy, against
    a compile time that no longer grows with depth.

    Args:
      layers: bound Linen modules of one class and one configuration.
      x: activations [B, T, D].
      shared: a pytree that every layer reads (masks).
      per_layer: a pytree for each layer (dropout key, cache).
      scan: run as one `lax.scan`.
      remat: "none"; "dots" keeps the products' results; "full" keeps only each layer's input.

    Returns:
      Final activations and each layer's `out`.
    """
    if remat != "none" and remat not in REMAT_POLICIES:
        raise ModelError(
            f"config.model.remat is {remat!r}; it must be one of {['none', *REMAT_POLICIES]}."
        )
    if layers[0].is_initializing():
        outs = []
        for layer, own in zip(layers, per_layer, strict=True):
            x, out = layer(x, shared, own)
            outs.append(out)
        return x, outs

    module = layers[0].clone(parent=None, name=None)

    def run(x: jax.Array, variables: Any, own: Any, key: Any) -> tuple[jax.Array, Any]:
        rngs = {} if key is None else {DROPOUT: key}
        return module.apply(variables, x, shared, own, rngs=rngs)

    if remat != "none":
        run = jax.checkpoint(run, policy=REMAT_POLICIES[remat], prevent_cse=not scan)
    variables = [layer.variables for layer in layers]
    keys = [layer.make_rng(DROPOUT) if layer.has_rng(DROPOUT) else None for layer in layers]
    if not scan:
        outs = []
        for xs in zip(variables, per_layer, keys, strict=True):
            x, out = run(x, *xs)
            outs.append(out)
        return x, outs
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    stacked = (stack(variables), stack(per_layer), stack(keys))
    x, outs = lax.scan(lambda x, xs: run(x, *xs), x, stacked)
    return x, [jax.tree.map(lambda leaf, i=i: leaf[i], outs) for i in range(len(layers))]
