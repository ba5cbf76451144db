"""What a model answers, generated greedily, against what was wanted: exact match, ROUGE, BLEU."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.decode import generate
from model.sampling import Sampling
from train.seq2seq import end_of_text
from train.setup import Setup

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
METRICS = ("exact_match", *ROUGE, "bleu")


def answers(setup: Setup, params: Any, count: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Has the model answer held-out records; on one process (train/setup.py, `check`).

    Args:
      setup: of a run whose objective has `prompts`.
      params: the model's.
      count: so many records, spread evenly; more than there are: all.

    Returns:
      METRICS, in 0 to 1 (BLEU in 0 to 100, as it is published), and a line for each record.
    """
    objective, config = setup.program.objective, setup.config
    # Of a source that is also trained on, what was held out: `records` are all of its records.
    held = np.unique(np.concatenate([rows.numbers for rows in setup.data.examples[1]]))
    records, number = setup.data.records(), min(count, len(held))
    chosen = [int(held[i * len(held) // number]) for i in range(number)]
    prompts, wanted = objective.prompts([records[i] for i in chosen], setup.tokenizer)
    prompts = _within(prompts, objective.prompt_length)
    rows = config.evaluation.batch_size or config.batch_size
    end = [int(i) for i in end_of_text(setup.tokenizer)]
    # Prompts of like length together: each group is compiled for its longest.
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    found: list[str] = [""] * len(prompts)
    for begin in range(0, len(order), rows):
        group = order[begin : begin + rows]
        full = [prompts[i] for i in group] + [prompts[group[0]]] * (rows - len(group))
        texts = generate(
            setup.program.model, config.model, params, full, new_tokens=objective.answer_length,
            sampling=Sampling(temperature=0.0), seed=0, stop=end,
            vocab=setup.tokenizer.vocab_size,
        )  # fmt: skip
        for i, ids in zip(group, texts, strict=False):
            found[i] = setup.tokenizer.decode(ids).strip()
    lines = [
        {"record": i, "prediction": text, "answers": right}
        for i, text, right in zip(chosen, found, wanted, strict=True)
    ]
    return compare(found, wanted), lines


def _within(prompts: Sequence[np.ndarray], room: int) -> list[np.ndarray]:
    """Prompts without their beginning where that does not fit; how many those are is told."""
    if long := sum(len(prompt) > room for prompt in prompts):
        logging.warning(
            "%d of %d prompts are longer than %d tokens and lose their beginning.",
            long, len(prompts), room,
        )  # fmt: skip
    return [prompt[-room:] for prompt in prompts]


def compare(found: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """METRICS of texts, against the nearest of the texts that are right.

    rouge-score with Porter's stemmer (rougeLsum: a sentence a line); sacreBLEU of the whole corpus.
    """
    import sacrebleu  # slow to import
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(ROUGE, use_stemmer=True)
    pairs = list(zip(found, wanted, strict=True))
    rouge = [scorer.score_multi(right, text) for text, right in pairs]
    exact = [text in [one.strip() for one in right] for text, right in pairs]
    # sacreBLEU wants the first references of all, the second ones, ...; None where one has fewer.
    most = max(map(len, wanted))
    references = [[right[n] if n < len(right) else None for right in wanted] for n in range(most)]
    return {
        "exact_match": float(np.mean(exact)),
        **{kind: float(np.mean([score[kind].fmeasure for score in rouge])) for kind in ROUGE},
        "bleu": float(sacrebleu.corpus_bleu(list(found), references).score),
    }
