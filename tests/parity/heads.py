"""Every class that a family exports, loaded by transformers from our folder."""

import pathlib
import tempfile
from collections.abc import Container, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from model.api import build
from model.pretrained.describe import LAYOUTS, heads_of
from model.pretrained.save import save
from tests.parity.frame import Row, numpy, output

# How transformers calls the outputs of our heads.
HEADS = {
    "logits": lambda out: out["prediction_logits"] if "prediction_logits" in out else out["logits"],
    "next_sentence_logits": lambda out: (
        out["seq_relationship_logits"] if "seq_relationship_logits" in out else out["logits"]
    ),
    "class_logits": lambda out: out["logits"],
    "qa_logits": lambda out: torch.stack([out["start_logits"], out["end_logits"]], -1),
    "token_logits": lambda out: out["logits"],
}


def head_rows(
    config: Any,
    batch: dict[str, np.ndarray],
    inputs: dict[str, torch.Tensor],
    real: np.ndarray,
    extra: dict[str, Any] | None = None,
    names: Container[str] | None = None,
) -> Iterator[Row]:
    """Every class that can be exported (of `names`), loaded by transformers: keys and outputs."""
    layout = LAYOUTS[config.family]
    rng = np.random.default_rng(1)
    for architecture in layout.architectures:
        if architecture.read_only or (names is not None and architecture.name not in names):
            continue
        if config.attention_type not in architecture.attention:
            continue
        model = build(config, heads_of(architecture.heads, 3))
        draw = lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), "float32")  # noqa: E731
        params = jax.tree.map(draw, model.shapes)
        labelled = {"classification", "token_classification"} & set(architecture.heads)
        labels = {"id2label": {str(i): f"class {i}" for i in range(3)}}
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            classes = {**(extra or {}), **(labels if labelled else {})}
            save(folder, layout, config, params, architecture, classes)
            reference, info = getattr(transformers, architecture.name).from_pretrained(
                folder, output_loading_info=True
            )
        wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
        yield Row("export: keys missing or unexpected", "float32", len(wrong), 0)
        outputs = jax.jit(model.apply)(params, batch)
        with torch.no_grad():
            theirs = reference.eval()(**inputs)
        for key in outputs.keys() - {"hidden", "caches"}:
            got, want = np.asarray(outputs[key]), numpy(HEADS[key](theirs))
            if got.ndim == 3:
                got, want = got[real], want[real]
            yield output("heads", "float32", got, want)
        if not architecture.heads:
            want = numpy(theirs.last_hidden_state)[real]
            yield output("heads", "float32", np.asarray(outputs["hidden"])[real], want)
