"""From logical axis names on dimensions to mesh axes: one table in the config, no code per layout.

A parameter or activation dimension has a name (``"width"``, ``"heads"``, ...); a rule list maps the
name to one or several mesh axes. The layers call `constrain`; it does nothing until `use` has set
a mesh and rules, so that a model is an ordinary function on one device.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Rules = Sequence[tuple[str, Sequence[str]]]
_ACTIVE: ContextVar[tuple[Mesh, Rules] | None] = ContextVar("mesh_and_rules", default=None)


@contextlib.contextmanager
def use(mesh: Mesh, rules: Rules) -> Iterator[None]:
    """Makes `mesh` and `rules` what `constrain` follows while a function is traced."""
    token = _ACTIVE.set((mesh, rules))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def partition_spec(
    names: Sequence[str | None], shape: Sequence[int], mesh: Mesh, rules: Rules
) -> PartitionSpec:
    """The layout of one array.

    Args:
      names: the logical name of each dimension; None is never split.
      shape: sizes of the dimensions. A dimension that a mesh axis does not divide stays whole on
        that axis (a vocabulary of 50,257 on two devices), rather than failing.
      mesh: the device mesh.
      rules: (logical name, mesh axes) pairs; the first pair with the name counts.

    Returns:
      A PartitionSpec of the same rank. A mesh axis is used for at most one dimension.
    """
    table, used, entries = dict(reversed(list(rules))), set(), []
    for name, size in zip(names, shape, strict=True):
        chosen: list[str] = []
        for axis in table.get(name, ()):
            split = mesh.shape[axis]
            if split > 1 and axis not in used and size % split == 0:
                chosen.append(axis)
                used.add(axis)
                size //= split
        entries.append(tuple(chosen) or None)
    return PartitionSpec(*entries)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """States an activation's layout by the names of its dimensions (identity without a mesh)."""
    active = _ACTIVE.get()
    if active is None:
        return x
    mesh, rules = active
    spec = partition_spec(names, x.shape, mesh, rules)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
