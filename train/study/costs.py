"""What a step of a config costs, before any data is read: FLOPs by tracing, seconds by a probe."""

import dataclasses
import functools
import hashlib
import json

import jax
import numpy as np
from ml_collections import ConfigDict

from configs.base import get_config
from train.benchmark import LABELS, StepTimer
from train.evaluate import metric_names
from train.peak import timed
from train.program import NOT_COMPILED, NOT_COMPILED_RATE, Program, make_program
from train.random_rows import random_batch
from train.setup import enable_compilation_cache

PROBED = 5  # steps; the fastest counts, as others may use the machine


@dataclasses.dataclass(frozen=True)
class Probe:
    """Measured on this device: seconds of a step, and those that it takes to compile it."""

    seconds: float
    compile_seconds: float
    flops: int
    peak_bytes: int


def alone(config: ConfigDict) -> ConfigDict:
    """The config without what only a finished run before it could give."""
    config = config.copy_and_resolve_references()
    config.init_from = config.tokenizer.path = ""
    config.model.vocab_size = config.model.vocab_size or config.tokenizer.vocab_size
    config.optimizer.unfreeze_by = 0.0
    return config


def flops(config: ConfigDict) -> int:
    """FLOPs of a training step; for tasks, with a head of two classes."""
    return _flops(_shape(config))


def metrics(config: ConfigDict) -> set[str]:
    """Names of what an evaluation of a config measures; for tasks, with a head of two classes."""
    config = alone(config)
    made = make_program(config, LABELS)
    params = jax.eval_shape(made.init, jax.random.key(0)).params
    batch = random_batch(config, made.objective)
    return metric_names(made, params, batch, config.evaluation.generate)


def program(config: ConfigDict) -> Program:
    """The program of a config whose vocabulary is taken as large as it was asked to be."""
    return make_program(alone(config), LABELS)


def probe(config: ConfigDict) -> Probe:
    """Compiles a step and times it on random rows."""
    return _probe(_shape(config))


def shape(config: ConfigDict) -> str:
    """Sixteen hex digits that are the same for configs whose steps cost the same."""
    return hashlib.sha256(_shape(config).encode()).hexdigest()[:16]


def _shape(config: ConfigDict) -> str:
    """What two configs have in common whose steps cost the same: all else has its default."""
    config, defaults = alone(config), get_config()
    for name in NOT_COMPILED:
        config[name] = defaults[name]
    for name in NOT_COMPILED_RATE:
        config.optimizer[name] = defaults.optimizer[name]
    return json.dumps(json.loads(config.to_json()), sort_keys=True)


@functools.lru_cache
def _flops(shape: str) -> int:
    config = ConfigDict(json.loads(shape))
    made = make_program(config, LABELS)
    key = jax.random.key(0)
    state = jax.eval_shape(made.init, key)
    return made.flops(state, random_batch(config, made.objective), key, np.float32(0))


@functools.lru_cache
def _probe(shape: str) -> Probe:
    config = ConfigDict(json.loads(shape))
    enable_compilation_cache(config.compilation_cache)
    timer = StepTimer(config)
    step = timer.compiled
    return Probe(min(timed(timer.step, PROBED)), step.seconds, step.flops, step.peak_bytes)
