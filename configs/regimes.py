r"""How much to train: each regime sets keys of configs/base.py in a fine-tuning config.

  pretune train --config=configs/finetune_classification.py:regime=lora ...

The head always trains, and with it BERT's pooler, except under LoRA: the same layer is in the heads
of RoBERTa and XLNet, and masked LM alone leaves it as it began. Freezing rules go before those that
a config has, whose factors and exceptions then hold for what is left.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base

Rules = tuple[tuple[str, str], ...]
HEAD = "^head/|^backbone/pooler/"


def apply(c: ConfigDict, name: str, layers: str = "2") -> None:
    """Changes a config that is not locked yet; `layers` is for the regimes that count layers."""
    regime = base.choose("regime", name, REGIMES)
    if not layers.isdecimal():
        raise base.ConfigError(f"The config argument layers is {layers!r}; it must be a number.")
    regime(c, int(layers))


def everything(c: ConfigDict, _: int = 0) -> None:
    """All parameters at the same rate."""


def head_only(c: ConfigDict, _: int = 0) -> None:
    """The heads on frozen features."""
    only(c, HEAD)


def last_layers(c: ConfigDict, layers: int) -> None:
    """The heads, the last layers (of encoder and decoder) and what follows them."""
    only(c, f"{HEAD}|{top(layers)}")


def bias_only(c: ConfigDict, _: int = 0) -> None:
    """The heads and all biases (BitFit, Ben Zaken et al. 2022); T5 has none, and is refused."""
    only(c, HEAD, keep=((r"^backbone/.*bias$", "no_decay"),))


def gradual(c: ConfigDict, _: int = 0) -> None:
    """From the head down to the embeddings, a depth at a time (ULMFiT, Howard & Ruder 2018, 3.3).

    They have one depth an epoch; here the depths share the first half of the steps.
    """
    c.optimizer.unfreeze_by = 0.5


def gradual_t5(c: ConfigDict, _: int = 0) -> None:
    """The same, with the token embedding, the output weights too, learning from the start.

    Raffel et al. 2020, section 3.5.1: encoder and decoder in parallel, a layer each twelfth of the
    steps.
    """
    c.optimizer.unfreeze_by = 11 / 12
    add_group(c, "from_start", (1.0, 1.0, 0))
    c.optimizer.rules = ((r"^backbone/tokens/", "from_start"), *c.optimizer.rules)


def discriminative(c: ConfigDict, _: int = 0) -> None:
    """A smaller rate for each depth (ULMFiT, Howard & Ruder 2018, section 3.2: 1/2.6)."""
    c.optimizer.layer_decay = 1 / 2.6


def layer_decay(c: ConfigDict, _: int = 0) -> None:
    """The same, gently: 0.8 for each depth (ELECTRA, Clark et al. 2020, appendix B)."""
    c.optimizer.layer_decay = 0.8


def lora(c: ConfigDict, _: int = 0) -> None:
    """The heads and LoRA of rank 8 on queries and values (Hu et al. 2021, appendix D.1).

    Small maps take higher rates than the weights that they stand for. A pooler stays as it was, as
    in PEFT, to whose layout such a run can be exported; one that was never trained is better left
    out (objective.pooling=mean).
    """
    c.adapters.lora_rank, c.adapters.lora_alpha = 8, 16.0
    c.optimizer.learning_rate *= 5
    only(c, "^head/|^adapters/")


def adapters(c: ConfigDict, _: int = 0) -> None:
    """The heads, the norms and bottlenecks of 64 in each sub-layer (Houlsby et al. 2019, 2.1)."""
    c.adapters.bottleneck = 64
    c.optimizer.learning_rate *= 5
    only(c, f"{HEAD}|^adapters/|norm/(bias|scale)$")


def reinit(c: ConfigDict, layers: int) -> None:
    """All, with the last layers and what follows them fresh (Zhang et al. 2021, section 4)."""
    c.reinit = (top(layers),)


REGIMES: dict[str, Any] = {
    "everything": everything,
    "head_only": head_only,
    "last_layers": last_layers,
    "bias_only": bias_only,
    "gradual": gradual,
    "gradual_t5": gradual_t5,
    "discriminative": discriminative,
    "layer_decay": layer_decay,
    "lora": lora,
    "adapters": adapters,
    "reinit": reinit,
}


def top(layers: int) -> str:
    """The pattern of the last layers, and of what lies between them and the heads."""
    return rf"/layer_-({'|'.join(map(str, range(layers + 1)))})/"


def only(c: ConfigDict, pattern: str, keep: Rules = ()) -> None:
    """Freezes all parameters but those of the pattern, and of the rules in `keep` before it."""
    add_group(c, "frozen", (0.0, 0.0))
    c.optimizer.rules = (*keep, (f"!{pattern}", "frozen"), *c.optimizer.rules)


def add_group(c: ConfigDict, name: str, numbers: tuple[float, ...]) -> None:
    """A further group of parameters."""
    c.optimizer.groups[name] = numbers
