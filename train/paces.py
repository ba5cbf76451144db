"""Which parameters train, how fast and from which step on: the rule list of the config.

A pattern is searched in a parameter's path (``backbone/layer_3/mlp/up/kernel``) and in its path
from the top, in which the number of a layer counts from the last one (``backbone/layer_-1/...``)
and parts between the last layer and the heads are in ``layer_-0``. A pattern after ``!`` is one
that must be found in neither.
"""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any

import jax

from configs.base import choose
from model.api import Model
from model.depth import LAYER
from train.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pace:
    """How one parameter trains.

    Attributes:
      rate: factor on the learning rate; 0: it is frozen.
      decay: factor on the weight decay.
      start: the first step (counted from 0) in which it learns; before, it is held.
    """

    rate: float
    decay: float
    start: int = 0


def paths(model: Model) -> Any:
    """The tree of parameters with (path, path from the top) for each."""

    def both(path: Any, depth: int) -> tuple[str, str]:
        parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        counted = [f"layer_-{depth}" if LAYER.match(part) else part for part in parts]
        if counted == parts and parts[0] == "backbone" and depth == 0:
            counted.insert(-2, "layer_-0")
        return "/".join(parts), "/".join(counted)

    return jax.tree.map_with_path(both, model.depths)


def is_path(leaf: Any) -> bool:
    """Whether a node of `paths` is a leaf."""
    return isinstance(leaf, tuple)


def found(pattern: str, names: Sequence[str]) -> bool:
    """Whether a pattern is found in one of a parameter's names, or after ``!`` in none of them."""
    try:
        hit = any(re.search(pattern.removeprefix("!"), name) for name in names)
    except re.error as error:
        raise UserError(
            f"The pattern {pattern!r} is no regular expression ({error}); correct it."
        ) from None
    return hit != pattern.startswith("!")


def unknown(key: str, pattern: str, names: Sequence[str]) -> UserError:
    """The error of a pattern that matches none of these paths, with the nearest ones."""
    words = re.sub(r"\\.|[^\w/-]+", " ", pattern).strip()
    near = difflib.get_close_matches(words, names, 3, cutoff=0.0)
    return UserError(
        f"The pattern {pattern!r} of {key} matches no parameter; the nearest are "
        f"{', '.join(near)}; correct it or take it out."
    )


def matching(key: str, patterns: Sequence[str], model: Model) -> Any:
    """The tree of parameters with True where one of the patterns matches.

    Raises:
      UserError: a pattern that matches no parameter; `key` is where it stands in the config.
    """
    tree = paths(model)
    every = jax.tree.leaves(tree, is_leaf=is_path)
    for pattern in patterns:
        if not any(found(pattern, names) for names in every):
            raise unknown(key, pattern, [name for name, _ in every])
    chosen = lambda names: any(found(pattern, names) for pattern in patterns)  # noqa: E731
    return jax.tree.map(chosen, tree, is_leaf=is_path)


def assign(config: Any, model: Model) -> Any:
    """The tree of parameters with each one's Pace, by the first rule that matches.

    Args:
      config: ``config.optimizer``.
      model: whose parameters they are.

    Raises:
      UserError: a parameter that no rule matches, or a rule that decides nothing.
    """
    key, rules, groups = "config.optimizer.rules", config.rules, dict(config.groups)
    _check(config)
    tree = paths(model)
    every = jax.tree.leaves(tree, is_leaf=is_path)
    for pattern, group in rules:
        choose("parameter group (config.optimizer.groups)", group, groups)
        if not any(found(pattern, names) for names in every):
            raise unknown(key, pattern, [name for name, _ in every])
    decides = set()

    def pace(names: tuple[str, str], depth: int) -> Pace:
        matches = [i for i, (pattern, _) in enumerate(rules) if found(pattern, names)]
        if not matches:
            raise UserError(
                f"No pattern of {key} matches the parameter {names[0]}; "
                "end the list with ('', GROUP)."
            )
        rate, decay, *start = groups[rules[matches[0]][1]]
        # What else a rule would say about a frozen parameter does not matter.
        decides.update(matches if rate == 0 else matches[:1])
        start = start[0] if start else config.unfreeze_every * depth
        return Pace(rate * config.layer_decay**depth, decay, start if rate else 0)

    result = jax.tree.map(pace, tree, model.depths, is_leaf=is_path)
    for index, (pattern, _) in enumerate(rules):
        if index not in decides:
            raise UserError(
                f"The pattern {pattern!r} of {key} decides for no parameter: earlier patterns "
                "match all of its; move it up or take it out."
            )
    if not any(pace.rate for pace in jax.tree.leaves(result)):
        raise UserError(f"{key} freezes every parameter; leave one to train.")
    return result


def _check(config: Any) -> None:
    if config.layer_decay <= 0 or config.unfreeze_every < 0:
        raise UserError(
            f"config.optimizer.layer_decay is {config.layer_decay} and unfreeze_every "
            f"{config.unfreeze_every}; the first must be positive, the second 0 (off) or more."
        )
    for rule in config.rules:
        if not isinstance(rule, list | tuple) or [type(part) for part in rule] != [str, str]:
            raise UserError(
                f"config.optimizer.rules has {rule!r:.60}, which is no (PATTERN, GROUP) pair; a "
                "list of one pair is written (('bias', 'no_decay'),)."
            )
    for name, numbers in config.groups.items():
        known = isinstance(numbers, list | tuple) and all(
            isinstance(number, int | float) for number in numbers
        )
        if not known or len(numbers) not in (2, 3) or min(numbers) < 0:
            raise UserError(
                f"config.optimizer.groups.{name} is {numbers!r:.60}; it must be two numbers of 0 "
                "or more, (learning rate factor, weight decay factor), or three, with the first "
                "step in which it learns."
            )
