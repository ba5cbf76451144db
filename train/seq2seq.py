"""What the objectives of encoder-decoders share: a row of fixed shapes, the head, the loss."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from model.heads import Heads
from model.t5 import START  # whatever the tokenizer calls it
from train.objectives import Pair, accuracy, cross_entropy_and_z, pad, smoothed_cross_entropy


def end_of_text(tokenizer: Any) -> np.ndarray:
    """[1] the id that ends a text; [0] where the tokenizer has none."""
    end = tokenizer.sep_id if tokenizer.eos_id is None else tokenizer.eos_id
    return np.asarray([] if end is None else [end], np.int32)


def make_row(
    source: np.ndarray,
    target: np.ndarray,
    source_segments: np.ndarray,
    target_segments: np.ndarray,
    weights: np.ndarray,
    length: int,
    target_length: int,
) -> dict[str, np.ndarray]:
    """One row for teacher forcing.

    Args:
      source: ids [N <= length] for the encoder.
      target: ids [M <= target_length] that the decoder predicts.
      source_segments: [N] which text of the row a token belongs to, from 1.
      target_segments: [M] the same for the target; texts lie one after the other.
      weights: [M] how much each prediction counts.
      length: tokens in the encoder.
      target_length: tokens in the decoder.

    Returns:
      `tokens`, `segment_ids` [length], `decoder_tokens`, `decoder_segment_ids`, `targets`,
      `weights` [target_length]. The decoder reads START and then the target, moved by one, for
      each text of the row.
    """
    given = np.concatenate([[START], target[:-1]])
    given[1:][target_segments[1:] != target_segments[:-1]] = START
    return {
        "tokens": pad(source, length, "int32"),
        "segment_ids": pad(source_segments, length, "int32"),
        "decoder_tokens": pad(given, target_length, "int32"),
        "decoder_segment_ids": pad(target_segments, target_length, "int32"),
        "targets": pad(target, target_length, "int32"),
        "weights": pad(weights, target_length, "float32"),
    }


class TeacherForced:
    """What objectives have in common that teach answers to a decoder; a dataclass adds the rows.

    The decoder reads the target, moved by one, and predicts it. `source_ends`: whether the
    encoder's text, where there is an encoder, has an end token.
    """

    z_loss: float
    label_smoothing: ClassVar[float] = 0.0
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy", "z_loss")
    predicts: ClassVar[str] = "decoder"
    source_ends: ClassVar[bool] = True

    def head(self) -> Heads:
        """The LM head."""
        return Heads(lm=True)

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of the targets, in nats, and `z_loss` times log(Z)^2."""
        logits = apply(params, batch, rng)["logits"]
        targets = (logits, batch["targets"], batch["weights"])
        loss, z_loss = cross_entropy_and_z(*targets, self.z_loss)
        if rng is not None and self.label_smoothing:
            loss = smoothed_cross_entropy(*targets, self.label_smoothing)
        losses = {"cross_entropy": loss, "z_loss": z_loss}
        return losses, {"accuracy": accuracy(*targets)}, carry
