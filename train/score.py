"""``pretune score``: evaluation sets by likelihood, without training.

pretune score --workdir=runs/gpt --tasks='blimp:blimp/*.jsonl,text:wiki.test.txt'
pretune score --workdir=runs/bert,runs/bert-sst2 --tasks=crows_pairs:crows.csv --json=bias.json
pretune score --workdir=runs/gpt --tasks=choice:piqa.jsonl --corpus='books/*.txt' --ngram=13

A task is KIND:SOURCE[,SOURCE...]; several are separated by commas, or the flag is repeated. Kinds:
blimp, crows_pairs, stereoset, winogender, lambada, choice (query, choices, gold), winogrande
(context_options, continuation, gold), text. Sources are files, globs, URLs, or tfds:NAME.

GPT and T5 score by log-likelihood, BERT, RoBERTa and XLNet by pseudo-log-likelihood (each token
from all others; Salazar et al. 2020): figures of the two kinds are not comparable. Every figure has
its standard error, by category too. Of several runs, each is compared with the first, paired by
item. A fine-tuned run without a language-model head takes that of the run that it began from.

With --corpus, items that share an n-gram of words with it (a shorter item: all of its words) are
counted, and what the others give stands beside the figure.
"""

import difflib
import json
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from train.cli import command


def _define(values: flags.FlagValues, argv: Sequence[str]) -> None:
    del argv
    own = {"flag_values": values}
    text, whole = flags.DEFINE_string, flags.DEFINE_integer
    flags.DEFINE_list("workdir", None, "folders of trained runs, separated by commas", **own)
    flags.DEFINE_multi_string("tasks", None, "KIND:SOURCE[,...]; repeat for several", **own)
    text("json", "", "also write all figures to this file", **own)
    text("details", "", "also write every item's scores to this file, a JSON object a line", **own)
    text("corpus", "", "text in which to look for the items, separated by commas", **own)
    whole("ngram", None, "words that count as the same text (default: 13)", 1, **own)
    whole("length", 0, "tokens of a row at most; 0: as in the run's training", 0, **own)
    whole("batch_tokens", 4096, "tokens of a batch, about", 1, **own)
    whole("max_items", 0, "items of a source at most, from its beginning; 0: all", 0, **own)
    text("text_field", "text", "of records that are read as text", **own)
    text("split", "test", "of tfds: sources", **own)
    text("data_dir", "", "where TFDS keeps its data; default: its own", **own)
    for name in ("workdir", "tasks"):
        flags.mark_flag_as_required(name, flag_values=values)


def parse_tasks(given: Sequence[str]) -> list[tuple[str, list[str]]]:
    """``["blimp:a.jsonl,b.jsonl,text:c.txt"]`` -> ``[("blimp", [a, b]), ("text", [c])]``.

    Raises:
      UserError: an unknown kind, or a task without a source.
    """
    from input_pipeline.suites import SUITES
    from train.errors import UserError

    tasks: list[tuple[str, list[str]]] = []
    for value in given:
        here = len(tasks)
        for part in value.split(","):
            kind, colon, source = part.partition(":")
            if colon and kind in SUITES:
                tasks.append((kind, [source]))
                continue
            a_source = not colon or kind == "tfds" or source.startswith("//")
            if a_source and len(tasks) > here:
                tasks[-1][1].append(part)
                continue
            near = difflib.get_close_matches(kind, SUITES, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UserError(
                f"--tasks={value} names no kind of task at {part!r}{hint}; write KIND:SOURCE with "
                f"one of {', '.join(SUITES)}."
            )
    if empty := [kind for kind, sources in tasks if not all(sources)]:
        raise UserError(f"--tasks={empty[0]}: names no source; write {empty[0]}:PATH.")
    return tasks


def _names(workdirs: Sequence[str]) -> list[str]:
    """Short names of runs: the last parts of their paths, as many as tell them apart."""
    parts = [pathlib.Path(workdir).parts for workdir in workdirs]
    count = 1
    while len({p[-count:] for p in parts}) < len(parts) and count < max(map(len, parts)):
        count += 1
    return ["/".join(p[-count:]) for p in parts]


def _run(values: flags.FlagValues) -> None:
    from input_pipeline.sources import SourceSpec
    from input_pipeline.suites import SUITES, read_items
    from train.errors import UserError
    from train.scoring import results
    from train.workdir import write_text

    def spec(source: str) -> SourceSpec:
        return SourceSpec(
            source, split=values.split, text_field=values.text_field, data_dir=values.data_dir
        )

    if not values.workdir or not all(values.workdir):
        raise UserError("--workdir names no run; give one, or several between commas.")
    for flag in ("json", "details"):
        path = pathlib.Path(values[flag].value or ".")
        if values[flag].value and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"--{flag}={path} is no file that can be written; name another.")
    if len(set(values.workdir)) < len(values.workdir):
        raise UserError(f"--workdir={','.join(values.workdir)} names a run twice; name it once.")
    if values.ngram and not values.corpus:
        raise UserError("--ngram is for the search in a corpus; name one with --corpus.")
    tasks = parse_tasks(values.tasks)
    items = [read_items(kind, list(map(spec, found)), values.max_items) for kind, found in tasks]
    _check_runs(values)
    hits = _contaminated(values, items, spec)
    scores, runs = [], []
    for workdir in values.workdir:
        found, told = _score(values, pathlib.Path(workdir), tasks, items)
        scores.append(found)
        runs.append(told)
    names = _names(values.workdir)
    for name, told in zip(names, runs, strict=True):
        head = f", head of {told['head_from']}" if told["head_from"] else ""
        print(f"{name}: {told['family']}, {told['score']}, rows of {told['length']} tokens{head}")
    record: dict[str, Any] = {"runs": runs, "ngram": hits and _ngram(values), "tasks": []}
    for index, (kind, sources) in enumerate(tasks):
        of_task = [found[index] for found in scores]
        hit = hits and hits[index]
        result = results.summarise(
            kind, SUITES[kind].measure, sources, items[index], of_task, hit if hits else None
        )
        print(f"\n{results.table(result, names)}")
        record["tasks"].append(results.as_json(result))
    if values.json:
        write_text(pathlib.Path(values.json), json.dumps(record, indent=1, allow_nan=False))
    if values.details:
        lines = _details(tasks, items, scores, hits, values.workdir)
        write_text(pathlib.Path(values.details), "".join(lines))


def _check_runs(values: flags.FlagValues) -> None:
    """All runs have a language-model head, before the first one is scored."""
    from train.scoring.language_model import find_head

    for workdir in values.workdir:
        find_head(pathlib.Path(workdir))


def _ngram(values: flags.FlagValues) -> int:
    from train.scoring.contamination import NGRAM

    return values.ngram or NGRAM


def _contaminated(values: flags.FlagValues, items: list, spec: Any) -> list | None:
    """Of each task, which items stand in the corpus; None where none is named."""
    from input_pipeline.errors import DataError
    from input_pipeline.sources import read_documents
    from train.errors import UserError
    from train.scoring.contamination import contaminated

    if not values.corpus:
        return None
    together = [item for of_task in items for item in of_task]
    documents = (
        document for source in values.corpus.split(",") for document in read_documents(spec(source))
    )
    try:
        hit = contaminated(together, documents, _ngram(values))
    except DataError as error:
        told = re.split(r"[;,] [^;,]*--config\.data", str(error))[0].rstrip(".")
        raise UserError(f"--corpus={values.corpus}: {told}; name text to look through.") from error
    ends, start = [], 0
    for of_task in items:
        ends.append(hit[start : start + len(of_task)])
        start += len(of_task)
    return ends


def _score(
    values: flags.FlagValues, workdir: pathlib.Path, tasks: list, items: list
) -> tuple[list, dict[str, Any]]:
    """Of one run: the scores of each task, and what the run is."""
    from input_pipeline.suites import SUITES
    from train.scoring.language_model import load_language_model
    from train.scoring.rows import DESCRIPTIONS
    from train.scoring.scorer import score
    from train.setup import enable_compilation_cache
    from train.workdir import read_config

    enable_compilation_cache(read_config(workdir).compilation_cache)
    lm = load_language_model(workdir, values.length)
    found = []
    for (kind, _), of_task in zip(tasks, items, strict=True):
        began = time.monotonic()
        scores = score(lm, of_task, SUITES[kind].unmodified, values.batch_tokens)
        seconds = time.monotonic() - began
        count = len(scores.log_prob)
        print(
            f"{workdir} {kind}: {count:,} texts in {seconds:.1f} s, "
            f"{60 * count / max(seconds, 1e-9):,.0f} a minute",
            file=sys.stderr,
        )
        found.append(scores)
    told = {
        "workdir": str(workdir),
        "family": lm.family,
        "score": DESCRIPTIONS[lm.layout.way],
        "length": lm.layout.length,
        "head_from": str(lm.head_from) if lm.head_from else None,
    }
    return found, told


def _details(
    tasks: list, items: list, scores: list, hits: list | None, workdirs: Sequence[str]
) -> Iterator[str]:
    """A line an item: what it is and, of each run, every option's scores."""
    for index, (kind, _) in enumerate(tasks):
        for number, item in enumerate(items[index]):
            of_runs = {}
            for workdir, found in zip(workdirs, scores, strict=True):
                one = found[index]
                options = slice(one.starts[number], one.starts[number + 1])
                of_runs[workdir] = {
                    name: getattr(one, name)[options].tolist()
                    for name in ("log_prob", "tokens", "bytes", "greedy", "cut")
                }
            fields = {"task": kind, "where": item.where, "gold": item.gold, **item.categories}
            if hits:
                fields["contaminated"] = bool(hits[index][number])
            yield json.dumps({**fields, "runs": of_runs}) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return command(_run, argv, _define, __doc__)


if __name__ == "__main__":
    sys.exit(main())
