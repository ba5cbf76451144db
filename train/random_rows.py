"""Batches of random ids of the right shapes, for timing and counting without data."""

from typing import Any

import numpy as np


def random_example(rows: str, window: int, vocab: int, rng: np.random.Generator) -> dict[str, Any]:
    """A row as input_pipeline gives it, of random ids."""
    tokens = rng.integers(0, vocab, max(window, 1)).astype(np.int32)
    stream = {
        "tokens": tokens,
        "segment_ids": np.ones(window, np.int32),
        "positions": np.arange(window, dtype=np.int32),
    }
    sentences = {
        "tokens": tokens[: window // 2],
        "sentence_starts": np.asarray([0, window // 4]),
        "document_starts": np.asarray([], np.int32),
        "distractor": tokens[window // 2 :],
    }
    return {
        "stream": stream,
        "mixture": stream,
        "pairs": {"tokens_a": tokens, "tokens_b": tokens},
        "contiguous": {"tokens": tokens, "elsewhere": tokens, "backward": 0, "continues": 1},
        "sentences": sentences,
        "sentence_pairs": sentences,
        "full_sentences": {**sentences, "tokens": tokens},
        "examples": random_labelled(tokens),
        "packed": {"examples": [{"tokens": tokens, "answers": np.ones(window, np.int32)}]},
    }[rows]


def random_labelled(tokens: np.ndarray) -> dict[str, Any]:
    """What any task makes of a record: each objective takes its own."""
    count, short = len(tokens), max(1, len(tokens) // 4)
    none, ones = tokens[:0], np.ones(count, np.int32)
    texts = {"tokens_a": tokens, "tokens_b": none, "label": 0, "record": 0}
    words = {"tokens": tokens, "pieces": ones, "tags": 0 * ones}
    question = {"question": tokens[:short], "context": tokens[: count // 2]}
    span = {"span": np.asarray([0, 0]), "owned": ones[: count // 2], "begin": 0}
    choices = {"choices": tokens[: 2 * short], "sizes": np.asarray([short, short])}
    return texts | words | question | span | choices


class RandomTokenizer:
    """What an objective's host half asks of a tokenizer, for ids without any text."""

    cls_id, sep_id, mask_id, eos_id = 1, 2, 3, 2
    pair_separators = 1

    def __init__(self, vocab_size: int) -> None:
        """Ids 0 to 3 are special."""
        self.is_special = np.arange(vocab_size) < 4
        self.word_start = np.ones(vocab_size, bool)
        self.sentinels = np.arange(vocab_size - 1, vocab_size - 1 - min(100, vocab_size // 4), -1)


def random_batch(config: Any, objective: Any) -> dict[str, np.ndarray]:
    """A global batch of full rows for the objective."""
    rng = np.random.default_rng(0)
    vocab = config.model.vocab_size
    window = objective.window or config.length
    examples = [
        objective.features(
            random_example(objective.rows, window, vocab, rng), rng, RandomTokenizer(vocab)
        )
        for _ in range(config.batch_size)
    ]
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}
