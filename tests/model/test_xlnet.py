"""XLNet: who sees whom in both streams, a layer by hand, memory, and the ways to run the stack."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from model.api import build, family_config
from model.errors import ModelError
from model.heads import Heads
from model.xlnet import XLNet

T, R, M = 8, 4, 6  # tokens, of which go into the memory, and its size
# Two parts, as permutation_lm lays them out: targets 1 and 3, then 4 and 6, in mixed order.
ORDER = np.asarray([[0, 2, 0, 1, 5, 3, 4, 3]], np.int32)
TARGETS = np.asarray([[3, 1, 6, 4]], np.int32)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def make(tiny, noise):
    """``make({...}) -> (apply, params, model)``: the bare backbone, its parameters, the model.

    The same function for the same changes, so that tests share what is compiled for it.
    """
    known = {}

    def make(changes=None, dtype="float32"):
        key = (*sorted((changes or {}).items()), dtype)
        if key not in known:
            known[key] = made(changes, dtype)
        return known[key]

    def made(changes, dtype):
        defaults = {"model.mem_len": M, "model.reuse_len": R, "model.dtype": dtype}
        config = tiny("xlnet", {**defaults, **(changes or {})}).model
        model = build(config, Heads(lm=True, permuted=True))
        backbone = XLNet(family_config(config))

        def apply(backbone_params, batch, **more):
            return backbone.apply({"params": backbone_params}, batch, **more)

        return apply, noise(model, dtype=dtype)["backbone"], model

    return make


def row(seed=0, **more):
    """Tokens that differ, so that each token's own embedding is a row of the table."""
    tokens = rng(seed).permutation(32)[None, :T].astype(np.int32)
    return {
        "tokens": tokens, "factorization_order": ORDER, "target_positions": TARGETS, **more,
    }  # fmt: skip


def sensitivity(function, table, tokens):
    """[queries, tokens] bool: whether a query's state depends on a token's embedding."""
    direction = rng(1).standard_normal(table.shape[1]).astype("float32")
    jacobian = jax.jit(jax.jacrev(lambda table: function(table) @ direction))(table)
    return np.abs(jacobian[:, tokens]).sum(-1) > 0


@pytest.mark.parametrize("kind", ["bi", "uni"])
def test_what_the_streams_see(make, kind):
    apply, params, _ = make({"model.attention_type": kind})
    batch, rank, slot = row(), ORDER[0], np.arange(T)

    def states(table):
        out = apply({**params, "tokens": {"table": table}}, batch)
        return jnp.concatenate([out.hidden_BTD[0], out.predicted_BPD[0]])

    causal = slot[:, None] >= slot if kind == "uni" else np.ones((T, T), bool)
    found = sensitivity(states, params["tokens"]["table"], batch["tokens"][0])
    content, query, at = found[:T], found[T:], TARGETS[0]
    np.testing.assert_array_equal(content, (rank[None] <= rank[:, None]) & causal)
    np.testing.assert_array_equal(query, (rank[None] < rank[at, None]) & causal[at])
    assert not query[np.arange(4), at].any()  # never its own token


def test_a_query_that_sees_nothing_learns_nothing(make):
    apply, params, _ = make({"model.attention_type": "uni", "model.num_layers": 1})
    apply, batch = jax.jit(apply), row(target_positions=np.asarray([[0, 1]], np.int32))
    first = apply(params, batch).predicted_BPD[0, 0]
    other = {**batch, "tokens": (batch["tokens"] + 1) % 32}
    np.testing.assert_array_equal(first, apply(params, other).predicted_BPD[0, 0])


def test_memory_reaches_both_streams_and_knows_nothing_of_the_second_part(make):
    apply, params, model = make()
    tokens = row()["tokens"][0]

    def states(table):
        before = apply({**params, "tokens": {"table": table}}, row(), caches=model.carry(1))
        out = apply(params, row(5), caches=before.caches)
        return jnp.concatenate([out.hidden_BTD[0], out.predicted_BPD[0]])

    found = sensitivity(states, params["tokens"]["table"], tokens)
    assert found[:, :R].all()
    assert not found[:, R:].any()


def test_memory_of_a_text_that_does_not_continue_is_not_seen(make):
    apply, params, model = make()
    apply = jax.jit(apply)
    carry = apply(params, row(), caches=model.carry(1)).caches
    fresh = apply(params, row(5), caches=model.carry(1))
    for flag, same in ((0, True), (1, False)):
        out = apply(params, row(5, continues=np.asarray([flag], np.int32)), caches=carry)
        assert np.array_equal(out.predicted_BPD, fresh.predicted_BPD) == same
        assert np.array_equal(out.hidden_BTD, fresh.hidden_BTD) == same
        assert out.caches["filled"] == (R if same else min(2 * R, M))


@pytest.mark.parametrize(("kind", "backward"), [("uni", 0), ("bi", 1)])
def test_three_rows_with_memory_are_one_long_row(make, kind, backward):
    """Where attention is causal, and in both streams where later parts have higher ranks."""
    changes = {"model.mem_len": 2 * T, "model.reuse_len": 0, "model.attention_type": kind}
    apply, params, model = make(changes)
    tokens = rng(3).integers(0, 32, (1, 3 * T)).astype(np.int32)
    flag, order = {"backward": np.asarray([backward], np.int32)}, {}
    long = {"tokens": tokens, **flag}
    if kind == "bi":
        order = {"factorization_order": ORDER, "target_positions": TARGETS}
        long["factorization_order"] = np.concatenate([ORDER + 6 * i for i in range(3)], 1)
        long["target_positions"] = np.concatenate([TARGETS + T * i for i in range(3)], 1)
    whole, carry, apply = jax.jit(apply)(params, long), model.carry(1), jax.jit(apply)
    for i in range(3):
        batch = {"tokens": tokens[:, i * T : (i + 1) * T], **flag, **order}
        out = apply(params, batch, caches=carry)
        carry = out.caches
        expected = whole.hidden_BTD[:, i * T : (i + 1) * T]
        np.testing.assert_allclose(out.hidden_BTD, expected, atol=1e-5)
        if order:
            expected = whole.predicted_BPD[:, 4 * i : 4 * i + 4]
            np.testing.assert_allclose(out.predicted_BPD, expected, atol=1e-5)


def norm(x, p):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-12) * p["scale"] + p["bias"]


def sines(distance, width):
    angle = distance / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)])


def layer(p, start, own, keys, places, types, sees, sign, at, kind):
    """One query at place `at` of type `kind`, key by key (sections 2.3 to 2.5)."""
    attention, biases = p["attention"], p["biases"]
    width, heads, size = attention["query"]["kernel"].shape
    h = np.zeros(width)
    for n in range(heads):
        part = lambda name, x, n=n: x @ attention[name]["kernel"][:, n]  # noqa: E731
        q, scores = part("query", start), {}
        for j, key in enumerate(keys):
            if not sees[j]:
                continue
            place = sines(sign * np.clip(at - places[j], -5, 5), width)
            segment = attention["segments"][int(types[j] != kind), n]
            score = (q + biases["content_bias"][n]) @ part("key", key)
            score += (q + biases["position_bias"][n]) @ part("position", place)
            score += (q + biases["segment_bias"][n]) @ segment
            scores[j] = score / math.sqrt(size)
        total = sum(map(math.exp, scores.values()))
        for j, score in scores.items():
            h += (
                math.exp(score) / total * part("value", keys[j]) @ attention["out"]["kernel"][n]
            )  # fmt: skip
    x = norm(own + h, p["attention_norm"])
    up, down = p["mlp"]["up"], p["mlp"]["down"]
    hidden = x @ up["kernel"] + up["bias"]
    hidden = 0.5 * hidden * (1 + scipy.special.erf(hidden / math.sqrt(2)))
    return norm(x + hidden @ down["kernel"] + down["bias"], p["mlp_norm"])


@pytest.mark.parametrize("backward", [0, 1])
def test_two_stream_layer_by_hand(make, backward):
    types = np.asarray([0, 0, 0, 0, 0, 1, 1, 2])
    segments = np.asarray([1, 1, 1, 1, 1, 1, 1, 0])
    with jax.enable_x64(True):
        changes = {"model.num_layers": 1, "model.clamp_length": 5}
        apply, params, _ = make(changes, "float64")
        memory = rng(4).standard_normal((1, M, 16))
        batch = row(
            token_types=types[None].astype(np.int32), segment_ids=segments[None].astype(np.int32),
            backward=np.asarray([backward], np.int32), continues=np.ones(1, np.int32),
        )  # fmt: skip
        carry = {"layer_0": memory, "filled": np.asarray([4], np.int32)}  # two slots are empty
        out = jax.jit(apply)(params, batch, caches=carry)
    p = jax.tree.map(np.asarray, params)
    tokens = p["tokens"]["table"][batch["tokens"][0]]
    keys = [*memory[0], *tokens]
    places, kinds = [*range(-M, 0), *range(T)], [*[0] * M, *types]
    held = [m >= 2 for m in range(M)]
    sign, rank = -1 if backward else 1, ORDER[0]
    arguments = (p["layer_0"],)
    for i in range(T - 1):  # the last token is padding
        sees = [*held, *(rank[j] <= rank[i] and segments[j] for j in range(T))]
        expected = layer(
            *arguments, tokens[i], tokens[i], keys, places, kinds, sees, sign, i, types[i]
        )
        np.testing.assert_allclose(out.hidden_BTD[0, i], expected, rtol=0, atol=1e-10)
    mask = p["mask_embedding"]
    for n, i in enumerate(TARGETS[0]):
        sees = [*held, *(rank[j] < rank[i] and segments[j] for j in range(T))]
        expected = layer(*arguments, mask, mask, keys, places, kinds, sees, sign, i, types[i])
        np.testing.assert_allclose(out.predicted_BPD[0, n], expected, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(out.caches["layer_0"][0], np.stack(keys)[R : R + M])


def test_scanned_and_rematerialised_is_the_same(make):
    key, results = {"model.dropout": 0.3}, []
    for own in (key, {**key, "model.scan_layers": True, "model.remat": "full"}):
        apply, params, model = make(own)

        def loss(params, apply=apply, model=model):
            carry = {**model.carry(1), "filled": np.asarray([3], np.int32)}
            out = apply(params, row(), rng=jax.random.key(0), caches=carry)
            return (out.predicted_BPD**2).sum() + out.caches["layer_1"].sum(), out.caches

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)


def test_tied_biases_are_those_of_every_layer(make):
    apply, params, _ = make({"model.untie_biases": False})
    _, untied, _ = make()
    assert "biases" not in params["layer_0"]
    copied = {f"layer_{i}": {**params[f"layer_{i}"], "biases": params["biases"]} for i in range(2)}
    apart, _, _ = make()
    same = {**{k: v for k, v in params.items() if k != "biases"}, **copied}
    assert jax.tree.structure(same) == jax.tree.structure(untied)
    found = [jax.jit(f)(p, row()).predicted_BPD for f, p in ((apply, params), (apart, same))]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_bfloat16_is_close_to_float32(make):
    outs = []
    for dtype in ("float32", "bfloat16"):
        apply, _, model = make({"model.dtype": dtype})
        _, params, _ = make()
        out = jax.jit(apply)(params, row(), caches=model.carry(1))
        assert out.caches["layer_0"].dtype == out.predicted_BPD.dtype == dtype
        outs.append(np.asarray(out.predicted_BPD.astype("float32")))
    assert np.abs(outs[0] - outs[1]).max() < 0.1 * np.abs(outs[0]).max()


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("xlnet", {"model.attention_type": "left"}, "attention_type is 'left'"),
        ("xlnet", {"model.mem_len": -1}, "mem_len is -1"),
        ("xlnet", {"model.width": 15, "model.num_heads": 3}, "width is 15"),
        ("bert", {}, "permuted order needs two streams"),
    ],
)
def test_impossible_values_are_refused(tiny, family, changes, words):
    with pytest.raises(ModelError, match=words):
        build(tiny(family, changes).model, Heads(lm=True, permuted=True))
