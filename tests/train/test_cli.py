"""The command line: bad input is one sentence and exit code 2, and nothing is touched."""

import contextlib
import errno
import functools
import json
import pathlib
import re
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from input_pipeline.tokenizers import train_tokenizer
from train import cli, generate
from train.errors import Busy, UserError
from train.interrupts import ENDS, interruptible
from train.loop import run
from train.workdir import command_line, locked, read_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
GPT = f"--config={ROOT}/configs/gpt.py:size=shakespeare_char_cpu"
BERT = f"--config={ROOT}/configs/bert.py:size=tiny"
TINY = [
    "--config.model.num_layers=1", "--config.model.width=16", "--config.model.num_heads=2",
    "--config.model.mlp_width=32", "--config.model.max_length=16", "--config.length=16",
    "--config.model.vocab_size=64",  # of one size, runs on different texts share their programs
    "--config.batch_size=8", "--config.mesh.data=1", "--config.compilation_cache=",
    "--config.logging.tensorboard=False", "--config.steps=2", "--config.evaluation.max_rows=8",
]  # fmt: skip


@pytest.fixture
def pretune(capsys):
    """``pretune("train", ...) -> (exit code, stdout, stderr)``."""

    def call(*argv):
        code = cli.main([str(arg) for arg in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture
def refused(pretune):
    """Asserts that a command ends in one sentence; returns it."""

    def call(*argv, began=False):
        code, out, err = pretune(*argv)
        assert code == 2, (out, err)
        assert "Traceback" not in err
        assert out == ""
        told, sentence = err[: err.rindex("pretune: ")], err[err.rindex("pretune: ") :]
        assert sentence.count("\n") == 1, err
        assert "\\" not in sentence  # nothing is quoted twice
        # A run that began has shown its progress before.
        assert bool(told) == began, err
        return sentence

    return call


def snapshot(folder):
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in pathlib.Path(folder).rglob("*")
    }


@pytest.fixture(scope="module")
def trained(run_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "w"
    run(run_config(changes={"steps": 2}), workdir, progress=False)
    return workdir


@pytest.fixture
def inputs(tmp_path, corpus):
    """Files that cannot be used, and one that can."""
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin.txt").write_bytes(b"good line\nbad caf\xe9 line\n")
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "good film\tpos\nbad film\tneg\n" * 20)
    for name, text in (("published", '{"vocab_size": 5}'), ("damaged", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "dev.tsv").write_text("text\tlabel\ngood film\tpos\nodd film\tneutral\n")
    return tmp_path


CASES = {
    "missing file": ([GPT, "--config.data.source={0}/none.txt"], ["none.txt"]),
    "empty glob": ([GPT, "--config.data.source={0}/none-*.txt"], ["none-*.txt"]),
    "empty corpus": ([GPT, "--config.data.source={0}/empty.txt"], ["empty.txt"]),
    "invalid utf-8": (
        [GPT, "--config.data.source={0}/latin.txt"],
        ["latin.txt", "17", "--config.data.errors=replace"],
    ),
    "unknown key": (
        [GPT, "--config.optimizer.learning_rat=1"], ["learning_rat", "learning_rate"],
    ),
    "unknown top key": ([GPT, "--config.stepz=1"], ["stepz", "steps"]),
    "wrong type": ([GPT, "--config.steps=many"], ["steps", "many"]),
    "unknown size": (
        [f"--config={ROOT}/configs/bert.py:size=tinny"], ["'tinny'", "did you mean 'tiny'"],
    ),
    "unknown config file": (["--config=configs/none.py"], ["configs/none.py"]),
    "no config": ([], ["config"]),
    "unknown flag": ([GPT, "--workdri=x"], ["workdri"]),
    "stray argument": ([GPT, "now"], ["'now'"]),
    "unknown objective": (
        [BERT, "--config.objective.name=maskedlm", "--config.data.source={1}"],
        ["'maskedlm'", "did you mean 'masked_lm'"],
    ),
    "row longer than the table": (
        [GPT, "--config.data.source={1}", "--config.length=17"],
        ["config.length 17", "max_length 16"],
    ),
    "batch does not divide": (
        [GPT, "--config.data.source={1}", "--config.mesh.data=8", "--config.batch_size=12"],
        ["config.batch_size is 12", "multiple of 8"],
    ),
    "mesh larger than the devices": (
        [GPT, "--config.data.source={1}", "--config.mesh.data=16"], ["data=16", "8 cpu device"],
    ),
    "init_from of nothing": (
        [GPT, "--config.data.source={1}", "--config.init_from={0}/nowhere"], ["nowhere"],
    ),
    "init_from of another family": (
        [BERT, "--config.data.source={1}", "--config.init_from={2}"],
        ["config.model.family", "'bert'", "'gpt'"],
    ),
    "no architecture": (
        [f"--config={ROOT}/configs/finetune_classification.py", "--config.data.source={1}"],
        ["config.model.family is empty", "--config.init_from"],
    ),
    "label outside the set": (
        [
            BERT, "--config.objective.name=classification", "--config.data.source={0}/train.tsv",
            "--config.data.eval_source={0}/dev.tsv", "--config.tokenizer.vocab_size=60",
        ],
        ["dev.tsv:3", "neutral"],
    ),
    "unknown evaluation metric": (
        [GPT, "--config.data.source={1}", "--config.evaluation.metric=eval/f1"],
        ["'eval/f1'", "eval/loss"],
    ),
    "seed below 0": ([GPT, "--config.data.source={1}", "--config.seed=-1"], ["seed is -1"]),
    "no rows": (
        [GPT, "--config.data.source={1}", "--config.batch_size=0"], ["batch_size is 0", "positive"],
    ),
    "no micro-batch": (
        [GPT, "--config.data.source={1}", "--config.accumulate=0"], ["accumulate 0", "positive"],
    ),
    "init_from of published weights": (
        [BERT, "--config.data.source={1}", "--config.init_from={0}/published"],
        ["published/config.json", "pretune import --from="],
    ),
    "init_from of a damaged run": (
        [BERT, "--config.data.source={1}", "--config.init_from={0}/damaged"],
        ["damaged/config.json is not readable JSON"],
    ),
    "unknown activation": (
        [GPT, "--config.data.source={1}", "--config.model.activation=gelo"], ["gelo"],
    ),
}  # fmt: skip
# These show after the tokenizer has been saved; whatever fails before leaves no folder behind.
MAKES_WORKDIR = {"label outside the set", "unknown evaluation metric"}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, refused, inputs, corpus, trained):
    flags, words = CASES[case]
    workdir = inputs / "w"
    given = [flag.format(inputs, corpus, trained) for flag in flags]
    before = snapshot(trained)
    # What the case is about comes last, so that it counts.
    own = given[1:]
    tiny = TINY if given else []
    sentence = refused("train", *given[:1], *tiny, *own, f"--workdir={workdir}")
    for word in words:
        assert word in sentence, sentence
    assert workdir.exists() <= (case in MAKES_WORKDIR)
    assert not (workdir / "config.json").exists() or case == "unknown evaluation metric"
    assert snapshot(trained) == before


def test_replace_goes_on_where_strict_stops(pretune, inputs):
    (inputs / "long.txt").write_bytes(b"some words and caf\xe9 and more words\n" * 40)
    code, out, err = pretune(
        "train", GPT, *TINY, f"--config.data.source={inputs}/long.txt",
        "--config.data.errors=replace", "--config.steps=1", f"--workdir={inputs}/w",
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("done: step 1, eval/")


def test_workdir_of_another_config(refused, trained):
    """Also without a single file touched, and with every difference named."""
    before = snapshot(trained)
    config = json.loads((trained / "config.json").read_text())
    source = config["data"]["source"]
    sentence = refused(
        "train", GPT, *TINY, f"--config.data.source={source}", "--config.seed=7",
        f"--workdir={trained}",
    )  # fmt: skip
    assert "seed: 0 there, 7 asked" in sentence
    assert "optimizer.b2: 0.999 there, 0.99 asked" in sentence
    assert "--force_config" in sentence
    assert snapshot(trained) == before


def test_run_older_than_a_key(trained, tmp_path):
    """What the code did before there was a key is what the key's default says."""
    found = json.loads((trained / "config.json").read_text())
    del (
        found["model"]["num_decoder_layers"],
        found["compilation_cache"],
        found["objective"]["packing"],
    )
    (tmp_path / "config.json").write_text(json.dumps(found))
    config = read_config(tmp_path)
    assert config.model.num_decoder_layers == 0
    assert config.compilation_cache
    assert config.model.width == found["model"]["width"]
    assert config.objective.packing == "windows"
    for isolated, packing in ((True, "doc_sentences"), (False, "full_sentences")):
        found["objective"] |= {"whole_sentences": True, "isolate_documents": isolated}
        (tmp_path / "config.json").write_text(json.dumps(found))
        assert read_config(tmp_path).objective.packing == packing


def test_workdir_of_another_process(refused, tmp_path, corpus):
    with locked(tmp_path / "w"):
        before = snapshot(tmp_path / "w")
        sentence = refused(
            "train", GPT, *TINY, f"--config.data.source={corpus}", f"--workdir={tmp_path}/w"
        )
        assert snapshot(tmp_path / "w") == before
    assert "Another process (pid" in sentence


def test_a_command_is_kept_without_the_place_of_its_program(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/home/someone/.venv/bin/pretune", "train", "--workdir=w"])
    main = SimpleNamespace(__spec__=None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert command_line() == ["pretune", "train", "--workdir=w"]
    main.__spec__ = SimpleNamespace(name="train.cli")
    assert command_line() == ["python", "-m", "train.cli", "train", "--workdir=w"]


def test_workdir_that_cannot_be_made(refused, tmp_path, corpus):
    (tmp_path / "file").touch()
    sentence = refused(
        "train", GPT, *TINY, f"--config.data.source={corpus}", f"--workdir={tmp_path}/file/w"
    )
    assert "cannot be written (Not a directory)" in sentence


def test_workdir_without_locks(refused, tmp_path, corpus, monkeypatch):
    """That is not another process, for which a study would wait for ever."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    sentence = refused(
        "train", GPT, *TINY, f"--config.data.source={corpus}", f"--workdir={tmp_path}/w"
    )
    assert f"{tmp_path}/w cannot be locked (No locks available); choose" in sentence
    assert not (tmp_path / "w").exists()
    with pytest.raises(UserError) as caught, locked(tmp_path):
        pass
    assert not isinstance(caught.value, Busy)


def test_tokenizer_of_another_size(refused, trained, corpus, tmp_path):
    text = corpus.read_text() + "".join(chr(33 + i) for i in range(80))
    train_tokenizer("char", [text], 0, lowercase=False).save(tmp_path / "other")
    before = snapshot(trained)
    sentence = refused(
        "train", GPT, *TINY, f"--config.data.source={corpus}", f"--config.init_from={trained}",
        f"--config.tokenizer.path={tmp_path}/other", "--config.model.family=",
        f"--workdir={tmp_path}/w",
    )  # fmt: skip
    assert re.search(r"The tokenizer .*other \(\d+ ids\) is not the one .* \(16 ids\)", sentence)
    assert snapshot(trained) == before


def test_nan_is_told_in_one_sentence(refused, tmp_path, corpus):
    sentence = refused(
        "train", GPT, *TINY, f"--config.data.source={corpus}", f"--workdir={tmp_path}/w",
        "--config.optimizer.learning_rate=1e30", "--config.steps=6", "--config.logging.every=1",
        "--config.optimizer.warmup_steps=0", began=True,
    )  # fmt: skip
    assert "not finite at step" in sentence


def test_help_lists_commands_and_keys(pretune):
    code, out, _ = pretune("--help")
    assert code == 0
    assert all(name in out for name in cli.COMMANDS)
    for command in ("train", "generate", "benchmark"):
        code, out, _ = pretune(command, "--help")
        assert code == 0, command
        assert "--" in out
    code, out, _ = pretune("train", "--help")
    for key in ("optimizer.learning_rate", "data.source", "mesh.fsdp", "objective.name"):
        assert re.search(rf"^  {re.escape(key)} +\S", out, re.M), key
    assert "--workdir" in out
    assert "the peak" in out


def test_unknown_command(pretune):
    code, _, err = pretune("trian")
    assert code == 2
    assert "Did you mean 'train'?" in err


def test_bugs_keep_their_traceback(monkeypatch, corpus, tmp_path):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("train.loop.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["train", GPT, f"--workdir={tmp_path}/w"])


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, (130, "pretune: stopped.\n")), (signal.SIGTERM, (143, ""))],
)
def test_signal_while_a_run_is_set_up(monkeypatch, pretune, corpus, tmp_path, number, expected):
    monkeypatch.setattr("train.loop.set_up", lambda *_: signal.raise_signal(number))
    code, _, err = pretune(
        "train", "--config=configs/bert.py:size=tiny", f"--workdir={tmp_path}/run",
        f"--config.data.source={corpus}",
    )  # fmt: skip
    assert (code, err) == expected
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "ending"), ENDS.items())
def test_a_signal_cannot_be_swallowed(number, ending):
    def mistaken():
        try:
            signal.raise_signal(number)
        except BaseException as error:
            raise ValueError("no handler fits") from error

    before = signal.getsignal(number)
    with pytest.raises(ending) as caught, interruptible():
        mistaken()
    assert caught.type is ending
    with pytest.raises(ending), interruptible(), contextlib.suppress(BaseException):
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_generate(pretune, refused, trained, tmp_path):
    command = ["generate", f"--workdir={trained}", "--new_tokens=5"]
    code, first, _ = pretune(*command, "--prompt=the cat", "--prompt=on", "--seed=3")
    assert code == 0
    assert re.match(r"the cat.{5}\non.{5}\n$", first, re.S)
    assert "holds no run" in refused("generate", f"--workdir={tmp_path}/none")


@pytest.fixture(scope="module")
def loaded():
    """The loader of `pretune generate`, once for all tests, so that they compile once as well."""
    return functools.cache(generate._load)


@pytest.fixture
def generating(pretune, refused, trained, loaded, monkeypatch):
    """`pretune generate` of nine tokens, and its refusal."""
    monkeypatch.setattr(generate, "_load", loaded)
    command = ["generate", f"--workdir={trained}", "--new_tokens=9"]

    def call(*argv):
        code, out, err = pretune(*command, *argv)
        assert code == 0, err
        return out

    return call, lambda *argv: refused(*command, *argv)


def test_generate_gives_the_same_texts_in_every_way(generating, tmp_path):
    run, _ = generating
    rows = lambda *argv: list(map(json.loads, run(*argv, "--json").splitlines()))  # noqa: E731
    prompts = ["the cat", "on a mat", "on"]
    (tmp_path / "p.txt").write_text("\n".join(prompts) + "\n")
    given, file = [f"--prompt={prompt}" for prompt in prompts], f"--prompts={tmp_path}/p.txt"
    first = run(*given, "--seed=3")
    assert run(file, "--seed=3") == first != run(file, "--seed=4")
    assert run(file, "--seed=3", "--batch_size=2") == run(file, "--seed=3", "--stream") == first
    assert [row["prompt"] for row in rows(file)] == prompts
    texts = [f"{row['prompt']}{row['text']}\n" for row in rows(file, "--seed=3")]
    assert first == "".join(texts)
    assert [row["sample"] for row in rows(file, "--num_samples=2")] == [0, 1] * 3
    assert run("--seed=3") == run("--prompt=\n", "--seed=3")  # characters: there is no end of text
    greedy = run("--prompt=the", "--temperature=0")
    assert greedy == run("--prompt=the", "--top_k=1", "--seed=9")
    best = rows(file, "--num_beams=3", "--num_samples=2", "--new_tokens=5")
    assert len({(row["prompt"], row["text"]) for row in best}) == 6


def test_a_text_without_a_prompt_begins_as_in_training():
    text = ["a cat sat"] * 9
    bpe = train_tokenizer("bpe", text, 270, lowercase=False)
    assert generate._start(bpe) == [bpe.eos_id]
    pieces = train_tokenizer("wordpiece", text, 40, lowercase=False)
    assert generate._start(pieces) == [pieces.sep_id]  # which ended its documents
    lines = train_tokenizer("char", ["a\nb"], 0, lowercase=False)
    assert generate._start(lines) == lines.encode("\n").tolist()
    with pytest.raises(UserError, match="no token that begins a text; give a --prompt"):
        generate._start(train_tokenizer("char", text, 0, lowercase=False))


def test_generate_up_to_a_stop(generating):
    run, _ = generating
    whole = run("--prompt=the", "--seed=5")[len("the") : -1]
    stop = whole[4:6]
    before = whole[: whole.index(stop)]
    for way in ("--stream", "--nostream"):
        assert (
            run("--prompt=the", "--seed=5", f"--stop={stop}", "--stop=???", way) == f"the{before}\n"
        )
    token = whole[4]
    short = run("--prompt=the", "--seed=5", f"--stop_token={token}")
    assert short == f"the{whole[: whole.index(token)]}\n"


def test_generate_streams(generating, monkeypatch):
    run, _ = generating
    shown = []
    monkeypatch.setattr("builtins.print", lambda *text, end="\n", **_: shown.append((*text, end)))
    run("--prompt=the", "--prompt=on", "--seed=5", "--stream")
    assert shown[0][0][:3] == "the"
    assert len(shown[0][0]) == 4  # the prompt and the first token
    assert [len(text) for text, _ in shown[1:9]] == [1] * 8
    assert [end for _, end in shown] == [""] * 8 + ["\n", "\n"]  # then all of the second text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--prompt=" + "the cat " * 4], "Prompt 1 has 32 tokens"),
        (["--prompt=the", "--prompt="], "Prompt 2 is empty"),
        (["--top_p=2"], "top_p"),
        (["--temperature=nan"], "temperature"),
        (["--num_beams=2", "--new_tokens=9", "--length_penalty=nan"], "length penalty is nan"),
        (["--seed=99999999999999999999"], "seed"),
        (["--num_beams=2", "--temperature=0.5"], "Beam search draws nothing"),
        (["--length_penalty=2"], "--length_penalty and --early_stopping are for beam search"),
        (["--early_stopping"], "--length_penalty and --early_stopping are for beam search"),
        (["--num_beams=2", "--new_tokens=99"], "leaves room for 15 new tokens"),
        (["--num_beams=2", "--num_samples=3"], "finds no 3 texts"),
        (["--temperature=0", "--num_samples=2"], "all samples of a prompt are the same"),
        (["--stop_token=</s>"], "'</s>' is no token"),
        (["--stop="], "no --stop may be empty"),
        (["--prompts={0}/none.txt"], "cannot be read"),
        (["--prompts={0}/empty.txt"], "holds no prompt"),
        (["--prompts={0}/latin.txt"], "cannot be read"),
        (["--prompts={0}/train.tsv", "--prompt=a"], "not both"),
        (["--new_tokens=0"], "one new token"),
        (["--repetition_penalty=0"], "repetition penalty is 0"),
        (["--prompt=\u00e9"], "not among"),
    ],
)
def test_generate_refuses(generating, inputs, flags, expected):
    _, refused = generating
    assert expected in refused(*[flag.format(inputs) for flag in flags])


def test_predictions_of_a_classifier(pretune, inputs):
    code, out, err = pretune(
        "train", BERT, *TINY, "--config.objective.name=classification",
        f"--config.data.source={inputs}/train.tsv", f"--config.data.eval_source={inputs}/train.tsv",
        "--config.tokenizer.vocab_size=60", "--config.evaluation.max_rows=0",
        f"--workdir={inputs}/w",
        "--config.evaluation.metric=eval/accuracy", "--config.evaluation.higher_is_better=True",
    )  # fmt: skip
    assert code == 0, err
    found = np.load(inputs / "w" / "predictions.npz")
    assert len(found["labels"]) == 40
    np.testing.assert_array_equal(found["correct"], found["labels"] == found["predictions"])
    assert f"eval/accuracy {found['correct'].mean():.4f}" in out
