"""Shared by all tests: eight fake CPU devices, strict ranks, tiny models."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    # The tests compile far longer than they compute. XLA's older code generator, which the last
    # flag asks for, compiles a training step in well under half the time of the newer one.
    " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base

jax.config.update("jax_numpy_rank_promotion", "raise")


def _set(config, changes):
    for key, value in changes.items():
        section, _, name = key.rpartition(".")
        part = config
        for step in filter(None, section.split(".")):
            part = part[step]
        part[name] = value
    return config


@pytest.fixture(scope="session")
def tiny():
    """``tiny(family, {"model.width": 8, ...}) -> config``: two layers of width 16 on one device."""

    def make(family, changes=None):
        config = base.get_config()
        common = {
            "model.family": family,
            "model.vocab_size": 32,
            "model.width": 16,
            "model.num_layers": 2,
            "model.num_heads": 2,
            "model.mlp_width": 32,
            "model.max_length": 16,
            "model.dropout": 0.0,
            "length": 16,
            "batch_size": 8,
            "mesh.data": 1,
            "compilation_cache": "",
        }
        gpt = {
            "model.activation": "gelu_tanh",
            "model.layer_norm_epsilon": 1e-5,
            "objective.name": "causal_lm",
        }
        xlnet = {"objective.name": "permutation_lm"}
        own = {"gpt": gpt, "xlnet": xlnet}.get(family, {})
        return _set(config, {**common, **own, **(changes or {})})

    return make


@pytest.fixture(scope="session")
def noise():
    """``noise(model, seed=0) -> params``: every parameter random, biases and norms included."""

    def make(model, seed=0, dtype="float32"):
        rng = np.random.default_rng(seed)
        return jax.tree.map(
            lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), dtype), model.shapes
        )

    return make
