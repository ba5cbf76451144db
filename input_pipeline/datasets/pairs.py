"""The pair task read off the documentation: are two passages about the same module?

Every passage of the labelled splits stands first in one pair; in every other pair the second one is
the next passage of its module, in the rest a passage of another module.
"""

from collections.abc import Iterator

from input_pipeline.datasets.corpus import Prose, fraction

LABELS = ("unrelated", "related")


def pairs(part: Prose) -> Iterator[tuple[str, str, str, str, str]]:
    """Yields (key, module, first passage, second passage, label), the labels equally frequent.

    Modules with a single passage have no related pair, so they are only drawn from for second
    passages. Which passage is drawn follows from a stable hash of the key.
    """
    everything = [(module, text) for module, texts in part.items() for text in texts]
    count = 0
    for module, texts in part.items():
        if len(texts) < 2:
            continue
        for number, first in enumerate(texts):
            key = f"{module} {number}"
            related = count % 2 == 1
            second = texts[(number + 1) % len(texts)] if related else _other(key, module, everything)
            yield key, module, first, second, LABELS[related]
            count += 1


def _other(key: str, module: str, everything: list[tuple[str, str]]) -> str:
    """A passage of another module: the first one from a place given by the key's hash on."""
    start = int(fraction(key, "pair") * len(everything))
    for other, text in everything[start:] + everything[:start]:
        if other != module:
            return text
    raise ValueError("a pair task needs at least two modules")
