"""LoRA and bottleneck adapters: against numpy, merged, in every family, however a stack is run."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.adapters import Adapters, from_config
from model.api import build
from model.errors import ModelError
from model.heads import Heads
from model.lora import merge, unmerge

ALL = {
    "bert": ("query", "key", "value", "out", "up", "down", "pooler"),
    "gpt": ("query", "key", "value", "out", "up", "down"),
    "roberta": ("query", "value", "down"),
    "xlnet": ("query", "key", "value", "position", "out", "up", "down"),
    "t5": ("query", "key", "value", "out", "up", "down", "gate"),
}
BATCH = {
    "tokens": np.arange(12, dtype=np.int32).reshape(2, 6),
    "decoder_tokens": np.arange(8, dtype=np.int32).reshape(2, 4),
}


def spec(**changes):
    values = {
        "lora_rank": 0, "lora_alpha": 6.0, "lora_dropout": 0.0, "lora_targets": ("query", "value"),
        "bottleneck": 0, "bottleneck_targets": ("out", "down"), "bottleneck_activation": "relu",
    }  # fmt: skip
    return types.SimpleNamespace(**{**values, **changes})


def model_of(tiny, family, adapters, **changes):
    changes = {f"model.{key}": value for key, value in changes.items()}
    if family == "t5":
        changes["model.activation"] = "gated_gelu_tanh"
    return build(tiny(family, changes).model, Heads(num_labels=2), adapters)


def hidden(model, params, rng=None):
    return jax.jit(model.apply)(params, BATCH, rng)["hidden"]


@pytest.mark.parametrize("family", ALL)
def test_they_begin_as_the_model_without_them(tiny, family):
    """The same backbone from the same key, too: what `init_from` loads fits both."""
    adapters = spec(lora_rank=3, bottleneck=4, lora_targets=ALL[family])
    with_, without = model_of(tiny, family, adapters), model_of(tiny, family, None)
    params, bare = with_.init(jax.random.key(0)), without.init(jax.random.key(0))
    assert bare.keys() == params.keys() - {"adapters"}
    jax.tree.map(np.testing.assert_array_equal, {k: params[k] for k in bare}, bare)
    np.testing.assert_allclose(hidden(with_, params), hidden(without, bare), atol=1e-6)
    a = [
        x for path, x in jax.tree.leaves_with_path(params["adapters"]) if "lora_a" in str(path[-1])
    ]
    assert all(np.abs(x).min() > 0 for x in a)


@pytest.mark.parametrize("family", ALL)
def test_merged_computes_the_same_and_unmerged_is_the_kernel_again(tiny, noise, family):
    adapters = spec(lora_rank=3, lora_targets=ALL[family])
    model = model_of(tiny, family, adapters)
    params = noise(model)
    merged, rest = merge(params, from_config(adapters))
    assert rest == Adapters()
    got = hidden(model_of(tiny, family, rest), merged)
    expected = hidden(model, params)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    plain = hidden(model_of(tiny, family, None), {k: params[k] for k in ("backbone", "head")})
    assert np.abs(plain - expected).max() > 0.05  # it does something
    again = unmerge(merged, params["adapters"], from_config(adapters))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, params)


def test_merging_leaves_bottlenecks(tiny, noise):
    adapters = spec(lora_rank=2, bottleneck=4)
    model = model_of(tiny, "gpt", adapters)
    params = noise(model)
    merged, rest = merge(params, from_config(adapters))
    assert (rest.lora_rank, rest.bottleneck) == (0, 4)
    np.testing.assert_allclose(
        hidden(model_of(tiny, "gpt", rest), merged), hidden(model, params), rtol=1e-4, atol=1e-5
    )


def test_kernels_by_hand(tiny, noise):
    """W + (alpha / r) A B in numpy, for a plain map and for one part of a fused one."""
    adapters = spec(lora_rank=3, lora_alpha=6.0, lora_targets=("value", "out"))
    model = model_of(tiny, "bert", adapters)
    params = noise(model)
    own = params["adapters"]["layer_1"]["attention"]
    kept = params["backbone"]["layer_1"]["attention"]
    assert set(own["query_key_value"]) == {"value_lora_a", "value_lora_b"}
    merged = merge(params, from_config(adapters))[0]["backbone"]["layer_1"]["attention"]
    a, b = (np.float64(own["query_key_value"][f"value_lora_{x}"]) for x in "ab")
    old, new = kept["query_key_value"]["kernel"], merged["query_key_value"]["kernel"]
    np.testing.assert_array_equal(new[:, :2], old[:, :2])
    product = (a @ b.reshape(3, 16)).reshape(16, 2, 8)
    np.testing.assert_allclose(new[:, 2], old[:, 2] + 2.0 * product, rtol=1e-5, atol=1e-6)
    a, b = (np.float64(own["out"][f"lora_{x}"]) for x in "ab")
    product = (a.reshape(16, 3) @ b).reshape(2, 8, 16)
    expected = kept["out"]["kernel"] + 2.0 * product
    np.testing.assert_allclose(merged["out"]["kernel"], expected, rtol=1e-5, atol=1e-6)


def test_bottleneck_by_hand(tiny, noise):
    """On BERT's pooler, whose output is seen: y + relu(y D + d) U + u under the tanh."""
    adapters = spec(bottleneck=4, bottleneck_targets=("pooler",))
    model = model_of(tiny, "bert", adapters)
    params = noise(model)
    out = jax.jit(model.apply)(params, BATCH)
    pooler, own = params["backbone"]["pooler"], params["adapters"]["pooler"]
    y = out["hidden"][:, 0] @ pooler["kernel"] + pooler["bias"][None]
    h = np.maximum(y @ own["bottleneck_down"] + own["bottleneck_down_bias"][None], 0)
    pooled = np.tanh(y + h @ own["bottleneck_up"] + own["bottleneck_up_bias"][None])
    head = params["head"]["classification"]["linear"]
    expected = pooled @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(out["class_logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scan", "remat"), [(True, "none"), (False, "full")])
def test_the_way_the_stack_is_run_does_not_matter(tiny, noise, scan, remat):
    """Dropout on LoRA's input included: each layer has its own key."""
    adapters = spec(lora_rank=3, bottleneck=2, lora_dropout=0.5)
    plain = model_of(tiny, "gpt", adapters)
    other = model_of(tiny, "gpt", adapters, scan_layers=scan, remat=remat)
    params, key = noise(plain), jax.random.key(3)

    def gradient(model):
        loss = lambda own: (  # noqa: E731
            model.apply({**params, "adapters": own}, BATCH, key)["hidden"] ** 2
        ).mean()
        return jax.jit(jax.grad(loss))(params["adapters"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        gradient(other),
        gradient(plain),
    )


def test_dropout_is_of_training_only_and_keyed(tiny, noise):
    model = model_of(tiny, "bert", spec(lora_rank=3, lora_dropout=0.5))
    params = noise(model)
    still = hidden(model, params)
    first, again, other = (hidden(model, params, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - still).max() > 1e-3
    without = model_of(tiny, "bert", spec(lora_rank=3))
    np.testing.assert_allclose(hidden(without, params, jax.random.key(0)), still, rtol=1e-6)


def test_in_bfloat16_the_parameters_stay_float32(tiny):
    model = model_of(tiny, "bert", spec(lora_rank=3, bottleneck=2), dtype="bfloat16")
    params = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert hidden(model, params).dtype == jnp.bfloat16


def test_every_dimension_has_a_name(tiny):
    model = model_of(tiny, "t5", spec(lora_rank=3, bottleneck=2))
    own = model.axes["adapters"]["decoder"]["layer_0"]
    assert own["cross_attention"]["query"]["lora_a"] == ("width", None)
    assert own["attention"]["key_value"]["value_lora_b"] == (None, "heads", None)
    assert own["mlp"]["down"]["bottleneck_up"] == (None, "width")
    jax.tree.map(
        lambda names, shape: np.testing.assert_equal(len(names), len(shape.shape)),
        model.axes, model.shapes, is_leaf=lambda x: isinstance(x, tuple),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        (
            "bert",
            {"lora_rank": 2, "lora_targets": ("qury",)},
            "'qury', .* down, key, out, pool",
        ),
        (
            "gpt",
            {"lora_rank": 2, "lora_targets": ("gate",)},
            "'gate', .* down, key, out, query",
        ),
        ("gpt", {"lora_rank": 2, "lora_targets": ("query_key_value",)}, "choose from down, key,"),
        ("gpt", {"bottleneck": 2, "bottleneck_targets": ("query",)}, "choose from down, out, up"),
        ("gpt", {"lora_rank": 2, "lora_targets": ()}, "lora_targets is empty"),
        ("gpt", {"lora_rank": -1}, "lora_rank is -1"),
        ("gpt", {"lora_rank": 1, "lora_dropout": 1.0}, "lora_dropout is 1.0"),
        ("gpt", {"bottleneck": 1, "bottleneck_activation": "gulu"}, "'gulu'; it must be one of"),
    ],
)
def test_errors(tiny, family, changes, words):
    with pytest.raises(ModelError, match=words):
        build(tiny(family).model, Heads(num_labels=2), spec(**changes))
