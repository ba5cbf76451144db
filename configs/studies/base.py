"""Every key of a study, with its default and what it means.

A study pre-trains once and then fine-tunes for each label budget, seed and arm. The two configs
inside are whole ones (configs/base.py), so `--config.pretrain.steps=2000` works.
"""

from ml_collections import ConfigDict


def get_config(pretrain: ConfigDict, finetune: ConfigDict) -> ConfigDict:
    """A study around a pre-training and a fine-tuning config, with the default grid."""
    c = ConfigDict()
    c.title = "What did pre-training buy?"
    c.pretrain = pretrain
    c.finetune = finetune  # data.budget, seed, init_from and tokenizer.path are set run by run
    c.arms = ("pretrained", "scratch")  # the first is compared with each of the others
    c.budgets = (64, 256, 0)  # labelled examples to fine-tune on; 0: all
    c.budget_steps = ()  # of training, for each budget; (): finetune.steps
    c.seeds = (0, 1, 2)  # of initialisation, order and choice of the labelled examples
    c.metric = "eval/accuracy"  # of the last step: nothing is selected on the evaluation split
    c.resamples = 10_000  # bootstrap replicates
    return c.lock()
