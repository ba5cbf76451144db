"""BERT as Hugging Face publishes it (`BertForPreTraining` and the classes for tasks)."""

from typing import Any

from model.pretrained.mapping import (
    ACTIVATIONS,
    Architecture,
    Entry,
    Layout,
    Published,
    biases,
    dense,
    flat,
    linear,
    norm,
    published_activation,
    same,
    table,
)

PARTS = ("query", "key", "value")
POOLER = "^backbone/pooler/"


def encoder(prefix: str, num_layers: int) -> list[Entry]:
    """Embeddings and layers, which RoBERTa names alike."""
    found = [
        table("backbone/tokens", f"{prefix}embeddings.word_embeddings"),
        table("backbone/positions", f"{prefix}embeddings.position_embeddings"),
        table("backbone/token_types", f"{prefix}embeddings.token_type_embeddings"),
        *norm("backbone/norm", f"{prefix}embeddings.LayerNorm"),
    ]
    for i in range(num_layers):
        ours, theirs = f"backbone/layer_{i}", f"{prefix}encoder.layer.{i}"
        fused, parts = f"{ours}/attention/query_key_value", [
            f"{theirs}.attention.self.{part}" for part in PARTS
        ]  # fmt: skip
        out = f"{theirs}.attention.output"
        found += [
            Entry(f"{fused}/kernel", tuple(f"{p}.weight" for p in parts), linear(parts=3)),
            Entry(f"{fused}/bias", tuple(f"{p}.bias" for p in parts), biases(3)),
            Entry(f"{ours}/attention/out/kernel", (f"{out}.dense.weight",), linear(inputs=2)),
            Entry(f"{ours}/attention/out/bias", (f"{out}.dense.bias",), flat()),
            *norm(f"{ours}/attention_norm", f"{out}.LayerNorm"),
            *dense(f"{ours}/mlp/up", f"{theirs}.intermediate.dense"),
            *dense(f"{ours}/mlp/down", f"{theirs}.output.dense"),
            *norm(f"{ours}/mlp_norm", f"{theirs}.output.LayerNorm"),
        ]
    return found


def task_heads() -> list[Entry]:
    """The heads on single tokens, which all encoders name alike."""
    return [
        *dense("head/span/linear", "qa_outputs"),
        *dense("head/token_classification/linear", "classifier"),
    ]


def entries(config: Any) -> list[Entry]:
    """The map."""
    predictions = "cls.predictions"
    pooler = dense("backbone/pooler", "bert.pooler.dense")
    return [
        *encoder("bert.", config.num_layers),
        *(Entry(e.ours, e.theirs, e.transform, optional=True) for e in pooler),
        *dense("head/lm/transform", f"{predictions}.transform.dense"),
        *norm("head/lm/norm", f"{predictions}.transform.LayerNorm"),
        Entry("head/lm/bias", (f"{predictions}.bias",), same()),
        *dense("head/next_sentence/linear", "cls.seq_relationship"),
        *dense("head/classification/linear", "classifier"),
        *task_heads(),
    ]


def encoder_config(theirs: Published) -> dict[str, Any]:
    """config.json -> config.model, for BERT and RoBERTa."""
    theirs.require(
        position_embedding_type="absolute", add_cross_attention=False, tie_word_embeddings=True
    )
    return {
        "vocab_size": theirs.size("vocab_size"),
        "width": theirs.size("hidden_size"),
        "num_layers": theirs.size("num_hidden_layers"),
        "num_heads": theirs.size("num_attention_heads"),
        "mlp_width": theirs.size("intermediate_size"),
        "max_length": theirs.size("max_position_embeddings"),
        "num_token_types": theirs.size("type_vocab_size"),
        "attention_type": "uni" if theirs.flag("is_decoder", False) else "bi",
        "dropout": theirs.number("hidden_dropout_prob", 0.1),
        "activation": theirs.choice("hidden_act", "gelu", ACTIVATIONS),
        "layer_norm_epsilon": theirs.number("layer_norm_eps", 1e-12),
        "initializer_std": theirs.number("initializer_range", 0.02),
    }


def published_encoder(config: Any) -> dict[str, Any]:
    """config.model -> config.json, for BERT and RoBERTa."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_length,
        "type_vocab_size": config.num_token_types,
        "is_decoder": config.attention_type == "uni",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "hidden_act": published_activation(config.activation),
        "layer_norm_eps": config.layer_norm_epsilon,
        "initializer_range": config.initializer_std,
    }


# Published classes pool the first token, which from left to right has seen nothing of the text.
BOTH_WAYS = ("bi",)

LAYOUT = Layout(
    model_type="bert",
    architectures=(
        Architecture(
            "BertForPreTraining", ("lm", "next_sentence"), "masked_lm_nsp", attention=BOTH_WAYS
        ),
        Architecture("BertForMaskedLM", ("lm",), "masked_lm", lacks=POOLER, attention=BOTH_WAYS),
        Architecture("BertLMHeadModel", ("lm",), "causal_lm", lacks=POOLER, attention=("uni",)),
        Architecture("BertForNextSentencePrediction", ("next_sentence",), "", attention=BOTH_WAYS),
        Architecture(
            "BertForSequenceClassification", ("classification",), "classification",
            attention=BOTH_WAYS,
        ),
        Architecture("BertForQuestionAnswering", ("span",), "extractive_qa", lacks=POOLER),
        Architecture(
            "BertForTokenClassification", ("token_classification",), "token_classification",
            lacks=POOLER,
        ),
        Architecture("BertModel", (), ""),
    ),
    prefix="bert.",
    entries=entries,
    to_model=encoder_config,
    to_published=published_encoder,
    special_tokens=lambda tokenizer: {"pad_token_id": tokenizer.pad_id},
    framed=True,
    ignored=r"^bert\.embeddings\.position_ids$",
    copies=(
        (r"^cls\.predictions\.decoder\.weight$", "bert.embeddings.word_embeddings.weight"),
        (r"^cls\.predictions\.decoder\.bias$", "cls.predictions.bias"),
    ),
    # The checkpoints converted from TensorFlow.
    renamed=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
)  # fmt: skip
