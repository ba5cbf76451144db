"""What the parity certificate is made of: rows of errors, and the comparisons that all share.

A family is a module ``tests/parity/<family>.py`` with ``rows() -> Iterator[Row]``. A `Case` and
`training_rows` give the rows of training; other models use the pieces.

An error is the largest difference over the largest number of the reference, over the real tokens.
For gradients, each parameter's is taken by itself, but no parameter counts as smaller than a
thousandth of the largest one: that of attention's key biases is zero but for rounding.
"""

import contextlib
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers

from configs import base
from model.api import Model, build
from model.pretrained import files
from model.pretrained.describe import LAYOUTS, describe
from model.pretrained.load import load
from model.pretrained.mapping import flatten, used_entries
from model.pretrained.save import save
from train.optimizer import make_optimizer
from train.state import State
from train.step import train_step

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

BOUNDS = {"float32": (2e-5, 1e-4), "float64": (1e-9, 1e-9)}  # outputs, gradients
STEPS = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: its error, and how large it may be."""

    quantity: str
    precision: str
    error: float
    bound: float


def error(got: Any, want: Any, scale: float = 0.0) -> float:
    """The largest difference over the largest number of `want`, or over `scale` if larger."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape, (got.shape, want.shape)
    assert np.isfinite(want).all()
    difference = float(np.abs(got - want).max(initial=0.0))
    return difference / max(float(np.abs(want).max(initial=0.0)), scale, 1e-30)


def output(quantity: str, precision: str, got: Any, want: Any) -> Row:
    """A row for a result of the forward pass."""
    return Row(quantity, precision, error(got, want), BOUNDS[precision][0])


def numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array."""
    return tensor.detach().numpy()


@contextlib.contextmanager
def precise(precision: str) -> Iterator[None]:
    """JAX with 64 bits where they are asked for."""
    with jax.enable_x64(precision == "float64"):
        yield


def randomise(reference: torch.nn.Module, seed: int, std: float = 0.3) -> None:
    """Every parameter random, biases and norms included: a zero would hide what it multiplies."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in reference.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(std * noise)


@dataclasses.dataclass(frozen=True)
class Imported:
    """The reference's weights, as `pretune import` reads them from its own files."""

    config: Any
    model: Model
    params: Any
    layout: Any
    architecture: Any

    def published(self, tree: Any) -> dict[str, np.ndarray]:
        """Our parameters (or gradients, or moments) under the published names and shapes."""
        leaves, found = flatten(tree), {}
        for entry in used_entries(self.layout, self.config, leaves):
            tensors = entry.transform.split(np.asarray(leaves[entry.ours]))
            found |= dict(zip(entry.theirs, tensors, strict=True))
        return found


def import_reference(reference: Any, precision: str) -> Imported:
    """Through the file: what is compared has gone through the maps and the config."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        reference.save_pretrained(folder)
        found = describe(folder)
        config = base.get_config()
        config.model.family = found.family
        for key, value in found.model.items():
            config.model[key] = value
        config.model.dtype = precision
        model = build(config.model, found.heads)
        typed = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, precision)  # noqa: E731
        model = dataclasses.replace(model, shapes=jax.tree.map(typed, model.shapes))
        layout = LAYOUTS[found.family]
        params = load(folder, layout, config.model, model).params
    return Imported(config.model, model, params, layout, found.architecture)


def recorded(ours: Imported, module: Any, batch: Any) -> tuple[dict[str, Any], list[Any]]:
    """The model's outputs, and what goes through the stack that `module` runs with `apply_layers`:
    its input, then the output of each layer."""
    run = module.apply_layers

    def forward(params: Any, batch: Any) -> Any:
        seen = []

        def one_by_one(layers: Any, x: Any, shared: Any, own: Any, **_: Any) -> Any:
            seen.extend(jax.tree.leaves(x))  # several streams: one after the other
            outs = []
            for i, layer in enumerate(layers):
                x, out = run([layer], x, shared, own[i : i + 1], scan=False, remat="none")
                seen.extend(jax.tree.leaves(x))
                outs += out
            return x, outs

        with mock.patch.object(module, "apply_layers", one_by_one):
            return ours.model.apply(params, batch), seen

    return jax.jit(forward)(ours.params, batch)


@dataclasses.dataclass(frozen=True)
class Case:
    """One random model on one batch.

    Attributes:
      reference: a transformers model in the right precision, in eval mode.
      module: of ours, whose `apply_layers` runs the stack.
      objective: of ours.
      batch: for ours.
      inputs: for the reference, tokens and masks.
      real: [B, T] bool, the positions to compare; of several stacks, one for each state.
      logits: reference's outputs -> our name -> its tensor, at the positions that ours predicts.
      loss: reference's outputs -> its loss, in the model's precision.
      own_loss: labels for the reference's own loss, which it takes in float32; {}: in inputs.
      states: (reference, its outputs) -> what our stacks have at each layer.
      predicted: which of our logits to compare, as an index; those of padding are arbitrary.
    """

    reference: Any
    module: Any
    objective: Any
    batch: dict[str, np.ndarray]
    inputs: dict[str, torch.Tensor]
    real: np.ndarray | list[np.ndarray]
    logits: Callable[[Any], dict[str, torch.Tensor]]
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    own_loss: dict[str, torch.Tensor]
    states: Callable[[Any, Any], list[torch.Tensor]] = lambda _, out: list(out.hidden_states)
    predicted: Any = ...


def training_rows(case: Case, precision: str) -> Iterator[Row]:
    """Embeddings, states, logits, loss, gradients, parameters after AdamW, and the round trip."""
    with precise(precision):
        ours = import_reference(case.reference, precision)
        outputs, seen = recorded(ours, case.module, case.batch)
        theirs = case.reference(**case.inputs, output_hidden_states=True)
        states = case.states(case.reference, theirs)
        assert len(states) == len(seen) > 2
        real = case.real if isinstance(case.real, list) else [case.real] * len(seen)
        for i, (got, want, at) in enumerate(zip(seen, states, real, strict=True)):
            quantity = "hidden states" if i else "embeddings"
            yield output(quantity, precision, np.asarray(got)[at], numpy(want)[at])
        logits = case.logits(theirs)
        for name, want in logits.items():
            got = np.asarray(outputs[name])[case.predicted]
            yield output("logits", precision, got, numpy(want))
        if precision == "float32":
            own = case.reference(**case.inputs, **case.own_loss).loss
            yield output("loss", precision, numpy(case.loss(logits)), numpy(own))
            yield from round_trip(case.reference, ours)
        # Last, because it trains the reference.
        yield from _step_rows(case, ours, case.loss(logits), precision)


def _step_rows(case: Case, ours: Imported, loss: torch.Tensor, precision: str) -> Iterator[Row]:
    """Loss and gradients of one training step, then parameters after some of them."""

    def step(optimizer: Any, state: State, rate: float = 1.0) -> Any:
        return train_step(ours.model, case.objective, optimizer, 1, state, case.batch, key, rate)

    settings = base.get_config().optimizer
    settings.clip_norm, settings.weight_decay = 0.0, 0.1
    optimizer = make_optimizer(settings, ours.model)
    trained = optimizer.trained(ours.params)

    key = jax.random.key(0)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    # As an optimizer that changes nothing and whose state is the last gradient.
    (label,) = optimizer.directions
    holds = optax.GradientTransformationExtraArgs(
        zeros, lambda g, _, params, **__: (zeros(params), g)
    )
    keep = dataclasses.replace(optimizer, directions={label: holds}, weight_decay=0.0)
    start = State(jnp.zeros((), jnp.int32), ours.params, keep.init(trained), {})
    kept, metrics = jax.jit(lambda state: step(keep, state))(start)
    total = sum(float(metrics[n][0]) / float(metrics[n][1]) for n in case.objective.losses)
    yield output("loss", precision, total, numpy(loss))

    case.reference.zero_grad()
    loss.backward()
    gradients = ours.published(kept.opt_state[label])
    named = dict(case.reference.named_parameters())
    assert named.keys() == published_names(ours)
    wanted = {name: numpy(p.grad) for name, p in named.items()}
    yield from gradient_rows(gradients, wanted, precision)

    state = State(start.step, ours.params, optimizer.init(trained), {})
    advance = jax.jit(lambda state: step(optimizer, state, settings.learning_rate)[0])
    for _ in range(STEPS):
        state = advance(state)
    for name, want in adamw(case, settings).items():
        yield output("after 3 AdamW steps", precision, ours.published(state.params)[name], want)


def gradient_rows(
    got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], precision: str, where: str = ""
) -> Iterator[Row]:
    """One row for each parameter of the reference."""
    floor = 1e-3 * max(np.abs(g).max() for g in wanted.values())
    for name, want in wanted.items():
        found = error(got[name], want, floor)
        yield Row(f"gradients{where}", precision, found, BOUNDS[precision][1])


def published_names(ours: Imported) -> set[str]:
    """Names of the reference's parameters, by our maps."""
    entries = used_entries(ours.layout, ours.config, flatten(ours.model.shapes))
    has = [e for e in entries if not re.search(ours.architecture.lacks, e.ours)]
    return {name for entry in has for name in entry.theirs}


def adamw(case: Case, settings: Any) -> dict[str, np.ndarray]:
    """The reference's parameters after some steps of torch's AdamW."""
    groups: dict[bool, list[Any]] = {True: [], False: []}
    for name, parameter in case.reference.named_parameters():
        exempt = name.endswith(("bias", "LayerNorm.weight", "layer_norm.weight")) or (
            ".ln_" in name
        )  # biases and norms, by our rules
        groups[exempt].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[False], "weight_decay": settings.weight_decay},
            {"params": groups[True], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate, betas=(settings.b1, settings.b2), eps=settings.epsilon,
    )  # fmt: skip
    for _ in range(STEPS):
        optimizer.zero_grad()
        case.loss(case.logits(case.reference(**case.inputs))).backward()
        optimizer.step()
    return {name: numpy(p) for name, p in case.reference.named_parameters()}


def round_trip(reference: Any, ours: Imported) -> Iterator[Row]:
    """Export what was imported: how many tensors have other bytes than the reference had."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        reference.save_pretrained(first)
        imported = import_reference(reference, "float32")
        folder = pathlib.Path(second)
        save(folder, ours.layout, ours.config, imported.params, ours.architecture)
        with contextlib.ExitStack() as stack:
            one = files.TensorFolder(pathlib.Path(first), stack)
            two = files.TensorFolder(folder, stack)
            both = one.names & two.names
            changed = len(one.names ^ two.names)
            changed += sum(one.read(n).tobytes() != two.read(n).tobytes() for n in both)
    yield Row("round trip: tensors changed", "float32", changed, 0)
