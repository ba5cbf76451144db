"""``pretune export``: a trained model to a folder that transformers loads.

pretune export --workdir=runs/bert --to=exports/bert
pretune export --workdir=runs/lora --to=exports/lora --adapter

Writes the best checkpoint (else the newest): float32 safetensors, config.json, the tokenizer. LoRA
is merged into the weights; with --adapter it is written by itself, with the head, as PEFT loads it
on the exported model that the run started from.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from train.cli import command

NO_LIMIT = int(1e30)  # as transformers writes it


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("workdir", None, "folder of the trained run", flag_values=values)
    flags.DEFINE_string("to", None, "folder to make", flag_values=values)
    flags.DEFINE_integer(
        "shard_bytes", 5_000_000_000, "size of a weights file at most", flag_values=values
    )
    flags.DEFINE_bool("adapter", False, "write the run's LoRA for PEFT", flag_values=values)
    for name in ("workdir", "to"):
        flags.mark_flag_as_required(name, flag_values=values)


def _run(values: flags.FlagValues) -> None:
    workdir, folder = pathlib.Path(values.workdir), pathlib.Path(values.to)
    if values.adapter:
        lines = export_adapter(workdir, folder)
    else:
        lines = export_weights(workdir, folder, values.shard_bytes)
    for line in lines:
        print(line)


def export_weights(
    workdir: pathlib.Path, folder: pathlib.Path, shard_bytes: int = 5_000_000_000
) -> list[str]:
    """Makes `folder` from a run; all of it or nothing.

    Returns:
      Lines that say what was written and what was left out.

    Raises:
      UserError, ModelError: no such run, or one without a published counterpart.
    """
    from input_pipeline.tokenizer_export import export_tokenizer
    from model.api import family_config
    from model.pretrained.describe import LAYOUTS
    from model.pretrained.mapping import parts
    from model.pretrained.save import save
    from train.errors import UserError
    from train.restore import load_model
    from train.workdir import whole

    config, tokenizer, architecture, heads, classes = _read(workdir)
    if config.adapters.bottleneck:
        raise UserError(
            f"{workdir} has bottleneck adapters, which no published class has; export a run "
            "without them."
        )
    layout = LAYOUTS[config.model.family]
    model, params = load_model(workdir, config, heads)
    longest = getattr(family_config(config.model), "max_length", NO_LIMIT)  # of position tables
    with whole(folder) as partial:
        extra = {**layout.special_tokens(tokenizer), **_labels(workdir, classes)}
        left_out = save(
            partial, layout, config.model, params, architecture, extra, max_bytes=shard_bytes
        )
        export_tokenizer(
            tokenizer, partial, longest, layout.framed,
            second_type=int(config.model.num_token_types > 1), model_type=layout.model_type,
        )  # fmt: skip
    lines = [f"{architecture.name}, {model.num_params:,} parameters, to {folder}"]
    if left_out:
        lines.append(f"left out, {architecture.name} has no such part: {parts(left_out)}")
    return lines


def export_adapter(workdir: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Makes `folder` from a run's LoRA and head, in PEFT's layout; all of it or nothing.

    Returns, raises: as `export_weights`.
    """
    from model.adapters import from_config
    from model.pretrained import peft
    from model.pretrained.describe import LAYOUTS
    from model.pretrained.mapping import flatten, parts
    from train.checkpoint import best_folder
    from train.errors import UserError
    from train.optimizer import make_optimizer
    from train.restore import load_adapted
    from train.workdir import whole

    config, _, architecture, heads, _ = _read(workdir)
    spec = from_config(config.adapters)
    if not spec.lora_rank or spec.bottleneck:
        raise UserError(
            f"{workdir} has no LoRA, or bottleneck adapters beside it, which PEFT does not know; "
            "export a run of which config.adapters has lora_rank alone."
        )
    model, params = load_adapted(workdir, config, heads)
    trained = flatten(make_optimizer(config.optimizer, model).trained(model.shapes))
    beside = [path for path in trained if not path.startswith(("adapters/", "head/"))]
    # At step 0 is what was imported: nothing of it was trained here.
    if beside and int(best_folder(workdir).name):
        raise UserError(
            f"{workdir} also trained {parts(beside)}, which an adapter's files do not hold; export "
            "it without --adapter, or train LoRA and the heads alone (regime=lora)."
        )
    layout = LAYOUTS[config.model.family]
    with whole(folder) as partial:
        count = peft.save(
            partial, layout, config.model, params, spec, architecture, config.init_from
        )
    return [f"LoRA of rank {spec.lora_rank} on {count} published maps, for PEFT, to {folder}"]


def _read(workdir: pathlib.Path) -> tuple[Any, Any, Any, Any, int]:
    """A run's config, tokenizer, published class, heads and number of classes."""
    from input_pipeline.tokenizers import load_tokenizer
    from model.pretrained.describe import LAYOUTS, architecture_of, heads_of
    from train import objectives
    from train.checkpoint import best_folder, stored
    from train.errors import UserError
    from train.workdir import read_config

    config = read_config(workdir)
    tokenizer = load_tokenizer(workdir / "tokenizer")
    config.model.vocab_size = config.model.vocab_size or tokenizer.vocab_size
    head = stored(best_folder(workdir)).get("head", {})
    if "classification" in head and config.objective.pooling != "own":
        raise UserError(
            f"{workdir} classifies the {config.objective.pooling} of all tokens, which no "
            "published class does; train with config.objective.pooling='own' to export."
        )
    # A head without parameters of its own (tied weights) leaves no trace but the objective.
    known = config.objective.name in objectives.NAMES
    predicts = known and bool(objectives.load(config).predicts)
    names = tuple(head) or (("lm",) if predicts else ())
    classes = _classes(head)
    attention = config.model.attention_type
    architecture = architecture_of(LAYOUTS[config.model.family], names, attention)
    return config, tokenizer, architecture, heads_of(names, classes), classes


def _classes(head: dict[str, Any]) -> int:
    """The classifier's number of classes, from the shape of its last layer; 0 without one."""
    for name in ("classification", "token_classification"):
        if name in head:
            return head[name].get("linear", head[name])["kernel"].shape[-1]
    return 0


def _labels(workdir: pathlib.Path, classes: int) -> dict[str, Any]:
    """The classes' names, where the run knows them."""
    if not classes:
        return {}
    path = workdir / "lineage.json"
    names = json.loads(path.read_text(encoding="utf-8"))["labels"] if path.exists() else []
    if len(names) != classes:
        names = [f"LABEL_{i}" for i in range(classes)]
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
