"""GPT-2 as Hugging Face publishes it; its `Conv1D` keeps kernels as [inputs, outputs], as we do."""

from typing import Any

from model.pretrained.bert import task_heads
from model.pretrained.mapping import (
    ACTIVATIONS,
    Architecture,
    Entry,
    Layout,
    Published,
    flat,
    linear,
    norm,
    published_activation,
    table,
)


def convolution(ours: str, theirs: str, inputs: int = 1) -> list[Entry]:
    """A linear map, published as [I, O]."""
    return [
        Entry(f"{ours}/kernel", (f"{theirs}.weight",), flat(inputs)),
        Entry(f"{ours}/bias", (f"{theirs}.bias",), flat()),
    ]


def entries(config: Any) -> list[Entry]:
    """The map."""
    found = [
        table("backbone/tokens", "transformer.wte"),
        table("backbone/positions", "transformer.wpe"),
        *norm("backbone/norm", "transformer.ln_f"),
        Entry("head/classification/kernel", ("score.weight",), linear()),
        *task_heads(),
    ]
    for i in range(config.num_layers):
        ours, theirs = f"backbone/layer_{i}", f"transformer.h.{i}"
        found += [
            *norm(f"{ours}/attention_norm", f"{theirs}.ln_1"),
            *convolution(f"{ours}/attention/query_key_value", f"{theirs}.attn.c_attn"),
            *convolution(f"{ours}/attention/out", f"{theirs}.attn.c_proj", inputs=2),
            *norm(f"{ours}/mlp_norm", f"{theirs}.ln_2"),
            *convolution(f"{ours}/mlp/up", f"{theirs}.mlp.c_fc"),
            *convolution(f"{ours}/mlp/down", f"{theirs}.mlp.c_proj"),
        ]
    return found


def model_config(theirs: Published) -> dict[str, Any]:
    """config.json -> config.model."""
    theirs.require(
        scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    width = theirs.size("n_embd")
    return {
        "vocab_size": theirs.size("vocab_size"),
        "width": width,
        "num_layers": theirs.size("n_layer"),
        "num_heads": theirs.size("n_head"),
        "mlp_width": theirs.size("n_inner", absent=4 * width),
        "max_length": theirs.size("n_positions"),
        "dropout": theirs.number("resid_pdrop", 0.1),
        "activation": theirs.choice("activation_function", "gelu_new", ACTIVATIONS),
        "layer_norm_epsilon": theirs.number("layer_norm_epsilon", 1e-5),
        "initializer_std": theirs.number("initializer_range", 0.02),
    }


def published_config(config: Any) -> dict[str, Any]:
    """config.model -> config.json."""
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.mlp_width,
        "n_positions": config.max_length,
        "n_ctx": config.max_length,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "activation_function": published_activation(config.activation),
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "initializer_range": config.initializer_std,
    }


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The ids of the end of text and, only where it is another one, of padding."""
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    own = tokenizer.eos_id is not None and tokenizer.pad_id != tokenizer.eos_id
    return {**ids, "pad_token_id": tokenizer.pad_id if own else None}


LAYOUT = Layout(
    model_type="gpt2",
    architectures=(
        Architecture("GPT2LMHeadModel", ("lm",), "causal_lm"),
        Architecture("GPT2ForSequenceClassification", ("classification",), "classification"),
        Architecture("GPT2ForQuestionAnswering", ("span",), "extractive_qa"),
        Architecture(
            "GPT2ForTokenClassification", ("token_classification",), "token_classification"
        ),
        Architecture("GPT2Model", (), ""),
    ),
    prefix="transformer.",
    entries=entries,
    to_model=model_config,
    to_published=published_config,
    special_tokens=special_tokens,
    ignored=r"^transformer\.h\.\d+\.attn\.(bias|masked_bias)$",  # masks
    copies=((r"^lm_head\.weight$", "transformer.wte.weight"),),
    inputs_first=True,
)
