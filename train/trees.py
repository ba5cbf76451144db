"""Nested dicts of parameters: parts of one, and one with parts replaced."""

from collections.abc import Callable
from typing import Any

Tree = dict[str, Any]


def pick(tree: Tree, chosen: Tree, test: Callable[[Any], Any] = bool) -> Tree:
    """The leaves of `tree` where `chosen`, a tree of the same form, passes the test.

    The others are not there at all, nor are dicts that would be empty: what is made for the result
    (gradients, moments, a checkpoint) exists for the chosen leaves only.
    """
    found = {}
    for key, value in tree.items():
        if not isinstance(value, dict):
            if test(chosen[key]):
                found[key] = value
        elif part := pick(value, chosen[key], test):
            found[key] = part
    return found


def replace(tree: Tree, part: Tree) -> Tree:
    """`tree` with the leaves of `part`, which has some of its paths, in their places."""
    return {
        key: replace(value, part.get(key, {})) if isinstance(value, dict) else part.get(key, value)
        for key, value in tree.items()
    }


def like(tree: Tree, part: Tree) -> Tree:
    """The leaves of `tree` at the paths of `part`."""
    return {
        key: like(tree[key], value) if isinstance(value, dict) else tree[key]
        for key, value in part.items()
    }
