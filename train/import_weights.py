"""``pretune import``: published weights to a folder that `init_from` and `generate` take.

pretune import --from=downloads/bert-base-uncased --to=runs/bert-base
pretune train --config=configs/finetune_classification.py --config.init_from=runs/bert-base ...
pretune import --from=downloads/lora --base=runs/bert-base --to=runs/bert-lora

--from is a folder with config.json, *.safetensors and the tokenizer's files, or the name of a model
on the Hugging Face hub. Pickled weights (.bin, .pt) are refused. With --base, a run, --from is a
LoRA adapter in PEFT's layout for the model of that run.
"""

import hashlib
import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from train.cli import command

WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model")


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("from", None, "folder, or name on the hub", flag_values=values)
    flags.DEFINE_string("to", None, "workdir to make", flag_values=values)
    flags.DEFINE_string("base", "", "run that an adapter belongs to", flag_values=values)
    for name in ("from", "to"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues) -> None:
    source, workdir = find(values["from"].value), pathlib.Path(values.to)
    if values.base:
        from train.import_adapter import import_adapter

        lines = import_adapter(source, pathlib.Path(values.base), workdir)
    else:
        lines = import_weights(source, workdir)
    for line in lines:
        print(line)


def find(source: str) -> pathlib.Path:
    """The folder itself, or the hub's model of that name, downloaded (weights as safetensors only).

    Raises:
      UserError: neither is there, or the hub cannot be reached.
    """
    from train.errors import UserError

    folder = pathlib.Path(source)
    if folder.exists():
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise UserError(f"--from={source} is no folder and no model's name on the hub.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"--from={source} is no folder; to fetch it from the hub, install huggingface_hub."
        ) from None
    try:
        return pathlib.Path(
            snapshot_download(source, allow_patterns=list(WANTED), ignore_patterns=["*/*"])
        )
    except Exception as error:  # the library raises its own, httpx's and the system's
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"--from={source} is no folder here and could not be fetched from the hub ({reason}); "
            "download the model elsewhere and give its folder."
        ) from error


def import_weights(source: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """Makes `workdir` from a published folder; all of it or nothing.

    Returns:
      Lines that say what was read, what was ignored and what starts fresh.

    Raises:
      ModelError, DataError, UserError: the folder cannot be used; each names what is wrong.
    """
    import jax.numpy as jnp

    from input_pipeline.tokenizer_backends import SP_FILE
    from input_pipeline.tokenizers import load_tokenizer
    from model.api import build
    from model.pretrained.describe import LAYOUTS, describe
    from model.pretrained.load import load
    from model.pretrained.mapping import parts
    from train.checkpoint import Checkpoints
    from train.errors import UserError
    from train.mesh import make_mesh, param_shardings
    from train.state import State
    from train.workdir import whole

    found = describe(source)
    config = _config(found)
    layout = LAYOUTS[found.family]
    tokenizer = load_tokenizer(source)
    if tokenizer.file_name == SP_FILE:  # other files hold all of their tokens
        tokenizer = tokenizer.with_sentinels(_sentinels(source, layout))
    if tokenizer.vocab_size > config.model.vocab_size:
        raise UserError(
            f"{source} has a tokenizer of {tokenizer.vocab_size} ids but a model of only "
            f"{config.model.vocab_size} (vocab_size in config.json); put the right one there."
        )
    model = build(config.model, found.heads)
    mesh = make_mesh({"data": 1, "fsdp": 1, "sequence": 1, "tensor": 1})
    places = param_shardings(model.axes, model.shapes, mesh, config.sharding)
    with whole(workdir) as partial:
        lacks = found.architecture.lacks
        got = load(source, layout, config.model, model, places, lacks)
        tokenizer.save(partial / "tokenizer")
        with Checkpoints(partial, keep=1) as checkpoints:
            checkpoints.save(0, State(jnp.zeros((), jnp.int32), got.params, {}, {}))
        record = {
            "imported": str(source),
            "architecture": found.architecture.name,
            "tokenizer": tokenizer.fingerprint,
            "labels": list(found.labels),
            "files": {path.name: _digest(path) for path in sorted(source.glob("*.safetensors"))},
        }
        (partial / "lineage.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        asked = config.to_json(indent=1, sort_keys=True)
        (partial / "config.json").write_text(asked, encoding="utf-8")
    lines = [f"{found.architecture.name}, {model.num_params:,} parameters, to {workdir}"]
    if got.ignored:
        lines.append(f"ignored: {', '.join(got.ignored)}")
    if got.fresh:
        lines.append(f"not in the file, initialised anew: {parts(got.fresh)}")
    return lines


def _config(found: Any) -> Any:
    """The config that a run which made these weights would have left."""
    from configs import base

    config = base.get_config()
    config.model.family = found.family
    for key, value in found.model.items():
        config.model[key] = value
    config.objective.name = found.architecture.objective
    config.data.labels = found.labels
    config.length = config.model.max_length  # 512 for families without a position table
    return base.lock(config)


def _sentinels(source: pathlib.Path, layout: Any) -> int:
    """How many sentinels the published tokenizer adds to its SentencePiece model."""
    from model.pretrained.files import read_json
    from model.pretrained.mapping import Published

    path = source / "tokenizer_config.json"
    settings = Published(str(path), read_json(path) if path.exists() else {})
    return int(settings.number("extra_ids", layout.sentinels))


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
