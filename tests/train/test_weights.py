"""``pretune import`` and ``pretune export``: whole or nothing, a valid init_from, one sentence."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from input_pipeline.tokenizer_export import export_tokenizer
from input_pipeline.tokenizers import load_tokenizer, train_tokenizer
from model.api import build
from model.pretrained.describe import LAYOUTS, architecture_of, heads_of
from model.pretrained.save import save
from train import cli, generate

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZERS = {
    "bert": ("wordpiece", 60),
    "roberta": ("bpe", 270),
    "gpt": ("bpe", 270),
    "xlnet": ("unigram", 60),
    "t5": ("unigram", 60),
}
OBJECTIVES = {
    "bert": "masked_lm",
    "roberta": "masked_lm",
    "gpt": "causal_lm",
    "xlnet": "permutation_lm",
    "t5": "span_corruption",
}
DECODED = np.asarray([[0, 5, 9]])  # what T5's decoder reads
OWN = {"roberta": {"model.num_token_types": 1}, "t5": {"model.activation": "relu"}}


@pytest.fixture(scope="module")
def tokenizer(corpus):
    made = {}

    def make(family):
        kind, size = TOKENIZERS[family]
        if kind not in made:
            made[kind] = train_tokenizer(kind, [corpus.read_text()], size, lowercase=False)
        return made[kind].with_sentinels(LAYOUTS[family].sentinels)

    return make


@pytest.fixture
def published(tiny, noise, tokenizer, tmp_path):
    """``published(family, heads) -> folder``: random weights as they would lie on the hub."""

    def make(family, heads=("lm",), classes=2):
        own = tokenizer(family)
        sizes = {"model.vocab_size": own.vocab_size, "model.num_layers": 1}
        config, layout = tiny(family, sizes | OWN.get(family, {})).model, LAYOUTS[family]
        params = noise(build(config, heads_of(heads, classes)))
        folder = tmp_path / "published"
        folder.mkdir()
        extra = layout.special_tokens(own)
        if {"classification", "token_classification"} & set(heads):
            extra["id2label"] = {"0": "bad", "1": "good"}
        save(folder, layout, config, params, architecture_of(layout, heads), extra)
        export_tokenizer(own, folder, config.max_length, layout.framed, second_type=1)
        return folder

    return make


@pytest.fixture
def pretune(capsys):
    def call(*argv):
        code = cli.main([str(arg) for arg in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def tensors(folder):
    return load_file(folder / "model.safetensors")


def config_of(workdir):
    return ConfigDict(json.loads((workdir / "config.json").read_text()))


@pytest.mark.parametrize("family", LAYOUTS)
def test_there_and_back(family, published, pretune, corpus, tokenizer, tmp_path):
    """Import, export: the same bytes. Import, train one step, export: other bytes, same names."""
    source, work, out = published(family), tmp_path / "work", tmp_path / "out"
    code, told, err = pretune("import", f"--from={source}", f"--to={work}")
    assert (code, err) == (0, "")
    assert LAYOUTS[family].architectures[1 if family == "bert" else 0].name in told
    assert config_of(work).objective.name == OBJECTIVES[family]
    own = load_tokenizer(work / "tokenizer")
    assert own.sentinels.tolist() == tokenizer(family).sentinels.tolist()
    assert own.vocab_size == config_of(work).model.vocab_size

    code, told, _ = pretune("export", f"--workdir={work}", f"--to={out}")
    assert code == 0
    first, second = tensors(source), tensors(out)
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    settings = json.loads((out / "tokenizer_config.json").read_text())
    table = {"gpt": 16, "bert": 16, "roberta": 16}  # of positions; the others have none
    assert settings["model_max_length"] == table.get(family, int(1e30))
    assert config_of(work).length == table.get(family, 512)  # what rows are without --length

    config = f"--config={ROOT}/configs/{family}.py"
    code, _, err = pretune(
        "train", config, f"--config.data.source={corpus}", f"--config.init_from={work}",
        "--config.model.family=", "--config.steps=1", "--config.batch_size=8",
        "--config.length=16", "--config.mesh.data=1", "--config.compilation_cache=",
        "--config.logging.tensorboard=False", "--config.evaluation.max_rows=8",
        "--config.optimizer.warmup_steps=0", "--config.model.mem_len=8",
        "--config.model.reuse_len=8", f"--workdir={tmp_path}/run",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = pretune("export", f"--workdir={tmp_path}/run", f"--to={tmp_path}/trained")
    assert code == 0, err
    third = tensors(tmp_path / "trained")
    assert third.keys() == first.keys()
    changes = {name: np.abs(third[name] - first[name]).max() for name in first}
    largest = max(changes.values())
    assert 0 < largest < 0.05  # a step from there, head included, not a fresh start
    if family in ("gpt", "t5"):
        command = ["generate", f"--workdir={work}", "--new_tokens=3", "--prompt=the cat"]
        code, told, err = pretune(*command)
        assert code == 0, err
        assert told.startswith("the cat") == (family == "gpt")  # T5 answers


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", LAYOUTS)
def test_transformers_takes_the_folder_as_it_is(family, published, pretune, tmp_path):
    """Nothing is missing or too much, and a text's logits are ours, tokenizer included."""
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    work, out, text = tmp_path / "work", tmp_path / "out", "the cat sat on a mat."
    assert pretune("import", f"--from={published(family)}", f"--to={work}")[0] == 0
    assert pretune("export", f"--workdir={work}", f"--to={out}")[0] == 0
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    ours = load_tokenizer(work / "tokenizer")
    ids = theirs(text, add_special_tokens=False)["input_ids"]
    assert ids == ours.encode(text).tolist()
    assert theirs.decode(ids) == text

    name = json.loads((out / "config.json").read_text())["architectures"][0]
    model, info = getattr(transformers, name).from_pretrained(out, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    _, config, params, _, objective = generate._load(work)
    both = build(config, dataclasses.replace(objective.head(), permuted=False))
    batch = {"tokens": np.asarray([ids])} | ({"decoder_tokens": DECODED} if family == "t5" else {})
    got = jax.jit(both.apply)(params, batch)["logits"]
    more = {"decoder_input_ids": torch.tensor(DECODED)} if family == "t5" else {}
    with torch.no_grad():
        want = model.eval()(torch.tensor([ids]), **more)
    want = want["prediction_logits"] if "prediction_logits" in want else want["logits"]
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "heads", "objective", "anew"),
    [
        ("bert", ("lm", "next_sentence"), "masked_lm_nsp", ""),
        ("bert", ("span",), "extractive_qa", "backbone/pooler"),
        ("roberta", ("classification",), "classification", ""),
        ("gpt", ("token_classification",), "token_classification", ""),
        ("xlnet", ("classification",), "classification", ""),
        ("t5", ("classification",), "classification", ""),
        ("t5", ("span",), "extractive_qa", ""),
        ("t5", ("token_classification",), "token_classification", "backbone/decoder"),
    ],
)
def test_other_heads_there_and_back(family, heads, objective, anew, published, pretune, tmp_path):
    source, work, out = published(family, heads), tmp_path / "work", tmp_path / "out"
    code, told, err = pretune("import", f"--from={source}", f"--to={work}")
    assert code == 0, err
    assert told.partition("initialised anew: ")[2].strip() == anew
    assert config_of(work).objective.name == objective
    assert pretune("export", f"--workdir={work}", f"--to={out}")[0] == 0
    first, second = tensors(source), tensors(out)
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    theirs = json.loads((out / "config.json").read_text())
    if "id2label" in json.loads((source / "config.json").read_text()):
        assert theirs["id2label"] == {"0": "bad", "1": "good"}
        assert config_of(work).data.labels == ["bad", "good"]


def test_tokenizer_files(published, tokenizer):
    """The older files hold the same vocabulary; texts are framed as classification frames them."""
    import tokenizers as hf

    for family in ("bert", "roberta"):
        own = tokenizer(family)
        folder = published(family)
        names = {"bert": ["vocab.txt"], "roberta": ["vocab.json", "merges.txt"]}[family]
        assert (folder / names[0]).exists()
        text = "the cat sat on a mat."
        want = own.encode(text).tolist()
        assert load_tokenizer(folder / names[0]).encode(text).tolist() == want
        pipeline = hf.Tokenizer.from_file(str(folder / "tokenizer.json"))
        found = pipeline.encode(text, "the dog")
        second = own.encode("the dog").tolist()
        assert found.ids == [own.cls_id, *want, own.sep_id, *second, own.sep_id]
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


XLNET_VOCABULARY = ROOT.parent / "shared" / "data" / "vocab" / "xlnet-base-cased" / "spiece.model"


def test_xlnet_vocabulary(pretune, tiny, noise, tmp_path):
    """Only the published SentencePiece file lies there; it comes out as it went in."""
    if not XLNET_VOCABULARY.exists():
        pytest.skip("XLNet's vocabulary (../shared/data) is not here")
    source, work, out = tmp_path / "source", tmp_path / "work", tmp_path / "out"
    source.mkdir()
    sizes = {"model.vocab_size": 32_000, "model.num_layers": 1, "model.width": 4}
    config, layout = tiny("xlnet", sizes).model, LAYOUTS["xlnet"]
    params = noise(build(config, heads_of(("lm",), 0)))
    save(source, layout, config, params, architecture_of(layout, ("lm",)))
    shutil.copy(XLNET_VOCABULARY, source)
    code, _, err = pretune("import", f"--from={source}", f"--to={work}")
    assert code == 0, err
    own = load_tokenizer(work / "tokenizer")
    assert (own.cls_id, own.sep_id, own.pad_id, own.vocab_size) == (3, 4, 5, 32_000)
    assert pretune("export", f"--workdir={work}", f"--to={out}")[0] == 0
    assert (out / "spiece.model").read_bytes() == XLNET_VOCABULARY.read_bytes()
    theirs = json.loads((out / "config.json").read_text())
    assert [theirs[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [1, 2, 5]


T5_VOCABULARY = ROOT.parent / "shared" / "data" / "vocab" / "t5-base" / "spiece.model"


def test_t5_sentinels(pretune, tiny, noise, tmp_path):
    """A published folder has 32,000 pieces and 32,128 rows; the sentinels are 32,099 down."""
    if not T5_VOCABULARY.exists():
        pytest.skip("T5's vocabulary (../shared/data) is not here")
    source, work, out = tmp_path / "source", tmp_path / "work", tmp_path / "out"
    source.mkdir()
    sizes = {"model.vocab_size": 32_128, "model.num_layers": 1, "model.width": 4, **OWN["t5"]}
    config, layout = tiny("t5", sizes).model, LAYOUTS["t5"]
    params = noise(build(config, heads_of(("lm",), 0)))
    save(source, layout, config, params, architecture_of(layout, ("lm",)))
    shutil.copy(T5_VOCABULARY, source)
    assert pretune("import", f"--from={source}", f"--to={work}")[0] == 0
    own = load_tokenizer(work / "tokenizer")
    assert own.sentinels.tolist() == list(range(32_099, 31_999, -1))
    assert (own.pad_id, own.eos_id, own.vocab_size) == (0, 1, 32_100)
    assert pretune("export", f"--workdir={work}", f"--to={out}")[0] == 0
    # T5Tokenizer adds them to what the file has.
    assert (out / "spiece.model").read_bytes() == T5_VOCABULARY.read_bytes()
    assert json.loads((out / "tokenizer_config.json").read_text())["extra_ids"] == 100
    theirs = json.loads((out / "config.json").read_text())
    assert (theirs["pad_token_id"], theirs["eos_token_id"], theirs["vocab_size"]) == (0, 1, 32_128)


def test_character_tokenizer_as_a_pipeline(tmp_path):
    import tokenizers as hf

    own = train_tokenizer("char", ["ab c\nd"], 0, lowercase=False)
    export_tokenizer(own, tmp_path, 8, framed=False, second_type=0)
    pipeline = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "a\nb dc"
    assert pipeline.encode(text).ids == own.encode(text).tolist()
    assert pipeline.decode(pipeline.encode(text).ids) == text


def test_nothing_is_left_half_written(published, pretune, tmp_path):
    source = published("gpt")
    broken = tensors(source)
    broken["transformer.ln_f.bias"] = broken["transformer.ln_f.bias"] * np.nan
    save_file(broken, source / "model.safetensors")
    before = sorted(tmp_path.iterdir())
    code, out, err = pretune("import", f"--from={source}", f"--to={tmp_path}/work")
    assert code == 2
    assert out == ""
    assert "transformer.ln_f.bias is not finite" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def fails(pretune, *argv):
    code, out, err = pretune(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("pretune: ")
    assert err.count("\n") == 1
    return err


def test_refusals(published, pretune, run_config, tmp_path, monkeypatch):
    import huggingface_hub

    source, taken = published("gpt"), tmp_path / "taken"
    taken.mkdir()
    (taken / "x").write_text("")
    assert "not empty" in fails(pretune, "import", f"--from={source}", f"--to={taken}")
    to = f"--to={tmp_path}/work"
    assert "no folder and no model's name" in fails(pretune, "import", "--from=a/b/c", to)
    assert "holds no run" in fails(pretune, "export", f"--workdir={tmp_path}/none", to)

    asked = {}

    def offline(name, **options):
        asked.update(options, name=name)
        raise OSError("no way to the hub\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert "(no way to the hub); download" in fails(pretune, "import", "--from=some/model", to)
    assert asked["name"] == "some/model"
    assert not any(".bin" in pattern for pattern in asked["allow_patterns"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(source))
    assert pretune("import", "--from=some/model", to)[0] == 0

    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (source / name).unlink()
    other = f"--to={tmp_path}/other"
    assert "holds no tokenizer" in fails(pretune, "import", f"--from={source}", other)
    train_tokenizer("char", [bytes(range(32, 127)).decode() + "".join(map(chr, range(500, 900)))],
                    0, lowercase=False).save(source)  # fmt: skip
    assert "ids but a model of only" in fails(pretune, "import", f"--from={source}", other)


def test_roberta_needs_padding_at_one(published, pretune, tmp_path, tokenizer):
    source, work = published("roberta"), tmp_path / "work"
    assert pretune("import", f"--from={source}", f"--to={work}")[0] == 0
    tokenizer("bert").save(work / "tokenizer")
    err = fails(pretune, "export", f"--workdir={work}", f"--to={tmp_path}/out")
    assert "padding id is 0" in err
    assert not (tmp_path / "out").exists()
