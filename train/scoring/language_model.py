"""A run as a language model: its parameters, its tokenizer, and a head that predicts tokens.

Legend: B rows of a batch, P targets of a row, V vocabulary.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from input_pipeline.tokenizers import load_tokenizer
from model import sharding
from model.api import Model, build, family_config
from model.heads import Heads
from train import objectives
from train.checkpoint import abstract, load_parts
from train.errors import UserError
from train.mesh import make_mesh_that_fits, param_shardings, replicated
from train.scoring.rows import Layout, make_layout
from train.workdir import read_config


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """What the scorer needs of a run.

    Attributes:
      workdir: the run's folder.
      head_from: the folder whose head predicts the tokens, where that is another run's.
      family: of the model.
      score: ``score(params, batch) -> (log-probabilities, greedy)`` of rows, see `score_batch`.
      params: on the mesh.
      mesh: devices.
      layout: how its rows look.
    """

    workdir: pathlib.Path
    head_from: pathlib.Path | None
    family: str
    score: Callable[[Any, dict[str, jax.Array]], tuple[jax.Array, jax.Array]]
    params: Any
    mesh: Mesh
    layout: Layout


def score_batch(
    model: Model, params: Any, batch: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The device half: of each row [B] the targets' log-probability and whether all are greedy."""
    logits_BPV = model.apply(params, batch)["logits"]
    chosen_BP = jnp.take_along_axis(logits_BPV, batch["targets"][..., None], axis=-1)[..., 0]
    log_prob_BP = chosen_BP - jax.nn.logsumexp(logits_BPV, axis=-1)
    weights_BP = batch["weights"]
    greedy_BP = (chosen_BP >= jnp.max(logits_BPV, axis=-1)) | (weights_BP == 0)
    # A row of weight 0 is padding, whose logits may be anything.
    log_prob_BP = jnp.where(weights_BP > 0, log_prob_BP, 0)
    return jnp.sum(log_prob_BP, axis=1), jnp.all(greedy_BP, axis=1)


@functools.lru_cache(maxsize=8)
def compile_score(model: Model, mesh: Mesh, rules: Any) -> Callable[..., Any]:
    """`score_batch` of a model, jitted: it is compiled once for each shape of a batch."""

    def with_rules(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        with sharding.use(mesh, rules):
            return score_batch(model, params, batch)

    return jax.jit(with_rules, out_shardings=replicated(mesh))


def find_head(workdir: pathlib.Path) -> tuple[pathlib.Path, ConfigDict]:
    """The nearest run with an LM head: this one, else the one it was initialised from, and so on.

    Raises:
      UserError: none of them predicts tokens, or one is gone.
    """
    seen: list[pathlib.Path] = []
    folder = workdir
    while folder not in seen:
        if seen and not (folder / "config.json").exists():
            raise UserError(
                f"{seen[-1]} predicts no tokens and the run that it began from, {folder}, is not "
                "there; put it back, or score that run."
            )
        config = read_config(folder)
        if objectives.load(config).predicts:
            return folder, config
        seen.append(folder)
        if not config.init_from:
            break
        folder = pathlib.Path(config.init_from)
    raise UserError(
        f"{workdir} was trained with {read_config(workdir).objective.name}, which predicts no "
        "tokens, and began from no run that does; score a pre-trained run, or one fine-tuned "
        "from it."
    )


def load_language_model(
    workdir: pathlib.Path, length: int = 0, newest: bool = False
) -> LanguageModel:
    """Loads the best checkpoint of a run, and a head from where there is one.

    Activations are float32 whatever the run's dtype: what is compared differs by little, and must
    not depend on the rows beside it.

    Args:
      workdir: the run.
      length: tokens of a row, at most; 0: as many as the run with the head was trained on.
      newest: the newest checkpoint of the run, even if another one is the best.

    Raises:
      UserError: no checkpoint, no LM head, or rows longer than the position table.
    """
    config = read_config(workdir)
    source, theirs = find_head(workdir)
    tokenizer = load_tokenizer(workdir / "tokenizer")
    for one in (config, theirs):
        one.model.vocab_size = one.model.vocab_size or tokenizer.vocab_size
    config.model.dtype = "float32"
    objective = objectives.load(theirs)
    way = objective.predicts
    table = getattr(family_config(config.model), "max_length", 0)
    if table and length > table:
        raise UserError(
            f"--length={length} is longer than the position table of {workdir} ({table}); lower it."
        )
    length = length or (min(theirs.length, table) if table else theirs.length)
    model = build(config.model, Heads(lm=True, permuted=way == "permuted"), config.adapters)
    mesh = make_mesh_that_fits(config.mesh)

    def load(folder: pathlib.Path, whole: Model, part: str) -> Any:
        places = param_shardings(whole.axes[part], whole.shapes[part], mesh, config.sharding)
        return load_parts(folder, {part: abstract(whole.shapes[part], places)})[part]

    own_parts = [part for part in ("backbone", "adapters") if part in model.shapes]
    params = {part: load(workdir, model, part) for part in own_parts} | {"head": {}}
    if own := model.shapes["head"]:  # GPT's has no parameters
        head = load(source, build(theirs.model, objectives.build(theirs, 0).head()), "head")
        params["head"] = {name: head[name] for name in own}
    rules = tuple((name, tuple(axes)) for name, axes in config.sharding)  # hashable
    cls_first = config.model.family in objectives.CLS_FIRST
    layout = make_layout(way, tokenizer, length, getattr(objective, "source_ends", True), cls_first)
    return LanguageModel(
        workdir, None if source == workdir else source, config.model.family,
        compile_score(model, mesh, rules), params, mesh, layout,
    )  # fmt: skip
