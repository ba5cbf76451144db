"""GPT-2's rows of the certificate."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from configs import base
from model import gpt
from tests.parity import generation
from tests.parity.encoders import LENGTH, ROWS, VOCAB, batch_of
from tests.parity.frame import Case, Row, randomise, training_rows
from tests.parity.generation import cached_rows, generation_rows
from tests.parity.heads import head_rows
from train.objectives import causal_lm


def rows() -> Iterator[Row]:
    """Three heads of eight, three layers, an odd feed-forward width."""
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=24, n_layer=3, n_head=3, n_inner=40, n_positions=17,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    for precision in ("float32", "float64"):
        for packed in (False, True):
            reference = transformers.GPT2LMHeadModel(config).to(getattr(torch, precision)).eval()
            randomise(reference, seed=int(packed))
            yield from training_rows(case(reference, packed), precision)
    ours = base.get_config().model
    ours.family, ours.vocab_size, ours.width, ours.num_layers = "gpt", VOCAB, 24, 3
    ours.num_heads, ours.mlp_width, ours.max_length = 3, 40, 17
    ours.activation, ours.layer_norm_epsilon = "gelu_tanh", 1e-5
    batch, inputs, real = batch_of(False, 1, first=5)
    inputs.pop("token_type_ids")  # GPT-2 adds token embeddings for them
    yield from head_rows(ours, batch, inputs, real, {"pad_token_id": 1})
    for precision in ("float32", "float64"):
        yield from cached_rows(generator(precision), precision)
    yield from generation_rows(generator("float32"))


def generator(precision: str) -> Any:
    """A model of transformers as generation.py wants it."""
    config = transformers.GPT2Config(
        vocab_size=generation.VOCAB, n_embd=24, n_layer=2, n_head=3, n_inner=32, n_positions=29,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).to(getattr(torch, precision)).eval()


def before_final_norm(reference: Any, out: Any) -> list[torch.Tensor]:
    """The last state that transformers gives is normed; ours before the norm is the block's."""
    return [*out.hidden_states[:-1], reference.kept]


def case(reference: Any, packed: bool) -> Case:
    """A next-token case with `reference`; the last token of a document predicts nothing."""
    batch, inputs, real = batch_of(packed, 1, first=5)
    batch.pop("token_types")
    inputs.pop("token_type_ids")
    if packed:
        inputs["position_ids"] = torch.tensor(batch["positions"]).long()
        inputs["attention_mask"] = inputs["attention_mask"].tril()
    segments = batch["segment_ids"]
    follows = np.pad((segments[:, 1:] == segments[:, :-1]) & real[:, 1:], ((0, 0), (0, 1)))
    targets = np.pad(batch["tokens"][:, 1:], ((0, 0), (0, 1)))
    batch |= {"targets": targets.astype(np.int32), "weights": follows.astype(np.float32)}
    labels = np.where(np.pad(follows[:, :-1], ((0, 0), (1, 0))), batch["tokens"], -100)
    block = reference.transformer.h[-1]
    block.register_forward_hook(lambda _, __, out: setattr(reference, "kept", out))
    text, kept = torch.tensor(real), torch.tensor(follows[real])

    def loss(found: dict[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(found["logits"][kept], torch.tensor(targets).long()[text][kept])

    assert segments.shape == (ROWS, LENGTH)
    return Case(
        reference, gpt, causal_lm.Objective(LENGTH, isolate_documents=True), batch, inputs, real,
        lambda out: {"logits": out.logits[text]}, loss, {"labels": torch.tensor(labels).long()},
        before_final_norm, predicted=real,
    )  # fmt: skip
