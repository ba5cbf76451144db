"""Who sees whom: causality, packed documents, padding. By gradients and by outputs."""

import jax
import numpy as np
import pytest

from model.api import build
from model.heads import Heads

T = 8
# Two documents of 3 and 4 tokens and one slot of padding.
SEGMENTS = np.asarray([[1, 1, 1, 2, 2, 2, 2, 0]], np.int32)
POSITIONS = np.asarray([[0, 1, 2, 0, 1, 2, 3, 0]], np.int32)
SAME = (SEGMENTS[0][:, None] == SEGMENTS[0]) & (SEGMENTS[0] > 0)
CAUSAL = np.tril(np.ones((T, T), bool))
KINDS = {
    "gpt": ("gpt", "bi"), "bert": ("bert", "bi"), "xlnet": ("xlnet", "bi"),
    "left-to-right bert": ("bert", "uni"), "left-to-right roberta": ("roberta", "uni"),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tiny, noise):
    found = {}
    for name, (family, kind) in KINDS.items():
        model = build(tiny(family, {"model.attention_type": kind}).model, Heads(num_labels=3))
        found[name] = model, noise(model), jax.jit(model.apply)
    return found


def seen(model, params, batch, first=0):
    """[T, T] bool: whether the state at t depends on the input at s, by its position vector.

    `first`: the row of the table that stands for position 0.
    """
    direction = np.random.default_rng(0).standard_normal(16).astype("float32")

    def states(table):
        backbone = {**params["backbone"], "positions": {"table": table}}
        return model.apply({**params, "backbone": backbone}, batch)["hidden"][0] @ direction

    jacobian = jax.jit(jax.jacrev(states))(params["backbone"]["positions"]["table"])
    jacobian = jacobian[:, first : first + T]
    return np.abs(jacobian).sum(-1) > 0


def tokens(seed=0):
    return np.random.default_rng(seed).integers(0, 32, (1, T)).astype(np.int32)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", ["gpt", "bert", "left-to-right bert", "left-to-right roberta"])
def test_what_a_state_depends_on(models, family, packed):
    model, params, _ = models[family]
    batch = {"tokens": tokens(), "positions": np.arange(T, dtype=np.int32)[None]}
    expected = np.ones((T, T), bool) if family == "bert" else CAUSAL
    if packed:
        batch["segment_ids"] = SEGMENTS
        expected = expected & SAME
    real = slice(None, -1) if packed else slice(None)  # what padding sees does not matter
    first = 2 if "roberta" in family else 0
    np.testing.assert_array_equal(seen(model, params, batch, first)[real], expected[real])


@pytest.mark.parametrize("family", ["bert", "left-to-right bert", "left-to-right roberta"])
def test_what_is_classified_has_seen_the_row(models, family):
    """The first token; of a model that reads from left to right, the last one before padding."""
    _, params, apply = models[family]
    batch = {"tokens": tokens(), "segment_ids": (np.arange(T)[None] < 6).astype(np.int32)}
    logits = apply(params, batch)["class_logits"]
    for place, matters in [(0, True), (3, True), (5, True), (6, False)]:
        other = {**batch, "tokens": batch["tokens"].copy()}
        other["tokens"][0, place] = (other["tokens"][0, place] + 1) % 32
        assert np.array_equal(apply(params, other)["class_logits"], logits) != matters


@pytest.mark.parametrize("family", list(KINDS))
def test_packed_row_equals_separate_rows(models, family):
    _, params, apply = models[family]
    row = tokens()
    packed = apply(params, {"tokens": row, "segment_ids": SEGMENTS, "positions": POSITIONS})
    for start, stop in ((0, 3), (3, 7)):
        alone = np.zeros_like(row)
        alone[0, : stop - start] = row[0, start:stop]
        own = (np.arange(T)[None] < stop - start).astype(np.int32)
        positions = np.arange(T, dtype=np.int32)[None]
        out = apply(params, {"tokens": alone, "segment_ids": own, "positions": positions})
        np.testing.assert_allclose(
            out["hidden"][0, : stop - start], packed["hidden"][0, start:stop], atol=2e-6
        )


@pytest.mark.parametrize("family", list(KINDS))
def test_what_stands_in_padding_does_not_matter(models, family):
    _, params, apply = models[family]
    batch = {"tokens": tokens(), "segment_ids": SEGMENTS, "positions": POSITIONS}
    other = {**batch, "tokens": batch["tokens"].copy()}
    other["tokens"][0, -1] = (other["tokens"][0, -1] + 1) % 32
    np.testing.assert_array_equal(
        apply(params, batch)["hidden"][0, :-1], apply(params, other)["hidden"][0, :-1]
    )
