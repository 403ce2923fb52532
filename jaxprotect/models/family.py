"""What a family is: how the config of one `model_type` is read and written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.models.config import ModelConfig

Fields = dict[str, Any]

COMMON_IGNORED = frozenset(
    {
        *("_name_or_path", "architectures", "model_type", "transformers_version", "dtype"),
        *("torch_dtype", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("output_attentions", "output_hidden_states", "return_dict", "use_cache", "output_past"),
        *("initializer_range", "gradient_checkpointing", "task_specific_params", "prefix"),
        *("tokenizer_class", "is_decoder", "transformers.js_config"),
        # Bookkeeping of older versions of transformers and of other tools.
        *("_attn_implementation_autoset", "_num_labels", "n_special", "predict_special_tokens"),
        *("torchscript", "use_bfloat16", "unsloth_fixed", "unsloth_version"),
    }
)
"""Fields that no family's forward pass reads; `*_token_id` fields are ignored as well."""

COMMON_ONLY: Fields = {"tie_encoder_decoder": False}
"""Fields that not every config class has any more, and the one value that they may have."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the config of one `model_type` is read and written.

    Args:
        architecture: the `transformers` class that holds the language model.
        fields: our field -> the checkpoint's field of the same meaning; serves both directions.
        constants: our fields that have one value in the whole family.
        special: the checkpoint's fields that need more than a change of name.
        read_special: the checkpoint's fields -> our remaining fields.
        write_special: the inverse.
        ignored: further fields that do not change the forward pass.
    """

    architecture: str
    fields: dict[str, str]
    constants: Fields
    special: frozenset[str]
    read_special: Callable[[Fields], Fields]
    write_special: Callable[[ModelConfig], Fields]
    ignored: frozenset[str]


def refused(field: str, value: object, allowed: str) -> InputError:
    """The error of a config field whose value is not supported."""
    return InputError(f"config field `{field}` is {value!r}; allowed: {allowed}")
