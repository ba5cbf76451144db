"""Follow instructions: predict the answers of a conversation, not the rest of it (a decoder).

Radford et al. 2018, section 3.2, for tasks as text in a decoder; Wei et al. 2022 (FLAN) and Ouyang
et al. 2022, section 3.4, for instructions. Conversations are packed, several a row, and do not see
each other.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from configs.base import ConfigError
from input_pipeline.errors import DataError
from input_pipeline.example_store import ExampleStore
from input_pipeline.records import Record
from input_pipeline.task import Task
from input_pipeline.values import as_text
from train.objectives import pad
from train.objectives.classification import check_smoothing
from train.seq2seq import TeacherForced, end_of_text

ANSWERS = "assistant"  # the role that is learned
Turn = tuple[str, str]  # role and text


@dataclasses.dataclass(frozen=True)
class Objective(TeacherForced):
    """Next-token prediction of the answers, each with the end-of-text token behind it.

    Attributes:
      length: tokens in a row; what is longer loses its end.
      chat_template: (role, text before, text behind) for each role; the one of "assistant" has the
        end-of-text token behind its text as well.
      z_loss: weight of log(Z)^2 in the loss.
      label_smoothing: share of the target that all tokens have alike.
      target_length: tokens of an answer that is generated, at most; 0: half of the length.
    """

    length: int
    chat_template: tuple[tuple[str, str, str], ...]
    z_loss: float
    label_smoothing: float = 0.0
    target_length: int = 0
    rows: ClassVar[str] = "packed"
    predicts: ClassVar[str] = "causal"

    def __post_init__(self) -> None:
        """ConfigError on a template without its roles."""
        check_smoothing(self.label_smoothing)
        template = self.chat_template
        if any(isinstance(part, str) or len(part) != 3 for part in template):
            raise ConfigError(
                f"config.objective.chat_template is {template!r}; it must hold triples of a role, "
                "the text before what it says, and the text behind."
            )
        if not {"user", ANSWERS} <= set(self._template):
            raise ConfigError(
                "config.objective.chat_template must have the roles 'user' and 'assistant'; it has "
                f"{', '.join(map(repr, self._template)) or 'none'}."
            )

    @property
    def _template(self) -> dict[str, tuple[str, str]]:
        return {role: (before, behind) for role, before, behind in self.chat_template}

    @property
    def window(self) -> int:
        """One token more than the row: inputs and targets are shifted by one."""
        return self.length + 1

    @property
    def targets(self) -> int:
        """Every position may predict."""
        return self.length

    @property
    def answer_length(self) -> int:
        """Tokens of an answer that is generated, at most."""
        return self.target_length or self.length // 2

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt, at most: the answer has to find room behind it."""
        return max(1, self.length - self.answer_length)

    def task(self, data: Any) -> Task:
        """A list of `{"role", "content"}`; or, of config.data.tasks, a question and its answer.

        Arrays `tokens` and `answers` (1 where a token is to be predicted).
        """
        fields = ("source", "target") if data.tasks else (data.text_field,)

        def encode(records: Sequence[Record], tokenizer: Any, _: Any) -> list[list[dict]]:
            cut = [self._pieces(turns(record, fields[0]), record[0]) for record in records]
            ids = iter(tokenizer.encode_batch([text for some in cut for text, _ in some]))
            end = end_of_text(tokenizer)
            found = []
            for some in cut:
                tokens, answers = [], []
                for _, learned in some:
                    piece = next(ids)
                    piece = np.concatenate([piece, end]) if learned else piece
                    tokens.append(piece)
                    answers.append(np.full(len(piece), learned, np.int32))
                found.append(
                    [{"tokens": np.concatenate(tokens), "answers": np.concatenate(answers)}]
                )
            return found

        identity = ("instruction", self.chat_template)
        return Task(fields, ("tokens", "answers"), (), encode, None, identity)

    def _pieces(self, conversation: Sequence[Turn], where: str) -> list[tuple[str, bool]]:
        """(text, whether it is learned) in order."""
        pieces: list[tuple[str, bool]] = []
        for role, text in conversation:
            if role not in self._template:
                raise DataError(
                    f"{where} has the role {role!r}, which config.objective.chat_template lacks; it"
                    f" has {', '.join(map(repr, self._template))}"
                )
            before, behind = self._template[role]
            pieces += [(before, False), (text, role == ANSWERS), (behind, False)]
        return [(text, learned) for text, learned in pieces if text or learned]

    def longer(self, store: ExampleStore, tokenizer: Any) -> np.ndarray:
        """Bool [E]: whose conversation does not fit into a row."""
        return store.sizes("tokens") > self.window

    def features(
        self, example: dict[str, Any], rng: np.random.Generator, tokenizer: Any
    ) -> dict[str, np.ndarray]:
        """`tokens`, `targets`, `weights` of the row's conversations, each with a segment."""
        rows: dict[str, list[np.ndarray]] = {
            key: [] for key in ("tokens", "targets", "weights", "segment_ids", "positions")
        }
        for number, one in enumerate(example["examples"], 1):
            tokens, answers = one["tokens"], one["answers"]
            size = len(tokens) - 1
            rows["tokens"].append(tokens[:-1])
            rows["targets"].append(tokens[1:])
            rows["weights"].append(answers[1:])
            rows["segment_ids"].append(np.full(size, number))
            rows["positions"].append(np.arange(size))
        return {
            key: pad(np.concatenate(parts), self.length, "float32" if key == "weights" else "int32")
            for key, parts in rows.items()
        }

    def prompts(self, records: Sequence[Record], tokenizer: Any) -> tuple[list, list[list[str]]]:
        """The ids up to the last answer of each record, and the texts of which one is wanted."""
        prompts, answers = [], []
        for record in records:
            conversation = turns(record, "messages")
            last = max(n for n, (role, _) in enumerate(conversation) if role == ANSWERS)
            before = self._pieces(conversation[:last], record[0])
            text = [piece for piece, _ in before] + [self._template[ANSWERS][0]]
            learned = [flag for _, flag in before] + [False]
            ids = tokenizer.encode_batch(text)
            end = end_of_text(tokenizer)
            parts = [np.append(i, end) if f else i for i, f in zip(ids, learned, strict=True)]
            prompts.append(np.concatenate(parts).astype(np.int32))
            pair = len(record[1]) == 2
            answers.append(record[1][1] if pair else [conversation[last][1]])
        return prompts, answers


def turns(record: Record, field: str) -> list[Turn]:
    """The conversation of a record: its messages, or a question and its answer.

    Raises:
      DataError: messages of another form, or without an answer.
    """
    where, values = record
    if len(values) == 2:
        return [("user", values[0]), (ANSWERS, values[1][0])]
    try:
        found = [(message["role"], message["content"]) for message in values[0]]
    except (TypeError, KeyError) as error:
        raise DataError(
            f"field '{field}' of {where} must be a list of objects with 'role' and 'content'"
        ) from error
    for role, text in found:
        as_text(role, "role", where), as_text(text, "content", where)
    if ANSWERS not in [role for role, _ in found]:
        raise DataError(f"{where} has no message of the role '{ANSWERS}': nothing to learn")
    return found
