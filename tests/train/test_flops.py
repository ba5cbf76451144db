"""Counted products against the papers' formulas, and what a regime spares."""

import jax
import numpy as np
import pytest

from model.api import build
from model.heads import Heads
from train.flops import count
from train.program import make_program
from train.random_rows import random_batch

# All models here: 2 layers, width 16, feed-forward 32, vocabulary 32; rows of 8.
LAYER = 2 * 8 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * (2 * 8 * 8 * 16)


def forward(config, heads, batch):
    """FLOPs of one row's forward pass."""
    model = build(config.model, heads)
    return count(jax.make_jaxpr(model.apply)(model.shapes, batch))


def step(config, labels=3):
    """FLOPs of a training step."""
    program = make_program(config, labels)
    key = jax.random.key(0)
    state = jax.eval_shape(program.init, key)
    given = (state, random_batch(config, program.objective), key, np.float32(1))
    found = program.flops(*given)
    assert program.flops(*given) == found
    return found


def words(length=8):
    return {"tokens": np.ones((1, length), np.int32)}


@pytest.mark.parametrize("scanned", [False, True])
def test_gpt_by_hand(tiny, scanned):
    config = tiny("gpt", {"model.scan_layers": scanned, "length": 8, "batch_size": 4})
    logits = 2 * 8 * 16 * 32
    expected = 2 * LAYER + logits
    assert forward(config, Heads(lm=True), words()) == expected
    assert step(config) == 4 * 3 * expected


def test_bert_heads_by_hand(tiny):
    config = tiny("bert", {"length": 8, "batch_size": 4})
    batch = words() | {"target_positions": np.zeros((1, 2), np.int32)}
    transform, logits, pooler, order = 2 * 2 * 16 * 16, 2 * 2 * 16 * 32, 2 * 16 * 16, 2 * 16 * 2
    found = forward(config, Heads(lm=True, next_sentence=True), batch)
    assert found == 2 * LAYER + transform + logits + pooler + order
    assert forward(config, Heads(num_labels=3), words()) == 2 * LAYER + pooler + 2 * 16 * 3


def test_xlnet_by_hand(tiny):
    """Two streams of 8 and 2 queries, 8 + 4 keys, 20 distances, two segments; two layers."""
    config = tiny("xlnet", {"model.mem_len": 4})
    query_out, key_value = 2 * (2 * 10 * 16 * 16), 2 * (2 * 12 * 16 * 16)
    distances = 2 * 20 * 16 * 16
    scores = 2 * 10 * 16 * (12 + 20 + 2)
    values = 2 * 10 * 12 * 16
    feed_forward = 2 * (2 * 10 * 16 * 32)
    layer = query_out + key_value + distances + scores + values + feed_forward
    # Of the last layer nobody reads the content stream: its queries, outputs and feed-forward.
    unread = 8 * (2 * (2 * 16 * 16) + 2 * 16 * (12 + 20 + 2 + 12) + 2 * (2 * 16 * 32))
    vocabulary = 2 * 2 * 16 * 32
    model = build(config.model, Heads(lm=True, permuted=True))
    batch = words() | {
        "factorization_order": np.zeros((1, 8), np.int32),
        "target_positions": np.zeros((1, 2), np.int32),
        "segment_ids": np.ones((1, 8), np.int32),
        "token_types": np.zeros((1, 8), np.int32),
    }
    logits = lambda params, batch, caches: model.apply(params, batch, caches=caches)["logits"]  # noqa: E731
    traced = jax.make_jaxpr(logits)(model.shapes, batch, jax.eval_shape(lambda: model.carry(1)))
    assert count(traced) == 2 * layer - unread + vocabulary


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5_by_hand(tiny, version):
    """8 tokens in the encoder, 6 in the decoder; a head size that is not width over heads."""
    config = tiny("t5", {"model.num_heads": 3, "model.head_size": 6, "model.num_layers": 1})
    maps = 2
    if version == "1.1":
        maps, config.model.activation, config.model.tie_embeddings = 3, "gated_gelu_tanh", False
    one_map, feed_forward = 2 * 16 * 18, maps * 2 * 16 * 32
    biases = 2 * 3 * config.model.relative_buckets  # one-hot products for a pair of places

    def attend(queries, keys):
        return 2 * (2 * queries * keys * 18)

    encoder = 8 * (4 * one_map + feed_forward) + attend(8, 8) + 8 * 8 * biases
    decoder = 6 * (4 * one_map + 2 * one_map + feed_forward) + 8 * 2 * one_map
    decoder += attend(6, 6) + attend(6, 8) + 6 * 6 * biases
    batch = words() | {"decoder_tokens": np.ones((1, 6), np.int32)}
    assert forward(config, Heads(lm=True), batch) == encoder + decoder + 6 * 2 * 16 * 32


def test_what_does_not_train_is_spared(tiny):
    """The head's own gradient; a layer's three passes above a frozen one; LoRA's small maps."""
    from configs import regimes

    def cost(regime, **changes):
        config = tiny("bert", {"objective.name": "classification", "length": 8, "batch_size": 4})
        regimes.apply(config, regime, "1")
        config.adapters.update(changes)
        return step(config) // 4

    pooler, head = 2 * 16 * 16, 2 * 16 * 3
    passed = 2 * LAYER + pooler + head
    assert cost("everything") == 3 * passed
    assert cost("head_only") == passed + 2 * head + pooler  # on inputs that need no gradient
    # The lower map of a trained layer needs no gradient of its input: queries, keys and values.
    entry = 2 * 8 * 16 * 48
    assert cost("last_layers") == passed + 2 * (LAYER + pooler + head) - entry
    assert cost("bias_only") < 3 * passed
    # Two maps of 8 in each layer, which see every token three times but for the lowest input.
    extra = cost("lora", lora_rank=8) - cost("lora", lora_rank=4)
    small = 2 * 2 * (2 * 8 * 16 * 4)
    assert 2 * 3 * small - 2 * small <= extra <= 2 * 3 * small


@pytest.mark.parametrize(
    "change",
    [{"accumulate": 2}, {"model.remat": "full"}, {"model.remat": "dots"}, {"mesh.data": 4}],
    ids=str,
)
def test_how_a_step_is_run_does_not_matter(tiny, change):
    plain = {"objective.name": "masked_lm", "length": 8, "batch_size": 4, "model.scan_layers": True}
    assert step(tiny("bert", plain | change)) == step(tiny("bert", plain))


def test_every_choice_is_counted(tiny):
    """Of multiple choice each row holds two."""
    config = tiny("bert", {"objective.name": "multiple_choice", "length": 8, "batch_size": 4})
    passed = 2 * LAYER + 2 * 16 * 16 + 2 * 16
    assert step(config, 2) == 4 * 2 * 3 * passed
