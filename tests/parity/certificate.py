"""The parity certificate: every family against transformers, one table, written to docs/parity.md.

python -m tests.parity.certificate    (`make parity` runs it; the extra `parity` must be installed)

Exits with 1 if an error is beyond its bound or a family is missing.
"""

import importlib
import importlib.util
import pathlib
import sys
from importlib import metadata

from tests.parity.frame import BOUNDS, Row

FAMILIES = {"gpt": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "xlnet": "XLNet", "t5": "T5"}
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "parity.md"


def worst(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """quantity -> precision -> the row with the largest error."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        kept = found.setdefault(row.quantity, {}).setdefault(row.precision, row)
        if row.error > kept.error:
            found[row.quantity][row.precision] = row
    return found


def cell(row: Row | None) -> str:
    """An error, marked where it is too large."""
    if row is None:
        return ""
    text = f"{row.error:.0f}" if row.bound == 0 else f"{row.error:.1e}"
    return text if row.error <= row.bound else f"**{text}**"


def table(found: dict[str, dict[str, dict[str, Row]]]) -> list[str]:
    """Quantities down, families across; in each cell the worst error in float32 and in float64."""
    quantities: list[str] = []
    for family in found.values():
        quantities += [name for name in family if name not in quantities]
    lines = [f"| quantity | {' | '.join(FAMILIES.values())} |", "|---" * (len(FAMILIES) + 1) + "|"]
    for quantity in quantities:
        cells = []
        for family in FAMILIES:
            both = found.get(family, {}).get(quantity, {})
            parts = [cell(both.get(precision)) for precision in BOUNDS]
            cells.append(" / ".join(filter(None, parts)) or ("-" if family in found else "MISSING"))
        lines.append(f"| {quantity} | {' | '.join(cells)} |")
    return lines


def page(lines: list[str]) -> str:
    """docs/parity.md."""
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("torch", "transformers", "jax"))
    outputs, gradients = zip(*BOUNDS.values(), strict=True)
    return "\n".join(
        [
            "# Parity with transformers",
            "",
            "    make parity",
            "",
            f"Written by it, on CPU, with {versions}. Worst relative error over random models of "
            "odd shapes, padded and packed rows, float32 / float64: the largest difference over "
            "the reference's largest number; for gradients, parameter by parameter. Bounds: "
            f"{outputs[0]:.0e} (gradients {gradients[0]:.0e}) in float32, {outputs[1]:.0e} in "
            "float64; counts must be 0. The weights go through `pretune import`'s maps, so these "
            "are proven by it.",
            "",
            *lines,
            "",
        ]
    )


def main() -> int:
    """Computes, prints, writes; returns the exit code."""
    found, failures = {}, []
    for family in FAMILIES:
        name = f"tests.parity.{family}"
        if importlib.util.find_spec(name) is None:
            failures.append(f"{FAMILIES[family]} is missing (no {name})")
            continue
        rows = list(importlib.import_module(name).rows())
        found[family] = worst(rows)
        for both in found[family].values():
            for row in both.values():
                if not row.error <= row.bound:
                    failures.append(
                        f"{FAMILIES[family]}: {row.quantity} in {row.precision} is off by "
                        f"{row.error:.2e}, more than {row.bound:.0e}"
                    )
        if not rows:
            failures.append(f"{FAMILIES[family]} has no rows")
    lines = table(found)
    print("\n".join(lines))
    PAGE.write_text(page(lines), encoding="utf-8")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
