"""XLNet without its memory, its spans, its text in both directions.

  pretune study --config=configs/studies/ablations/xlnet_design.py --workdir=runs/xlnet-design

Yang et al. 2019, table 6, rows 4 to 7 (K = 6); row 8, with next-sentence prediction, is not here.
Each ablated model is a little worse than the full one; leaving out the memory costs most on long
texts. Each arm and seed is pre-trained by itself. Arguments: configs/studies/small.py. Verdicts:
docs/results.md.
"""

from ml_collections import ConfigDict

from configs import base
from configs.studies import base as studies
from configs.studies import small


def get_config(arg: str = "") -> ConfigDict:
    """The study of one task."""
    args = base.arguments(arg, **small.ARGUMENTS)
    stages = small.stages("xlnet", args)
    pretrain = stages["pretrain"]
    pretrain.model.mem_len = pretrain.model.reuse_len = pretrain.length // 2
    arms = {
        "whole": studies.arm("XLNet"),
        "memory": studies.arm("no memory", pretrain={"model": {"mem_len": 0, "reuse_len": 0}}),
        "spans": studies.arm("no spans", pretrain={"objective": {"max_span": 0}}),
        "direction": studies.arm("one direction", pretrain={"objective": {"bidirectional": False}}),
    }
    c = studies.get_config({"xlnet": stages}, arms)
    c.title = "XLNet: what do memory, spans and both directions give?"
    c.budgets, c.seeds, c.seeded = (1024,), (0, 1, 2), ("pretrain",)
    studies.publish(
        c,
        "Yang et al. 2019, XLNet, table 6",
        ("RACE", "SQuAD 2.0 F1", "MNLI-m", "SST-2"),
        (
            ("whole", 66.66, 80.98, 85.63, 93.35),
            ("memory", 65.55, 80.15, 85.32, 92.78),
            ("spans", 65.95, 80.61, 85.49, 93.12),
            ("direction", 66.34, 80.65, 85.31, 92.66),
        ),
        (("whole", "memory"), ("whole", "spans"), ("whole", "direction")),
    )
    return c
