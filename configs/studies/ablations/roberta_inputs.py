"""RoBERTa's four input formats, two with next-sentence prediction and two without.

  pretune study --config=configs/studies/ablations/roberta_inputs.py --workdir=runs/roberta-inputs

Liu et al. 2019, table 2 (with BERT's architecture, as there): single sentences hurt; without
next-sentence prediction runs of sentences are at least as good, within documents a little better.
Rows are 64 tokens in all four; the paper gives formats with shorter rows more of them. Each arm and
seed is pre-trained by itself. Arguments: configs/studies/small.py. Verdicts: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("bert", args)
    arms = {
        "segments": with_nsp("SEGMENT-PAIR + NSP", "segments"),
        "sentences": with_nsp("SENTENCE-PAIR + NSP", "sentences"),
        "full": without_nsp("FULL-SENTENCES", "full_sentences"),
        "doc": without_nsp("DOC-SENTENCES", "doc_sentences"),
    }
    c = studies.get_config({"bert": stages}, arms)
    c.title = "What should a row of pre-training text hold?"
    c.budgets, c.seeds, c.seeded = (1024,), (0, 1, 2), ("pretrain",)
    studies.publish(
        c,
        "Liu et al. 2019, RoBERTa, table 2",
        ("SQuAD 2.0 F1", "MNLI-m", "SST-2", "RACE"),
        (
            ("segments", 78.7, 84.0, 92.9, 64.2),
            ("sentences", 76.2, 82.9, 92.1, 63.0),
            ("full", 79.1, 84.7, 92.5, 64.8),
            ("doc", 79.7, 84.7, 92.7, 65.6),
        ),
        (("segments", "sentences"), ("full", "segments"), ("doc", "segments"), ("doc", "full")),
    )
    return c


def with_nsp(label: str, pairs: str) -> ConfigDict:
    """An arm whose rows are pairs."""
    return studies.arm(label, pretrain={"objective": {"name": "masked_lm_nsp", "pairs": pairs}})


def without_nsp(label: str, packing: str) -> ConfigDict:
    """An arm whose rows are runs of sentences; tokens see the whole row."""
    objective = {"packing": packing, "isolate_documents": False}
    return studies.arm(label, pretrain={"objective": objective})
