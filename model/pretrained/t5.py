"""T5 as Hugging Face publishes it: versions 1.0 and 1.1 (`T5ForConditionalGeneration`).

A text's class and an answer's ends are read off a decoder that is fed the source once more
(`model.t5.reread`), tokens' classes off the encoder alone.
"""

from typing import Any

from model.api import family_config
from model.pretrained.mapping import (
    Architecture,
    Entry,
    Layout,
    Published,
    dense,
    linear,
    published_activation,
    same,
    table,
)
from model.t5 import Decoder
from model.t5_layers import GATED

# The published code takes gated-gelu for gelu's approximation, and plain gelu as it is.
FEED_FORWARD = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gated-relu": "gated_relu",
    "gated-gelu": "gated_gelu_tanh",
    "gated-gelu_new": "gated_gelu_tanh",
}


def kernel(ours: str, theirs: str, inputs: int = 1) -> Entry:
    """A linear map without bias."""
    return Entry(f"{ours}/kernel", (f"{theirs}.weight",), linear(inputs))


def scale(ours: str, theirs: str) -> Entry:
    """A norm that only rescales."""
    return Entry(f"{ours}/scale", (f"{theirs}.weight",), same())


def attention(ours: str, theirs: str) -> list[Entry]:
    """Keys and values are one map of ours."""
    both = (f"{theirs}.k.weight", f"{theirs}.v.weight")
    return [
        kernel(f"{ours}/query", f"{theirs}.q"),
        Entry(f"{ours}/key_value/kernel", both, linear(parts=2)),
        kernel(f"{ours}/out", f"{theirs}.o", inputs=2),
    ]


def stack(name: str, layers: int, gated: bool) -> list[Entry]:
    """The encoder or the decoder; layer 0 keeps the position biases for all."""
    biases = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    found = [
        Entry(f"backbone/{name}/relative", (biases,), same()),
        scale(f"backbone/{name}/norm", f"{name}.final_layer_norm"),
    ]
    parts = {"attention": "SelfAttention", "cross_attention": "EncDecAttention"}
    if name == "encoder":
        del parts["cross_attention"]
    for i in range(layers):
        ours, theirs = f"backbone/{name}/layer_{i}", f"{name}.block.{i}.layer"
        for place, (part, published) in enumerate(parts.items()):
            found += attention(f"{ours}/{part}", f"{theirs}.{place}.{published}")
            found.append(scale(f"{ours}/{part}_norm", f"{theirs}.{place}.layer_norm"))
        mlp, last = f"{ours}/mlp", f"{theirs}.{len(parts)}"
        ups = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
        for part, published in {**ups, "down": "wo"}.items():
            found.append(kernel(f"{mlp}/{part}", f"{last}.DenseReluDense.{published}"))
        found.append(scale(f"{mlp}_norm", f"{last}.layer_norm"))
    return found


def entries(config: Any) -> list[Entry]:
    """The map."""
    c = family_config(config)
    gated = c.activation.startswith(GATED)
    found = [
        table("backbone/tokens", "shared"),
        *stack("encoder", c.num_layers, gated),
        *stack("decoder", c.num_decoder_layers, gated),
        *dense("head/classification/dense", "classification_head.dense"),
        *dense("head/classification/linear", "classification_head.out_proj"),
        *dense("head/span/linear", "qa_outputs"),
        *dense("head/token_classification/linear", "classifier"),
    ]
    return found if c.tie_embeddings else [*found, table("head/lm", "lm_head")]


def model_config(theirs: Published) -> dict[str, Any]:
    """config.json -> config.model.

    Tied output weights go with scaled states, untied ones with states as they are. transformers 5
    says which in scale_decoder_outputs and writes tie_word_embeddings = true for both; the older
    ones know only tie_word_embeddings.
    """
    activation = theirs.choice("feed_forward_proj", "relu", FEED_FORWARD)
    theirs.require(
        is_decoder=False, decoder_start_token_id=Decoder.first,
        is_gated_act=activation.startswith(GATED),
        dense_act_fn=published_activation(activation.removeprefix(GATED)),
    )  # fmt: skip
    tied = theirs.values.get("tie_word_embeddings", True)
    layers = theirs.size("num_layers")
    own_depth = theirs.values.get("num_decoder_layers") is not None
    return {
        "vocab_size": theirs.size("vocab_size"),
        "width": theirs.size("d_model"),
        "num_layers": layers,
        "num_decoder_layers": theirs.size("num_decoder_layers") if own_depth else layers,
        "num_heads": theirs.size("num_heads"),
        "head_size": theirs.size("d_kv"),
        "mlp_width": theirs.size("d_ff"),
        "relative_buckets": theirs.size("relative_attention_num_buckets"),
        # Not in the older files, whose code had it fixed.
        "relative_max_distance": int(theirs.number("relative_attention_max_distance", 128)),
        "tie_embeddings": bool(theirs.values.get("scale_decoder_outputs", tied)),
        "dropout": theirs.number("dropout_rate", 0.1),
        "activation": activation,
        "layer_norm_epsilon": theirs.number("layer_norm_epsilon", 1e-6),
    }


def published_config(config: Any) -> dict[str, Any]:
    """config.model -> config.json."""
    c = family_config(config)
    return {
        "vocab_size": c.vocab_size,
        "d_model": c.width,
        "num_layers": c.num_layers,
        "num_decoder_layers": c.num_decoder_layers,
        "num_heads": c.num_heads,
        "d_kv": c.head_size,
        "d_ff": c.mlp_width,
        "relative_attention_num_buckets": c.relative_buckets,
        "relative_attention_max_distance": c.relative_max_distance,
        "tie_word_embeddings": c.tie_embeddings,
        "scale_decoder_outputs": c.tie_embeddings,
        "dropout_rate": c.dropout,
        "classifier_dropout": c.dropout,
        "feed_forward_proj": published_activation(c.activation, FEED_FORWARD),
        "layer_norm_epsilon": c.layer_norm_epsilon,
        "is_encoder_decoder": True,
        "decoder_start_token_id": Decoder.first,
    }


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The ids of padding and of the end of text: [SEP] where there is no other, as in our rows."""
    end = tokenizer.sep_id if tokenizer.eos_id is None else tokenizer.eos_id
    return {"pad_token_id": tokenizer.pad_id, "eos_token_id": end}


DECODER = "^backbone/decoder/"
LAYOUT = Layout(
    model_type="t5",
    architectures=(
        Architecture("T5ForConditionalGeneration", ("lm",), "span_corruption"),
        # The same class, as the first releases called it.
        Architecture("T5WithLMHeadModel", ("lm",), "span_corruption", read_only=True),
        Architecture(
            "T5ForSequenceClassification", ("classification",), "classification",
            prefix="transformer.",
        ),
        Architecture("T5ForQuestionAnswering", ("span",), "extractive_qa"),
        Architecture(
            "T5ForTokenClassification", ("token_classification",), "token_classification",
            lacks=DECODER, prefix="transformer.",
        ),
        Architecture("T5Model", (), ""),
        Architecture("T5EncoderModel", (), "", lacks=DECODER, read_only=True),
    ),
    prefix="",
    entries=entries,
    to_model=model_config,
    to_published=published_config,
    special_tokens=special_tokens,
    sentinels=100,
    # Of no use: distances between the texts of source and target mean nothing.
    ignored=r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",
    copies=(
        (r"^(encoder|decoder)\.embed_tokens\.weight$", "shared.weight"),
        (r"^lm_head\.weight$", "shared.weight"),
    ),
    renamed=((r"^transformer\.", ""),),
)  # fmt: skip
