"""Published weights in and out: round trips, every error, and the memory it takes."""

import json
import pathlib
import re
import types

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from model.api import build
from model.errors import ModelError
from model.pretrained import files
from model.pretrained.describe import LAYOUTS, architecture_of, describe, heads_of
from model.pretrained.load import load
from model.pretrained.mapping import flatten, parts
from model.pretrained.save import save

CASES = [
    (family, architecture.name, architecture.heads, kind)
    for family, layout in LAYOUTS.items()
    for architecture in layout.architectures
    for kind in architecture.attention[:: 1 if family in ("bert", "roberta", "xlnet") else 2]
    if not architecture.read_only
]
OWN = {
    "roberta": {"model.num_token_types": 1, "model.layer_norm_epsilon": 1e-5},
    "t5": {
        "model.head_size": 6, "model.num_decoder_layers": 3, "model.activation": "gated_gelu_tanh",
        "model.tie_embeddings": False, "model.relative_buckets": 8,
    },
}  # fmt: skip

LACKING = {
    "BertForMaskedLM": "backbone/pooler",
    "BertLMHeadModel": "backbone/pooler",
    "BertForQuestionAnswering": "backbone/pooler",
    "BertForTokenClassification": "backbone/pooler",
    "T5ForTokenClassification": "backbone/decoder",
}


@pytest.fixture
def exported(tiny, noise, tmp_path):
    """``exported(family, heads, classes=3) -> (folder, config, model, params)``."""

    def make(family, heads, classes=3, num_layers=2, changes=None, **options):
        sizes = {"model.num_heads": 4, "model.vocab_size": 29, "model.num_layers": num_layers}
        sizes |= OWN.get(family, {}) | (changes or {})
        config = tiny(family, sizes).model
        model = build(config, heads_of(heads, classes))
        params = noise(model)
        layout = LAYOUTS[family]
        folder = tmp_path / "exported"
        folder.mkdir()
        extra = {"id2label": {str(i): f"class {i}" for i in range(classes)}} if classes else {}
        architecture = architecture_of(layout, heads, config.attention_type)
        save(folder, layout, config, params, architecture, extra, **options)
        return folder, config, model, params

    return make


def same(one, two, but=()):
    one, two = flatten(one), flatten(two)
    assert one.keys() == two.keys()
    for path in one:
        if not path.startswith(but):
            assert one[path].dtype == two[path].dtype
            assert np.asarray(one[path]).tobytes() == np.asarray(two[path]).tobytes(), path


@pytest.mark.parametrize(
    ("family", "name", "heads", "kind"), CASES, ids=[f"{case[1]}-{case[3]}" for case in CASES]
)
def test_round_trip(exported, tmp_path, family, name, heads, kind):
    """Out, described, in: the same bytes and the same model; and out again: the same file."""
    changes = {"model.attention_type": kind}
    folder, config, model, params = exported(family, heads, changes=changes)
    found = describe(folder)
    assert (found.family, found.architecture.name) == (family, name)
    assert {key: config[key] for key in found.model} == found.model
    if {"classification", "token_classification"} & set(heads):
        assert found.labels == ("class 0", "class 1", "class 2")
    assert build(config, found.heads).shapes == model.shapes
    lacks = found.architecture.lacks
    got = load(folder, LAYOUTS[family], config, model, lacks=lacks)
    lacking = [path for path in flatten(params) if re.search(lacks, path)]
    same(got.params, params, but=tuple(lacking))
    assert got.ignored == []
    assert sorted(got.fresh) == sorted(lacking)
    assert parts(lacking) == LACKING.get(name, "")
    again = tmp_path / "again"
    again.mkdir()
    save(again, LAYOUTS[family], config, got.params, found.architecture)
    # Orders of tensors in the file are free; bytes of tensors are not.
    first, second = load_file(folder / "model.safetensors"), load_file(again / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(first[key].tobytes() == second[key].tobytes() for key in first)


def test_layouts_by_hand(exported):
    """One fused projection and one output projection, element by element."""
    folder, config, _, params = exported("bert", ("lm",))
    file = load_file(folder / "model.safetensors")
    attention = jax.tree.map(np.asarray, params["backbone"]["layer_1"]["attention"])
    size = config.width // config.num_heads
    for i, part in enumerate(("query", "key", "value")):
        theirs = file[f"bert.encoder.layer.1.attention.self.{part}.weight"]
        bias = file[f"bert.encoder.layer.1.attention.self.{part}.bias"]
        for h, k, d in ((0, 0, 3), (1, 2, 15), (3, 3, 7)):
            assert theirs[h * size + k, d] == attention["query_key_value"]["kernel"][d, i, h, k]
            assert bias[h * size + k] == attention["query_key_value"]["bias"][i, h, k]
    out = file["bert.encoder.layer.1.attention.output.dense.weight"]
    assert out[5, 2 * size + 1] == attention["out"]["kernel"][2, 1, 5]
    up = file["bert.encoder.layer.1.intermediate.dense.weight"]
    assert up[20, 3] == params["backbone"]["layer_1"]["mlp"]["up"]["kernel"][3, 20]


def test_gpt2_keeps_inputs_first(exported):
    folder, config, _, params = exported("gpt", ("lm",))
    file = load_file(folder / "model.safetensors")
    kernel = np.asarray(params["backbone"]["layer_0"]["attention"]["query_key_value"]["kernel"])
    fused = file["transformer.h.0.attn.c_attn.weight"]
    width, size = config.width, config.width // config.num_heads
    assert fused[3, 2 * width + 1 * size + 2] == kernel[3, 2, 1, 2]


def test_xlnet_by_hand(exported):
    """Attention's maps keep their heads; only the output's axes are turned."""
    folder, config, _, params = exported("xlnet", ("classification",))
    file = load_file(folder / "model.safetensors")
    layer = jax.tree.map(np.asarray, params["backbone"]["layer_1"])
    at = "transformer.layer.1.rel_attn"
    size = config.width // config.num_heads
    assert file[f"{at}.k"].shape == (config.width, config.num_heads, size)
    for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("r", "position")):
        np.testing.assert_array_equal(file[f"{at}.{short}"], layer["attention"][long]["kernel"])
    assert file[f"{at}.o"][5, 2, 1] == layer["attention"]["out"]["kernel"][2, 1, 5]
    np.testing.assert_array_equal(file[f"{at}.r_s_bias"], layer["biases"]["segment_bias"])
    up = file["transformer.layer.1.ff.layer_1.weight"]
    assert up[20, 3] == layer["mlp"]["up"]["kernel"][3, 20]
    summary = file["sequence_summary.summary.weight"]
    assert summary[4, 9] == params["head"]["classification"]["summary"]["kernel"][9, 4]


def test_xlnet_with_tied_biases(exported):
    """One of ours is published in every layer; where these differ, they are not tied."""
    tied = {"model.untie_biases": False}
    folder, config, model, params = exported("xlnet", ("lm",), changes=tied)
    file = load_file(folder / "model.safetensors")
    ours = params["backbone"]["biases"]["content_bias"]
    for i in range(2):
        np.testing.assert_array_equal(file[f"transformer.layer.{i}.rel_attn.r_w_bias"], ours)
    same(load(folder, LAYOUTS["xlnet"], config, model).params, params)
    other = {"transformer.layer.1.rel_attn.r_w_bias": np.zeros_like(ours)}
    change(folder, lambda t: t | other)
    with pytest.raises(ModelError, match=r"layer\.1\.rel_attn\.r_w_bias is not .*untie_r"):
        load(folder, LAYOUTS["xlnet"], config, model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"same_length": True}, "same_length = True; only False"),
        ({"summary_type": "first"}, "summary_type = 'first'; only 'last'"),
        ({"summary_use_proj": False}, "summary_use_proj = False; only True"),
        ({"attn_type": "both"}, "attn_type = 'both'.*one of bi, uni"),
        ({"d_head": 5}, "d_head = 5; only 4"),
        ({"untie_r": 1}, "untie_r = 1; true or false"),
        ({"clamp_len": None}, "clamp_len = None; a number"),
        ({"mem_len": -3}, "mem_len = -3; a positive integer"),
        ({"architectures": ["XLNetForMultipleChoice"]}, "'XLNetForMultipleChoice'; of family"),
    ],
)
def test_xlnets_that_are_others(exported, changes, words):
    folder = exported("xlnet", ("lm",))[0]
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(ModelError, match=re.compile(words)) as error:
        describe(folder)
    assert "\n" not in str(error.value)


def test_roberta_keeps_all_rows_of_its_tables(exported):
    """514 rows for 512 positions, one token type."""
    folder, config, _, _ = exported("roberta", ("lm",))
    file = load_file(folder / "model.safetensors")
    rows = config.max_length + 2
    assert file["roberta.embeddings.position_embeddings.weight"].shape[0] == rows
    assert file["roberta.embeddings.token_type_embeddings.weight"].shape[0] == 1
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == rows


def test_shards(exported):
    folder, config, model, params = exported("bert", ("lm",), max_bytes=5000)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(names)
    assert index["metadata"]["total_size"] == sum(
        array.nbytes for name in names for array in load_file(folder / name).values()
    )
    same(load(folder, LAYOUTS["bert"], config, model).params, params, but="backbone/pooler")


def test_parameters_go_straight_to_their_place(exported):
    folder, config, model, params = exported("bert", ("lm", "next_sentence"))
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    places = jax.tree.map(
        lambda leaf: NamedSharding(mesh, PartitionSpec("a" if leaf.shape[0] % 2 == 0 else None)),
        model.shapes,
    )
    got = load(folder, LAYOUTS["bert"], config, model, places)
    same(got.params, params)
    assert jax.tree.map(lambda leaf: leaf.sharding, got.params) == places


def test_the_host_holds_little_more_than_the_model(exported, monkeypatch):
    """Memory of its own (the file is mapped, which costs none) while 38 MB come in."""

    def own():
        status = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])

    sizes = {"model.width": 256, "model.mlp_width": 1024}
    folder, config, model, params = exported("bert", ("lm",), num_layers=12, changes=sizes)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    read, seen = files.TensorFolder.read, []
    monkeypatch.setattr(files.TensorFolder, "read", lambda *a: seen.append(own()) or read(*a))
    before = own()
    got = load(folder, LAYOUTS["bert"], config, model)
    seen.append(own())
    assert len(seen) > 100
    assert max(seen) - before < 1.3 * size
    assert got.params.keys() == params.keys()


def change(folder, edit):
    """Rewrites model.safetensors after `edit(tensors)`."""
    tensors = load_file(folder / "model.safetensors")
    save_file(edit(tensors) or tensors, folder / "model.safetensors")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_widens_exactly(exported, dtype):
    folder, config, model, _ = exported("gpt", ("lm",))
    change(folder, lambda t: {k: v.astype(dtype) for k, v in t.items()})
    got = load(folder, LAYOUTS["gpt"], config, model)
    table = load_file(folder / "model.safetensors")["transformer.wte.weight"]
    np.testing.assert_array_equal(got.params["backbone"]["tokens"]["table"], table.astype("f4"))


BREAK = {
    "missing": (
        lambda t: {k: v for k, v in t.items() if k != "bert.encoder.layer.1.output.dense.bias"},
        "bert.encoder.layer.1.output.dense.bias is missing",
    ),
    "many missing": (
        lambda t: {k: v for k, v in t.items() if "layer.1" not in k},
        "and 12 more are missing",
    ),
    "extra": (
        lambda t: t | {"bert.encoder.layer.2.adapter": np.zeros(3, "f4")},
        "bert.encoder.layer.2.adapter is unknown",
    ),
    "misshapen": (
        lambda t: t | {"bert.pooler.dense.weight": np.zeros((16, 15), "f4")},
        r"bert.pooler.dense.weight \(\[16, 15\] instead of \[16, 16\]\) is of another shape",
    ),
    "nan": (
        lambda t: t | {"cls.predictions.bias": np.full(29, np.nan, "f4")},
        "cls.predictions.bias is not finite",
    ),
    "float64": (
        lambda t: t | {"cls.predictions.bias": np.zeros(29)},
        r"cls.predictions.bias \(F64\) is of a format",
    ),
    "untied": (
        lambda t: t | {"cls.predictions.decoder.weight": np.zeros((29, 16), "f4")},
        "decoder.weight is not bert.embeddings.word_embeddings.weight",
    ),
}


@pytest.mark.parametrize("case", BREAK)
def test_tensors_that_do_not_fit_are_named(exported, case):
    edit, words = BREAK[case]
    folder, config, model, _ = exported("bert", ("lm", "next_sentence"))
    change(folder, edit)
    with pytest.raises(ModelError, match=words) as error:
        load(folder, LAYOUTS["bert"], config, model)
    assert "\n" not in str(error.value)


def test_older_spellings_buffers_and_unwanted_heads(exported):
    """As bert-base-uncased lies on the hub: gamma and beta, a buffer, copies, heads not asked."""
    folder, config, _, params = exported("bert", ("lm", "next_sentence"))

    def old(tensors):
        renamed = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): v
            for k, v in tensors.items()
        }
        return renamed | {
            "bert.embeddings.position_ids": np.arange(16)[None],
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"],
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
        }

    change(folder, old)
    model = build(config, heads_of(("lm",), 0))
    got = load(folder, LAYOUTS["bert"], config, model)
    same(got.params, {**params, "head": {"lm": params["head"]["lm"]}})
    assert got.ignored == [
        "bert.embeddings.position_ids",
        "cls.predictions.decoder.bias",
        "cls.predictions.decoder.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    ]


def test_gpt2_as_published(exported):
    """Without the prefix, with the masks and a copy of the tied table."""
    folder, config, model, params = exported("gpt", ("lm",))

    def published(tensors):
        bare = {k.removeprefix("transformer."): v for k, v in tensors.items()}
        bare["lm_head.weight"] = bare["wte.weight"]
        return bare | {f"h.{i}.attn.bias": np.ones((1, 1, 4, 4), "f4") for i in range(2)}

    change(folder, published)
    got = load(folder, LAYOUTS["gpt"], config, model)
    same(got.params, params)
    assert got.ignored == ["h.0.attn.bias", "h.1.attn.bias", "lm_head.weight"]


def test_roberta_model_has_a_pooler_that_is_left(exported, tmp_path):
    folder, config, _, params = exported("roberta", ("lm",))

    def bare(tensors):
        backbone = {k.removeprefix("roberta."): v for k, v in tensors.items() if "lm_head" not in k}
        return backbone | {"pooler.dense.bias": np.zeros(16, "f4")}

    change(folder, bare)
    values = json.loads((folder / "config.json").read_text())
    values["architectures"] = ["RobertaModel"]
    (folder / "config.json").write_text(json.dumps(values))
    found = describe(folder)
    got = load(folder, LAYOUTS["roberta"], config, build(config, found.heads))
    same(got.params["backbone"], params["backbone"])
    assert got.ignored == ["pooler.dense.bias"]
    with pytest.raises(ModelError, match="no published class of roberta with no head"):
        architecture_of(LAYOUTS["roberta"], ())


def test_t5_by_hand(exported):
    """Keys and values are one map of ours, with the heads side by side; the gate is wi_0."""
    folder, _, _, params = exported("t5", ("lm",))
    file = load_file(folder / "model.safetensors")
    layer = jax.tree.map(np.asarray, params["backbone"]["decoder"]["layer_2"])
    at = "decoder.block.2.layer"
    for place, name in ((0, "attention"), (1, "cross_attention")):
        theirs = {
            part: file[f"{at}.{place}.{('SelfAttention', 'EncDecAttention')[place]}.{part}.weight"]
            for part in "qkvo"
        }
        for h, k, d in ((0, 0, 3), (1, 5, 15), (3, 2, 7)):
            assert theirs["q"][h * 6 + k, d] == layer[name]["query"]["kernel"][d, h, k]
            assert theirs["k"][h * 6 + k, d] == layer[name]["key_value"]["kernel"][d, 0, h, k]
            assert theirs["v"][h * 6 + k, d] == layer[name]["key_value"]["kernel"][d, 1, h, k]
            assert theirs["o"][d, h * 6 + k] == layer[name]["out"]["kernel"][h, k, d]
        norm = file[f"{at}.{place}.layer_norm.weight"]
        np.testing.assert_array_equal(norm, layer[f"{name}_norm"]["scale"])
    gate = file[f"{at}.2.DenseReluDense.wi_0.weight"]
    np.testing.assert_array_equal(gate, layer["mlp"]["gate"]["kernel"].T)
    shared = params["backbone"]["decoder"]["relative"]
    biases = [name for name in file if "relative_attention_bias" in name]
    assert len(biases) == 2
    np.testing.assert_array_equal(file[biases[0]].shape, shared.shape)


def test_t5_as_published(exported):
    """As t5-small lies on the hub: copies of the table, a bias that is never used, few keys."""
    tied = {"model.tie_embeddings": True, "model.activation": "relu"}
    folder, config, model, params = exported("t5", ("lm",), changes=tied)
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

    def published(tensors):
        assert "lm_head.weight" not in tensors
        copied = {name: tensors["shared.weight"] for name in copies}
        return tensors | copied | {unused: np.zeros((8, 4), "f4")}

    change(folder, published)
    values = json.loads((folder / "config.json").read_text())
    later = ("feed_forward_proj", "scale_decoder_outputs", "tie_word_embeddings")
    old = {key: value for key, value in values.items() if key not in later}
    (folder / "config.json").write_text(json.dumps(old | {"architectures": ["T5WithLMHeadModel"]}))
    found = describe(folder)
    assert {key: config[key] for key in found.model} == found.model
    got = load(folder, LAYOUTS["t5"], config, model)
    same(got.params, params)
    assert got.ignored == sorted([*copies, unused])
    change(folder, lambda t: t | {"lm_head.weight": t["lm_head.weight"] + 1})
    with pytest.raises(ModelError, match=r"lm_head\.weight is not shared\.weight; Pretune ties"):
        load(folder, LAYOUTS["t5"], config, model)


@pytest.mark.slow
def test_t5_encoder_alone(exported):
    """Its decoder starts fresh; where it must be there, its lack is an error."""
    folder, config, model, params = exported("t5", ())
    change(folder, lambda t: {k: v for k, v in t.items() if not k.startswith("decoder.")})
    with pytest.raises(ModelError, match=r"decoder.*missing"):
        load(folder, LAYOUTS["t5"], config, model)
    values = json.loads((folder / "config.json").read_text())
    values["architectures"] = ["T5EncoderModel"]
    (folder / "config.json").write_text(json.dumps(values))
    lacks = describe(folder).architecture.lacks
    got = load(folder, LAYOUTS["t5"], config, model, lacks=lacks)
    same(got.params["backbone"]["encoder"], params["backbone"]["encoder"])
    assert parts(got.fresh) == "backbone/decoder"


@pytest.mark.parametrize(
    ("written", "tied"),
    [
        ({"tie_word_embeddings": False}, False),  # transformers 4
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),  # transformers 5
        ({"tie_word_embeddings": True}, True),
        ({}, True),
    ],
)
def test_t5_says_in_two_ways_whether_it_is_tied(exported, written, tied):
    folder = exported("t5", ("lm",))[0]
    values = json.loads((folder / "config.json").read_text())
    del values["tie_word_embeddings"], values["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps(values | written))
    assert describe(folder).model["tie_embeddings"] == tied


@pytest.mark.parametrize(("eos", "end"), [(1, 1), (0, 0), (None, 3)])
def test_t5_ends_texts_as_its_rows_do(eos, end):
    """Without the id, transformers' generate would never stop."""
    tokenizer = types.SimpleNamespace(pad_id=0, eos_id=eos, sep_id=3)
    want = {"pad_token_id": 0, "eos_token_id": end}
    assert LAYOUTS["t5"].special_tokens(tokenizer) == want


def shard_gone(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}))


def shard_outside(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../model.safetensors"}}))


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "not a whole safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"abc"), "not a whole safetensors file"),
        (lambda f: (f / "model.safetensors").unlink(), "has neither model.safetensors nor"),
        (only_pickle, "pytorch_model.bin.*pickle can run any code.*safe_serialization"),
        (shard_gone, "lacks the file model-00001-of-00001.safetensors"),
        (shard_outside, "names a file outside the folder"),
    ],
)
def test_files_that_cannot_be_read(exported, damage, words):
    folder, config, model, _ = exported("gpt", ("lm",))
    damage(folder)
    with pytest.raises(ModelError, match=words) as error:
        load(folder, LAYOUTS["gpt"], config, model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj = 'gated-silu'.*one of gated-"),
        ({"dense_act_fn": "silu"}, "dense_act_fn = 'silu'; only 'gelu_new'"),
        ({"decoder_start_token_id": 2}, "decoder_start_token_id = 2; only 0"),
        ({"architectures": ["T5ForAudio"]}, "'T5ForAudio'; of"),
        ({"d_kv": None}, "d_kv = None; a positive integer"),
        ({"dropout_rate": "0.1"}, "dropout_rate = '0.1'; a number is wanted"),
    ],
)
def test_t5s_that_are_others(exported, changes, words):
    folder = exported("t5", ("lm",))[0]
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(ModelError, match=re.compile(words)):
        describe(folder)


def test_activation_without_a_published_name(exported):
    with pytest.raises(ModelError, match="'gated_gelu' has no published counterpart"):
        exported("t5", ("lm",), changes={"model.activation": "gated_gelu"})


@pytest.mark.parametrize(
    ("family", "heads"),
    [("bert", ("classification",)), ("bert", ("next_sentence",)), ("roberta", ("classification",))],
)
def test_no_published_class_pools_the_last_token(exported, family, heads):
    words = f"no published class of {family} with the heads {heads[0]} and attention to earlier"
    with pytest.raises(ModelError, match=words):
        exported(family, heads, changes={"model.attention_type": "uni"})


def test_left_to_right_models_have_classes_of_their_own(exported):
    folder = exported("bert", ("lm",), changes={"model.attention_type": "uni"})[0]
    values = json.loads((folder / "config.json").read_text())
    assert values["architectures"] == ["BertLMHeadModel"]
    assert values["is_decoder"] is True
    assert describe(folder).model["attention_type"] == "uni"
    values["is_decoder"] = False
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match="'BertLMHeadModel' with is_decoder = False; only True"):
        describe(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "swiglu"}, "hidden_act = 'swiglu'.*one of gelu,"),
        ({"architectures": ["BertForMultipleChoice"]}, "the architecture 'BertForMultipleChoice'"),
        ({"architectures": None}, "the architecture None"),
        ({"model_type": "llama"}, "model_type 'llama'; Pretune has bert, gpt2, roberta, t5, xlnet"),
        ({"hidden_size": "16"}, "hidden_size = '16'; a positive integer"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"is_decoder": True}, "is_decoder = True; only False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings = False"),
    ],
)
def test_models_that_are_others(exported, changes, words):
    folder = exported("bert", ("lm",))[0]
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))
    with pytest.raises(ModelError, match=re.compile(words)):
        describe(folder)


def test_no_config(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        describe(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        describe(tmp_path)
    with pytest.raises(ModelError, match="is no folder"):
        describe(pathlib.Path("nowhere"))
