"""The one door to the data: from the config to rows for training and for evaluation."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.config_sources import eval_specs, prepare_tokenizer, source_specs
from input_pipeline.contiguous import ContiguousRows, Lanes, share_lanes
from input_pipeline.errors import DataError
from input_pipeline.example_store import ExampleStore
from input_pipeline.examples import Examples, prepare_examples
from input_pipeline.mixture import mixture_rates
from input_pipeline.packing import (
    ChainedRows,
    ExampleRows,
    FixedRows,
    PackedRows,
    RowSource,
    StreamRows,
)
from input_pipeline.records import Record
from input_pipeline.sentence_rows import PLANS, SentenceRows
from input_pipeline.sources import SourceSpec
from input_pipeline.stores import digest, short_name, text_store
from input_pipeline.task import Task
from input_pipeline.token_store import TokenStore
from input_pipeline.tokenizers import Tokenizer

__all__ = ["Prepared", "holdout_cut", "prepare_rows", "prepare_tokenizer"]

KINDS = (
    "stream", "contiguous", *PLANS, "examples", "pairs", "packed", "mixture",
)  # fmt: skip
_SHOWN = ("tokens", "bytes", "documents", "sentences", "examples", "skipped")
_PLACES = ("data_dir", "cache_dir", "prefetch")  # do not change what training reads


@dataclass(frozen=True)
class Prepared:
    """What training reads.

    Attributes:
        train: row sources.
        weights: the rate of each, adding up to 1.
        evaluation: "eval" -> all held-out rows; with several sources also "eval/<source>" -> its.
            Empty where nothing is held out.
        examples: the labelled rows of training and of evaluation, one by one also where several
            are packed into a row.
        label_names: class names in the order of their ids; empty without labels.
        records: reads the labelled records of evaluation; a row's `record` is its place there.
        fingerprint: SHA-256 in hex of data, tokenizer and options.
        summary: per source: spec, rows, tokens, bytes, documents or examples.
    """

    train: list[RowSource]
    weights: list[float]
    evaluation: dict[str, RowSource]
    examples: tuple[list[ExampleRows], list[ExampleRows]]
    label_names: tuple[str, ...]
    records: Callable[[], list[Record]]
    fingerprint: str
    summary: dict


def holdout_cut(store: TokenStore, fraction: float) -> int:
    """Give the token at which the held-out tail of a corpus begins.

    It is the first document that begins in the last `fraction` of the tokens; the exact token where
    there is none, or where this would change the hold-out's size by more than half.
    """
    total = len(store.tokens)
    exact = int(total * (1 - fraction))
    following = int(store.documents[np.searchsorted(store.documents, exact, "left")])
    return following if following - exact <= (total - exact) / 2 else exact


@dataclass(frozen=True)
class _Parts:
    """One row source a training source, and (source, rows) of what is held out."""

    specs: list[SourceSpec]
    stores: list[TokenStore | ExampleStore]
    train: list[RowSource]
    evaluation: list[tuple[SourceSpec, RowSource]]


def _prepare_text(
    data: ConfigDict,
    tokenizer: Tokenizer,
    kind: str,
    length: int,
    cache_dir: Path,
    seed: int,
    lanes: Lanes | None,
) -> _Parts:
    sentences = kind in PLANS

    def rows(store: TokenStore, start: int, stop: int, seed: int | None, share: int) -> RowSource:
        if lanes:
            stride, both = lanes.stride, lanes.bidirectional
            return ContiguousRows(store, start, stop, length, stride, share, both, seed)
        if sentences:
            return SentenceRows(store, start, stop, length, kind)
        return StreamRows(store, start, stop, length, seed)

    specs, held_out = source_specs(data, data.source, data.split), eval_specs(data)
    stores = [text_store(spec, tokenizer, cache_dir, sentences) for spec in specs]
    hold_out = 0.0 if held_out else data.holdout
    cuts = [holdout_cut(s, hold_out) if hold_out else len(s.tokens) for s in stores]
    for store, cut in zip(stores, cuts, strict=True):
        if not cut > 0:
            raise DataError(
                f"--config.data.holdout={hold_out} leaves no text to train on in"
                f" '{store.folder.name}' ({len(store.tokens)} tokens); lower it or add text"
            )
    shares = [0] * len(cuts)
    if lanes:  # by rows, as the cap counts them
        sizes = [-(-cut // lanes.stride) for cut in cuts]
        shares = share_lanes(_mixture_weights(data, sizes), lanes.train)
    train = [
        rows(store, 0, cut, seed + number, share)
        for number, (store, cut, share) in enumerate(zip(stores, cuts, shares, strict=True))
    ]
    if held_out:
        eval_stores = [text_store(spec, tokenizer, cache_dir, sentences) for spec in held_out]
        parts = [(spec, s, 0) for spec, s in zip(held_out, eval_stores, strict=True)]
    else:
        held = zip(specs, stores, cuts, strict=True)
        parts = [(spec, s, cut) for spec, s, cut in held if cut < len(s.tokens)]
    share = lanes.evaluation if lanes else 0
    evaluation = [
        (spec, rows(store, start, len(store.tokens), None, share)) for spec, store, start in parts
    ]
    return _Parts(specs, stores, train, evaluation)


def _mixture_weights(data: ConfigDict, sizes: Sequence[int]) -> list[float]:
    rates = mixture_rates(sizes, data.mixture_cap, data.mixture_temperature)
    weights = [float(w) for w in data.weights] or rates
    if len(weights) != len(sizes) or min(weights) < 0 or sum(weights) == 0:
        raise DataError(
            f"--config.data.weights has {len(weights)} numbers for {len(sizes)} sources; give each"
            " source one, none below 0"
        )
    return [weight / sum(weights) for weight in weights]


def _by_name(evaluation: Sequence[tuple[SourceSpec, RowSource]]) -> dict[str, RowSource]:
    if len(evaluation) < 2:
        return dict(zip(["eval"], [rows for _, rows in evaluation], strict=False))
    together: RowSource = ChainedRows([rows for _, rows in evaluation])
    named: dict[str, RowSource] = {}
    for spec, rows in evaluation:
        name = f"eval/{short_name(spec)}"
        while name in named:  # two tasks may read one file
            name += "+"
        named[name] = rows
    return {"eval": together} | named


def _packed(examples: Examples, array: str, length: int, seed: int) -> Examples:
    """Several examples a row; what is evaluated stays in order."""
    return dataclasses.replace(
        examples,
        train=[PackedRows(rows, array, length, seed) for rows in examples.train],
        evaluation=[
            (spec, PackedRows(rows, array, length, None)) for spec, rows in examples.evaluation
        ],
    )


def prepare_rows(
    data: ConfigDict,
    tokenizer: Tokenizer,
    kind: str,
    length: int,
    cache_dir: str | os.PathLike,
    seed: int,
    lanes: Lanes | None = None,
    task: Task | None = None,
) -> Prepared:
    """Tokenise what the config names (once: stores are kept in `cache_dir`) and give its rows.

    Args:
        data: config.data.
        tokenizer: the run's tokenizer.
        kind: "stream" (windows), "contiguous" (the same, batch after batch), "sentences",
            "full_sentences" or "sentence_pairs" (whole sentences: sentence_rows.py), "examples"
            (labelled), "pairs" (of config.data.tasks), "packed" (either of these, several a row)
            or "mixture" (windows and pairs).
        length: tokens of a row; examples come whole.
        cache_dir: where token stores are kept; each is named after source, content, tokenizer and
            options, so runs share it.
        seed: of the windows' phases and of the examples within the budget.
        lanes: how contiguous rows are cut; None for other kinds.
        task: what is made of labelled records; None for text.

    Raises:
        DataError: anything about the data that the user has to mend.
    """
    if kind not in KINDS:
        raise DataError(f"rows of kind '{kind}' do not exist; the kinds are {', '.join(KINDS)}")
    if data.copies < 0:
        raise DataError(
            f"--config.data.copies={data.copies} must be 0 (draw anew in each epoch) or more"
        )
    cache_dir = Path(cache_dir)
    parts, labelled = _Parts([], [], [], []), Examples([], [], [], [], [], ())
    examples: tuple[list[ExampleRows], list[ExampleRows]] = ([], [])
    if kind not in ("examples", "pairs", "packed"):
        parts = _prepare_text(data, tokenizer, kind, length, cache_dir, seed, lanes)
    if task:
        pairs = kind in ("pairs", "mixture") or (kind == "packed" and len(data.tasks) > 0)
        labelled = prepare_examples(data, task, tokenizer, cache_dir, seed, pairs)
        examples = (labelled.train, [rows for _, rows in labelled.evaluation])
        if kind == "packed":
            labelled = _packed(labelled, task.arrays[0], length, seed)
    both = [getattr(parts, f.name) + getattr(labelled, f.name) for f in dataclasses.fields(_Parts)]
    parts = _Parts(*both)
    weights = _mixture_weights(data, [len(rows) for rows in parts.train])
    # A small budget may leave a source without examples, and a weight of 0 leaves it out.
    used = [n for n, rows in enumerate(parts.train) if len(rows) and weights[n] > 0]
    total = sum(weights[number] for number in used)
    evaluation = _by_name(parts.evaluation)
    summary = {
        "sources": [
            {"source": spec.spec, "split": spec.split, "rows": len(rows), "weight": weight}
            | {key: store.meta[key] for key in _SHOWN if key in store.meta}
            for spec, store, rows, weight in zip(
                parts.specs, parts.stores, parts.train, weights, strict=True
            )
        ],
        "evaluation": {name: len(rows) for name, rows in evaluation.items()},
        "labels": list(labelled.labels),
    }
    train = [parts.train[number] for number in used]
    return Prepared(
        train=[FixedRows(rows, data.copies) for rows in train] if data.copies else train,
        weights=[weights[number] / total for number in used],
        evaluation=evaluation,
        examples=examples,
        label_names=labelled.labels,
        records=lambda: [r for source in labelled.sources for r in source.records()],
        fingerprint=digest(
            [store.folder.name for store in parts.stores],
            {key: value for key, value in data.to_dict().items() if key not in _PLACES},
            [kind, length, seed, lanes and dataclasses.astuple(lanes), task and task.identity],
        ),
        summary=summary,
    )
