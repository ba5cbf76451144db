"""PEFT's layout without PEFT: its formula on published weights, and back (parity has itself)."""

import json
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model.adapters import from_config
from model.api import build
from model.errors import ModelError
from model.lora import merge
from model.pretrained import peft
from model.pretrained.describe import LAYOUTS, architecture_of, heads_of
from model.pretrained.save import save

TARGETS = {
    "bert": ("query", "value", "out", "down", "pooler"),
    "gpt": ("query", "value", "out", "up"),
    "roberta": ("key", "up"),
    "xlnet": ("up", "down"),
    "t5": ("query", "key", "value", "out", "gate"),
}


def adapters(targets, rank=3, alpha=12.0):
    return types.SimpleNamespace(
        lora_rank=rank, lora_alpha=alpha, lora_dropout=0.1, lora_targets=targets,
        bottleneck=0, bottleneck_targets=(), bottleneck_activation="gelu",
    )  # fmt: skip


@pytest.fixture
def written(tiny, noise, tmp_path):
    """``written(family, targets)``: a random model's adapter in a folder, and what it is of."""

    def make(family, targets):
        changes = {"model.activation": "gated_gelu_tanh"} if family == "t5" else {}
        config = tiny(family, changes).model
        spec = from_config(adapters(targets))
        model = build(config, heads_of(("classification",), 2), spec)
        params, layout = noise(model), LAYOUTS[family]
        architecture = architecture_of(layout, ("classification",))
        peft.save(tmp_path, layout, config, params, spec, architecture, "runs/base")
        return tmp_path, layout, config, params, spec, architecture, model

    return make


@pytest.mark.parametrize("family", TARGETS)
def test_the_formula_of_peft_gives_the_merged_weights(written, family, tmp_path):
    """W + (alpha / r) B A on the published weights, with the patterns of adapter_config.json."""
    folder, layout, config, params, spec, architecture, _ = written(family, TARGETS[family])
    weights = {}
    for name, tree in (("base", params), ("merged", merge(params, spec)[0])):
        (tmp_path / name).mkdir()
        tree = {part: tree[part] for part in ("backbone", "head")}
        save(tmp_path / name, layout, config, tree, architecture)
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors = {name.removeprefix("base_model.model."): value for name, value in tensors.items()}
    changed = set()
    for module in settings["target_modules"]:
        last = module.rsplit(".", 1)[-1]
        rank = settings["rank_pattern"].get(last, settings["r"])
        alpha = settings["alpha_pattern"].get(last, settings["lora_alpha"])
        a, b = tensors.pop(f"{module}.lora_A.weight"), tensors.pop(f"{module}.lora_B.weight")
        assert a.shape[0] == b.shape[1] == rank
        delta = alpha / rank * (b @ a)
        delta = delta.T if settings["fan_in_fan_out"] else delta
        name = f"{module}.weight"
        expected = weights["base"][name] + delta
        np.testing.assert_allclose(weights["merged"][name], expected, rtol=1e-4, atol=1e-5)
        changed.add(name)
    differ = {n for n, x in weights["base"].items() if not np.array_equal(x, weights["merged"][n])}
    assert differ == changed
    for name, value in tensors.items():  # the head, under its own names
        np.testing.assert_array_equal(value, weights["base"][name])
        assert name.split(".")[0] in settings["modules_to_save"]
    assert tensors


@pytest.mark.parametrize("family", TARGETS)
def test_back_again(written, family):
    folder, layout, config, params, spec, _, model = written(family, TARGETS[family])
    found = peft.load(folder, layout, config)
    assert found.spec.lora_targets == tuple(sorted(spec.lora_targets))
    assert (found.spec.lora_rank, found.spec.lora_alpha) == (3, 12.0)
    assert found.spec.lora_dropout == pytest.approx(0.1)
    got = found.tree(model.shapes["adapters"])
    jax.tree.map(np.testing.assert_array_equal, got, jax.device_get(params["adapters"]))


def rewrite(folder, change):
    """Changes an adapter's tensors and settings in place."""
    tensors = load_file(folder / "adapter_model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    change(tensors, settings)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def test_one_a_for_all_parts_of_gpt2(written):
    """As PEFT trains it: rank 2 on the fused map."""
    folder, layout, config, params, *_ = written("gpt", ("query",))
    rng = np.random.default_rng(0)

    def change(tensors, settings):
        for name in list(tensors):
            if ".lora_" in name:
                shape = (2, 16) if "lora_A" in name else (48, 2)
                tensors[name] = rng.standard_normal(shape).astype("float32")
        settings.update(r=2, lora_alpha=8, rank_pattern={}, alpha_pattern={})

    rewrite(folder, change)
    tensors = load_file(folder / "adapter_model.safetensors")
    found = peft.load(folder, layout, config)
    assert found.spec.lora_targets == ("key", "query", "value")
    model = build(config, heads_of(("classification",), 2), found.spec)
    full = {**params, "adapters": found.tree(model.shapes["adapters"])}
    got = merge(full, found.spec)[0]["backbone"]["layer_1"]["attention"]["query_key_value"]
    module = "base_model.model.transformer.h.1.attn.c_attn"
    delta = 4 * tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
    old = params["backbone"]["layer_1"]["attention"]["query_key_value"]["kernel"]
    expected = old + delta.T.reshape(16, 3, 2, 8)
    np.testing.assert_allclose(got["kernel"], expected, rtol=1e-4, atol=1e-5)


def test_maps_of_other_ranks_and_scales_and_maps_left_out(written):
    """Zeros fill up; what each map adds stays the same."""
    folder, layout, config, params, *_ = written("bert", ("query", "value"))
    keep, gone = "layer.1.attention.self.value", "layer.0.attention.self.value"

    def change(tensors, settings):
        for name in list(tensors):
            if gone in name:
                del tensors[name]
            elif keep in name:
                tensors[name] = tensors[name][:1] if "lora_A" in name else tensors[name][:, :1]
        settings["alpha_pattern"] = {"value": 5.0}

    rewrite(folder, change)
    tensors = load_file(folder / "adapter_model.safetensors")
    found = peft.load(folder, layout, config)
    model = build(config, heads_of(("classification",), 2), found.spec)
    full = {**params, "adapters": found.tree(model.shapes["adapters"])}
    merged = merge(full, found.spec)[0]["backbone"]
    delta = lambda i: (  # noqa: E731
        np.asarray(merged[f"layer_{i}"]["attention"]["query_key_value"]["kernel"])
        - np.asarray(params["backbone"][f"layer_{i}"]["attention"]["query_key_value"]["kernel"])
    )
    np.testing.assert_array_equal(delta(0)[:, 2], 0)
    name = f"base_model.model.bert.encoder.{keep}"
    a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
    np.testing.assert_allclose(delta(1)[:, 2].reshape(16, 16), 5 * (b @ a).T, atol=1e-5)


def test_bare_tensors_of_xlnet_are_refused(written):
    with pytest.raises(ModelError, match=r"keeps transformer.layer.0.rel_attn.q as a bare tensor"):
        written("xlnet", ("query",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, s: s.update(peft_type="IA3"), "peft_type = 'IA3'"),
        (lambda t, s: s.pop("peft_type"), "has no peft_type"),
        (lambda t, s: s.update(alpha_pattern={"query": "y"}), "alpha_pattern = .* patterns and"),
        (lambda t, s: s.update(alpha_pattern={"(": 3}), "alpha_pattern = "),
        (lambda t, s: s.update(alpha_pattern=[1]), "alpha_pattern = "),
        (lambda t, s: s.update(use_dora=True), "use_dora = True"),
        (lambda t, s: t.clear(), "holds no LoRA"),
        (
            lambda t, s: t.update(
                {"base_model.model.bert.x.lora_A.weight": np.ones((3, 16), "f4")}
            ),
            r"LoRA on bert.x, which is no linear map",
        ),
    ],
)
def test_errors(written, change, words):
    folder, layout, config, *_ = written("bert", ("query",))
    rewrite(folder, change)
    with pytest.raises(ModelError, match=words):
        peft.load(folder, layout, config)
