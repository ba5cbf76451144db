"""Parameters to a published folder: safetensors (always float32) and config.json."""

import json
import pathlib
import re
from typing import Any

import jax

from model.pretrained import files
from model.pretrained.mapping import (
    Architecture,
    Layout,
    flatten,
    published_names,
    used_entries,
)


def save(
    folder: pathlib.Path,
    layout: Layout,
    config: Any,
    params: Any,
    architecture: Architecture,
    extra: dict[str, Any] | None = None,
    max_bytes: int = 5_000_000_000,
) -> list[str]:
    """Writes weights and config.json, a shard at a time, and reads them back to compare.

    Args:
      folder: exists.
      layout: the family's.
      config: ``config.model``, with the vocabulary's size.
      params: the model's.
      architecture: the published class.
      extra: further values of config.json (labels, special tokens).
      max_bytes: of a file; larger models are sharded.

    Returns:
      Our paths that this class does not have and that are left out.
    """
    leaves = flatten(params)
    entries = used_entries(layout, config, leaves)
    left_out = [entry.ours for entry in entries if re.search(architecture.lacks, entry.ours)]
    entries = [entry for entry in entries if entry.ours not in left_out]

    plan = [
        list(
            zip(
                published_names(entry, layout, architecture),
                entry.transform.shapes(leaf.shape),
                strict=True,
            )
        )
        for entry, leaf in ((entry, leaves[entry.ours]) for entry in entries)
    ]
    groups = (entry.transform.split(jax.device_get(leaves[entry.ours])) for entry in entries)
    files.write(folder, plan, groups, max_bytes)
    values = {
        "architectures": [architecture.name],
        "model_type": layout.model_type,
        "dtype": "float32",
        "torch_dtype": "float32",
        "tie_word_embeddings": True,
        **layout.to_published(config),
        **(extra or {}),
    }
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return left_out
