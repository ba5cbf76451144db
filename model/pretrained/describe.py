"""What a published folder says about itself, and the layouts of all families."""

import dataclasses
import pathlib
from typing import Any

from model.errors import ModelError
from model.heads import Heads
from model.pretrained import bert, files, gpt, roberta, t5, xlnet
from model.pretrained.mapping import Architecture, Layout, Published

LAYOUTS: dict[str, Layout] = {
    "gpt": gpt.LAYOUT,
    "bert": bert.LAYOUT,
    "roberta": roberta.LAYOUT,
    "xlnet": xlnet.LAYOUT,
    "t5": t5.LAYOUT,
}


@dataclasses.dataclass(frozen=True)
class Description:
    """What a published folder says about itself.

    Attributes:
      family: of ours.
      architecture: its class.
      model: values of config.model.
      heads: on its backbone.
      labels: names of the classes, in order; empty without.
    """

    family: str
    architecture: Architecture
    model: dict[str, Any]
    heads: Heads
    labels: tuple[str, ...]


def describe(folder: pathlib.Path) -> Description:
    """Reads config.json; ModelError for a model that Pretune does not have."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder; give one with config.json and the weights.")
    values = files.read_json(path)
    theirs = Published(str(path), values)
    family = {layout.model_type: name for name, layout in LAYOUTS.items()}.get(
        values.get("model_type", "")
    )
    if family is None:
        known = ", ".join(sorted(layout.model_type for layout in LAYOUTS.values()))
        raise ModelError(
            f"{path} has model_type {values.get('model_type')!r}; Pretune has {known}."
        )
    layout = LAYOUTS[family]
    name = (values.get("architectures") or [None])[0]
    named = {architecture.name: architecture for architecture in layout.architectures}
    if name not in named:
        raise ModelError(
            f"{path} has the architecture {name!r}; of family {family!r} Pretune has "
            f"{', '.join(named)}."
        )
    model = layout.to_model(theirs)
    attention = model.get("attention_type", "bi")
    if attention not in named[name].attention:
        raise ModelError(
            f"{path} has the architecture {name!r} with is_decoder = {attention == 'uni'}; only "
            f"{attention != 'uni'} can be imported, because Pretune's model computes that."
        )
    labels = ()
    if {"classification", "token_classification"} & set(named[name].heads):
        labels = _labels(values)
    return Description(
        family,
        named[name],
        model,
        heads_of(named[name].heads, len(labels)),
        labels,
    )


def _labels(values: dict[str, Any]) -> tuple[str, ...]:
    """The classes by id; without names, transformers has two."""
    table = values.get("id2label") or dict.fromkeys(range(values.get("num_labels", 2)))
    table = {int(number): text for number, text in table.items()}
    return tuple(str(table[i] or f"LABEL_{i}") for i in sorted(table))


def heads_of(names: tuple[str, ...], classes: int) -> Heads:
    """The Heads with these parts; `classes` of a classifier."""
    return Heads(
        lm="lm" in names,
        next_sentence="next_sentence" in names,
        num_labels=classes if "classification" in names else 0,
        span="span" in names,
        num_token_labels=classes if "token_classification" in names else 0,
    )


def architecture_of(layout: Layout, heads: tuple[str, ...], attention: str = "bi") -> Architecture:
    """The published class with these heads and `attention_type`; ModelError if there is none."""
    for architecture in layout.architectures:
        fits = set(architecture.heads) == set(heads) and attention in architecture.attention
        if fits and not architecture.read_only:
            return architecture
    have = f"the heads {', '.join(heads)}" if heads else "no head"
    seen = " and attention to earlier tokens only" if attention == "uni" else ""
    raise ModelError(
        f"There is no published class of {layout.model_type} with {have}{seen} whose weights are "
        "all ours; export a run of an objective with one of the usual heads."
    )
