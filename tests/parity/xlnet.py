"""XLNet's rows of the certificate: both streams, both kinds of attention, memory over segments."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from configs import base
from configs import xlnet as configs
from model import xlnet
from model.api import build
from model.heads import Heads
from tests.parity import frame
from tests.parity.frame import Case, Row, numpy, output, randomise
from tests.parity.heads import head_rows
from train.objectives import cross_entropy as our_cross_entropy
from train.objectives import permutation_lm

ROWS, LENGTH, VOCAB, TARGETS = 4, 13, 61, 3
MEMORY, REUSED, SEGMENTS = 12, 5, 4  # the memory holds 0, 5, 10, then 12 tokens
PADDED = np.asarray([[1] * 13, [1] * 9 + [0] * 4, [0] * 8 + [1] * 5, [1] * 13])
PACKED = np.asarray(
    [[1] * 6 + [2] * 7, [1] * 4 + [2] * 3 + [3] * 4 + [0] * 2, [1] * 10 + [0] * 3, [1] * 13]
)
BACKWARD = np.asarray([0, 0, 1, 1], np.int32)  # transformers has the second half reversed


def rows() -> Iterator[Row]:
    """Three heads of eight, three layers, an odd feed-forward width."""
    for precision in ("float32", "float64"):
        with repaired(precision):
            for packed, changes in (
                (False, {"attn_type": "bi", "bi_data": True, "clamp_len": 7}),
                (True, {"attn_type": "uni"}),
            ):
                reference = made(precision, seed=int(packed), **changes)
                yield from frame.training_rows(case(reference, packed), precision)
            for changes in (
                {"attn_type": "bi", "untie_r": False, "clamp_len": 7},
                {"attn_type": "uni"},
            ):
                reference = made(precision, seed=2, bi_data=True, **changes)
                yield from memory_rows(reference, precision)
    with repaired("float32"):
        yield from heads()
    for size in ("base", "large"):
        ours = configs.get_config(f"size={size}").model
        ours.vocab_size = 32000
        theirs = transformers.XLNetConfig(
            vocab_size=32000, d_model=ours.width, n_layer=ours.num_layers, n_head=ours.num_heads,
            d_inner=ours.mlp_width,
        )  # fmt: skip
        yield counted(ours, theirs)


def counted(ours: Any, config: Any) -> Row:
    """How far the number of parameters of a published size is off."""
    with torch.device("meta"):
        want = transformers.XLNetLMHeadModel(config).num_parameters()
    difference = build(ours, Heads(lm=True)).num_params - want
    return Row("parameters counted", "float32", abs(difference), 0)


def made(precision: str, seed: int, **changes: Any) -> Any:
    """A random reference; where biases are tied, all its layers have those of the first."""
    config = transformers.XLNetConfig(
        vocab_size=VOCAB, d_model=24, n_layer=3, n_head=3, d_inner=40, dropout=0.0,
        mem_len=MEMORY, reuse_len=REUSED, **changes,
    )  # fmt: skip
    reference = transformers.XLNetLMHeadModel(config).to(getattr(torch, precision)).eval()
    randomise(reference, seed)
    if not getattr(config, "untie_r", True):
        first, *others = (layer.rel_attn for layer in reference.transformer.layer)
        with torch.no_grad():
            for other in others:
                for name in ("r_w_bias", "r_r_bias", "r_s_bias"):
                    getattr(other, name).copy_(getattr(first, name))
    return reference


class CausalMask:
    """transformers adds a mask [.., B, 1] in place to its causal mask [.., 1, 1]: torch refuses."""

    def __init__(self, model: Any, queries: int, memory: int):
        ahead = torch.arange(queries + memory)[None] > memory + torch.arange(queries)[:, None]
        self.mask = ahead.to(model.dtype)[:, :, None, None].repeat(1, 1, ROWS, 1)

    def __getitem__(self, _: Any) -> torch.Tensor:
        return self.mask.clone()


def sines_in_float64(distances: torch.Tensor, rates: torch.Tensor, rows: int) -> torch.Tensor:
    """transformers makes its table in float32, whatever the model's precision."""
    width = 2 * len(rates)
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = distances.double()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)[:, None].expand(-1, rows, -1)


@contextlib.contextmanager
def repaired(precision: str) -> Iterator[None]:
    """The reference without the two flaws that stand in a comparison's way."""
    with contextlib.ExitStack() as stack:
        patch = lambda name, to: stack.enter_context(  # noqa: E731
            mock.patch.object(transformers.XLNetModel, name, to)
        )
        patch("create_mask", lambda *sizes: CausalMask(*sizes))
        if precision == "float64":
            patch("positional_embedding", staticmethod(sines_in_float64))
        yield


def batch_of(segments: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """A batch for ours: targets at random places in random order.

    No document's first token is a target: in "uni" it would see nothing, and transformers lets it
    see all then.
    """
    rng = np.random.default_rng(seed)
    real = segments > 0
    begins = np.diff(segments, axis=1, prepend=0) != 0
    order = np.zeros((ROWS, LENGTH), np.int32)
    targets = np.stack([rng.permutation(np.flatnonzero(free))[:TARGETS] for free in real & ~begins])
    for row in range(ROWS):
        order[row, targets[row]] = 1 + rng.permutation(TARGETS)
    weights = np.ones((ROWS, TARGETS), np.float32)
    weights[0, -1] = 0  # filled up
    return {
        "tokens": np.where(real, rng.integers(0, VOCAB, (ROWS, LENGTH)), 5).astype(np.int32),
        "segment_ids": segments.astype(np.int32),
        "token_types": np.where(real, rng.integers(0, 3, (ROWS, LENGTH)), 0).astype(np.int32),
        "factorization_order": order,
        "target_positions": targets.astype(np.int32),
        "targets": rng.integers(0, VOCAB, (ROWS, TARGETS)).astype(np.int32),
        "weights": weights,
        "backward": BACKWARD,
    }


def inputs_of(batch: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The same for the reference; its masks are derived here, position by position."""
    segments, order = batch["segment_ids"], batch["factorization_order"]
    hidden = np.zeros((ROWS, LENGTH, LENGTH))  # 1 where i must not see j
    chosen = np.zeros((ROWS, TARGETS, LENGTH))
    for b in range(ROWS):
        targets = list(batch["target_positions"][b])
        for p, i in enumerate(targets):
            chosen[b, p, i] = 1
        for i in range(LENGTH):
            for j in range(LENGTH):
                known = j not in targets or (i in targets and order[b, j] < order[b, i])
                hidden[b, i, j] = not (known and segments[b, i] == segments[b, j])
    return {
        "input_ids": torch.tensor(batch["tokens"]).long(),
        "token_type_ids": torch.tensor(batch["token_types"]).long(),
        "input_mask": torch.tensor(segments == 0).to(dtype),
        "perm_mask": torch.tensor(hidden, dtype=dtype),
        "target_mapping": torch.tensor(chosen, dtype=dtype),
    }


def loss_of(batch: dict[str, np.ndarray], logits_BPV: torch.Tensor) -> torch.Tensor:
    """The mean over the targets that count."""
    kept = torch.tensor(batch["weights"] > 0)
    return cross_entropy(logits_BPV[kept], torch.tensor(batch["targets"]).long()[kept])


def case(reference: Any, packed: bool) -> Case:
    """A case without memory; every target is compared, and of the content what is no padding."""
    config, batch = reference.config, batch_of(PACKED if packed else PADDED, seed=int(packed))
    if not config.bi_data:
        del batch["backward"]
    labels = np.where(batch["weights"] > 0, batch["targets"], -100)
    real = [batch["segment_ids"] > 0, np.ones((ROWS, TARGETS), bool)] * (1 + config.n_layer)
    return Case(
        reference, xlnet,
        permutation_lm.Objective(LENGTH, span_context=4, max_span=2, mem_len=0, reuse_len=0),
        batch, inputs_of(batch, reference.dtype), real, lambda out: {"logits": out.logits},
        lambda found: loss_of(batch, found["logits"]), {"labels": torch.tensor(labels).long()},
    )  # fmt: skip


def memory_rows(reference: Any, precision: str) -> Iterator[Row]:
    """Segments one after another: the memory is every layer's input for the tokens before."""
    with frame.precise(precision):
        ours = frame.import_reference(reference, precision)

        @jax.jit
        def step(params: Any, batch: Any, carry: Any) -> Any:
            def loss(params: Any) -> Any:
                out = ours.model.apply(params, batch, caches=carry)
                total, weight = our_cross_entropy(out["logits"], batch["targets"], batch["weights"])
                return total / weight.astype(total.dtype), out

            return jax.value_and_grad(loss, has_aux=True)(params)

        carry, mems = ours.model.carry(ROWS), None
        for number in range(SEGMENTS):
            # Padding on the right: what enters the memory is text (a padding's state is arbitrary).
            batch = batch_of(np.sort(PADDED, axis=1)[:, ::-1], seed=number)
            batch["continues"] = np.full(ROWS, number > 0, np.int32)
            (loss, out), gradient = step(ours.params, batch, carry)
            theirs = reference(**inputs_of(batch, reference.dtype), mems=mems)
            wanted = loss_of(batch, theirs.logits)
            yield output("logits with memory", precision, out["logits"], numpy(theirs.logits))
            yield output("loss with memory", precision, loss, numpy(wanted))
            reference.zero_grad()
            wanted.backward()
            named = {name: numpy(p.grad) for name, p in reference.named_parameters()}
            got, want = ours.published(gradient), summed(reference, named)
            yield from frame.gradient_rows(got, want, precision, " with memory")
            carry, mems = out["caches"], theirs.mems
            held = min(REUSED * (number + 1), MEMORY)
            for i, states in enumerate(mems):
                got = np.asarray(carry[f"layer_{i}"])[:, MEMORY - held :]
                yield output("memory", precision, got, numpy(states).swapaxes(0, 1))


def summed(reference: Any, gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradient of what is tied: the sum over the layers, at each of them."""
    if getattr(reference.config, "untie_r", True):
        return gradients
    found = dict(gradients)
    for suffix in ("r_w_bias", "r_r_bias", "r_s_bias"):
        names = [name for name in gradients if name.endswith(suffix)]
        found |= dict.fromkeys(names, sum(gradients[name] for name in names))
    return found


def heads() -> Iterator[Row]:
    """Every class, exported; padding on the left, as transformers classifies the last place."""
    ours = base.get_config().model
    ours.family, ours.vocab_size, ours.width, ours.num_layers = "xlnet", VOCAB, 24, 3
    ours.num_heads, ours.mlp_width = 3, 40
    segments = np.sort(PADDED, axis=1)
    batch = batch_of(segments, seed=3)
    inputs = inputs_of(batch, torch.float32)
    batch = {name: batch[name] for name in ("tokens", "segment_ids", "token_types")}
    inputs = {name: inputs[name] for name in ("input_ids", "token_type_ids", "input_mask")}
    for kind in ("bi", "uni"):
        ours.attention_type = kind
        yield from head_rows(ours, batch, inputs, segments > 0)
