"""The same models and arrays in torch, on the kind of device that JAX computes on."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprotect.models.checkpoint import save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params


def torch_device() -> str:
    """What torch calls the kind of device that JAX computes on."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def tensor(array: np.ndarray) -> Any:
    """An array as a torch tensor on that device."""
    import torch

    return torch.from_numpy(array).to(torch_device())


def finished(result: Any) -> Any:
    """A result of torch, once its device has computed it."""
    import torch

    if torch_device() == "cuda":
        torch.cuda.synchronize()
    return result


def torch_twin(
    params: Params, config: ModelConfig, folder: Path, *, attention: str = "sdpa"
) -> Any:
    """The same model in torch `transformers`, read from a folder that is written for it.

    Args:
        params: the weights.
        config: their architecture.
        folder: a new folder.
        attention: torch's own fused attention, or `eager`, which vmap can differentiate.

    Returns:
        The model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    save_model_folder(folder, params, config)
    named = {"dtype": torch.float32, "attn_implementation": attention}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, **named)
    return model.eval().to(torch_device())
