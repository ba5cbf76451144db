"""XLNet as Hugging Face publishes it (`XLNetLMHeadModel` and the classes for tasks).

Attention's maps are kept as we keep them, [D, H, K], but for the output's (legend: model/xlnet.py).
"""

from typing import Any

import numpy as np

from model.errors import ModelError
from model.pretrained.bert import task_heads
from model.pretrained.mapping import (
    ACTIVATIONS,
    Architecture,
    Entry,
    Layout,
    Published,
    Shape,
    Transform,
    dense,
    norm,
    published_activation,
    same,
    table,
)

MAPS = {"query": "q", "key": "k", "value": "v", "position": "r"}
BIASES = {"content_bias": "r_w_bias", "position_bias": "r_r_bias", "segment_bias": "r_s_bias"}
# The output's kernel [H, K, D] is published as [D, H, K].
OUT = Transform(
    lambda shape: [(shape[2], *shape[:2])],
    lambda parts, _: parts[0].transpose(1, 2, 0),
    lambda x: [x.transpose(2, 0, 1)],
)
# The vector [D] that a query stream begins with is published as [1, 1, D].
MASK = Transform(
    lambda shape: [(1, 1, *shape)],
    lambda parts, _: parts[0][0, 0],
    lambda x: [x[None, None]],
)


def tied(names: tuple[str, ...]) -> Transform:
    """One array for tensors that are the same in every layer."""

    def join(parts: list[np.ndarray], _: Shape) -> np.ndarray:
        for name, part in zip(names, parts, strict=True):
            if not np.array_equal(part, parts[0]):
                raise ModelError(
                    f"{name} is not {names[0]}, but config.json ties them (untie_r = false); set "
                    "that to true to import them as they are."
                )
        return parts[0]

    return Transform(lambda shape: [shape] * len(names), join, lambda x: [x] * len(names))


def entries(config: Any) -> list[Entry]:
    """The map."""
    found = [
        table("backbone/tokens", "transformer.word_embedding"),
        Entry("backbone/mask_embedding", ("transformer.mask_emb",), MASK),
        Entry("head/lm/bias", ("lm_loss.bias",), same()),
        *dense("head/classification/summary", "sequence_summary.summary"),
        *dense("head/classification/linear", "logits_proj"),
        *task_heads(),
    ]
    attention = [f"transformer.layer.{i}.rel_attn" for i in range(config.num_layers)]
    for i, theirs in enumerate(attention):
        ours, mlp = f"backbone/layer_{i}", f"transformer.layer.{i}.ff"
        found += [
            *(
                Entry(f"{ours}/attention/{long}/kernel", (f"{theirs}.{short}",), same())
                for long, short in MAPS.items()
            ),
            Entry(f"{ours}/attention/segments", (f"{theirs}.seg_embed",), same()),
            Entry(f"{ours}/attention/out/kernel", (f"{theirs}.o",), OUT),
            *norm(f"{ours}/attention_norm", f"{theirs}.layer_norm"),
            *dense(f"{ours}/mlp/up", f"{mlp}.layer_1"),
            *dense(f"{ours}/mlp/down", f"{mlp}.layer_2"),
            *norm(f"{ours}/mlp_norm", f"{mlp}.layer_norm"),
        ]
    # Published models have these biases in every layer, whether or not they are tied.
    for long, short in BIASES.items():
        names = tuple(f"{theirs}.{short}" for theirs in attention)
        if config.untie_biases:
            found += [
                Entry(f"backbone/layer_{i}/biases/{long}", (name,), same())
                for i, name in enumerate(names)
            ]
        else:
            found.append(Entry(f"backbone/biases/{long}", names, tied(names)))
    return found


def model_config(theirs: Published) -> dict[str, Any]:
    """config.json -> config.model.

    Its `bi_data`, which rows are read backwards, is no property of ours: each batch says it.
    """
    theirs.require(
        same_length=False, summary_type="last", summary_use_proj=True, summary_activation="tanh",
        tie_word_embeddings=True,
    )  # fmt: skip
    width, heads = theirs.size("d_model"), theirs.size("n_head")
    theirs.require(d_head=width // heads)
    return {
        "vocab_size": theirs.size("vocab_size"),
        "width": width,
        "num_layers": theirs.size("n_layer"),
        "num_heads": heads,
        "mlp_width": theirs.size("d_inner"),
        "mem_len": theirs.size("mem_len", absent=0),
        "reuse_len": theirs.size("reuse_len", absent=0),
        "attention_type": theirs.choice("attn_type", "bi", {"bi": "bi", "uni": "uni"}),
        "clamp_length": max(0, int(theirs.number("clamp_len", -1))),
        "untie_biases": theirs.flag("untie_r", True),
        "dropout": theirs.number("dropout", 0.1),
        "activation": theirs.choice("ff_activation", "gelu", ACTIVATIONS),
        "layer_norm_epsilon": theirs.number("layer_norm_eps", 1e-12),
        "initializer_std": theirs.number("initializer_range", 0.02),
    }


def published_config(config: Any) -> dict[str, Any]:
    """config.model -> config.json."""
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "d_head": config.width // config.num_heads,
        "d_inner": config.mlp_width,
        "mem_len": config.mem_len or None,
        "reuse_len": config.reuse_len or None,
        "attn_type": config.attention_type,
        "clamp_len": config.clamp_length or -1,
        "untie_r": config.untie_biases,
        "bi_data": False,
        "same_length": False,
        "summary_type": "last",
        "summary_use_proj": True,
        "summary_activation": "tanh",
        "summary_last_dropout": config.dropout,
        "dropout": config.dropout,
        "ff_activation": published_activation(config.activation),
        "layer_norm_eps": config.layer_norm_epsilon,
        "initializer_range": config.initializer_std,
    }


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The ids that config.json names."""
    return {
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
    }


LAYOUT = Layout(
    model_type="xlnet",
    architectures=(
        Architecture("XLNetLMHeadModel", ("lm",), "permutation_lm"),
        Architecture("XLNetForSequenceClassification", ("classification",), "classification"),
        Architecture("XLNetForQuestionAnsweringSimple", ("span",), "extractive_qa"),
        Architecture(
            "XLNetForTokenClassification", ("token_classification",), "token_classification"
        ),
        Architecture("XLNetModel", (), ""),
    ),
    prefix="transformer.",
    entries=entries,
    to_model=model_config,
    to_published=published_config,
    special_tokens=special_tokens,
    # Not framed: [CLS] stands behind the text, and XLNetTokenizer puts it there by itself.
    copies=((r"^lm_loss\.weight$", "transformer.word_embedding.weight"),),
)
