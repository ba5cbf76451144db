"""Generation token for token against transformers' `generate`, on random GPT-2 models."""

import numpy as np
import pytest

from model.api import build
from model.decode import Beams, Sampling, generate
from model.heads import Heads
from model.logits import penalise
from model.sampling import narrow

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
STOP, PAD, NEW = 9, 0, 14
PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [12], [7, 7, 10], [11, 12, 3, 4, 5, 6, 7, 8, 9]]


def reference(config, params):
    """The same model in transformers, every weight copied by hand."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    width = config.width
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.max_length, n_embd=width,
            n_layer=config.num_layers, n_head=config.num_heads, n_inner=config.mlp_width,
            activation_function="gelu_new", layer_norm_epsilon=config.layer_norm_epsilon,
            bos_token_id=None, eos_token_id=None, pad_token_id=PAD,
        )
    ).eval()  # fmt: skip
    ours = params["backbone"]
    flat = {
        "transformer.wte.weight": ours["tokens"]["table"],
        "lm_head.weight": ours["tokens"]["table"],
        "transformer.wpe.weight": ours["positions"]["table"],
        "transformer.ln_f.weight": ours["norm"]["scale"],
        "transformer.ln_f.bias": ours["norm"]["bias"],
    }
    for i in range(config.num_layers):
        layer, at = ours[f"layer_{i}"], f"transformer.h.{i}"
        linears = {
            "attn.c_attn": (layer["attention"]["query_key_value"], (width, 3 * width)),
            "attn.c_proj": (layer["attention"]["out"], (width, width)),
            "mlp.c_fc": (layer["mlp"]["up"], (width, config.mlp_width)),
            "mlp.c_proj": (layer["mlp"]["down"], (config.mlp_width, width)),
        }
        for name, (linear, shape) in linears.items():
            flat[f"{at}.{name}.weight"] = linear["kernel"].reshape(shape)
            flat[f"{at}.{name}.bias"] = linear["bias"].reshape(shape[1])
        for name, norm in {"ln_1": "attention_norm", "ln_2": "mlp_norm"}.items():
            flat[f"{at}.{name}.weight"] = layer[norm]["scale"]
            flat[f"{at}.{name}.bias"] = layer[norm]["bias"]
    theirs.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in flat.items()})

    def run(prompts, stop, **settings):
        length = max(map(len, prompts))
        ids = torch.tensor([[PAD] * (length - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
        out = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, eos_token_id=stop or None,
            pad_token_id=PAD, **settings,
        )  # fmt: skip
        texts = []
        for row in out[:, length:].tolist():
            ends = [i for i, token in enumerate(row) if token in stop]
            texts.append(row[: ends[0]] if ends else row)
        return texts

    return run


@pytest.fixture(scope="module")
def pairs(tiny, noise):
    """Three models, each as ours and theirs."""
    sizes = {"model.width": 24, "model.num_heads": 3, "model.vocab_size": 13}
    config = tiny("gpt", {"model.max_length": 29, **sizes}).model
    model = build(config, Heads(lm=True))  # one for all: it is compiled once for each setting

    def pair(seed):
        params = noise(model, seed=seed)
        params["backbone"]["positions"]["table"] *= 2

        def ours(prompts, stop, sampling, **more):
            out = generate(
                model, config, params, prompts, new_tokens=NEW, sampling=sampling, seed=0,
                stop=stop, **more,
            )  # fmt: skip
            return [row.tolist() for row in out]

        return ours, reference(config, params)

    return [pair(seed) for seed in range(3)]


@pytest.mark.parametrize(("penalty", "minimum"), [(1.0, 0), (1.4, 0), (0.8, 6)])
def test_greedy(pairs, penalty, minimum):
    settings = {"min_new_tokens": minimum} if minimum else {}
    for ours, theirs in pairs:
        # transformers takes the padding in front for text, and penalises it: one at a time.
        for prompt in PROMPTS:
            way = Sampling(0, 0, 1.0, penalty)
            found = ours([prompt], [STOP, 5], way, min_new_tokens=minimum)
            assert found == theirs(
                [prompt], [STOP, 5], do_sample=False, repetition_penalty=penalty, **settings
            )


@pytest.mark.parametrize(
    ("size", "length_penalty", "early", "stop"),
    [
        (2, 1.0, False, [STOP]),
        (2, 1.0, True, [STOP]),
        (3, 0.0, False, [STOP, 5, 10]),
        (3, 2.5, True, [STOP, 5, 10]),
        (4, -1.0, False, [STOP, 5]),
        (5, 2.5, False, [STOP, 5, 10]),
        (5, 1.0, False, []),
    ],
)
def test_beams(pairs, size, length_penalty, early, stop):
    lengths = set()
    for ours, theirs in pairs:
        found = ours(PROMPTS, stop, Beams(size, length_penalty, early), num_samples=size)
        assert found == theirs(
            PROMPTS, stop, do_sample=False, num_beams=size, num_return_sequences=size,
            length_penalty=length_penalty, early_stopping=early,
        )  # fmt: skip
        lengths |= {len(text) for text in found}
    assert len(lengths) > 1 or not stop  # some ended at a stop token


def test_beams_with_processors(pairs):
    for ours, theirs in pairs:
        for prompt in PROMPTS:
            way = Beams(3, 1.0, False, 1.5)
            found = ours([prompt], [STOP, 5], way, num_samples=3, min_new_tokens=5)
            assert found == theirs(
                [prompt], [STOP, 5], do_sample=False, num_beams=3, num_return_sequences=3,
                repetition_penalty=1.5, min_new_tokens=5,
            )  # fmt: skip


def test_draws_are_from_the_same_tokens():
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (50, 37)).astype(np.float32)
    text = rng.integers(0, 37, (50, 12))
    seen = np.zeros((50, 37), bool)
    np.put_along_axis(seen, text, True, axis=1)
    for sampling in (Sampling(0.7, 5), Sampling(1.3, 0, 0.8), Sampling(0.9, 9, 0.6, 1.3)):
        chain = [
            process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            process.TemperatureLogitsWarper(sampling.temperature),
            process.TopKLogitsWarper(sampling.top_k or 37),
            process.TopPLogitsWarper(sampling.top_p),
        ]
        expected = torch.tensor(logits)
        for step in chain:
            expected = step(torch.tensor(text), expected)
        found = narrow(penalise(logits, seen, sampling.repetition_penalty), sampling)
        np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-6)
        assert np.isinf(expected.numpy()).any()
