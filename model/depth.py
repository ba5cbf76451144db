"""How far below a model's output each parameter lies: what layer-wise rates and freezing go by."""

import re
from typing import Any

LAYER = re.compile(r"layer_(\d+)$")


def layers(tree: dict[str, Any]) -> int:
    """How many of the keys are a stack's layers, ``layer_0`` to ``layer_{n - 1}``."""
    return sum(bool(LAYER.match(key)) for key in tree)


def depths(shapes: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
    """The tree of parameters with a depth for each.

    The heads are at depth 0, the layers of a stack at 1 (its last one) to L (its first one); an
    encoder and a decoder are counted in parallel. What feeds the layers, such as embeddings, is at
    L + 1 of the deepest stack.

    Args:
      shapes: ``{"backbone": ..., "head": ...}``, and where there are some, "adapters".
      above: parts of a backbone (or of its stacks) that lie between its last layer and the heads:
        at depth 0.
    """
    backbone = shapes["backbone"]
    stacks = [part for part in backbone.values() if isinstance(part, dict)]
    deepest = max(map(layers, [backbone, *stacks])) + 1

    def within(tree: Any, like: Any, below: int) -> Any:
        """`like` is the backbone's subtree at this place, which has all layers."""
        if not isinstance(tree, dict):
            return below
        count, found = layers(like), {}
        for key, part in tree.items():
            own = below if not count or key not in above else 0
            if layer := LAYER.match(key):
                own = count - int(layer[1])
            found[key] = within(part, like.get(key, {}), own)
        return found

    trees = {"backbone": backbone, "adapters": shapes.get("adapters", {})}
    found = {name: within(tree, backbone, deepest) for name, tree in trees.items()}
    found["head"] = _constant(shapes["head"], 0)
    return {name: found[name] for name in shapes}


def _constant(tree: Any, value: int) -> Any:
    """The tree with `value` in place of each leaf."""
    if not isinstance(tree, dict):
        return value
    return {key: _constant(part, value) for key, part in tree.items()}
