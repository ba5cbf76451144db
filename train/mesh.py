"""Devices as a mesh, and where each array of a step lives on it."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from model.sharding import partition_spec
from train.errors import UserError

AXES = ("data", "fsdp", "sequence", "tensor")
ONE_DEVICE = dict.fromkeys(AXES, 1)


def make_mesh(config: Any) -> Mesh:
    """The mesh of ``config.mesh`` over all devices, or over the first ones if it needs fewer.

    Raises:
      UserError: more devices asked for than there are, or sizes that do not divide.
    """
    sizes = [config[axis] for axis in AXES]
    devices = jax.devices()
    known = math.prod(size for size in sizes if size != -1)
    text = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if sizes.count(-1) > 1 or min(sizes) < -1 or 0 in sizes:
        raise UserError(
            f"config.mesh ({text}) needs positive sizes, with -1 for at most one of them."
        )
    if known > len(devices) or (-1 in sizes and len(devices) % known):
        raise UserError(
            f"config.mesh ({text}) does not fit the {len(devices)} {devices[0].platform} "
            "device(s) here; lower its sizes or start with more devices."
        )
    sizes = [len(devices) // known if size == -1 else size for size in sizes]
    if math.prod(sizes) != len(devices) and jax.process_count() > 1:
        raise UserError(
            f"config.mesh ({text}) must use all {len(devices)} devices of the "
            f"{jax.process_count()} processes."
        )
    used = devices[: math.prod(sizes)]
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=used)


def make_mesh_that_fits(config: Any) -> Mesh:
    """The mesh of ``config.mesh``, or one device where a run was trained on more than are here."""
    try:
        return make_mesh(config)
    except UserError:
        return make_mesh(ONE_DEVICE)


def check_batch(name: str, rows: int, accumulate: int, mesh: Mesh) -> None:
    """UserError unless `rows` divide into micro-batches and over the mesh's data and fsdp axes."""
    if rows < 1 or accumulate < 1:
        raise UserError(
            f"config.{name} is {rows} and config.accumulate {accumulate}; both must be positive."
        )
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % (accumulate * ways):
        raise UserError(
            f"config.{name} is {rows}, which {accumulate} micro-batch(es) on {ways} data-parallel "
            f"device(s) do not divide; make it a multiple of {accumulate * ways}."
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The first dimension, rows of a batch, split over data and fsdp."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def param_shardings(axes: Any, shapes: Any, mesh: Mesh, rules: Any) -> Any:
    """A sharding for each parameter from its logical axis names."""
    return jax.tree.map(
        lambda shape, names: NamedSharding(mesh, partition_spec(names, shape.shape, mesh, rules)),
        shapes,
        axes,
    )


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a global batch as global arrays, rows split over data and fsdp."""
    return {
        key: jax.make_array_from_process_local_data(by_rows(mesh), rows)
        for key, rows in batch.items()
    }
