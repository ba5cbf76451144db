r"""Each family at BERT-mini's size on novels, for the same CPU time: rows of 16 tokens, then of 48.

  pretune train --config=configs/novels.py:family=bert,stage=short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/bert-short
  pretune train --config=configs/novels.py:family=bert,stage=long \
      --config.init_from=runs/bert-short \
      --config.data.source='DATA/eltec_eng/txt/*.txt' --workdir=runs/bert

Arguments: family=gpt|bert|roberta|xlnet|t5, stage=short|long. The steps are those that take each
family about eight CPU minutes in the first stage and four in the second (docs/results.md).

As BERT itself was trained on rows of 128 before rows of 512 (Devlin et al. 2019, section A.2): in
a short row the next word is one of few to attend to, and a small model leaves the unigram level
sooner (docs/results.md). The second stage trains the rest of the position table.
"""

from ml_collections import ConfigDict

from configs import base, bert, gpt, roberta, t5, xlnet

FAMILIES = {"gpt": gpt, "bert": bert, "roberta": roberta, "xlnet": xlnet, "t5": t5}
# More is predicted of a row than in the published recipes: there is no second epoch.
OBJECTIVES = {
    "gpt": {},
    "bert": {"mask_rate": 0.4},
    "roberta": {"mask_rate": 0.4},
    "xlnet": {"span_context": 3},
    "t5": {"noise_rate": 0.4},
}
# steps of 64 rows of 16 tokens, then of 24 rows of 48
STEPS = {
    "gpt": (1500, 680),
    "bert": (1850, 750),
    "roberta": (1900, 800),
    "xlnet": (1600, 660),
    "t5": (1200, 560),
}


def get_config(arg: str = "") -> ConfigDict:
    """One of the two stages of a family."""
    args = base.arguments(arg, family="bert", stage="short")
    name = args["family"]
    family = base.choose("family", name, FAMILIES)
    recipe = base.choose("stage", args["stage"], {"short": short, "long": long})
    c = family.get_config("size=mini")
    c.tokenizer.vocab_size = 4096
    c.model.initializer_std = 0.03
    c.model.dropout = 0.0  # a part of the text is seen, once
    c.model.dtype = "bfloat16"
    c.objective.update(OBJECTIVES[name])
    c.optimizer.b2, c.optimizer.schedule, c.optimizer.warmup_steps = 0.98, "linear", 100
    c.evaluation.max_rows = 500
    c.checkpoint.keep = 1
    recipe(c, *STEPS[name])
    return base.lock(c)


def short(c: ConfigDict, steps: int, _: int) -> None:
    """Two thirds of the time."""
    c.steps, c.batch_size, c.length = steps, 64, 16
    c.model.mem_len = c.model.reuse_len = 0  # the rows are too short to be shared with a memory
    c.optimizer.learning_rate = 1e-3
    c.evaluation.every = c.checkpoint.every = 200


def long(c: ConfigDict, _: int, steps: int) -> None:
    """The last third, at the length of the sentences to come."""
    c.steps, c.batch_size, c.length = steps, 24, 48
    if c.model.family == "xlnet":
        c.model.mem_len = c.model.reuse_len = 24
    c.optimizer.learning_rate = 5e-4
    c.evaluation.every = c.checkpoint.every = 100
