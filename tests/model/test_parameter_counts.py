"""Every published size has the paper's number of parameters. Shapes only: nothing is allocated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bert, gpt, roberta, t5
from model.api import build
from model.errors import ModelError
from model.heads import Heads

# Radford et al. 2019 print 117M, 345M, 762M, 1542M; these are the published checkpoints' counts.
GPT2 = {"small": 124_439_808, "medium": 354_823_168, "large": 774_030_080, "xl": 1_557_611_200}
# Backbone with pooler. Turc et al. 2019 print 4.4M, 11.3M, 29.1M, 41.7M with the MLM head.
BERT = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}
# transformers' RobertaModel without its (untrained) pooler, and RobertaForMaskedLM, for 50,265
# tokens; tests/parity counts them again.
ROBERTA = {"base": (124_055_040, 124_697_433), "large": (354_310_144, 355_412_057)}
TURC = {"tiny": 4.4, "mini": 11.3, "small": 29.1, "medium": 41.7}
# The published checkpoints' counts, of version 1.1 with both embeddings.
T5 = {
    ("1.0", "small"): 60_506_624,
    ("1.0", "base"): 222_903_552,
    ("1.0", "large"): 737_668_096,
    ("1.0", "3b"): 2_851_598_336,
    ("1.0", "11b"): 11_307_321_344,
    ("1.1", "small"): 76_961_152,
    ("1.1", "base"): 247_577_856,
    ("1.1", "large"): 783_150_080,
    ("1.1", "3b"): 2_849_757_184,
    ("1.1", "11b"): 11_135_332_352,
}


def bert_model(size, heads):
    config = bert.get_config(f"size={size}").model
    config.vocab_size = 30522
    return config, build(config, heads)


@pytest.mark.parametrize("size", GPT2)
def test_gpt2(size):
    config = gpt.get_config(f"size={size}").model
    config.vocab_size = 50257
    assert build(config, Heads(lm=True)).num_params == GPT2[size]


@pytest.mark.parametrize(
    ("version", "size"),
    [pytest.param(*k, marks=[pytest.mark.slow] * (k[1] != "small")) for k in T5],
)
def test_t5(version, size):
    config = t5.get_config(f"version={version},size={size}").model
    assert build(config, Heads(lm=True)).num_params == T5[version, size]


@pytest.mark.parametrize("size", BERT)
def test_bert_backbone(size):
    config, model = bert_model(size, Heads())
    assert model.num_params == BERT[size]
    width, layers = config.width, config.num_layers
    embeddings = (30522 + 512 + 2) * width + 2 * width
    attention = 4 * (width * width + width) + 2 * width
    feed_forward = 2 * 4 * width * width + 4 * width + width + 2 * width
    pooler = width * width + width
    assert model.num_params == embeddings + layers * (attention + feed_forward) + pooler


@pytest.mark.parametrize("size", TURC)
def test_bert_with_mlm_head_as_printed(size):
    _, model = bert_model(size, Heads(lm=True))
    assert round(model.num_params / 1e6, 1) == TURC[size]


def test_bert_base_with_both_heads():
    _, model = bert_model("base", Heads(lm=True, next_sentence=True))
    assert model.num_params == 110_106_428


@pytest.mark.parametrize("size", ROBERTA)
def test_roberta(size):
    config = roberta.get_config(f"size={size}").model
    config.vocab_size = 50265
    backbone, with_head = (build(config, Heads(lm=lm)) for lm in (False, True))
    assert (backbone.num_params, with_head.num_params) == ROBERTA[size]
    assert backbone.shapes["backbone"]["positions"]["table"].shape[0] == 514
    assert backbone.shapes["backbone"]["token_types"]["table"].shape[0] == 1


def test_roberta_is_bert_two_positions_on(tiny, noise):
    """The same stack: BERT with its position table moved by two and without a second sentence."""
    ours, theirs = tiny("roberta", {"model.num_token_types": 1}), tiny("bert")
    model, reference = build(ours.model, Heads(lm=True)), build(theirs.model, Heads(lm=True))
    params = noise(model)
    backbone = params["backbone"]
    moved = {
        **noise(reference)["backbone"], **backbone,
        "positions": {"table": backbone["positions"]["table"][2:]},
        "token_types": {"table": jnp.tile(backbone["token_types"]["table"], (2, 1))},
    }  # fmt: skip
    batch = {
        "tokens": np.arange(16, dtype=np.int32)[None],
        "token_types": np.ones((1, 16), np.int32),
        "segment_ids": np.asarray([[1] * 9 + [2] * 5 + [0] * 2], np.int32),
        "positions": np.asarray([[*range(9), *range(5), 0, 0]], np.int32),
    }
    got = jax.jit(model.apply)(params, batch)
    want = jax.jit(reference.apply)({"backbone": moved, "head": params["head"]}, batch)
    np.testing.assert_array_equal(got["logits"], want["logits"])


def test_heads_on_single_tokens(tiny, noise):
    model = build(tiny("roberta").model, Heads(span=True, num_token_labels=3, num_labels=2))
    params = noise(model)
    out = jax.jit(model.apply)(params, {"tokens": np.ones((2, 5), np.int32)})
    hidden, head = np.asarray(out["hidden"]), params["head"]
    for name, key in (("span", "qa_logits"), ("token_classification", "token_logits")):
        p = jax.tree.map(np.asarray, head[name]["linear"])
        np.testing.assert_allclose(out[key], hidden @ p["kernel"] + p["bias"], rtol=1e-4, atol=1e-5)
    p = jax.tree.map(np.asarray, head["classification"])
    h = np.tanh(hidden[:, 0] @ p["dense"]["kernel"] + p["dense"]["bias"])
    logits = h @ p["linear"]["kernel"] + p["linear"]["bias"]
    np.testing.assert_allclose(out["class_logits"], logits, rtol=1e-4)


def test_heads_lie_apart_from_the_backbone():
    _, model = bert_model("tiny", Heads(lm=True, next_sentence=True, num_labels=3))
    assert set(model.shapes) == {"backbone", "head"}
    assert set(model.shapes["head"]) == {"lm", "next_sentence", "classification"}
    assert model.shapes["head"]["classification"]["linear"]["kernel"].shape == (128, 3)


def test_axes_name_every_dimension():
    _, model = bert_model("tiny", Heads(lm=True, num_labels=2))
    jax.tree.map(
        lambda shape, names: np.testing.assert_equal(len(names), len(shape.shape)),
        model.shapes,
        model.axes,
    )


def test_initial_scales(tiny):
    """0.02 everywhere, residual projections of GPT-2 smaller by 1/sqrt(2 L), biases zero."""
    config = tiny("gpt", {"model.width": 128, "model.mlp_width": 512, "model.vocab_size": 500})
    model = build(config.model, Heads(lm=True))
    params = jax.jit(model.init)(jax.random.key(0))["backbone"]
    block = params["layer_1"]
    for leaf, std in [
        (params["tokens"]["table"], 0.02),
        (block["attention"]["query_key_value"]["kernel"], 0.02),
        (block["attention"]["out"]["kernel"], 0.02 / 2),
        (block["mlp"]["up"]["kernel"], 0.02),
        (block["mlp"]["down"]["kernel"], 0.02 / 2),
    ]:
        np.testing.assert_allclose(np.std(leaf), std, rtol=0.03)
    assert not np.any(block["mlp"]["up"]["bias"])
    assert np.all(block["attention_norm"]["scale"] == 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.family": "lstm"}, "family is 'lstm'"),
        ({"model.num_heads": 3}, "not a multiple of config.model.num_heads 3"),
        ({"model.dtype": "int8"}, "dtype is 'int8'"),
        ({"model.activation": "swish"}, "activation is 'swish'"),
        ({"model.family": "t5", "model.num_heads": 0}, "num_heads is 0"),
        ({"model.num_layers": 0}, "num_layers is 0"),
        ({"model.dropout": 1.0}, "dropout is 1.0"),
        ({"model.family": "t5", "model.num_decoder_layers": -1}, "num_decoder_layers is -1"),
        ({"model.family": "t5", "model.head_size": -1}, "head_size is -1"),
    ],
)
def test_impossible_values_are_refused(tiny, changes, words):
    with pytest.raises(ModelError, match=words):
        build(tiny("gpt", changes).model, Heads(lm=True))


def test_gpt_has_no_next_sentence_head(tiny):
    with pytest.raises(ModelError, match="Next-sentence"):
        build(tiny("gpt").model, Heads(next_sentence=True))
