"""LoRA against PEFT: our adapters loaded by it on exported models, its adapters loaded by us."""

import types

import jax
import numpy as np
import pytest

from configs import base
from model.adapters import from_config
from model.api import build
from model.pretrained.describe import LAYOUTS, architecture_of, heads_of
from model.pretrained.peft import load, save
from model.pretrained.save import save as save_model

pytestmark = pytest.mark.parity
peft = pytest.importorskip("peft")

ATTENTION = ("query", "key", "value", "out", "up", "down")
FAMILIES = {
    "bert": (*ATTENTION, "pooler"),
    "roberta": ATTENTION,
    "gpt": ATTENTION,
    "xlnet": ("up", "down"),  # its attention has no modules
    "t5": (*ATTENTION, "gate"),
}
THEIRS = {
    "bert": ["query", "dense"],
    "roberta": ["key", "value"],
    "gpt": ["c_attn", "c_proj"],
    "xlnet": ["layer_1"],
    "t5": ["q", "wi_0", "wo"],
}
TOKENS = np.random.default_rng(0).integers(4, 32, (3, 7)).astype(np.int32)


def setting(family, targets, head):
    """A random model with LoRA on `targets`, its class and its parameters."""
    config = base.get_config().model
    config.update(
        {"family": family, "vocab_size": 32, "width": 16, "num_heads": 2, "mlp_width": 24,
         "max_length": 16, "num_token_types": 1 if family == "roberta" else 2,
         "activation": "gated_gelu_tanh" if family == "t5" else "gelu",
         "layer_norm_epsilon": 1e-6, "head_size": 8 if family == "t5" else 0}
    )  # fmt: skip
    adapters = types.SimpleNamespace(
        lora_rank=3, lora_alpha=12.0, lora_dropout=0.0, lora_targets=targets,
        bottleneck=0, bottleneck_targets=(), bottleneck_activation="gelu",
    )  # fmt: skip
    spec = from_config(adapters if targets else None)
    model = build(config, heads_of((head,), 2), spec)
    rng = np.random.default_rng(1)
    draw = lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype("float32")  # noqa: E731
    params = jax.tree.map(draw, model.shapes)
    return config, model, params, spec, architecture_of(LAYOUTS[family], (head,))


def published(folder, family, config, params, architecture):
    """The model without adapters, exported and loaded by transformers."""
    import transformers

    folder.mkdir()
    bare = {part: params[part] for part in ("backbone", "head")}
    extra = {"pad_token_id": 1 if family == "roberta" else 0}
    save_model(folder, LAYOUTS[family], config, bare, architecture, extra)
    return getattr(transformers, architecture.name).from_pretrained(folder).eval()


def logits(reference, family, head):
    import torch

    tokens = torch.tensor(TOKENS, dtype=torch.long)
    more = {"attention_mask": torch.ones_like(tokens)}
    if family == "t5" and head == "lm":
        more["decoder_input_ids"] = tokens
    if family == "t5" and head == "classification":  # it reads the class at the last token
        tokens = torch.cat([tokens[:, :-1], torch.ones(3, 1, dtype=torch.long)], 1)
    with torch.no_grad():
        return reference(input_ids=tokens, **more).logits.numpy()


def ours(model, params, family, head):
    batch = {"tokens": TOKENS, "segment_ids": np.ones_like(TOKENS)}
    if family == "t5" and head == "lm":
        batch["decoder_tokens"] = TOKENS
    if family == "t5" and head == "classification":
        batch["tokens"] = np.concatenate([TOKENS[:, :-1], np.ones((3, 1), np.int32)], 1)
    name = "logits" if head == "lm" else "class_logits"
    return np.asarray(jax.jit(model.apply)(params, batch)[name])


CASES = (
    [(f, "classification") for f in FAMILIES]
    + [("gpt", "lm"), ("t5", "lm")]
    + [(family, "lm") for family in ("bert", "roberta")]
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "head"), CASES)
def test_peft_loads_ours(family, head, tmp_path):
    """The head comes with the adapter: the exported base has another one."""
    config, model, params, spec, architecture = setting(family, FAMILIES[family], head)
    base_params = {**params, "head": jax.tree.map(lambda x: x + 1, params["head"])}
    reference = published(tmp_path / "base", family, config, base_params, architecture)
    plain = logits(reference, family, head)
    (tmp_path / "adapter").mkdir()
    save(tmp_path / "adapter", LAYOUTS[family], config, params, spec, architecture, "base")
    adapted = peft.PeftModel.from_pretrained(reference, tmp_path / "adapter").eval()
    got, want = logits(adapted, family, head), ours(model, params, family, head)
    assert np.abs(plain - want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    merged = logits(adapted.merge_and_unload(), family, head)
    np.testing.assert_allclose(merged, want, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stabilised", [False, True])
def test_ours_loads_what_peft_trained(family, stabilised, tmp_path):
    import torch

    head = "classification"
    config, _, params, _, architecture = setting(family, (), head)
    reference = published(tmp_path / "base", family, config, params, architecture)
    settings = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=THEIRS[family], use_rslora=stabilised,
        exclude_modules=r".*(classifier|classification_head).*",
        fan_in_fan_out=family == "gpt",
    )  # fmt: skip
    adapted = peft.get_peft_model(reference, settings).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    adapted.save_pretrained(tmp_path / "adapter")
    found = load(tmp_path / "adapter", LAYOUTS[family], config)
    model = build(config, heads_of((head,), 2), found.spec)
    full = {**params, "adapters": found.tree(model.shapes["adapters"])}
    want, got = logits(adapted, family, head), ours(model, full, family, head)
    assert np.abs(want - logits(adapted.unload(), family, head)).max() > 0.02
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
