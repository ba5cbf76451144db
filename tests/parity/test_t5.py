"""T5 against transformers, in float64: states, logits, loss and the gradient of every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import t5 as configs
from model.api import build
from model.heads import Heads
from model.t5_layers import bucket_of

pytestmark = pytest.mark.parity

VOCAB, LENGTH, TARGETS = 37, 13, 7


def theirs(version):
    """A T5 of transformers with random weights, norms included, whose heads do not fill it."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=VOCAB, d_model=20, d_kv=6, d_ff=28, num_layers=2, num_decoder_layers=3,
        num_heads=3, relative_attention_num_buckets=8, relative_attention_max_distance=11,
        dropout_rate=0.0, feed_forward_proj="relu" if version == "1.0" else "gated-gelu",
        tie_word_embeddings=version == "1.0",
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config).double().eval()
    if version == "1.1":
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, 20, dtype=torch.double))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def ours(version, **changes):
    config = configs.get_config(f"version={version}").model
    config.unlock()
    config.vocab_size, config.width, config.head_size, config.mlp_width = VOCAB, 20, 6, 28
    config.num_layers, config.num_decoder_layers, config.num_heads = 2, 3, 3
    config.relative_buckets, config.relative_max_distance = 8, 11
    config.dropout, config.dtype = 0.0, "float64"
    config.update(changes)
    return build(config, Heads(lm=True))


def translate(model, value):
    """Our tree from transformers' parameters; `value` takes the array out of one."""
    get = {name: value(parameter) for name, parameter in model.named_parameters()}

    def attention(prefix):
        split = lambda n: get[f"{prefix}.{n}.weight"].T.reshape(20, 3, 6)  # noqa: E731
        return {
            "query": {"kernel": split("q")},
            "key_value": {"kernel": np.stack([split("k"), split("v")], axis=1)},
            "out": {"kernel": get[f"{prefix}.o.weight"].T.reshape(3, 6, 20)},
        }

    def layer(stack, index):
        prefix = f"{stack}.block.{index}.layer"
        last = 2 if stack == "decoder" else 1
        norm = lambda i: {"scale": get[f"{prefix}.{i}.layer_norm.weight"]}  # noqa: E731
        names = {"wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}
        kernels = {n: f"{prefix}.{last}.DenseReluDense.{n}.weight" for n in names}
        found = {
            "attention": attention(f"{prefix}.0.SelfAttention"),
            "attention_norm": norm(0),
            "mlp": {names[n]: {"kernel": get[k].T} for n, k in kernels.items() if k in get},
            "mlp_norm": norm(last),
        }
        if stack == "decoder":
            found["cross_attention"] = attention(f"{prefix}.1.EncDecAttention")
            found["cross_attention_norm"] = norm(1)
        return found

    def stack(name, layers):
        bias = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        return {
            "relative": get[bias],
            "norm": {"scale": get[f"{name}.final_layer_norm.weight"]},
            **{f"layer_{i}": layer(name, i) for i in range(layers)},
        }

    head = {"lm": {"table": get["lm_head.weight"]}} if "lm_head.weight" in get else {}
    return {
        "backbone": {
            "tokens": {"table": get["shared.weight"]},
            "encoder": stack("encoder", 2),
            "decoder": stack("decoder", 3),
        },
        "head": head,
    }


def close(got, wanted):
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())


@pytest.fixture
def float64(monkeypatch):
    """The reference takes softmax and norm in float32, whatever the model's own type is."""
    import torch
    from transformers.models.t5 import modeling_t5

    def norm(self, x):
        return self.weight * (x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6))

    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", norm)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5(version, scan, float64):
    import torch

    reference = theirs(version)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCAB, (3, LENGTH))
    decoder = rng.integers(0, VOCAB, (3, TARGETS))
    targets = rng.integers(0, VOCAB, (3, TARGETS))
    segments = (np.arange(LENGTH) < np.asarray([[13], [9], [4]])).astype(np.int32)
    weights = np.arange(TARGETS) < np.asarray([[7], [5], [2]])

    out = reference(
        input_ids=torch.tensor(tokens),
        attention_mask=torch.tensor(segments),
        decoder_input_ids=torch.tensor(decoder),
        labels=torch.tensor(np.where(weights, targets, -100)),
        output_hidden_states=True,
    )
    out.loss.backward()

    with jax.enable_x64(True):
        model = ours(version, scan_layers=scan)
        params = translate(reference, lambda p: p.detach().numpy())
        expected = translate(reference, lambda p: p.grad.numpy())
        assert jax.tree.structure(params) == jax.tree.structure(model.shapes)
        batch = {"tokens": tokens, "segment_ids": segments, "decoder_tokens": decoder}

        def loss(params):
            outputs = model.apply(params, batch)
            picked = jnp.take_along_axis(
                jax.nn.log_softmax(outputs["logits"]), jnp.asarray(targets)[..., None], 2
            )
            return -(picked[..., 0] * weights).sum() / weights.sum(), outputs

        (value, outputs), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        encoder = {"tokens": tokens, "segment_ids": segments}
        encoded = jax.jit(model.apply)(params, encoder | {"target_positions": segments[:, :1]})
    close(value, out.loss.detach())
    close(outputs["hidden"], out.decoder_hidden_states[-1].detach())
    close(outputs["logits"], out.logits.detach())
    real = segments.astype(bool)
    close(encoded["hidden"][real], out.encoder_last_hidden_state.detach().numpy()[real])
    jax.tree.map(close, gradients, expected)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(expected))


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 11), (10, 50), (64, 300)])
def test_buckets(buckets, distance):
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    back = np.arange(-400, 401)
    for both_ways in (False, True):
        size = buckets // 2 if both_ways else buckets
        found = bucket_of(np.abs(back) if both_ways else np.maximum(back, 0), size, distance)
        found = found + size * (both_ways & (back < 0))
        expected = T5Attention._relative_position_bucket(
            torch.tensor(-back), both_ways, buckets, distance
        )
        np.testing.assert_array_equal(found, expected)
