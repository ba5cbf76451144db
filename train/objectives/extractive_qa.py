"""Where in a text the answer stands (Devlin et al. 2019, sections 4.2 and 4.3: SQuAD).

A context that is longer than a row is read in windows, which begin `stride` tokens apart; each is a
row of its own. Where a window does not hold the answer, or there is none, the answer "stands" at
[CLS] (at the last token where there is no [CLS]).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from configs.base import ConfigError
from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from model.heads import Heads
from train import squad
from train.framing import Framed, frame, specials
from train.objectives import Pair, accuracy, cross_entropy, pad

EXCLUDED = -1e30  # the score of a token at which no answer can begin or end


@dataclasses.dataclass(frozen=True)
class Objective:
    """The first and the last token of the answer, from two scores a token.

    Attributes:
      length: tokens in a row.
      stride: tokens by which the windows of a long context lie apart.
      max_question: tokens of the question; a longer one is cut.
      max_answer: tokens of a predicted answer, at most.
      no_answer: there may be none (SQuAD 2.0): "" is predicted where [CLS] scores higher than any
        answer by more than `null_threshold`.
      null_threshold: see there.
      skip_bad_answers: leave out (and count) questions whose answer is not where it is said to be,
        instead of stopping.
      cls_last: context [SEP] question [SEP] [CLS] instead of [CLS] question [SEP] context [SEP].
    """

    length: int
    stride: int
    max_question: int
    max_answer: int
    no_answer: bool
    null_threshold: float
    skip_bad_answers: bool
    cls_last: bool = False
    rows: ClassVar[str] = "examples"
    losses: ClassVar[tuple[str, ...]] = ("loss",)
    predicts: ClassVar[str] = ""
    window: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """ConfigError where no context fits, or windows would leave tokens out."""
        room = self.length - self.max_question - 4
        if min(self.stride, self.max_question, self.max_answer) < 1 or self.stride > room:
            raise ConfigError(
                f"config.objective.stride {self.stride} must be between 1 and {room}, the room "
                f"for the context that config.length {self.length} leaves beside a question of "
                f"config.objective.max_question {self.max_question} tokens; and max_answer at "
                "least 1."
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Exact match and F1; with unanswerable questions, also of either kind."""
        return squad.METRICS_2 if self.no_answer else squad.METRICS

    def head(self) -> Heads:
        """Two scores a token."""
        return Heads(span=True)

    def task(self, data: Any) -> Task:
        """Context, question, answers (lists `text` and `answer_start`), and what names it.

        A window is an example: arrays `question`, `context`, `span` (answer's first and last token
        within the window; empty for none), `owned` (1 where no other window has more context);
        numbers `begin` (the window's first token) and `cut` (1 where the question lost its end, or
        the answer fits into no window).
        """
        fields = (
            data.text_field,
            data.text_b_field,
            data.label_field,
            *filter(None, [data.id_field]),
        )

        def encode(records: Sequence[Record], tokenizer: Any, _: Any) -> list[list[dict]]:
            found = [squad.read(record, fields, self.skip_bad_answers) for record in records]
            asked = [question for question in found if question]
            contexts = [question.context for question in asked]
            ids = tokenizer.encode_batch([q.question for q in asked] + contexts)
            parts = zip(
                asked,
                ids[: len(asked)],
                ids[len(asked) :],
                tokenizer.offsets(contexts),
                strict=True,
            )
            windows = iter([self._windows(*part, tokenizer) for part in parts])
            return [next(windows) if question else [] for question in found]

        identity = (
            "extractive_qa",
            self.length,
            self.stride,
            self.max_question,
            self.skip_bad_answers,
        )
        arrays = ("question", "context", "span", "owned")
        return Task(fields, arrays, ("begin", "cut"), encode, None, identity)

    def _windows(
        self,
        asked: "squad.Question",
        question: np.ndarray,
        context: np.ndarray,
        offsets: np.ndarray,
        tokenizer: Any,
    ) -> list[dict]:
        """The examples of one question."""
        asked_in_full, question = len(question), question[: self.max_question]
        room = self.length - len(question) - sum(map(len, specials(tokenizer, True)))
        span = squad.tokens_of(asked, offsets)
        begins = list(range(0, max(1, len(context) - room + self.stride), self.stride))
        ends = [min(begin + room, len(context)) for begin in begins]
        owned = squad.most_context(begins, ends, len(context))
        holds = lambda begin, end: bool(span) and begin <= span[0] and span[1] < end  # noqa: E731
        inside = [holds(*ends_of) for ends_of in zip(begins, ends, strict=True)]
        cut = asked_in_full > self.max_question or (span is not None and not any(inside))
        examples = []
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            examples.append(
                {
                    "question": question,
                    "context": context[begin:end],
                    "span": [span[0] - begin, span[1] - begin] if inside[number] else [],
                    "owned": owned[begin:end] == number,
                    "begin": begin,
                    "cut": cut,
                }
            )
        return examples

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: windows of questions that lost their end, or whose answer fits into none."""
        return store.values("cut") > 0

    def _framed(self, example: dict[str, Any], tokenizer: Any) -> tuple[Framed, slice]:
        """The row, and where the context stands in it."""
        question, context = example["question"], example["context"]
        if self.cls_last:
            framed = frame(context, question, True, tokenizer, True)
            return framed, framed.first
        framed = frame(question, context, True, tokenizer, False)
        return framed, framed.second

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """A window's row; `labels` [2], and where an answer may stand or begin, [length] each."""
        framed, at = self._framed(example, tokenizer)
        allowed, owned = np.zeros(self.length, bool), np.zeros(self.length, bool)
        allowed[at], owned[at] = True, np.asarray(example["owned"], bool)
        allowed[framed.summary] = True
        span = np.asarray(example["span"], np.int32) + at.start
        return {
            "tokens": pad(framed.tokens, self.length, "int32"),
            "segment_ids": pad(np.ones(len(framed.tokens)), self.length, "int32"),
            "token_types": pad(framed.token_types, self.length, "int32"),
            "labels": span if len(span) else np.full(2, framed.summary, np.int32),
            "label_weights": np.float32(1),
            "allowed": allowed,
            "owned": owned,
            "null_position": np.int32(framed.summary),
            "context_position": np.int32(at.start),
            "begin": np.int32(example["begin"]),
            "record": np.int32(example["record"]),
        }

    def _logits(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array], rng: Any
    ) -> jax.Array:
        """[B, 2, T]: scores of the first and the last token."""
        logits = jnp.swapaxes(apply(params, batch, rng)["qa_logits"], 1, 2)
        return jnp.where(batch["allowed"][:, None], logits, EXCLUDED)

    def loss(
        self,
        apply: Callable[..., Any],
        params: Any,
        batch: dict[str, jax.Array],
        rng: Any,
        carry: Any,
    ) -> tuple[dict[str, Pair], dict[str, Pair], Any]:
        """Mean negative log-likelihood of first and last token, in nats."""
        weights = jnp.broadcast_to(batch["label_weights"][:, None], batch["labels"].shape)
        labels = (self._logits(apply, params, batch, rng), batch["labels"], weights)
        return {"loss": cross_entropy(*labels)}, {"accuracy": accuracy(*labels)}, carry

    def predict(
        self, apply: Callable[..., Any], params: Any, batch: dict[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """For each window [B]: the best ends [B, N], counted in the context, and their scores."""
        logits = self._logits(apply, params, batch, None)
        null = jnp.take_along_axis(logits, batch["null_position"][:, None, None], axis=2)
        places = jax.nn.one_hot(batch["null_position"], self.length, dtype=bool)
        logits = jnp.where(places[:, None], EXCLUDED, logits)
        number = min(squad.N_BEST, self.length)
        starts, first = jax.lax.top_k(jnp.where(batch["owned"], logits[:, 0], EXCLUDED), number)
        ends, last = jax.lax.top_k(logits[:, 1], number)
        moved = (batch["begin"] - batch["context_position"])[:, None]
        return {
            "first": first + moved,
            "last": last + moved,
            "start_scores": starts,
            "end_scores": ends,
            "null_scores": null[:, :, 0].sum(axis=1),
            "weights": batch["label_weights"],
            "record": batch["record"],
        }

    def finalize(
        self,
        predictions: dict[str, np.ndarray],
        records: Callable[[], Sequence[Record]],
        tokenizer: Any,
        labels: Sequence[str],
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """The best span over a question's windows, and SQuAD's exact match and F1."""
        known, lines = records(), []
        groups: dict[int, list[int]] = {}
        for row, record in enumerate(predictions["record"].tolist()):
            groups.setdefault(record, []).append(row)
        contexts = [known[record][1][0] for record in groups]
        offsets = dict(zip(groups, tokenizer.offsets(contexts), strict=True))
        for record, rows in groups.items():
            where, (context, _, answers, *name) = known[record]
            best = squad.n_best(predictions, rows, self.max_answer)
            texts = squad.texts(best, context, offsets[record])
            null = float(min(predictions["null_scores"][rows]))
            top = texts[0] if texts else {"text": "", "score": EXCLUDED}
            gain = null - top["score"]  # of saying that there is no answer
            empty = self.no_answer and gain > self.null_threshold
            lines.append(
                {
                    "record": record,
                    "id": name[0] if name else where,
                    "prediction": "" if empty else top["text"],
                    "answers": list(answers["text"]),
                    "no_answer_gain": gain,
                    "n_best": texts,
                }
            )
        return squad.scores(lines, self.no_answer), lines
