"""A loaded model: what every later room receives."""

from dataclasses import dataclass
from typing import Any

from jaxprotect.models.config import ModelConfig
from jaxprotect.models.prefix import Prefix
from jaxprotect.models.transformer import Params


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint in memory.

    Args:
        config: the architecture.
        params: float32 parameter tree; of a packed model its matrices bring their own product.
        tokenizer: the checkpoint's `transformers` tokenizer.
        name: hub id or folder, as the user gave it.
        revision: commit of the hub repository; None for a folder.
        sha256: checksum of the weights as stored, over all weight files in order.
        prefix: cached tokens that stand before every text; packed models may have one.
    """

    config: ModelConfig
    params: Params
    tokenizer: Any
    name: str
    revision: str | None = None
    sha256: str = ""
    prefix: Prefix | None = None
