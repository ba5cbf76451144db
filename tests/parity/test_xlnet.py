"""XLNet against transformers: every layer's states, logits, loss and gradients, with memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import xlnet
from model.api import build, family_config
from model.heads import Heads
from model.xlnet import XLNet
from train.objectives import cross_entropy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

ROWS, LENGTH, TARGETS, VOCAB = 4, 9, 3, 37
SIZES = {
    "model.vocab_size": VOCAB, "model.width": 24, "model.num_layers": 2, "model.num_heads": 3,
    "model.mlp_width": 40, "model.mem_len": 12, "model.reuse_len": 5,
}  # fmt: skip
BACKWARD = np.asarray([0, 0, 1, 1], np.int32)  # transformers has the second half reversed


def reference(config, params, bidirectional=True):
    """A transformers model with our parameters; it has relative biases in every layer."""
    m = config.model
    hf = transformers.XLNetLMHeadModel(
        transformers.XLNetConfig(
            vocab_size=VOCAB, d_model=m.width, n_layer=m.num_layers, n_head=m.num_heads,
            d_inner=m.mlp_width, attn_type=m.attention_type, untie_r=m.untie_biases,
            mem_len=m.mem_len, reuse_len=m.reuse_len, bi_data=bidirectional, dropout=0.0,
            clamp_len=m.clamp_length or -1, layer_norm_eps=m.layer_norm_epsilon,
        )
    ).to(getattr(torch, m.dtype))  # fmt: skip
    with torch.no_grad():
        for name, value in flat(hf, params, m).items():
            dict(hf.named_parameters())[name].copy_(torch.tensor(np.asarray(value)))
    return hf.eval()


def flat(hf, tree, m):
    """Our parameters (or gradients) under the names and shapes of transformers."""
    b = tree["backbone"]
    named = {
        "transformer.word_embedding.weight": b["tokens"]["table"],
        "transformer.mask_emb": np.asarray(b["mask_embedding"])[None, None],
        "lm_loss.bias": tree["head"]["lm"]["bias"],
    }
    short = {"q": "query", "k": "key", "v": "value", "r": "position"}
    biases = {"r_w_bias": "content_bias", "r_r_bias": "position_bias", "r_s_bias": "segment_bias"}
    for i in range(m.num_layers):
        layer, at = b[f"layer_{i}"], f"transformer.layer.{i}."
        own = layer["biases"] if m.untie_biases else b["biases"]
        named |= {f"{at}rel_attn.{x}": layer["attention"][y]["kernel"] for x, y in short.items()}
        named |= {f"{at}rel_attn.{x}": own[y] for x, y in biases.items()}
        named[f"{at}rel_attn.o"] = np.asarray(layer["attention"]["out"]["kernel"]).transpose(
            2, 0, 1
        )
        named[f"{at}rel_attn.seg_embed"] = layer["attention"]["segments"]
        for x, y in (("1", "up"), ("2", "down")):
            named[f"{at}ff.layer_{x}.weight"] = np.asarray(layer["mlp"][y]["kernel"]).T
            named[f"{at}ff.layer_{x}.bias"] = layer["mlp"][y]["bias"]
        for x, y in (("rel_attn", "attention_norm"), ("ff", "mlp_norm")):
            named[f"{at}{x}.layer_norm.weight"] = layer[y]["scale"]
            named[f"{at}{x}.layer_norm.bias"] = layer[y]["bias"]
    assert set(named) == {name for name, _ in hf.named_parameters()}
    return named


def segment(seed, continues=1):
    """A batch with a padded row, three segments, and targets at random places in random order."""
    rng = np.random.default_rng(seed)
    real = np.ones((ROWS, LENGTH), np.int32)
    real[1, -2:] = 0
    # Token 0 is no target: in "uni" it would see nothing, and transformers lets it see all then.
    targets = np.stack([1 + rng.permutation(LENGTH - 3)[:TARGETS] for _ in range(ROWS)])
    order = np.zeros((ROWS, LENGTH), np.int32)
    for row in range(ROWS):
        order[row, targets[row]] = 1 + rng.permutation(TARGETS)
    return {
        "tokens": rng.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32),
        "segment_ids": real,
        "token_types": np.repeat([[0, 0, 0, 0, 0, 1, 1, 1, 2]], ROWS, 0).astype(np.int32),
        "factorization_order": order,
        "target_positions": targets.astype(np.int32),
        "targets": rng.integers(0, VOCAB, (ROWS, TARGETS)).astype(np.int32),
        "weights": np.ones((ROWS, TARGETS), np.float32),
        "backward": BACKWARD,
        "continues": np.full(ROWS, continues, np.int32),
    }


def call(hf, batch, mems=None):
    """The reference on one of our batches; the masks are derived here, position by position."""
    dtype = hf.lm_loss.weight.dtype
    kwargs = {"input_mask": torch.tensor(1 - batch["segment_ids"], dtype=dtype)}
    if "factorization_order" in batch:
        hidden = np.zeros((ROWS, LENGTH, LENGTH))
        chosen = np.zeros((ROWS, TARGETS, LENGTH))
        for b in range(ROWS):
            targets = list(batch["target_positions"][b])
            for p, i in enumerate(targets):
                chosen[b, p, i] = 1
            for i in range(LENGTH):  # transformers: 1 where i must not see j
                for j in range(LENGTH):
                    if j in targets:
                        rank = batch["factorization_order"][b]
                        hidden[b, i, j] = not (i in targets and rank[j] < rank[i])
        kwargs |= {
            "perm_mask": torch.tensor(hidden, dtype=dtype),
            "target_mapping": torch.tensor(chosen, dtype=dtype),
            "labels": torch.tensor(batch["targets"]).long(),
        }
    return hf(
        torch.tensor(batch["tokens"]), token_type_ids=torch.tensor(batch["token_types"]).long(),
        mems=mems, use_mems=True, output_hidden_states=True, **kwargs,
    )  # fmt: skip


def sines_in_float64(pos_seq, inv_freq, bsz=None):
    width = 2 * len(inv_freq)
    frequency = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = pos_seq.double()[:, None] * frequency
    table = torch.cat([angle.sin(), angle.cos()], -1)[:, None]
    return table if bsz is None else table.expand(-1, bsz, -1)


class CausalMask:
    """transformers adds a mask [.., B, 1] in place to its causal mask [.., 1, 1]: torch refuses."""

    def __init__(self, model, queries, memory):
        ahead = torch.arange(queries + memory)[None] > memory + torch.arange(queries)[:, None]
        self.mask = ahead.to(model.dtype)[:, :, None, None].repeat(1, 1, ROWS, 1)

    def __getitem__(self, _):
        return self.mask.clone()


@pytest.fixture(params=["float64", "float32"])
def precision(request, monkeypatch):
    """Both precisions; transformers makes its sine table in float32 whatever the model's dtype."""
    where = transformers.models.xlnet.modeling_xlnet.XLNetModel
    monkeypatch.setattr(where, "create_mask", lambda *sizes: CausalMask(*sizes))
    if request.param == "float64":
        monkeypatch.setattr(where, "positional_embedding", staticmethod(sines_in_float64))
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def close(got, expected, precision, gradient=False):
    got, expected = np.asarray(got), np.asarray(expected.detach())
    limit = 1e-9 if precision == "float64" else 1e-4 if gradient else 2e-5
    error = np.abs(got - expected).max() / np.abs(expected).max()
    assert error <= limit, error


@pytest.mark.parametrize("untie", [True, False])
@pytest.mark.parametrize("kind", ["bi", "uni"])
def test_two_streams_with_memory_over_segments(tiny, noise, precision, kind, untie):
    changes = {"model.attention_type": kind, "model.untie_biases": untie, "model.clamp_length": 7}
    config = tiny("xlnet", {**SIZES, **changes, "model.dtype": precision})
    model = build(config.model, Heads(lm=True, permuted=True))
    params = noise(model, dtype=precision)
    hf = reference(config, params)

    @jax.jit
    def run(params, batch, carry):
        def loss(params):
            out = model.apply(params, batch, caches=carry)
            total, weight = cross_entropy(out["logits"], batch["targets"], batch["weights"])
            return total / weight.astype(total.dtype), out

        states = []
        for depth in range(1, config.model.num_layers + 1):
            config.model.num_layers = depth
            part = XLNet(family_config(config.model))
            out = part.apply({"params": params["backbone"]}, batch, caches=carry)
            states.append((out.hidden_BTD, out.predicted_BPD))
        return *jax.value_and_grad(loss, has_aux=True)(params), states

    carry, mems = model.carry(ROWS), None
    for number in range(4):  # the memory holds 0, 5, 10 and 12 tokens
        batch = segment(number)
        if number == 0:
            batch["continues"] = np.zeros(ROWS, np.int32)
        (loss, out), gradient, states = run(params, batch, carry)
        hf.zero_grad()
        expected = call(hf, batch, mems)
        expected.loss.backward()
        close(loss, expected.loss, precision)
        close(out["logits"], expected.logits, precision)
        pairs = [expected.hidden_states[i : i + 2] for i in range(2, 6, 2)]
        for (hidden, predicted), (content, query) in zip(states, pairs, strict=True):
            real = batch["segment_ids"] > 0  # what padding sees does not matter
            close(np.asarray(hidden)[real], content[torch.tensor(real)], precision)
            close(predicted, query, precision)
        ours = flat(hf, gradient, config.model)
        theirs = {name: p.grad for name, p in hf.named_parameters()}
        if not untie:
            for name in ("r_w_bias", "r_r_bias", "r_s_bias"):
                at = [f"transformer.layer.{i}.rel_attn.{name}" for i in range(2)]
                total = sum(theirs[n] for n in at)
                theirs |= dict.fromkeys(at, total)
        for name, value in ours.items():
            close(value, theirs[name], precision, gradient=True)
        carry, mems = out["caches"], expected.mems
        held = mems[0].shape[0]
        assert np.all(np.asarray(carry["filled"]) == held)
        assert held == min(5 * (number + 1), 12)
        for i in range(2):
            close(carry[f"layer_{i}"][:, 12 - held :], mems[i].transpose(0, 1), precision)


@pytest.mark.parametrize("kind", ["bi", "uni"])
def test_one_stream(tiny, noise, precision, kind):
    """Fine-tuning: no order, no memory; and the classifier on the last token."""
    changes = {"model.attention_type": kind, "model.dtype": precision, "model.mem_len": 0}
    config = tiny("xlnet", {**SIZES, **changes, "model.reuse_len": 0})
    model = build(config.model, Heads(lm=True, num_labels=3))
    params = noise(model, dtype=precision)
    batch = segment(0)
    keep = ("tokens", "segment_ids", "token_types")
    batch = {key: batch[key] for key in keep}
    out = jax.jit(model.apply)(params, batch)
    hf = reference(config, params, bidirectional=False)
    expected = call(hf, batch)
    real = batch["segment_ids"] > 0
    close(np.asarray(out["logits"])[real], expected.logits[torch.tensor(real)], precision)

    head = params["head"]["classification"]
    summary = transformers.models.xlnet.modeling_xlnet.XLNetSequenceSummary(hf.config)
    summary = summary.to(getattr(torch, precision)).eval()
    with torch.no_grad():
        summary.summary.weight.copy_(torch.tensor(np.asarray(head["summary"]["kernel"]).T))
        summary.summary.bias.copy_(torch.tensor(np.asarray(head["summary"]["bias"])))
    pooled = summary(expected.hidden_states[-1]).detach().numpy()
    logits = pooled @ np.asarray(head["linear"]["kernel"]) + np.asarray(head["linear"]["bias"])
    rows = [0, 2, 3]  # transformers takes the last token, padding or not
    close(out["class_logits"][jnp.asarray(rows)], torch.tensor(logits[rows]), precision)


@pytest.mark.parametrize("size", ["base", "large"])
def test_published_sizes_have_as_many_parameters(size):
    config = xlnet.get_config(f"size={size}").model
    config.vocab_size = 32000
    with torch.device("meta"):
        hf = transformers.XLNetLMHeadModel(
            transformers.XLNetConfig(
                vocab_size=32000, d_model=config.width, n_layer=config.num_layers,
                n_head=config.num_heads, d_inner=config.mlp_width,
            )
        )  # fmt: skip
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert build(config, Heads()).num_params == count(hf.transformer)
    assert build(config, Heads(lm=True)).num_params == count(hf)
