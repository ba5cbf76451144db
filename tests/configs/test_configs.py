"""Every config file loads, is locked, and uses only keys that exist; every key has a use."""

import ast
import importlib.util
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs import base, bert, finetune_classification, gpt, novels, regimes, roberta, t5
from configs.base import ConfigError

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASES = [ROOT / "configs" / name for name in ("base.py", "studies/base.py", "regimes.py")]
FILES = sorted(
    p
    for p in (ROOT / "configs").rglob("*.py")
    if p not in BASES and "def get_config(" in p.read_text()
)
ARGUMENTS = {
    "bert": [f"size={size}" for size in bert.SIZES] + ["size=mini,objective=masked_lm_nsp"],
    "finetune_classification": [f"regime={name}" for name in regimes.REGIMES],
    "gpt": [f"size={size}" for size in gpt.SIZES],
    "novels": [f"family={name},stage={s}" for name in novels.FAMILIES for s in ("short", "long")],
    "families": [f"family={name}" for name in novels.FAMILIES],
    "roberta": [f"size={size}" for size in roberta.SIZES] + ["size=mini,packing=doc"],
    "t5": [f"size={size},version={version}" for version in t5.SIZES for size in t5.SIZES[version]],
}


def load(path, arg=""):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg) if arg else module.get_config()


def keys(config, prefix=""):
    found = set()
    for name, value in config.items():
        found.add(prefix + name)
        if isinstance(value, ConfigDict):
            found |= keys(value, f"{prefix}{name}.")
    return {name for name in found if not name.startswith("optimizer.groups.")}  # free names


CASES = [(path, arg) for path in FILES for arg in ["", *ARGUMENTS.get(path.stem, [])]]
IDS = [f"{path.relative_to(ROOT / 'configs')}:{arg}" for path, arg in CASES]


@pytest.mark.parametrize(("path", "arg"), CASES, ids=IDS)
def test_loads_and_is_locked(path, arg):
    config = load(path, arg)
    assert config.is_locked
    with pytest.raises((AttributeError, KeyError)):
        config.learning_rat = 1.0
    if "studies" not in path.parts:
        assert keys(config) == keys(base.get_config())
        with pytest.raises(TypeError):
            config.optimizer.learning_rate = "fast"


@pytest.mark.parametrize(
    ("module", "arg", "words"),
    [
        (bert, "size=tinny", "no BERT size 'tinny' (did you mean 'tiny'?)"),
        (gpt, "size=smal", "no GPT size 'smal' (did you mean 'small'?)"),
        (roberta, "packing=ful", "no RoBERTa packing 'ful' (did you mean 'full'?)"),
        (t5, "size=smal", "no T5 size 'smal' (did you mean 'small'?)"),
        (t5, "version=1.2", "no T5 version '1.2' (did you mean '1.1'?)"),
        (finetune_classification, "regime=lorra", "no regime 'lorra' (did you mean 'lora'?)"),
        (finetune_classification, "layers=two", "layers is 'two'; it must be a number"),
        (gpt, "sise=small", "no config argument 'sise' (did you mean 'size'?)"),
    ],
)
def test_unknown_arguments_name_the_nearest(module, arg, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        module.get_config(arg)


def chains(path):
    """Every ``config.a.b`` (or ``c.a.b``) read in a file, as "a.b"."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if parts and isinstance(inner, ast.Name) and inner.id == "config":
            yield ".".join(reversed(parts))
        elif (
            parts
            and isinstance(inner, ast.Name)
            and "config" in (own := parts[::-1])
            and inner.id in ("self", "values", "setup", "timer")
        ):
            yield ".".join(own[own.index("config") + 1 :])


def test_every_key_that_the_loop_reads_exists():
    known = keys(base.get_config())
    sections = {key for key in known if any(other.startswith(key + ".") for other in known)}
    files = ["loop", "setup", "program", "benchmark", "generate", "objectives/__init__"]
    checked = set()
    for name in files:
        for chain in chains(ROOT / "train" / f"{name}.py"):
            first, _, second = chain.partition(".")
            if first in sections and second:
                key = ".".join(chain.split(".")[:2])
                assert key in known, f"train/{name}.py reads config.{key}"
                checked.add(key)
            elif first in known:
                checked.add(first)
    assert len(checked) > 20  # the test reads something


def test_every_key_has_a_use():
    code = "\n".join(
        path.read_text()
        for room in ("model", "train", "input_pipeline")
        for path in (ROOT / room).rglob("*.py")
    )
    known = keys(base.get_config())
    for key in known:
        if key.startswith("mesh."):
            continue
        name = key.split(".")[-1]
        assert re.search(rf"\b{name}\b", code), key


def test_every_key_has_a_comment_or_speaks_for_itself():
    lines = (ROOT / "configs" / "base.py").read_text().splitlines()
    given = [line for line in lines if re.match(r"    c\.\w+(\.\w+)? = (?!ConfigDict\(\)$)", line)]
    bare = [line.split(" = ")[0].split(".")[-1] for line in given if "#" not in line]
    assert len(given) > 50
    assert len(bare) < len(given) / 4, bare
