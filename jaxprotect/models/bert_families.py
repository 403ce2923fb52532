"""BERT and XLM-RoBERTa: masked language models, whose norms follow the residual's sums."""

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.family import Family, Fields, refused

_FIELDS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
    "vocab_size": "vocab_size",
    "activation": "hidden_act",
    "norm_epsilon": "layer_norm_eps",
    "token_types": "type_vocab_size",
}
_CONSTANTS: Fields = {
    "masked": True,
    "norm_after": True,
    "embedding_norm": True,
    "fused_qkv": False,
    "positions": "learned",
}
_ONLY: Fields = {
    "is_decoder": False,
    "tie_word_embeddings": True,
    "position_embedding_type": "absolute",
}
"""Fields whose other values make another model of it."""

_IGNORED = frozenset(
    {
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
        *("pooler_type", "pooler_fc_size", "pooler_num_attention_heads"),
        *("pooler_num_fc_layers", "pooler_size_per_head", "directionality"),
    }
)
"""Dropout, and what mBERT's config says of the pooler, which no masked token goes through."""


def _check(hf: Fields) -> None:
    for name, allowed in _ONLY.items():
        if hf.get(name, allowed) != allowed:
            shown = str(allowed).lower() if isinstance(allowed, bool) else repr(allowed)
            raise refused(name, hf[name], shown)
    types = hf["type_vocab_size"]
    if type(types) is not int or not 0 < types < 2**31:
        raise refused("type_vocab_size", types, "whole numbers above 0")


def _read_bert(hf: Fields) -> Fields:
    _check(hf)
    return {}


def _write_bert(config: ModelConfig) -> Fields:
    return {"is_decoder": False, "tie_word_embeddings": True}


def _read_xlm_roberta(hf: Fields) -> Fields:
    """RoBERTa's positions count from the row after that of the padding token."""
    _check(hf)
    padding, rows = hf["pad_token_id"], hf["max_position_embeddings"]
    if type(rows) is not int or not 1 < rows < 2**31:
        raise refused("max_position_embeddings", rows, "whole numbers above 1")
    if type(padding) is not int or not 0 <= padding < rows - 1:
        allowed = f"0 to {rows - 2}, as the positions start after its row of the {rows}"
        raise refused("pad_token_id", padding, allowed)
    return {"position_offset": padding + 1, "context": rows - padding - 1}


def _write_xlm_roberta(config: ModelConfig) -> Fields:
    rows = config.context + config.position_offset
    own = {"max_position_embeddings": rows, "pad_token_id": config.position_offset - 1}
    return _write_bert(config) | own


BERT = Family(
    architecture="BertForMaskedLM",
    fields=_FIELDS | {"context": "max_position_embeddings", "head_activation": "hidden_act"},
    constants=_CONSTANTS,
    special=frozenset(_ONLY),
    read_special=_read_bert,
    write_special=_write_bert,
    ignored=_IGNORED,
)
XLM_ROBERTA = Family(
    architecture="XLMRobertaForMaskedLM",
    fields=_FIELDS,
    # Its head has this activation, whatever the blocks have.
    constants=_CONSTANTS | {"head_activation": "gelu"},
    special=frozenset(_ONLY) | {"max_position_embeddings", "pad_token_id"},
    read_special=_read_xlm_roberta,
    write_special=_write_xlm_roberta,
    ignored=_IGNORED,
)
