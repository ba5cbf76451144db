"""T5's rows of the certificate: versions 1.0 and 1.1, padded rows and packed ones."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers.models.t5 import modeling_t5

from model import t5
from tests.parity import generation
from tests.parity.frame import Case, Row, import_reference, randomise, training_rows
from tests.parity.generation import cached_rows, generation_rows
from tests.parity.heads import head_rows
from train.objectives import span_corruption
from train.seq2seq import START, make_row

SOURCE, TARGET, VOCAB = 13, 9, 61
END = 60  # ends a text; no other token of it
# Tokens of each text of each row, for the encoder and for the decoder.
PADDED = ([[13], [9], [5]], [[6], [9], [2]])
PACKED = ([[6, 7], [4, 3, 4], [10]], [[3, 5], [1, 4, 3], [7]])
# Three heads of six on a width of 20, so that no size follows from another.
SIZES: dict[str, Any] = {
    "d_model": 20, "d_kv": 6, "d_ff": 28, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 3,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 11,
    "dropout_rate": 0.0, "pad_token_id": START, "decoder_start_token_id": START,
}  # fmt: skip
VERSIONS: dict[str, dict[str, Any]] = {
    "1.0": {"feed_forward_proj": "relu"},
    "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}


def rows() -> Iterator[Row]:
    """All rows."""
    for version, precision in itertools.product(VERSIONS, ("float32", "float64")):
        with in_its_type(precision):
            for packed in (False, True):
                reference = published(version, VOCAB, precision)
                randomise(reference, seed=int(packed))
                yield from training_rows(case(reference, packed), precision)
            small = published(version, generation.VOCAB, precision)
            yield from cached_rows(small, precision)
        if precision == "float32":
            yield from heads(version)
    # The cache of `generate` has as many layers as the encoder: the decoder must have as many.
    small = published("1.1", generation.VOCAB, "float32", num_decoder_layers=2)
    yield from generation_rows(small)


def published(version: str, vocab: int, precision: str, **changes: Any) -> Any:
    """A model of transformers."""
    sizes = SIZES | VERSIONS[version] | changes
    config = transformers.T5Config(vocab_size=vocab, eos_token_id=None, **sizes)
    model = transformers.T5ForConditionalGeneration(config)
    if version == "1.1":  # transformers ties a new model's weights all the same
        model.lm_head.weight = torch.nn.Parameter(torch.empty(vocab, config.d_model))
    return model.to(getattr(torch, precision)).eval()


@contextlib.contextmanager
def in_its_type(precision: str) -> Iterator[None]:
    """The reference takes norms (and softmax) in float32, whatever the model's own type is."""

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.variance_epsilon)

    with contextlib.ExitStack() as stack:
        if precision == "float64":
            stack.enter_context(mock.patch.object(modeling_t5.T5LayerNorm, "forward", norm))
            stack.enter_context(mock.patch.object(torch.Tensor, "float", lambda self: self))
        yield


def batch_of(packed: bool) -> dict[str, np.ndarray]:
    """Random texts in the rows that the objectives of encoder-decoders make."""
    rng = np.random.default_rng(int(packed))
    made = []
    for source, target in zip(*(PACKED if packed else PADDED), strict=True):
        ids = [rng.integers(1, VOCAB, sum(counts)) for counts in (source, target)]
        segments = [np.repeat(np.arange(len(n)) + 1, n) for n in (source, target)]
        made.append(make_row(*ids, *segments, np.ones(sum(target)), SOURCE, TARGET))
    return {key: np.stack([row[key] for row in made]) for key in made[0]}


def inputs_of(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """For padded rows: the reference shifts the labels to the right by itself."""
    labels = np.where(batch["weights"] > 0, batch["targets"], -100)
    return {
        "input_ids": torch.tensor(batch["tokens"]).long(),
        "attention_mask": torch.tensor(batch["segment_ids"] > 0).long(),
        "labels": torch.tensor(labels).long(),
    }


def pack(reference: Any, batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What keeps the reference's texts apart; it takes a mask for cross-attention in no other way.

    torch gives NaN for a query that sees nothing: padding sees padding, or all of the source.
    """
    source, target = (torch.tensor(batch[k]) for k in ("segment_ids", "decoder_segment_ids"))
    same = lambda a, b: a[:, None, :, None] == b[:, None, None, :]  # noqa: E731
    across = same(target, source) | (target == 0)[:, None, :, None]
    reference.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | {"encoder_attention_mask": across}),
        with_kwargs=True,
    )
    return {
        "attention_mask": same(source, source),
        "decoder_attention_mask": same(target, target).tril(),
        "decoder_input_ids": torch.tensor(batch["decoder_tokens"]).long(),
    }


def before_final_norm(reference: Any, out: Any) -> list[torch.Tensor]:
    """The last states that transformers gives are normed; ours before the norm are the blocks'."""
    first, second = out.encoder_hidden_states[:-1], out.decoder_hidden_states[:-1]
    return [*first, reference.encoder.kept, *second, reference.decoder.kept]


def case(reference: Any, packed: bool) -> Case:
    """Teacher forcing with `reference`."""
    batch = batch_of(packed)
    inputs = inputs_of(batch) | {"use_cache": False}
    if packed:
        inputs |= pack(reference, batch)
    for stack in (reference.encoder, reference.decoder):
        stack.block[-1].register_forward_hook(
            lambda _, __, out, stack=stack: setattr(stack, "kept", out[0])
        )
    source, target = batch["segment_ids"] > 0, batch["decoder_segment_ids"] > 0
    kept, targets = torch.tensor(target), torch.tensor(batch["targets"]).long()
    objective = span_corruption.Objective(
        SOURCE, noise_rate=0.15, mean_span=3.0, isolate_documents=True, z_loss=0.0
    )
    depths = SIZES["num_layers"] + 1, SIZES["num_decoder_layers"] + 1
    return Case(
        reference, t5, objective, batch, inputs, [source] * depths[0] + [target] * depths[1],
        lambda out: {"logits": out.logits[kept]},
        lambda found: cross_entropy(found["logits"], targets[kept]), {},
        before_final_norm, target,
    )  # fmt: skip


def heads(version: str) -> Iterator[Row]:
    """Every class of the family, exported. The reference reads a class off the end token."""
    reference = published(version, VOCAB, "float32")
    randomise(reference, seed=0)
    ours = import_reference(reference, "float32").config
    batch = batch_of(False)
    real, target = batch["segment_ids"] > 0, batch["decoder_segment_ids"] > 0
    inputs = inputs_of(batch)
    del inputs["labels"]
    encoder = {key: batch[key] for key in ("tokens", "segment_ids")}
    names = {"T5ForTokenClassification", "T5ForQuestionAnswering", "T5ForSequenceClassification"}
    last = real & ~np.roll(real, -1, axis=1)
    last[:, -1] = real[:, -1]
    ended = {
        "tokens": np.where(last, END, encoder["tokens"]),
        "segment_ids": encoder["segment_ids"],
    }
    again = {**inputs, "input_ids": torch.tensor(ended["tokens"]).long()}
    yield from head_rows(ours, ended, again, real, {"eos_token_id": END}, names)
    inputs["decoder_input_ids"] = torch.tensor(batch["decoder_tokens"]).long()
    names = {"T5ForConditionalGeneration", "T5Model"}
    yield from head_rows(ours, batch, inputs, target, names=names)
