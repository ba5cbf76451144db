"""RoBERTa as Hugging Face publishes it (`RobertaForMaskedLM` and the classes for tasks)."""

from typing import Any

from model.errors import ModelError
from model.pretrained.bert import (
    BOTH_WAYS,
    encoder,
    encoder_config,
    published_encoder,
    task_heads,
)
from model.pretrained.mapping import (
    Architecture,
    Entry,
    Layout,
    Published,
    dense,
    norm,
    same,
)
from model.roberta import FIRST_POSITION


def entries(config: Any) -> list[Entry]:
    """The map."""
    return [
        *encoder("roberta.", config.num_layers),
        *dense("head/lm/transform", "lm_head.dense"),
        *norm("head/lm/norm", "lm_head.layer_norm"),
        Entry("head/lm/bias", ("lm_head.bias",), same()),
        *dense("head/classification/dense", "classifier.dense"),
        *dense("head/classification/linear", "classifier.out_proj"),
        *task_heads(),
    ]


def model_config(theirs: Published) -> dict[str, Any]:
    """config.json -> config.model; positions begin after the padding id."""
    theirs.require(pad_token_id=FIRST_POSITION - 1)
    ours = encoder_config(theirs)
    return {**ours, "max_length": ours["max_length"] - FIRST_POSITION}


def published_config(config: Any) -> dict[str, Any]:
    """config.model -> config.json."""
    rows = config.max_length + FIRST_POSITION
    return {
        **published_encoder(config),
        "max_position_embeddings": rows,
        "pad_token_id": FIRST_POSITION - 1,
    }


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The ids; ModelError where padding is not 1, which the published code counts on."""
    if tokenizer.pad_id != FIRST_POSITION - 1:
        raise ModelError(
            f"The tokenizer's padding id is {tokenizer.pad_id}, but the published RoBERTa counts "
            f"positions from padding id {FIRST_POSITION - 1}; train with tokenizer.kind='bpe' to "
            "export."
        )
    return {"bos_token_id": tokenizer.cls_id, "eos_token_id": tokenizer.sep_id}


LAYOUT = Layout(
    model_type="roberta",
    architectures=(
        Architecture("RobertaForMaskedLM", ("lm",), "masked_lm", attention=BOTH_WAYS),
        Architecture("RobertaForCausalLM", ("lm",), "causal_lm", attention=("uni",)),
        Architecture(
            "RobertaForSequenceClassification", ("classification",), "classification",
            attention=BOTH_WAYS,
        ),
        Architecture("RobertaForQuestionAnswering", ("span",), "extractive_qa"),
        Architecture(
            "RobertaForTokenClassification", ("token_classification",), "token_classification"
        ),
        Architecture("RobertaModel", (), "", read_only=True),
    ),
    prefix="roberta.",
    entries=entries,
    to_model=model_config,
    to_published=published_config,
    special_tokens=special_tokens,
    framed=True,
    # The pooler was never trained: RoBERTa has no next sentence prediction.
    ignored=r"^roberta\.(embeddings\.position_ids$|pooler\.)",
    copies=(
        (r"^lm_head\.decoder\.weight$", "roberta.embeddings.word_embeddings.weight"),
        (r"^lm_head\.decoder\.bias$", "lm_head.bias"),
    ),
)  # fmt: skip
