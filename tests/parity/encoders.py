"""The cases that BERT and RoBERTa share: padded rows, and packed ones where the reference can."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import cross_entropy

from configs import base
from model import bert
from tests.parity.frame import Case, Row, randomise, training_rows
from tests.parity.heads import head_rows
from train.objectives import masked_lm, masked_lm_nsp

ROWS, LENGTH, VOCAB, TARGETS = 3, 13, 61, 4
PADDED = np.asarray([13, 9, 5])  # tokens in each row
PACKED = np.asarray([[1] * 6 + [2] * 7, [1] * 4 + [2] * 3 + [3] * 4 + [0] * 2, [1] * 10 + [0] * 3])


def rows(config: Any, name: str, next_sentence: bool) -> Iterator[Row]:
    """All rows of one family.

    Args:
      config: of transformers, odd-shaped.
      name: how transformers begins its classes.
      next_sentence: pre-training has two losses.
    """
    for precision in ("float32", "float64"):
        for packed in (False, True):
            # Packed rows with the masked-LM loss alone; they have one first token for many texts.
            pairs = next_sentence and not packed
            kind = "ForPreTraining" if pairs else "ForMaskedLM"
            reference = getattr(transformers, name + kind)(config)
            reference = reference.to(getattr(torch, precision)).eval()
            randomise(reference, seed=int(packed))
            yield from training_rows(case(reference, packed, pairs), precision)
    yield from heads(config, name)


def batch_of(packed: bool, types: int, first: int) -> tuple[dict, dict, np.ndarray]:
    """A batch for ours, one for the reference, and where tokens are; ids from `first` on."""
    rng = np.random.default_rng(int(packed))
    segments = PACKED if packed else (np.arange(LENGTH)[None] < PADDED[:, None]).astype(int)
    real = segments > 0
    tokens = np.where(real, rng.integers(first, VOCAB, (ROWS, LENGTH)), 1)
    kinds = np.where(real, rng.integers(0, types, (ROWS, LENGTH)), 0)
    ours = {
        "tokens": tokens.astype(np.int32),
        "segment_ids": segments.astype(np.int32),
        "token_types": kinds.astype(np.int32),
    }
    theirs = {"input_ids": torch.tensor(tokens), "token_type_ids": torch.tensor(kinds)}
    if packed:
        positions = np.zeros_like(segments)
        for row in range(ROWS):
            for document in range(1, 4):
                at = segments[row] == document
                positions[row, at] = np.arange(at.sum())
        ours["positions"] = positions.astype(np.int32)
        same = segments[:, :, None] == segments[:, None, :]
        # torch gives NaN for a query that sees nothing: padding sees padding.
        theirs["attention_mask"] = torch.tensor(same)[:, None]
    else:
        theirs["attention_mask"] = torch.tensor(real.astype(int))
    return ours, theirs, real


def case(reference: Any, packed: bool, next_sentence: bool) -> Case:
    """A masked-LM case with `reference`."""
    config, family = reference.config, reference.config.model_type
    shift = 2 if family == "roberta" else 0
    batch, inputs, real = batch_of(packed, config.type_vocab_size, first=5)
    if packed:
        inputs["position_ids"] = torch.tensor(batch["positions"]).long() + shift
    rng = np.random.default_rng(7)
    chosen = [np.sort(rng.choice(np.flatnonzero(row), TARGETS, replace=False)) for row in real]
    at = np.stack(chosen)
    targets = rng.integers(5, VOCAB, (ROWS, TARGETS))
    weights = np.ones((ROWS, TARGETS))
    weights[0, -1] = 0  # filled up
    batch |= {
        "target_positions": at.astype(np.int32),
        "targets": targets.astype(np.int32),
        "weights": weights.astype(np.float32),
    }
    labels = np.full((ROWS, LENGTH), -100)
    for row in range(ROWS):
        labels[row, at[row]] = np.where(weights[row] > 0, targets[row], -100)
    own = {"labels": torch.tensor(labels)}
    order = np.asarray([0, 1, 1])
    objective: Any = masked_lm.Objective(
        LENGTH, mask_rate=0.3, whole_word=False, isolate_documents=True
    )
    if next_sentence:
        batch |= {"labels": order.astype(np.int32), "label_weights": np.ones(ROWS, np.float32)}
        own["next_sentence_label"] = torch.tensor(order)
        objective = masked_lm_nsp.Objective(LENGTH, mask_rate=0.3, whole_word=False)

    def logits(out: Any) -> dict[str, torch.Tensor]:
        everywhere = out.prediction_logits if next_sentence else out.logits
        found = {"logits": everywhere[torch.arange(ROWS)[:, None], torch.tensor(at)]}
        return found | ({"next_sentence_logits": out[1]} if next_sentence else {})

    def loss(found: dict[str, torch.Tensor]) -> torch.Tensor:
        kept = torch.tensor(weights > 0)
        total = cross_entropy(found["logits"][kept], torch.tensor(targets)[kept])
        if next_sentence:
            total = total + cross_entropy(found["next_sentence_logits"], torch.tensor(order))
        return total

    return Case(reference, bert, objective, batch, inputs, real, logits, loss, own)


def heads(config: Any, name: str) -> Iterator[Row]:
    """Every class of the family, exported."""
    ours = base.get_config().model
    ours.family = name.lower()
    ours.vocab_size, ours.width, ours.num_layers, ours.num_heads = VOCAB, 24, 3, 3
    ours.mlp_width, ours.max_length, ours.num_token_types = 40, 17, config.type_vocab_size
    ours.layer_norm_epsilon = config.layer_norm_eps
    batch, inputs, real = batch_of(False, config.type_vocab_size, first=5)
    for ours.attention_type in ("bi", "uni"):
        yield from head_rows(ours, batch, inputs, real)
