"""A LoRA adapter of PEFT's and the run that it belongs to, as a run of its own."""

import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.tokenizers import load_tokenizer
from model.api import build
from model.errors import ModelError
from model.heads import Heads
from model.pretrained import peft
from model.pretrained.describe import LAYOUTS, heads_of
from model.pretrained.mapping import Layout, flatten, used_entries
from train import objectives
from train.checkpoint import Checkpoints
from train.errors import UserError
from train.restore import load_model
from train.state import State
from train.workdir import read_config, whole

HEADS = {"TOKEN_CLS": "token_classification", "QUESTION_ANS": "span"}  # by PEFT's task_type
OBJECTIVES = {
    "classification": "classification",
    "token_classification": "token_classification",
    "span": "extractive_qa",
}


def import_adapter(source: pathlib.Path, base: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """Makes `workdir` from a folder of PEFT's and a run; all of it or nothing.

    The backbone and the tokenizer are the base's; a head that was saved with the adapter takes the
    place of the base's.

    Returns:
      A line that says what was read.

    Raises:
      ModelError, UserError: the adapter does not fit the model of the base.
    """
    config = read_config(base)
    tokenizer = load_tokenizer(base / "tokenizer")
    config.model.vocab_size = config.model.vocab_size or tokenizer.vocab_size
    if config.adapters.bottleneck:
        raise UserError(
            f"{base} has bottleneck adapters, which PEFT's model has not; give the run that it "
            "began from."
        )
    layout = LAYOUTS[config.model.family]
    found = peft.load(source, layout, config.model)
    heads = Heads()
    if config.objective.name in objectives.NAMES:
        heads = objectives.build(config, 0).head()
    _, params = load_model(base, config, heads)
    spec = found.spec
    config.adapters.lora_rank, config.adapters.lora_alpha = spec.lora_rank, spec.lora_alpha
    config.adapters.lora_dropout = spec.lora_dropout
    config.adapters.lora_targets, config.adapters.bottleneck = spec.lora_targets, 0
    config.init_from, config.tokenizer.path = "", ""
    head = params["head"]
    if found.others:
        name, classes = _head(found, layout, config)
        config.objective.name = OBJECTIVES.get(name, config.objective.name)
        heads = heads_of((name,), classes)
    model = build(config.model, heads, spec)
    if found.others:
        head = _tensors(found, layout, config, model.shapes["head"])
    try:
        own = found.tree(model.shapes["adapters"])
    except ValueError as error:
        raise ModelError(
            f"{source} does not fit the sizes of {base} ({error}); give the run of the model that "
            "it was trained on."
        ) from None
    parts = {"backbone": params["backbone"], "head": head, "adapters": own}
    state = State(jnp.zeros((), jnp.int32), jax.tree.map(jnp.asarray, parts), {}, {})
    with whole(workdir) as partial:
        shutil.copytree(base / "tokenizer", partial / "tokenizer")
        with Checkpoints(partial, keep=1) as checkpoints:
            checkpoints.save(0, state)
        record = {"imported": str(source), "base": str(base), "labels": []}
        (partial / "lineage.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        asked = config.to_json(indent=1, sort_keys=True)
        (partial / "config.json").write_text(asked, encoding="utf-8")
    return [
        f"LoRA of rank {spec.lora_rank} on {', '.join(spec.lora_targets)}, and {base}, to {workdir}"
    ]


def _head(found: peft.Adapter, layout: Layout, config: Any) -> tuple[str, int]:
    """Which head the adapter brings, and its number of classes; ModelError if it is none."""
    heads: dict[str, list[str]] = {}
    for entry in layout.entries(config.model):
        room, name, *_ = entry.ours.split("/")
        if room == "head":
            heads.setdefault(name, []).extend(entry.theirs)
    fit = [name for name, theirs in heads.items() if set(theirs) == found.others.keys()]
    if not fit:
        raise ModelError(
            f"The adapter brings {', '.join(sorted(found.others)[:4])}, which is no head of "
            f"{config.model.family}; only adapters with one of the usual heads can be imported."
        )
    name = HEADS.get(found.task, fit[0])
    name = name if name in fit else fit[0]
    return name, len(found.others[heads[name][-1]])


def _tensors(found: peft.Adapter, layout: Layout, config: Any, shapes: Any) -> Any:
    """The head's parameters from the adapter's tensors."""
    leaves = flatten({"head": shapes})
    arrays = {
        entry.ours: entry.transform.join(
            [np.float32(found.others[name]) for name in entry.theirs], leaves[entry.ours].shape
        )
        for entry in used_entries(layout, config.model, leaves)
    }
    return jax.tree.unflatten(jax.tree.structure(shapes), [arrays[path] for path in leaves])
