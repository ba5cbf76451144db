"""How many labelled examples are longer than their row, so that a text loses its end."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from input_pipeline.packing import ExampleRows
from train.framing import specials


def longer(first: np.ndarray, second: np.ndarray, length: int, tokenizer: Any) -> np.ndarray:
    """Bool [E]: which texts or pairs of these sizes do not fit into `length` tokens."""
    one, two = (sum(map(len, specials(tokenizer, pair))) for pair in (False, True))
    return first + second + np.where(second > 0, two, one) > length


def cut(objective: Any, tokenizer: Any, rows: Sequence[ExampleRows]) -> tuple[int, int]:
    """How many examples lose text, and of how many."""
    if not hasattr(objective, "longer"):
        return 0, 0
    found = [objective.longer(some.store, tokenizer)[some.indices] for some in rows]
    return int(sum(some.sum() for some in found)), sum(map(len, found))
