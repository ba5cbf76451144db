"""What `init_from` decides: the architecture, the head, and which objective fits which family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.tokenizers import train_tokenizer
from train.checkpoint import Checkpoints
from train.errors import UserError
from train.setup import check, complete, initial_state, set_up
from train.state import State


@pytest.fixture
def run_of(tiny, tmp_path):
    """``run_of(family, changes) -> workdir`` of a run, as far as `complete` reads it."""

    def make(family, changes=None):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        train_tokenizer("char", ["abc"], 0, lowercase=False).save(folder / "tokenizer")
        (folder / "config.json").write_text(tiny(family, changes).to_json())
        return str(folder)

    return make


@pytest.mark.parametrize(
    ("family", "theirs", "ours", "expected"),
    [
        ("xlnet", {"attention_type": "uni"}, {}, {"attention_type": "uni", "num_layers": 2}),
        ("bert", {"attention_type": "uni"}, {}, {"attention_type": "uni", "num_token_types": 2}),
        ("t5", {"activation": "relu"}, {}, {"num_decoder_layers": 2, "head_size": 8}),
        ("gpt", {"max_length": 32, "dropout": 0.2}, {"dropout": 0.3}, {"max_length": 32}),
    ],
)
def test_no_family_takes_all_that_the_family_reads(family, theirs, ours, expected, run_of, tiny):
    source = run_of(family, {f"model.{key}": value for key, value in theirs.items()})
    changes = {f"model.{key}": value for key, value in ours.items()}
    config = complete(tiny("", {"init_from": source, "model.width": 64, **changes}))
    assert config.model.family == family
    assert {key: config.model[key] for key in (*expected, *ours)} == expected | ours
    assert config.model.width == 16


@pytest.mark.parametrize(
    ("family", "theirs", "ours"),
    [
        ("t5", {"max_length": 512}, {"num_decoder_layers": 2, "head_size": 8}),
        ("xlnet", {"max_length": 512, "mem_len": 8}, {"dropout": 0.5, "dtype": "bfloat16"}),
        ("gpt", {"relative_buckets": 9, "scan_layers": True}, {"remat": "full"}),
        ("bert", {"vocab_size": 0}, {"vocab_size": 3}),  # the tokenizer's
        ("bert", {"vocab_size": 64}, {"vocab_size": 0}),
    ],
)
def test_runs_of_one_architecture_may_differ(family, theirs, ours, run_of, tiny):
    source = run_of(family, {f"model.{key}": value for key, value in theirs.items()})
    changes = {f"model.{key}": value for key, value in ours.items()}
    config = complete(tiny(family, {"init_from": source, **changes}))
    assert config.model.vocab_size == (ours.get("vocab_size") or theirs.get("vocab_size", 32))


@pytest.mark.parametrize(
    ("family", "key", "theirs", "ours"),
    [
        ("xlnet", "attention_type", "uni", "bi"),
        ("bert", "attention_type", "uni", "bi"),
        ("roberta", "attention_type", "bi", "uni"),
        ("t5", "num_decoder_layers", 0, 1),
        ("bert", "vocab_size", 0, 32),
        ("bert", "vocab_size", 64, 32),
        ("roberta", "layer_norm_epsilon", 1e-5, 1e-6),
    ],
)
def test_another_architecture_is_refused(family, key, theirs, ours, run_of, tiny):
    source = run_of(family, {f"model.{key}": theirs})
    with pytest.raises(UserError, match=rf"config\.model\.{key} is .* was trained with"):
        complete(tiny(family, {"init_from": source, f"model.{key}": ours}))


@pytest.mark.parametrize(
    ("family", "objective", "words"),
    [
        ("t5", "causal_lm", r"sees earlier tokens only .*'t5' is not; .* prefix_lm"),
        ("gpt", "prefix_lm", r"in a decoder beside its encoder, .*'gpt' is not; .* causal_lm"),
        ("bert", "causal_lm", r"attention_type=uni\), which family 'bert' is not"),
        ("xlnet", "causal_lm", r"attention_type=uni\), which family 'xlnet' is not"),
        ("gpt", "permutation_lm", r"has a query stream"),
        ("t5", "masked_lm", r"without a decoder, .*'t5' is not"),
    ],
)
def test_an_objective_needs_a_model_of_its_kind(family, objective, words, tiny):
    activation = {"model.activation": "relu"}
    with pytest.raises(UserError, match=words):
        check(tiny(family, {**activation, "objective.name": objective}))


@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("t5", "classification"),
        ("xlnet", "causal_lm"),
        ("gpt", "masked_lm"),
        ("t5", "multitask"),
        ("bert", "causal_lm"),
        ("bert", "masked_lm"),
        ("roberta", "causal_lm"),
    ],
)
def test_an_objective_fits_its_family(family, objective, tiny):
    changes = {"model.activation": "relu", "model.attention_type": "uni"}
    check(tiny(family, {**changes, "objective.name": objective}))


@pytest.mark.parametrize(
    ("before", "after", "carried"),
    [
        ("classification", "classification", False),
        ("masked_lm", "masked_lm", True),
        ("masked_lm", "masked_lm_nsp", False),
        ("masked_lm", "classification", False),
    ],
)
def test_a_head_goes_on_where_it_predicts_tokens(before, after, carried, run_config, tmp_path):
    examples = tmp_path / "train.tsv"
    examples.write_text("text\tlabel\n" + "the cat sat\tx\na dog ran\ty\n" * 30)
    labelled = {"data.source": str(examples)}

    def make(name, objective, changes):
        own = labelled if objective == "classification" else {}
        config = run_config("bert", {"objective.name": objective, **own, **changes})
        return set_up(complete(config), tmp_path / name)

    first = make("first", before, {})
    state = jax.device_get(first.program.init(jax.random.key(1)))
    params = jax.tree.map(lambda leaf: leaf + 1, state.params)
    with Checkpoints(tmp_path / "first", keep=1) as checkpoints:
        checkpoints.save(0, State(jnp.zeros((), jnp.int32), params, {}, {}))
    (tmp_path / "first" / "config.json").write_text(first.config.to_json())
    second = make("second", after, {"init_from": str(tmp_path / "first"), "model.family": ""})
    got = jax.device_get(initial_state(second, jax.random.key(5)).params)
    fresh = jax.device_get(second.program.init(jax.random.key(5)).params)
    jax.tree.map(np.testing.assert_array_equal, got["backbone"], params["backbone"])
    jax.tree.map(
        np.testing.assert_array_equal, got["head"], params["head"] if carried else fresh["head"]
    )
