"""The compiled functions of a run: everything that depends on the config but not on the data.

Runs of one shape share a Program (and its compilations): in a study, only the first run of each
shape pays for tracing and compiling.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from model import sharding
from model.api import Model, build
from train import objectives
from train.flops import count
from train.mesh import make_mesh, replicated
from train.optimizer import Optimizer, make_optimizer
from train.state import State, shardings, start
from train.step import bind, eval_step, train_step


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled training step, and what it takes.

    Attributes:
      call: the step, for arguments of the shapes that it was compiled for.
      flops: see `Program.flops`.
      peak_bytes: memory of one device at its fullest, as the compiler plans it.
      seconds: that tracing and compiling took.
    """

    call: Callable[..., Any]
    flops: int
    peak_bytes: int
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A model, its objective and optimizer, and the jitted functions on them.

    Attributes:
      init: ``init(key) -> State``, created in place on the mesh.
      train_step: ``train_step(state, batch, key, rate) -> (state, metrics)``; the state is donated.
      eval_step: ``eval_step(params, batch, carry) -> (metrics, carry, outputs of each row)``.
      optimizer: which parameters train, and how.
      carry: ``carry(rows) -> carry`` before the first batch; {} unless the rows are contiguous and
        the model keeps a memory.
      reset: ``reset(params) -> State`` at step 0 with these parameters (after `init_from`).
      shardings: of the State.
      flops: ``flops(state, batch, key, rate) -> int``, of a training step (train/flops.py); what
        `remat` computes a second time is left out. It is traced, not compiled: shapes will do.
      compiled: ``compiled(state, batch, key, rate) -> Compiled``: `train_step` for arguments of
        these shapes, one for all runs that share the Program.
    """

    model: Model
    objective: Any
    optimizer: Optimizer
    mesh: Mesh
    init: Callable[[jax.Array], State]
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]
    carry: Callable[[int], Any]
    reset: Callable[[Any], State]
    shardings: State
    flops: Callable[..., int]
    compiled: Callable[..., "Compiled"]

    @property
    def num_trained(self) -> int:
        """How many numbers of the parameters train."""
        trained = self.optimizer.trained(self.model.shapes)
        return sum(leaf.size for leaf in jax.tree.leaves(trained))


# What neither the model, nor the step, nor its compilation depends on.
NOT_COMPILED = (
    "seed", "steps", "epochs", "init_from", "reinit", "data", "tokenizer", "evaluation",
    "checkpoint", "logging",
)  # fmt: skip
# Of config.optimizer: they make the learning rate, which is an argument of the step.
NOT_COMPILED_RATE = (
    "learning_rate", "schedule", "warmup_steps", "warmup_share", "end_factor", "unfreeze_by",
)  # fmt: skip


def make_program(config: ConfigDict, num_labels: int) -> Program:
    """The Program of a checked config whose model is complete (vocabulary size known)."""
    key = {name: value for name, value in json.loads(config.to_json()).items()}
    for name in NOT_COMPILED:
        key.pop(name)
    for name in NOT_COMPILED_RATE:
        key["optimizer"].pop(name)
    return _make(json.dumps(key, sort_keys=True), num_labels)


@functools.lru_cache(maxsize=16)
def _make(key: str, num_labels: int) -> Program:
    config = ConfigDict(json.loads(key))
    mesh = make_mesh(config.mesh)
    objective = objectives.build(config, num_labels)
    model = build(config.model, objective.head(), config.adapters)
    optimizer = make_optimizer(config.optimizer, model)
    contiguous = objective.rows == "contiguous"
    rows = config.batch_size if contiguous else 0
    places = shardings(model, optimizer, mesh, config.sharding, rows)
    carry = lambda rows: model.carry(rows) if contiguous else {}  # noqa: E731

    def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_rules(*args: Any) -> Any:
            with sharding.use(mesh, config.sharding):
                return function(*args)

        return jax.jit(with_rules, **options)

    step = bind(train_step, model, objective, optimizer, config.accumulate)
    train = jit(step, donate_argnums=0, out_shardings=(places, replicated(mesh)))

    def flops(*args: Any) -> int:
        if config.model.remat == "none":
            return count(train.trace(*args).jaxpr)
        plain = json.loads(key)
        plain["model"]["remat"] = "none"
        return _make(json.dumps(plain, sort_keys=True), num_labels).flops(*args)

    steps: dict[Any, Compiled] = {}

    def compiled(*args: Any) -> Compiled:
        kind = tuple((np.shape(x), x.dtype) for x in jax.tree.leaves(args))
        if kind not in steps:
            began = time.perf_counter()
            call = train.lower(*args).compile()
            seconds = time.perf_counter() - began
            steps[kind] = Compiled(call, flops(*args), peak_bytes(call), seconds)
        return steps[kind]

    reset = lambda params: start(model, optimizer, params, rows)  # noqa: E731
    return Program(
        model=model,
        objective=objective,
        optimizer=optimizer,
        mesh=mesh,
        init=jit(lambda rng: reset(model.init(rng)), out_shardings=places),
        train_step=train,
        eval_step=jit(
            bind(eval_step, model, objective),
            out_shardings=(replicated(mesh), places.carry, replicated(mesh)),
        ),
        carry=jax.jit(carry, static_argnums=0, out_shardings=places.carry),
        reset=jit(reset, out_shardings=places),
        shardings=places,
        flops=flops,
        compiled=compiled,
    )


def peak_bytes(executable: Any) -> int:
    """Memory of one device at its fullest; what is donated counts once."""
    m = executable.memory_analysis()
    used = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return used - m.alias_size_in_bytes
