"""Eight fake devices: every layout gives the losses of one device, with smaller shards."""

import jax
import numpy as np
import pytest

from model.sharding import partition_spec
from train.errors import UserError
from train.mesh import check_batch, make_mesh, to_devices
from train.program import make_program
from train.random_rows import random_batch

STEPS = 5
LAYOUTS = {  # data, fsdp, sequence, tensor
    "data=8": (8, 1, 1, 1),
    "fsdp=8": (1, 8, 1, 1),
    "tensor=2,data=4": (4, 1, 1, 2),
    "mixed": (2, 2, 1, 2),
    "sequence=2": (2, 1, 2, 1),
}


def train(tiny, family, sizes, **more):
    """Losses of five steps, with dropout, and the last state."""
    objective = "causal_lm" if family == "gpt" else "masked_lm_nsp"
    axes = ("data", "fsdp", "sequence", "tensor")
    config = tiny(
        family,
        {
            "objective.name": objective,
            "model.num_layers": 1,
            "model.dropout": 0.1,
            **{f"mesh.{axis}": size for axis, size in zip(axes, sizes, strict=True)},
            **more,
        },
    )
    program = make_program(config, 0)
    host = random_batch(config, program.objective)
    if "weights" in host:
        host["weights"] = host["weights"] * (np.arange(8) % 3 != 0)[:, None]
    batch = to_devices(host, program.mesh)
    state, losses = program.init(jax.random.key(0)), []
    for _ in range(STEPS):
        state, metrics = program.train_step(state, batch, jax.random.key(1), 0.01)
        losses.append([float(metrics[n][0] / metrics[n][1]) for n in program.objective.losses])
    return np.asarray(losses), state


@pytest.fixture(scope="module")
def single(tiny):
    return {family: train(tiny, family, (1, 1, 1, 1)) for family in ("gpt", "bert")}


def share(leaf):
    return leaf.addressable_shards[0].data.size / leaf.size


SLOW = ("data=8", "tensor=2,data=4")  # for BERT: the mixed layout has them inside


@pytest.mark.parametrize(
    ("family", "layout"),
    [("gpt", layout) for layout in LAYOUTS]
    + [pytest.param("bert", n, marks=[pytest.mark.slow] * (n in SLOW)) for n in LAYOUTS],
)
def test_losses_of_one_device(tiny, single, family, layout):
    sizes = LAYOUTS[layout]
    expected, reference = single[family]
    assert expected[-1].sum() < expected[0].sum() - 0.01  # it learns: the curve says something
    losses, state = train(tiny, family, sizes)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=3e-4), state.params, reference.params
    )

    backbone = state.params["backbone"]
    _, fsdp, _, tensor = sizes
    kernel = backbone["layer_0"]["attention"]["query_key_value"]["kernel"]
    assert share(kernel) == share(backbone["layer_0"]["mlp"]["up"]["kernel"]) == 1 / fsdp / tensor
    assert share(backbone["tokens"]["table"]) == 1 / fsdp / tensor
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == kernel.shape]
    assert len(moments) == 2
    assert all(share(leaf) == 1 / fsdp / tensor for leaf in moments)
    assert len(kernel.sharding.device_set) == np.prod(sizes)


@pytest.mark.slow
def test_accumulation_on_a_mesh(tiny):
    losses, _ = train(tiny, "gpt", (4, 1, 1, 1), accumulate=2, **{"model.dropout": 0.0})
    plain, _ = train(tiny, "gpt", (1, 1, 1, 1), **{"model.dropout": 0.0})
    np.testing.assert_allclose(losses, plain, rtol=2e-5)


RULES = (("batch", ("data", "fsdp")), ("width", ("fsdp",)), ("vocab", ("tensor",)))


@pytest.mark.parametrize(
    ("names", "shape", "expected"),
    [
        (("vocab", "width"), (32, 16), ("tensor", "fsdp")),
        (("vocab", "width"), (33, 16), (None, "fsdp")),  # an odd vocabulary stays whole
        (("width", "width"), (16, 16), ("fsdp", None)),  # an axis splits one dimension only
        (("batch", None), (4, 8), (("data", "fsdp"), None)),
        (("batch", None), (2, 8), ("data", None)),
        (("unknown", None), (8, 8), (None, None)),
    ],
)
def test_partition_spec(names, shape, expected):
    mesh = make_mesh({"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2})
    assert tuple(partition_spec(names, shape, mesh, RULES)) == expected


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((16, 1, 1, 1), "data=16.* does not fit the 8 cpu"),
        ((-1, 3, 1, 1), "does not fit"),
        ((-1, -1, 1, 1), "-1 for at most one"),
        ((0, 1, 1, 1), "positive sizes"),
    ],
)
def test_impossible_meshes(sizes, words):
    axes = ("data", "fsdp", "sequence", "tensor")
    with pytest.raises(UserError, match=words):
        make_mesh(dict(zip(axes, sizes, strict=True)))


def test_batch_must_divide():
    mesh = make_mesh({"data": 2, "fsdp": 2, "sequence": 1, "tensor": 1})
    check_batch("batch_size", 8, 2, mesh)
    with pytest.raises(UserError, match=r"batch_size is 12, .* multiple of 8"):
        check_batch("batch_size", 12, 2, mesh)
