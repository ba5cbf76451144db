"""The scorer against a loop without batches, padding or buckets, for each way of predicting."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from input_pipeline.items import Item
from input_pipeline.tokenizers import train_tokenizer
from model.api import build
from model.heads import Heads
from train.errors import UserError
from train.mesh import make_mesh
from train.scoring.language_model import LanguageModel, compile_score
from train.scoring.rows import make_layout
from train.scoring.scorer import score

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "far", "and", "cats"]
WAYS = {
    "gpt": ("causal", "bpe"),
    "bert": ("in_place", "wordpiece"),
    "roberta": ("in_place", "bpe"),
    "xlnet": ("permuted", "unigram"),
    "t5": ("decoder", "unigram"),
}
T5 = {"model.activation": "relu", "model.head_size": 8, "model.layer_norm_epsilon": 1e-6}
MESH = {"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1}


def sentence(rng, size):
    return " ".join(rng.choice(WORDS, size))


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [sentence(rng, 8) for _ in range(200)]


@pytest.fixture(scope="module")
def language_model(tiny, noise, texts):
    """``language_model(family, length=32)``: a random model, and its plain `apply`."""
    folder = pathlib.Path("nowhere")

    @functools.cache
    def make(family, length=32, data=1):
        way, kind = WAYS[family]
        tokenizer = train_tokenizer(kind, texts, 300 if kind == "bpe" else 40, lowercase=False)
        if kind == "bpe" and family == "roberta":
            tokenizer = train_tokenizer("wordpiece", texts, 40, lowercase=False)
        if family == "t5":
            tokenizer = tokenizer.with_sentinels(2)
        changes = {"model.vocab_size": tokenizer.vocab_size, "model.max_length": max(length, 32)}
        config = tiny(family, changes | (T5 if family == "t5" else {}))
        model = build(config.model, Heads(lm=True, permuted=way == "permuted"))
        layout = make_layout(way, tokenizer, length, source_ends=True)
        mesh = make_mesh({**MESH, "data": data})
        score = compile_score(model, mesh, config.sharding)
        lm = LanguageModel(folder, None, family, score, noise(model), mesh, layout)
        return lm, jax.jit(model.apply)

    return make


def log_probs(lm, apply, batch):
    """Of one row: log p of each token of the vocabulary at each slot of the logits."""
    batch = {name: np.asarray([values], np.int32) for name, values in batch.items()}
    return log_softmax(np.asarray(apply(lm.params, batch)["logits"][0], np.float64), axis=-1)


def naive(lm, apply, context, continuation, only=None):
    """(log-probability, tokens, all greedy) from the definitions, a row or a token at a time."""
    tokenizer, way = lm.layout.tokenizer, lm.layout.way
    ids = tokenizer.encode(context + continuation).tolist()
    first = len(tokenizer.encode(context.rstrip()))
    found = []
    if way == "causal":
        rows = log_probs(lm, apply, {"tokens": [tokenizer.eos_id, *ids]})
    elif way == "decoder":
        sentinel = int(tokenizer.sentinels[0])
        row = {
            "tokens": [*ids[:first], sentinel, tokenizer.eos_id],
            "decoder_tokens": [0, sentinel, *ids[first:]],
        }
        rows = [None] * first + list(log_probs(lm, apply, row))[1:]
    for i in range(first, len(ids)) if only is None else only:
        if way in ("causal", "decoder"):
            at = rows[i]
        elif way == "in_place":
            row = [tokenizer.cls_id, *ids, tokenizer.sep_id]
            row[i + 1] = tokenizer.mask_id
            at = log_probs(lm, apply, {"tokens": row})[i + 1]
        else:
            hidden = list(ids)
            hidden[i] = 3  # whatever stands there: it must not be seen
            row = {
                "tokens": [*hidden, tokenizer.sep_id, tokenizer.cls_id],
                "token_types": [0] * (len(ids) + 1) + [2],
                "factorization_order": [int(k == i) for k in range(len(ids) + 2)],
                "target_positions": [i],
            }
            at = log_probs(lm, apply, row)[0]
        found.append((at[ids[i]], at.argmax() == ids[i]))
    values, greedy = zip(*found, strict=True)
    return sum(values), len(values), all(greedy)


def items_of(*options):
    return [Item(tuple(one), 0, {}, f"here:{i}") for i, one in enumerate(options)]


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(3)
    sizes = [(0, 3), (4, 1), (2, 6), (0, 8), (7, 4)]
    options = []
    for before, after in sizes:
        context = sentence(rng, before) + " " if before else ""
        options.append([(context, sentence(rng, after)) for _ in range(2)])
    return items_of(*options)


@pytest.mark.parametrize(
    "family",
    ["gpt", "bert", *(pytest.param(f, marks=pytest.mark.slow) for f in ("xlnet", "t5", "roberta"))],
)
def test_equals_a_loop_whatever_the_batch(language_model, items, family):
    lm, apply = language_model(family)
    expected = [naive(lm, apply, *option) for item in items for option in item.options]
    values = np.asarray([value for value, _, _ in expected])
    assert np.ptp(values) > 1
    for batch_tokens in (4096, 64):
        found = score(lm, items, batch_tokens=batch_tokens)
        np.testing.assert_allclose(found.log_prob, values, rtol=1e-5)
        assert found.tokens.tolist() == [count for _, count, _ in expected]
        assert found.greedy.tolist() == [greedy for _, _, greedy in expected]
        assert not found.cut.any()
        assert found.bytes.tolist() == [len(rest) for item in items for _, rest in item.options]
    alone = score(lm, items[-1:]).log_prob
    np.testing.assert_allclose(alone, values[-2:], rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt", "xlnet"])
def test_eight_devices(language_model, items, family):
    (one, _), (eight, _) = language_model(family), language_model(family, data=8)
    found = score(eight, items, batch_tokens=128)
    np.testing.assert_allclose(found.log_prob, score(one, items).log_prob, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "xlnet"])
def test_unmodified_tokens_of_a_pair(language_model, family):
    lm, apply = language_model(family)
    pairs = items_of([("", "the cat sat on a mat"), ("", "the dog sat on a far mat")])
    encode = lm.layout.tokenizer.encode
    ids = [encode(text).tolist() for _, text in pairs[0].options]
    changed = [set(ids[0]) - set(ids[1]), set(ids[1]) - set(ids[0])]
    assert all(changed)
    found = score(lm, pairs, unmodified=True)
    for option, (_, text) in enumerate(pairs[0].options):
        only = [i for i, token in enumerate(ids[option]) if token not in changed[option]]
        value, count, _ = naive(lm, apply, "", text, only)
        assert found.log_prob[option] == pytest.approx(value, rel=1e-5)
        assert found.tokens[option] == count == len(ids[option]) - len(changed[option])
    likelihood, _ = language_model("gpt")
    both, whole = (score(likelihood, pairs, unmodified=flag) for flag in (True, False))
    np.testing.assert_array_equal(both.log_prob, whole.log_prob)
    np.testing.assert_array_equal(both.tokens, whole.tokens)


def test_pairs_that_share_nothing(language_model):
    found = score(language_model("bert")[0], items_of([("", "cat"), ("", "far")]), unmodified=True)
    assert found.tokens.tolist() == [0, 0]


def test_an_unseen_context_loses_its_beginning(language_model):
    """Eight tokens a row: the last ones of the context stay, the continuation is whole."""
    lm, apply = language_model("gpt", length=8)
    ids = lm.layout.tokenizer.encode("the cat sat on a mat and the dog ran far").tolist()
    (item,) = items_of([("the cat sat on a mat and the dog ran ", "far")])
    found = score(lm, [item])
    first = len(lm.layout.tokenizer.encode(item.options[0][0].rstrip()))
    expected = 0.0
    row = [lm.layout.tokenizer.eos_id, *ids][len(ids) - 8 : -1]
    rows = log_probs(lm, apply, {"tokens": row})
    for i in range(first, len(ids)):
        expected += rows[i - len(ids)][ids[i]]
    assert found.cut.tolist() == [True]
    assert found.log_prob[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize("first", [0, 3, 17])
def test_windows_of_a_long_text(language_model, family, first):
    """Every token is predicted once, in rows that fit, with half a row before it (or around it)."""
    layout = language_model(family, length=12)[0].layout
    ids = np.arange(50, dtype=np.int32) + 100  # a token says where it stands
    rows = list(layout.rows(ids, np.arange(first, 50)))
    targets, contexts = [], []
    for row in rows:
        assert row["tokens"].shape[1] <= 12
        for b in range(len(row["tokens"])):
            own = row["targets"][b][row["weights"][b] > 0]
            targets += own.tolist()
            seen = row["tokens"][b]
            if family == "t5":
                assert row["decoder_tokens"].shape[1] <= 12
                assert seen[:-2].tolist() == list(range(max(100, own[0] - 10), own[0]))
            elif family == "gpt":
                at = row["target_positions"][b]
                contexts += (at + 1 - np.searchsorted(at, at[0])).tolist()
                assert (seen[at][at > 0] + 1 == own[at > 0]).all()  # from the token before
            else:
                text = seen[seen >= 100]
                assert len(text) == (10 if family == "xlnet" else 9)
                middle = own[0] if 105 <= own[0] < 145 else None
                assert middle is None or abs(np.median(text) - middle) <= 1.5
    assert targets == list(range(100 + first, 150))
    if family == "gpt":
        early = np.asarray(targets) - 100 < 6
        assert (np.asarray(contexts)[~early] >= 6).all()


def test_a_continuation_without_a_token(language_model):
    lm, _ = language_model("bert")
    control = items_of([("the cat ", "\x7f")])
    with pytest.raises(UserError, match=r"here:0: .* gives no token"):
        score(lm, control)


def test_layouts_that_the_tokenizer_does_not_allow(texts):
    letters = train_tokenizer("char", texts, 0, lowercase=False)
    for way, message in (
        ("causal", "nothing begins a text"),
        ("in_place", "needs a \\[CLS\\]"),
        ("permuted", "Scoring with XLNet needs"),
    ):
        with pytest.raises(UserError, match=message):
            make_layout(way, letters, 16, True)
    with pytest.raises(UserError, match="--length=4 is too short"):
        make_layout("decoder", letters, 4, True)


def test_a_left_to_right_text_follows_what_began_it_in_training(language_model):
    tokenizer = language_model("bert")[0].layout.tokenizer
    for cls_first, start in ((True, tokenizer.cls_id), (False, tokenizer.sep_id)):
        layout = make_layout("causal", tokenizer, 16, True, cls_first)
        (row,) = layout.rows(np.asarray([7, 8, 9], np.int32), np.arange(3))
        assert row["tokens"].tolist() == [[start, 7, 8]]
        assert row["targets"].tolist() == [[7, 8, 9]]


def test_a_prefix_model_reads_the_bare_context(language_model):
    lm, _ = language_model("t5")
    layout = make_layout("decoder", lm.layout.tokenizer, 32, source_ends=False)
    (row,) = layout.rows(np.arange(100, 106, dtype=np.int32), np.arange(4, 6))
    assert row["tokens"].tolist() == [[100, 101, 102, 103]]
    assert row["decoder_tokens"].tolist() == [[0, 104]]
    assert row["targets"].tolist() == [[104, 105]]
    bare = dataclasses.replace(lm, layout=layout)
    assert np.isfinite(score(bare, items_of([("", "the cat")])).log_prob).all()


def test_unknown_tokens_are_counted_among_the_scored_ones(language_model):
    """Of a pair, only what both share is scored: what differs counts in neither number."""
    lm, _ = language_model("bert")
    pair = items_of((("", "the cat ☃ sat"), ("", "the dog ☃ sat")))
    everything = score(lm, pair)
    shared = score(lm, pair, unmodified=True)
    alone = score(lm, items_of((("", "the ☃ sat"), ("", "the ♥ ♥ ♥ ♥ ♥ sat"))), unmodified=True)
    assert everything.unknown.tolist() == [1, 1]
    assert shared.unknown.tolist() == [1, 1]
    assert alone.unknown.tolist() == [1, 1]
