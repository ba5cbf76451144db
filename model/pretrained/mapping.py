"""How a published checkpoint is laid out: one `Layout` a family, which serves both directions.

A parameter of ours is made of one or several published tensors (`Entry`), by a `Transform` that
knows the published shapes, joins tensors into our array, and splits our array into tensors.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from model.errors import ModelError

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """Between an array of ours and published tensors.

    Attributes:
      shapes: our shape -> the shape of each tensor.
      join: (tensors, our shape) -> our array.
      split: our array -> tensors (views; not always contiguous).
    """

    shapes: Callable[[Shape], list[Shape]]
    join: Callable[[list[np.ndarray], Shape], np.ndarray]
    split: Callable[[np.ndarray], list[np.ndarray]]


def same() -> Transform:
    """One tensor of our shape."""
    return Transform(lambda shape: [shape], lambda parts, _: parts[0], lambda x: [x])


def flat(inputs: int = 0) -> Transform:
    """One tensor with our numbers in our order: [I, O], or [O] for no inputs (a bias)."""

    def shapes(shape: Shape) -> list[Shape]:
        sizes = (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
        return [sizes if inputs else sizes[1:]]

    return Transform(
        shapes,
        lambda parts, shape: parts[0].reshape(shape),
        lambda x: [x.reshape(shapes(x.shape)[0])],
    )


def linear(inputs: int = 1, parts: int = 1) -> Transform:
    """Kernel [*I, *O] from weights [O / parts, I] as torch keeps them, fused along the outputs."""

    def sizes(shape: Shape) -> tuple[int, int]:
        return math.prod(shape[:inputs]), math.prod(shape[inputs:]) // parts

    def join(tensors: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.stack([tensor.T for tensor in tensors], axis=1).reshape(shape)

    def split(x: np.ndarray) -> list[np.ndarray]:
        rows, columns = sizes(x.shape)
        x = x.reshape(rows, parts, columns)
        return [x[:, i].T for i in range(parts)]

    return Transform(lambda shape: [sizes(shape)[::-1]] * parts, join, split)


def biases(parts: int) -> Transform:
    """Bias [*O] from `parts` biases [O / parts], fused."""
    return Transform(
        lambda shape: [(math.prod(shape) // parts,)] * parts,
        lambda tensors, shape: np.concatenate(tensors).reshape(shape),
        lambda x: list(x.reshape(parts, -1)),
    )


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter.

    Attributes:
      ours: its path, e.g. "backbone/layer_0/attention/query_key_value/kernel".
      theirs: names of the tensors that it is made of.
      transform: how.
      optional: a file may lack it; it then starts fresh.
    """

    ours: str
    theirs: tuple[str, ...]
    transform: Transform
    optional: bool = False


def dense(ours: str, theirs: str) -> list[Entry]:
    """A linear map with its bias, kept by torch as [O, I]."""
    return [
        Entry(f"{ours}/kernel", (f"{theirs}.weight",), linear()),
        Entry(f"{ours}/bias", (f"{theirs}.bias",), same()),
    ]


def norm(ours: str, theirs: str) -> list[Entry]:
    """A layer norm."""
    return [
        Entry(f"{ours}/scale", (f"{theirs}.weight",), same()),
        Entry(f"{ours}/bias", (f"{theirs}.bias",), same()),
    ]


def table(ours: str, theirs: str) -> Entry:
    """An embedding table."""
    return Entry(f"{ours}/table", (f"{theirs}.weight",), same())


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A published class on one backbone.

    Attributes:
      name: as in "architectures" of config.json.
      heads: the parts of ``params["head"]`` that it has; for a head without parameters, its name.
      objective: what of ours trains such heads; "": none.
      lacks: pattern of our paths that this class does not have; read, they start fresh.
      read_only: it is not written: it has weights that our model does not have, or an older name.
      prefix: what precedes the backbone's names in this class alone.
      attention: values of ``config.model.attention_type`` with which it computes what ours does.
    """

    name: str
    heads: tuple[str, ...]
    objective: str
    lacks: str = "^$"
    read_only: bool = False
    prefix: str = ""
    attention: tuple[str, ...] = ("bi", "uni")


@dataclasses.dataclass(frozen=True)
class Layout:
    """All that is known about the published checkpoints of a family.

    Attributes:
      model_type: as in config.json.
      architectures: the classes that can be read and, but for those `read_only`, written.
      prefix: what precedes the backbone's names; a bare backbone's file lacks it.
      entries: ``config.model -> [Entry]``, with the prefix, for every head that exists.
      to_model: config.json (through `Published`) -> values of config.model.
      to_published: config.model -> values of config.json.
      special_tokens: tokenizer -> the ids that config.json names.
      framed: its texts stand between [CLS] and [SEP].
      sentinels: how many the published tokenizer adds to its SentencePiece model, unless its
        tokenizer_config.json says otherwise.
      ignored: pattern of names that hold no weights (buffers).
      copies: pattern -> name of the tensor that the matching ones must equal (tied weights), where
        they are no parameter by themselves.
      renamed: (pattern, replacement) pairs: older spellings of names.
      inputs_first: weights of linear maps are kept as [inputs, outputs], as PEFT wants to know.
    """

    model_type: str
    architectures: tuple[Architecture, ...]
    prefix: str
    entries: Callable[[Any], list[Entry]]
    to_model: Callable[["Published"], dict[str, Any]]
    to_published: Callable[[Any], dict[str, Any]]
    special_tokens: Callable[[Any], dict[str, Any]]
    framed: bool = False
    sentinels: int = 0
    ignored: str = "^$"
    copies: tuple[tuple[str, str], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    inputs_first: bool = False

    def canonical(self, name: str, known: set[str]) -> str:
        """The name as `entries` spells it."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        own = name in known or name.startswith(self.prefix)
        with_prefix = self.prefix + name
        is_ours = with_prefix in known or re.search(self.ignored, with_prefix)
        return with_prefix if not own and is_ours else name


def published_names(entry: Entry, layout: Layout, architecture: Architecture) -> list[str]:
    """The names of an entry's tensors in one published class."""
    before = architecture.prefix if entry.ours.startswith("backbone/") else ""
    left = "" if architecture.heads else layout.prefix
    return [before + name.removeprefix(left) for name in entry.theirs]


def flatten(tree: Any) -> dict[str, Any]:
    """Nested parameters by their path, "backbone/norm/scale", in the tree's order."""
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")  # noqa: E731
    return {name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def used_entries(layout: Layout, config: Any, paths: Iterable[str]) -> list[Entry]:
    """The entries of a model's parameters, in their order; every parameter has one."""
    wanted = list(paths)
    by_path = {e.ours: e for e in layout.entries(config) if e.ours in set(wanted)}
    return [by_path[path] for path in wanted]


def parts(paths: Iterable[str]) -> str:
    """Which parts of the model these parameters are of, e.g. "backbone/pooler"."""
    return ", ".join(dict.fromkeys("/".join(path.split("/")[:2]) for path in paths))


class Published:
    """A config.json that complains in sentences."""

    def __init__(self, where: str, values: dict[str, Any]):
        """`where` names the file in errors."""
        self.where, self.values = where, values

    def size(self, key: str, absent: int | None = None) -> int:
        """A positive integer; `absent` where that, null or nothing stands there, if it may."""
        value = self.values.get(key)
        if absent is not None and value in (None, absent):
            return absent
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{self.where} has {key} = {value!r}; a positive integer is wanted.")
        return value

    def choice(self, key: str, default: str, table: dict[str, str]) -> str:
        """Our word for one of theirs."""
        value = self.values.get(key, default)
        if value not in table:
            raise ModelError(
                f"{self.where} has {key} = {value!r}, which Pretune does not have; it must be one "
                f"of {', '.join(sorted(table))}."
            )
        return table[value]

    def number(self, key: str, default: float) -> float:
        """A float, or what the published code takes where it is absent."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{self.where} has {key} = {value!r}; a number is wanted.")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false, or what the published code takes where it is absent."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.where} has {key} = {value!r}; true or false is wanted.")
        return value

    def require(self, **fixed: Any) -> None:
        """ModelError where a key is there with another value: the model would be another one."""
        for key, value in fixed.items():
            if self.values.get(key, value) != value:
                raise ModelError(
                    f"{self.where} has {key} = {self.values[key]!r}; only {value!r} can be "
                    "imported, because Pretune's model computes that."
                )


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def published_activation(name: str, table: dict[str, str] = ACTIVATIONS) -> str:
    """Their first word for an activation of ours; ModelError where they have none."""
    for theirs, ours in table.items():
        if ours == name:
            return theirs
    raise ModelError(
        f"config.model.activation {name!r} has no published counterpart; only a model with one of "
        f"{', '.join(sorted(set(table.values())))} can be exported."
    )
