"""The one door to the models: ``build(config.model, heads, config.adapters) -> Model``.

A family is a module ``model/<family>.py`` with `Config` (its keys of ``config.model``, and how it
`predicts` tokens), `LMHead` and its backbone class, named by `FAMILIES`, `ClassificationHead` where
that is not the linear map of heads.py, and `reread` where a decoder reads the text for heads that
sit on it, and `ABOVE` where a backbone has parts between its last layer and the heads. Parameters
are a nested dict ``{"backbone": ..., "head": ...}`` of float32 arrays, with "adapters" where there
are some.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from model import adapters, bert, gpt, roberta, t5, xlnet
from model.activations import activation
from model.adapters import Adapters
from model.depth import depths
from model.dropout import split
from model.errors import ModelError
from model.heads import Classifier, Heads, gather_positions, mean_token

Params = dict[str, Any]
FAMILIES = {
    "gpt": (gpt, gpt.GPT),
    "bert": (bert, bert.BERT),
    "roberta": (roberta, roberta.RoBERTa),
    "xlnet": (xlnet, xlnet.XLNet),
    "t5": (t5, t5.T5),
}
# The smallest values of sizes; 0 where that means "follows from others".
LEAST = {
    "width": 1, "num_layers": 1, "num_heads": 1, "mlp_width": 1, "max_length": 1,
    "num_token_types": 1, "vocab_size": 0, "num_decoder_layers": 0, "head_size": 0,
}  # fmt: skip
# Fields of a Config in which two runs of one architecture may differ: how it is trained and
# computed, not what it is.
PER_RUN = (
    "dropout", "initializer_std", "mem_len", "reuse_len", "dtype", "remat", "scan_layers",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)  # by identity: a static argument of jit
class Model:
    """A model as pure functions.

    Attributes:
      init: ``init(rng) -> params``; jit it with output shardings to create them in place.
      apply: ``apply(params, batch, rng=None, **caches) -> outputs``: a dict with `hidden`
        [B, T, D], `caches`, and, by head: `logits` [B, P, V], `next_sentence_logits` [B, 2],
        `class_logits` [B, C], `qa_logits` [B, T, 2], `token_logits` [B, T, C]. `rng` None: no
        dropout.
      carry: ``carry(rows) -> caches`` before the first of a run of batches, for a model that
        keeps a memory from one to the next; {} for others.
      axes: the tree of `params` with a tuple of logical axis names in place of each array.
      shapes: the tree of `params` with a ShapeDtypeStruct in place of each array.
      depths: the tree of `params` with the depth of each (model/depth.py).
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., dict[str, Any]]
    carry: Callable[[int], dict[str, jax.Array]]
    axes: Params
    shapes: Params
    depths: Params

    @property
    def num_params(self) -> int:
        """How many numbers the parameters are, shared ones counted once."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.shapes))


class _Head(nn.Module):
    """The heads that were asked for, by name."""

    family: Any
    config: Any
    heads: Heads

    def setup(self) -> None:
        c = self.config
        if self.heads.lm:
            self.lm = self.family.LMHead(c)
        if self.heads.next_sentence:
            self.next_sentence = Classifier(2, c.initializer_std, 0.0)
        if self.heads.num_labels:
            head = getattr(self.family, "ClassificationHead", Classifier)
            self.classification = head(self.heads.num_labels, c.initializer_std, c.dropout)
        if self.heads.span:
            self.span = Classifier(2, c.initializer_std, 0.0)
        if self.heads.num_token_labels:
            self.token_classification = Classifier(
                self.heads.num_token_labels, c.initializer_std, c.dropout
            )

    def __call__(
        self, out: Any, table_VD: jax.Array, batch: dict[str, jax.Array], rng: jax.Array | None
    ) -> dict[str, jax.Array]:
        outputs = {}
        if self.heads.lm:
            hidden = out.hidden_BTD
            if out.predicted_BPD is not None:
                hidden = out.predicted_BPD
            elif "target_positions" in batch:
                hidden = gather_positions(hidden, batch["target_positions"])
            outputs["logits"] = self.lm(hidden, table_VD)
        if self.heads.next_sentence:
            outputs["next_sentence_logits"] = self.next_sentence(out.pooled_BD, None)
        if self.heads.num_labels:
            pooled_BD = out.pooled_BD
            if self.heads.pooling == "mean":
                pooled_BD = mean_token(out.hidden_BTD, batch.get("segment_ids"))
            outputs["class_logits"] = self.classification(pooled_BD, rng)
        if self.heads.span:
            outputs["qa_logits"] = self.span(out.hidden_BTD, None)
        if self.heads.num_token_labels:
            outputs["token_logits"] = self.token_classification(out.hidden_BTD, rng)
        return outputs


class _LanguageModel(nn.Module):
    """A family's backbone with its heads on top."""

    family: Any
    backbone_class: type[nn.Module]
    config: Any
    heads: Heads
    adapters: Adapters

    def setup(self) -> None:
        self.backbone = self.backbone_class(self.config)
        self.head = _Head(self.family, self.config, self.heads)

    def __call__(
        self, batch: dict[str, jax.Array], rng: jax.Array | None = None, **caches: Any
    ) -> dict[str, Any]:
        backbone_rng, head_rng = split(rng, 2)
        if self.heads.decodes and "decoder_tokens" not in batch:
            batch = getattr(self.family, "reread", dict)(batch)
        with adapters.use(self.adapters):
            out = self.backbone(batch, backbone_rng, **caches)
        outputs = self.head(out, self.backbone.tokens.table, batch, head_rng)
        return {"hidden": out.hidden_BTD, "caches": out.caches, **outputs}


def family_config(config: Any) -> Any:
    """The family's own frozen `Config` from ``config.model``; ModelError on impossible values."""
    if config.family not in FAMILIES:
        raise ModelError(
            f"config.model.family is {config.family!r}; it must be one of {sorted(FAMILIES)}."
        )
    fields = dataclasses.fields(FAMILIES[config.family][0].Config)
    for field in fields:
        least = LEAST.get(field.name)
        if least is not None and getattr(config, field.name) < least:
            raise ModelError(
                f"config.model.{field.name} is {getattr(config, field.name)}; it must be {least} "
                "or more."
            )
    if not 0 <= config.dropout < 1:
        raise ModelError(
            f"config.model.dropout is {config.dropout}; it must be at least 0 and below 1."
        )
    own = FAMILIES[config.family][0].Config(**{f.name: getattr(config, f.name) for f in fields})
    activation(own.activation.removeprefix("gated_"))
    any_width = hasattr(own, "head_size") and config.head_size > 0
    if not any_width and own.width % own.num_heads:
        raise ModelError(
            f"config.model.width {own.width} is not a multiple of config.model.num_heads "
            f"{own.num_heads}; choose a width that the heads divide."
        )
    if own.dtype not in ("float32", "bfloat16", "float64"):
        raise ModelError(
            f"config.model.dtype is {own.dtype!r}; it must be 'float32', 'bfloat16' or 'float64'."
        )
    return own


def architecture(config: Any) -> dict[str, Any]:
    """What makes two models the same: ``config.model``'s family, and what its Config reads.

    Sizes that follow from others are filled in; what is of a run (`PER_RUN`) is left out.
    """
    own = dataclasses.asdict(family_config(config))
    return {"family": config.family} | {k: v for k, v in own.items() if k not in PER_RUN}


def build(config: Any, heads: Heads, adapters_config: Any = None) -> Model:
    """Builds a model; the same one again for the same values, with all that was compiled for it.

    Args:
      config: an object with the attributes of ``config.model`` in configs/base.py.
      heads: which heads sit on the backbone.
      adapters_config: an object with the attributes of ``config.adapters``; None: no adapters.

    Returns:
      The Model.

    Raises:
      ModelError: a family, size, head or adapter that does not exist or does not fit.
    """
    own = family_config(config)
    if heads.next_sentence and config.family != "bert":
        raise ModelError(
            f"Next-sentence prediction needs a pooled first token, which family {config.family!r} "
            "does not have; use config.model.family='bert' or another objective."
        )
    if heads.permuted and "permuted" not in own.predicts:
        raise ModelError(
            f"Predicting tokens in a permuted order needs two streams, which family "
            f"{config.family!r} does not have; use config.model.family='xlnet' or another "
            "objective."
        )
    if heads.pooling not in ("own", "mean"):
        raise ModelError(f"config.objective.pooling is {heads.pooling!r}; use 'own' or 'mean'.")
    return _build(config.family, own, heads, adapters.from_config(adapters_config))


@functools.lru_cache(maxsize=32)
def _build(family: str, own: Any, heads: Heads, spec: Adapters) -> Model:
    """The Model of values that were checked."""
    module_file, backbone = FAMILIES[family]
    module = _LanguageModel(module_file, backbone, own, heads, spec)
    token = np.zeros((1, 1), np.int32)
    batch = {"tokens": token, "decoder_tokens": token}  # all that any family's parameters need

    def parts(variables: Any) -> Params:
        params = variables["params"]
        found = {"backbone": params["backbone"], "head": params.get("head", {})}
        if spec.any:
            found["adapters"] = variables.get(adapters.COLLECTION, {}).get("backbone", {})
        return found

    def init(rng: jax.Array) -> Params:
        return parts(nn.unbox(module.init(rng, batch)))

    def apply(
        params: Params, batch: dict[str, jax.Array], rng: jax.Array | None = None, **caches: Any
    ):
        variables = {"params": {name: params[name] for name in ("backbone", "head")}}
        if spec.any:
            variables[adapters.COLLECTION] = {"backbone": params["adapters"]}
        rngs = {}
        if rng is not None and spec.lora_dropout:
            rngs[adapters.DROPOUT] = jax.random.fold_in(rng, 1)
        return module.apply(variables, batch, rng, **caches, rngs=rngs)

    def carry(rows: int) -> dict[str, jax.Array]:
        return xlnet.empty_memory(own, rows) if family == "xlnet" else {}

    boxed = parts(jax.eval_shape(module.init, jax.random.key(0), batch))
    is_box = lambda leaf: isinstance(leaf, nn.Partitioned)  # noqa: E731
    axes = jax.tree.map(lambda box: box.names, boxed, is_leaf=is_box)
    shapes = jax.tree.map(lambda box: box.value, boxed, is_leaf=is_box)
    adapters.check(spec, shapes["backbone"])
    depth = depths(shapes, getattr(module_file, "ABOVE", ()))
    return Model(init, apply, carry, axes, shapes, depth)
