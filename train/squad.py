"""SQuAD's questions, spans and metrics (Rajpurkar et al. 2016, section 6.1; 2018 for no answer).

Exact match and F1 are the paper's: texts are compared in lower case, without punctuation and
articles; the best of several reference answers counts. No maintained library has them without a
download or PyTorch; tests/parity compares with torchmetrics.
"""

import collections
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.records import Record
from input_pipeline.values import as_text, as_texts

N_BEST = 20  # starts, and ends, that are looked at in each window; and answers that are kept
METRICS = ("exact_match", "f1")
METRICS_2 = (
    *METRICS, "has_answer_exact_match", "has_answer_f1", "no_answer_exact_match",
    "best_exact_match", "best_f1",
)  # fmt: skip
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Question:
    """A question, its context, and where its first answer stands (characters; None: nowhere)."""

    question: str
    context: str
    span: tuple[int, int] | None


def read(record: Record, fields: Sequence[str], skip: bool) -> Question | None:
    """A record's question; None where its answer is not in the context and `skip` is set.

    Raises:
      DataError: a field of another kind; an answer that is not where it is said to be.
    """
    where, (context, question, answers, *_) = record
    context, question = as_text(context, fields[0], where), as_text(question, fields[1], where)
    try:
        texts = as_texts(answers["text"], "text", where)
        starts = [int(n) for n in answers["answer_start"]]
        if len(texts) != len(starts):
            raise ValueError
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"field '{fields[2]}' of {where} must hold the lists 'text' and 'answer_start', equally"
            " long"
        ) from error
    if not texts:
        return Question(question, context, None)
    begin, end = starts[0], starts[0] + len(texts[0])
    if begin < 0 or not texts[0].strip() or context[begin:end] != texts[0]:
        if skip:
            return None
        raise DataError(
            f"the answer {texts[0]!r:.60} of {where} is not at character {begin} of its context;"
            " mend it, or set --config.objective.skip_bad_answers=True to leave such questions out"
        )
    return Question(question, context, (begin, end))


def tokens_of(question: Question, offsets: np.ndarray) -> tuple[int, int] | None:
    """The first and the last token of the answer; None where there is none.

    Args:
      question: with its span.
      offsets: [N, 2], the characters of each token of the context.
    """
    if question.span is None:
        return None
    begin, end = question.span
    touched = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < end))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def most_context(begins: Sequence[int], ends: Sequence[int], size: int) -> np.ndarray:
    """[size]: the window in which each token has most context on its poorer side.

    Of equal ones the first; the published code of BERT also adds a hundredth of the window's
    length, which decides between equals only.
    """
    at = np.arange(size)
    scores = []
    for begin, end in zip(begins, ends, strict=True):
        score = np.minimum(at - begin, end - 1 - at) + 0.01 * (end - begin)
        scores.append(np.where((begin <= at) & (at < end), score, -1.0))
    return np.argmax(scores, axis=0)


def n_best(
    predictions: dict[str, np.ndarray], rows: Sequence[int], max_answer: int
) -> list[tuple[float, int, int]]:
    """(score, first token, last token) of the best spans over some windows, best first."""
    found = []
    for row in rows:
        first, last = predictions["first"][row], predictions["last"][row]
        start, end = predictions["start_scores"][row], predictions["end_scores"][row]
        possible = (last[None] >= first[:, None]) & (last[None] - first[:, None] < max_answer)
        possible &= (start[:, None] > -1e29) & (end[None] > -1e29)
        for i, j in zip(*np.nonzero(possible), strict=True):
            found.append((float(start[i] + end[j]), int(first[i]), int(last[j])))
    return sorted(found, key=lambda span: (-span[0], span[1:]))


def texts(
    spans: Sequence[tuple[float, int, int]], context: str, offsets: np.ndarray
) -> list[dict[str, Any]]:
    """The texts of spans with their scores, each text once, N_BEST at most."""
    found: dict[str, float] = {}
    for score, first, last in spans:
        text = context[offsets[first, 0] : offsets[last, 1]].strip()
        if text:
            found.setdefault(text, score)
        if len(found) == N_BEST:
            break
    return [{"text": text, "score": score} for text, score in found.items()]


def normalize(text: str) -> str:
    """Lower case, no punctuation, no articles, single blanks."""
    text = re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION))
    return " ".join(text.split())


def exact_match(answer: str, reference: str) -> float:
    """1 where the two texts are the same, once normalised."""
    return float(normalize(answer) == normalize(reference))


def f1(answer: str, reference: str) -> float:
    """F1 of the bags of words; of no words, 1 where both have none."""
    found, wanted = normalize(answer).split(), normalize(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    common = sum((collections.Counter(found) & collections.Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


def scores(lines: Sequence[dict[str, Any]], no_answer: bool) -> dict[str, float]:
    """METRICS of predictions, or METRICS_2 with `no_answer`; means over questions, 0 to 1.

    Args:
      lines: `prediction`, reference `answers` ([]: there is none), and for `no_answer` the best
        answer's text (`n_best`) and `no_answer_gain`.
      no_answer: there may be none.

    The two of `best_` are those of the threshold on the gain that would be best here.
    """
    exact, f = (np.array([_best(line, by) for line in lines]) for by in (exact_match, f1))
    found = {"exact_match": float(exact.mean()), "f1": float(f.mean())}
    if not no_answer:
        return found
    has = np.array([len(line["answers"]) > 0 for line in lines])
    mean = lambda values: float(values.mean()) if len(values) else float("nan")  # noqa: E731
    found |= {
        "has_answer_exact_match": mean(exact[has]),
        "has_answer_f1": mean(f[has]),
        "no_answer_exact_match": mean(exact[~has]),
    }
    order = np.argsort([line["no_answer_gain"] for line in lines], kind="stable")
    said = [{**line, "prediction": line["n_best"][0]["text"] if line["n_best"] else ""}
            for line in lines]  # fmt: skip
    for name, by in (("best_exact_match", exact_match), ("best_f1", f1)):
        # From no answer anywhere, answers are added in the order of their gain, lowest first.
        added = np.array([_best(said[i], by) - (not has[i]) for i in order])
        best = (~has).sum() + max(0.0, float(np.max(np.cumsum(added), initial=0.0)))
        found[name] = float(best / len(lines))
    return found


def _best(line: dict[str, Any], measure: Any) -> float:
    """Against the best of the references; against "" where there is none."""
    wanted = [text for text in line["answers"] if normalize(text)] or [""]
    return max(measure(line["prediction"], text) for text in wanted)
