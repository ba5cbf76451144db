"""T5: plain numpy from the paper, who sees whom in packed rows, cached decoding, ways to run it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from model.api import build, family_config
from model.errors import ModelError
from model.heads import Heads
from model.t5 import Decoder
from model.t5_layers import bucket_of

SIZES = {
    "model.num_layers": 1,
    "model.head_size": 6,  # three heads of 6 on a width of 16
    "model.num_heads": 3,
    "model.relative_buckets": 8,
    "model.relative_max_distance": 10,
    "model.activation": "relu",
    "model.layer_norm_epsilon": 1e-6,
}
V11 = {"model.activation": "gated_gelu_tanh", "model.tie_embeddings": False}
# Two documents and a slot of padding in both stacks.
PACKED = {
    "tokens": np.asarray([[5, 6, 7, 8, 9, 10, 11, 0]], np.int32),
    "segment_ids": np.asarray([[1, 1, 1, 2, 2, 2, 2, 0]], np.int32),
    "decoder_tokens": np.asarray([[0, 12, 13, 0, 14, 0]], np.int32),
    "decoder_segment_ids": np.asarray([[1, 1, 1, 2, 2, 0]], np.int32),
}


@pytest.fixture(scope="module")
def t5(tiny, noise):
    """``t5({...}) -> (config.model, model, params)``."""

    def make(changes=None, dtype="float32"):
        config = tiny("t5", {**SIZES, "model.dtype": dtype, **(changes or {})}).model
        model = build(config, Heads(lm=True))
        return config, model, noise(model, dtype=dtype)

    return make


def norm(x, p):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"]


def bucket(t, s, both_ways):
    """Section 2.1 for 8 buckets up to distance 10, query t and key s."""
    size, offset, n = (4, 4 * (s > t), abs(t - s)) if both_ways else (8, 0, max(t - s, 0))
    if n < size // 2:
        return offset + n
    ratio = math.log(n / (size // 2)) / math.log(10 / (size // 2))
    return offset + min(size // 2 + int(ratio * (size - size // 2)), size - 1)


def attention(x, source, p, bias, visible):
    q = np.einsum("td,dhk->thk", x, p["query"]["kernel"])
    k, v = np.einsum("sd,dihk->ishk", source, p["key_value"]["kernel"])
    out = np.zeros_like(q)
    for t in range(len(x)):
        seen = [s for s in range(len(source)) if visible[t, s]]
        for h in range(q.shape[1]):
            scores = np.asarray([q[t, h] @ k[s, h] + bias(t, s, h) for s in seen])
            weights = np.exp(scores - scores.max(initial=0))
            for s, weight in zip(seen, weights, strict=True):
                out[t, h] += weight / weights.sum() * v[s, h]
    return np.einsum("thk,hkd->td", out, p["out"]["kernel"])


def mlp(x, p):
    if "gate" not in p:
        return np.maximum(x @ p["up"]["kernel"], 0) @ p["down"]["kernel"]
    g = x @ p["gate"]["kernel"]
    g = 0.5 * g * (1 + np.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))
    return (g * (x @ p["up"]["kernel"])) @ p["down"]["kernel"]


def stack(x, p, layers, visible, source=None, source_visible=None):
    bias = lambda t, s, h: p["relative"][bucket(t, s, source is None), h]  # noqa: E731
    for i in range(layers):
        b = p[f"layer_{i}"]
        h = norm(x, b["attention_norm"])
        x = x + attention(h, h, b["attention"], bias, visible)
        if source is not None:
            h = norm(x, b["cross_attention_norm"])
            zero = lambda t, s, h: 0.0  # noqa: E731
            x = x + attention(h, source, b["cross_attention"], zero, source_visible)
        x = x + mlp(norm(x, b["mlp_norm"]), b["mlp"])
    return norm(x, p["norm"])


@pytest.mark.parametrize("changes", [{}, V11], ids=["1.0", "1.1"])
def test_whole_model_in_numpy(t5, changes):
    with jax.enable_x64(True):
        _, model, params = t5({"model.num_decoder_layers": 2, **changes}, "float64")
        got = jax.jit(lambda p, b: model.apply(p, b)["logits"])(params, PACKED)[0]
    params = jax.tree.map(np.asarray, params)
    p, row = params["backbone"], {key: value[0] for key, value in PACKED.items()}
    own, source = row["decoder_segment_ids"], row["segment_ids"]
    table = p["tokens"]["table"]
    same = lambda a, b: (a[:, None] == b[None]) & (b > 0)  # noqa: E731
    encoded = stack(table[row["tokens"]], p["encoder"], 1, same(source, source))
    causal = np.tril(same(own, own))
    words = table[row["decoder_tokens"]]
    hidden = stack(words, p["decoder"], 2, causal, encoded, same(own, source))
    expected = hidden @ params["head"]["lm"]["table"].T if changes else hidden / 4 @ table.T
    np.testing.assert_allclose(got[:5], expected[:5], rtol=0, atol=1e-9)


def test_buckets_by_hand():
    # 8 buckets: 0 to 3 one distance each, then four up to 16 by powers of sqrt(2).
    found = bucket_of(np.arange(19), 8, 16)
    np.testing.assert_array_equal(found, [0, 1, 2, 3] + [4] * 2 + [5] * 2 + [6] * 4 + [7] * 7)


def depends(model, params, batch, of):
    """[decoder slots, slots] bool: whether a state depends on the token in a slot of `of`."""
    direction = np.random.default_rng(0).standard_normal(16).astype("float32")
    ids = np.arange(16, 16 + batch[of].shape[1], dtype=np.int32)  # found nowhere else
    moved = {**batch, of: ids[None]}

    def states(table):
        backbone = {**params["backbone"], "tokens": {"table": table}}
        return model.apply({**params, "backbone": backbone}, moved)["hidden"][0] @ direction

    jacobian = jax.jit(jax.jacrev(states))(params["backbone"]["tokens"]["table"])
    return np.abs(jacobian[:, ids]).sum(-1) > 0


@pytest.mark.parametrize("packed", [False, True])
def test_the_decoder_is_causal_and_documents_stay_apart(t5, packed):
    _, model, params = t5()
    keys = PACKED if packed else ("tokens", "decoder_tokens")
    batch = {key: PACKED[key] for key in keys}
    own, source = PACKED["decoder_segment_ids"][0], PACKED["segment_ids"][0]
    causal, all_source = np.tril(np.ones((6, 6), bool)), np.ones((6, 8), bool)
    if packed:
        causal &= own[:, None] == own
        all_source = (own[:, None] == source) & (source > 0)
    real = slice(5) if packed else slice(None)  # what padding sees does not matter ...
    found = depends(model, params, batch, "decoder_tokens")
    np.testing.assert_array_equal(found[real], causal[real])
    found = depends(model, params, batch, "tokens")
    np.testing.assert_array_equal(found, all_source)  # ... but it sees no source


def test_packed_row_equals_separate_rows(t5):
    _, model, params = t5()
    apply = jax.jit(lambda b: model.apply(params, b)["hidden"][0])
    packed = apply(PACKED)
    for document in (1, 2):
        inside = PACKED["segment_ids"][0] == document
        own = PACKED["decoder_segment_ids"][0] == document
        alone = {
            "tokens": PACKED["tokens"][:, inside],
            "decoder_tokens": PACKED["decoder_tokens"][:, own],
        }
        np.testing.assert_allclose(apply(alone), packed[own], atol=2e-6)


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_cached_decoding_is_uncached(t5, scan):
    config, model, params = t5({"model.scan_layers": scan, "model.num_decoder_layers": 2})
    rng = np.random.default_rng(0)
    tokens, text = rng.integers(0, 32, (2, 7)), rng.integers(1, 32, (2, 6))
    text[:, 0] = 0  # what the decoder begins with
    segments = (np.arange(7) >= [[0], [3]]).astype(np.int32)  # aligned at their ends
    batch = {"tokens": tokens, "segment_ids": segments, "decoder_tokens": text}
    expected = jax.jit(model.apply)(params, batch)["logits"]

    decoder = Decoder(family_config(config), model.apply)
    got, fixed, caches = jax.jit(decoder.prefill, static_argnums=3)(params, tokens, segments, 9)
    logits, step = [got], jax.jit(decoder.step)
    for index in range(5):
        got, caches = step(params, text[:, index + 1], jnp.int32(index), fixed, caches)
        logits.append(got)
    np.testing.assert_allclose(np.stack(logits, 1), expected, rtol=1e-4, atol=1e-4)
    assert caches[0].key.shape == (2, 10, 3, 6)
    assert all(len(leaf) == 2 for leaf in jax.tree.leaves((fixed, caches)))
    assert decoder == Decoder(family_config(config), model.apply)  # a static argument of jit


TEXT = {"tokens": PACKED["tokens"], "segment_ids": np.asarray([[1, 1, 1, 1, 1, 1, 1, 0]])}


def classified(state, head):
    """Linear, tanh, linear."""
    h = np.tanh(state @ head["dense"]["kernel"] + head["dense"]["bias"])
    return h @ head["linear"]["kernel"] + head["linear"]["bias"]


def test_a_mean_is_of_the_encoder_alone(tiny, noise):
    model = build(tiny("t5", SIZES).model, Heads(num_labels=3, pooling="mean"))
    params = noise(model)
    out = jax.jit(model.apply)(params, TEXT)
    bare = build(tiny("t5", SIZES).model, Heads())
    states = jax.jit(bare.apply)({**params, "head": {}}, TEXT)["hidden"]
    np.testing.assert_allclose(out["hidden"], states, rtol=1e-5, atol=1e-5)
    expected = classified(states[0, :7].mean(0), params["head"]["classification"])
    np.testing.assert_allclose(out["class_logits"][0], expected, rtol=1e-5, atol=1e-5)


def test_classes_and_spans_are_read_off_a_decoder_that_reads_the_text(tiny, noise):
    """Off its last token, behind the same text moved by one; padding is not seen."""
    model = build(tiny("t5", SIZES).model, Heads(num_labels=3, span=True))
    params = noise(model)
    out = jax.jit(model.apply)(params, TEXT)
    bare = build(tiny("t5", SIZES).model, Heads())
    moved = np.asarray([[0, 5, 6, 7, 8, 9, 10]])
    shorter = {"tokens": TEXT["tokens"][:, :7], "decoder_tokens": moved}
    states = np.asarray(jax.jit(bare.apply)({**params, "head": {}}, shorter)["hidden"][0])
    expected = classified(states[-1], params["head"]["classification"])
    np.testing.assert_allclose(out["class_logits"][0], expected, rtol=1e-4, atol=1e-5)
    linear = params["head"]["span"]["linear"]
    expected = states @ np.asarray(linear["kernel"]) + np.asarray(linear["bias"])
    np.testing.assert_allclose(out["qa_logits"][0, :7], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_ways_to_run_it_agree(t5):
    """With one dropout key, rematerialised and scanned as plain; in bfloat16 nearly."""

    def loss(changes, key):
        _, model, params = t5(changes)
        rng = None if key is None else jax.random.key(key)
        return lambda p: (model.apply(p, PACKED, rng)["logits"] ** 2).mean(), params

    half = {"model.dropout": 0.5, "model.num_layers": 2}
    function, params = loss(half, 1)
    plain = jax.jit(jax.value_and_grad(function))(params)
    function, _ = loss({"model.remat": "full", "model.scan_layers": True, **half}, 1)
    other = jax.jit(jax.value_and_grad(function))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4), other, plain)
    values = [
        jax.jit(loss(*case)[0])(params) for case in ((half, 2), ({"model.num_layers": 2}, None))
    ]
    assert len({float(value) for value in (plain[0], *values)}) == 3  # dropout follows its key
    lower = jax.jit(loss({"model.dtype": "bfloat16", "model.num_layers": 2}, None)[0])(params)
    np.testing.assert_allclose(lower, values[1], rtol=0.05)
    assert lower != values[1]


def test_initial_scales(t5):
    """Those of the published code: each map by the square root of its inputs."""
    sizes = {"model.width": 64, "model.mlp_width": 256, "model.head_size": 32}
    distances = {"model.relative_buckets": 128, "model.relative_max_distance": 200}
    _, model, _ = t5({**sizes, **distances, **V11, "model.vocab_size": 500})
    params = jax.jit(model.init)(jax.random.key(0))
    decoder = params["backbone"]["decoder"]
    cross, feed_forward = decoder["layer_0"]["cross_attention"], decoder["layer_0"]["mlp"]
    for leaf, std in [
        (params["backbone"]["tokens"]["table"], 1),
        (params["head"]["lm"]["table"], 1 / 8),
        (cross["query"]["kernel"], (64 * 32) ** -0.5),
        (cross["key_value"]["kernel"], 1 / 8),
        (cross["out"]["kernel"], (3 * 32) ** -0.5),
        (feed_forward["gate"]["kernel"], 1 / 8),
        (feed_forward["up"]["kernel"], 1 / 8),
        (feed_forward["down"]["kernel"], 1 / 16),
        (decoder["relative"], 1 / 8),
    ]:
        np.testing.assert_allclose(np.std(leaf), std, rtol=0.1)
    assert np.all(decoder["norm"]["scale"] == 1)
    assert "table" not in t5()[1].shapes["head"].get("lm", {})


def test_impossible_sizes_are_refused(tiny):
    with pytest.raises(ModelError, match="not a multiple of"):
        build(tiny("t5", {"model.num_heads": 3}).model, Heads())
    with pytest.raises(ModelError, match="activation is 'swish'"):
        build(tiny("t5", {**SIZES, "model.activation": "gated_swish"}).model, Heads())
    for key, value in (("relative_buckets", 3), ("relative_max_distance", 4)):
        with pytest.raises(ModelError, match="relative_buckets must be"):
            build(tiny("t5", {**SIZES, f"model.{key}": value}).model, Heads())
