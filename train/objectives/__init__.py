"""What is learned: one file an objective, found by its name (``config.objective.name``).

Each module has a frozen dataclass `Objective` whose fields are filled from ``config.objective`` (or
are `length`, `num_labels` and what `build` takes from ``config.model``), with:
  rows: which rows it reads ("stream", "sentences", "full_sentences": input_pipeline/packing.py;
    "contiguous": input_pipeline/contiguous.py, whose row b continues row b of the step before;
    "examples", "pairs" (by config.data.tasks), "packed": input_pipeline/examples.py; "mixture" of
    stream and pairs).
  window: how many tokens of text fill one row.
  losses: the names of the parts of its loss.
  predicts: the way in which it predicts tokens (model/heads.py, `WAYS`); "" if it predicts none.
  targets: at how many positions of a row a token is predicted.
  head(): the Heads it needs.
  features(example, rng, tokenizer): the host half, numpy: one row of fixed shapes.
  loss(apply, params, batch, rng, carry) -> (losses, metrics, carry): the device half. The first
    two are dicts of (sum, weight) pairs; the loss that is minimised is the sum over `losses` of
    sum / weight, with weights counted over the global batch. `rng` None means evaluation. `carry`
    is what the model keeps from batch to batch (`Model.carry`, each leaf [B, ...]); it is {} and
    goes back as it came unless the rows are contiguous.
those on labelled records also
  task(data): what is made of a record (input_pipeline/task.py), given config.data;
  longer(store, tokenizer) -> bool [E]: which examples do not fit into a row and lose their end;
and, where there is something to collect example by example,
  predict(apply, params, batch) -> dict of arrays [B, ...], with `weights` [B] (0: padding),
  metrics: names of what finalize gives,
  finalize(predictions, records, tokenizer, labels) -> (metrics, a JSON-able dict a prediction):
    the host half of evaluation. `records()` reads the records, in which `record` [B] counts.
What those of encoder-decoders share is in train/seq2seq.py.
"""

import dataclasses
import importlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.base import choose
from model.api import family_config

CLS_FIRST = ("bert", "roberta")  # families of which every row begins with [CLS]
CLS_LAST = ("xlnet",)  # families whose [CLS] stands behind the text (Yang et al. 2019, 2.5)
Pair = tuple[jax.Array, jax.Array]
NAMES = sorted(p.stem for p in pathlib.Path(__file__).parent.glob("*.py") if p.stem != "__init__")


def load(config: Any) -> type:
    """The class named by ``config.objective.name``; ConfigError with the nearest name."""
    return load_name(config.objective.name)


def load_name(name: str) -> type:
    """The class of an objective; ConfigError with the nearest name."""
    choose("objective", name, {n: n for n in NAMES})
    return importlib.import_module(f"train.objectives.{name}").Objective


def build(config: Any, num_labels: int) -> Any:
    """The objective of a config; `num_labels` comes from the data (0 where there are no labels)."""
    known = {
        **config.objective,
        "length": config.length,
        "num_labels": num_labels,
        "cls_first": config.model.family in CLS_FIRST,
        "cls_last": config.model.family in CLS_LAST,
        "causal": "causal" in family_config(config.model).predicts,
        "mem_len": config.model.mem_len,
        "reuse_len": config.model.reuse_len,
    }
    cls = load(config)
    return cls(**{f.name: known[f.name] for f in dataclasses.fields(cls)})


def cross_entropy(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> Pair:
    """Weighted negative log-likelihood in nats.

    Args:
      logits: [..., C] float32.
      targets: [...] int32 in [0, C).
      weights: [...] float32; 0 leaves a position out.

    Returns:
      (sum, weight): the weighted sum and the sum of the weights.
    """
    return cross_entropy_and_z(logits, targets, weights, 0.0)[0]


def cross_entropy_and_z(
    logits: jax.Array, targets: jax.Array, weights: jax.Array, z_weight: float
) -> tuple[Pair, Pair]:
    """`cross_entropy`, and with it `z_weight` log(Z)^2 (Shazeer et al. 2018, Mesh TensorFlow).

    Z normalises the softmax; the second term keeps it near 1, and logits from drifting.
    """
    negative_log_likelihood, log_normalizer = _likelihood(logits, targets)
    total = jnp.sum(weights)
    z = z_weight * jnp.sum(jnp.square(log_normalizer) * weights)
    return (jnp.sum(negative_log_likelihood * weights), total), (z, total)


def smoothed_cross_entropy(
    logits: jax.Array, targets: jax.Array, weights: jax.Array, smoothing: float
) -> Pair:
    """`cross_entropy` with a target of which all classes share `smoothing` (Szegedy et al. 2016).

    -(1 - s) log p(target) - s times the mean of log p over the classes.
    """
    if not smoothing:
        return cross_entropy(logits, targets, weights)
    negative_log_likelihood, log_normalizer = _likelihood(logits, targets)
    uniform = log_normalizer - jnp.mean(logits, axis=-1)
    value = (1 - smoothing) * negative_log_likelihood + smoothing * uniform
    return jnp.sum(value * weights), jnp.sum(weights)


@jax.custom_vjp
def _likelihood(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood of each target, and log(Z)."""
    return _likelihood_forward(logits, targets)[0]


def _likelihood_forward(logits: jax.Array, targets: jax.Array) -> tuple[Any, Any]:
    log_normalizer = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (log_normalizer - chosen, log_normalizer), (logits, targets, log_normalizer)


def _likelihood_backward(saved: Any, g: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    """Softmax minus one-hot, in one pass over the logits instead of a scatter and three passes."""
    logits, targets, log_normalizer = saved
    likelihood, normalizer = (part[..., None] for part in g)
    classes = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    softmax = jnp.exp(logits - log_normalizer[..., None])
    one_hot = (classes == targets[..., None]).astype(logits.dtype)
    return softmax * (likelihood + normalizer) - one_hot * likelihood, None


_likelihood.defvjp(_likelihood_forward, _likelihood_backward)


def accuracy(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> Pair:
    """(sum, weight) of the positions whose largest logit is the target's; shapes as above.

    Of n equal largest logits each counts 1/n. (An argmax, which XLA does not vectorise, took 4% of
    a small BERT's step.)
    """
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)
    largest = jnp.max(logits, axis=-1, keepdims=True)
    ties = jnp.sum((logits == largest).astype(weights.dtype), axis=-1)
    hit = (chosen == largest)[..., 0].astype(weights.dtype)
    return jnp.sum(hit / ties * weights), jnp.sum(weights)


def pad(values: np.ndarray, length: int, dtype: str) -> np.ndarray:
    """A 1-d array of exactly `length`: cut, or filled with zeros at the end."""
    out = np.zeros(length, dtype)
    out[: min(len(values), length)] = values[:length]
    return out
