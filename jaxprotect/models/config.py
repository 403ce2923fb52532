"""One frozen description of a transformer, whatever its family."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from jaxprotect.errors import InputError

Positions = Literal["learned", "rotary", "alibi"]
Norm = Literal["layer", "rms"]


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Rotary frequencies for a longer context than the model was first trained with.

    Args:
        kind: `linear` or `llama3`, see `positions`.
        factor: what slow frequencies are divided by.
        low: turns in the original context below which a frequency is slow (llama3 only).
        high: turns above which it keeps its speed (llama3 only).
        original_context: the context of the first training (llama3 only).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 0.0
    high: float = 0.0
    original_context: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of a transformer: all that `forward` needs to know.

    Args:
        family: the checkpoint's `model_type`, such as `gpt2`; see `families`.
        masked: a masked language model (BERT): attention sees both sides, and before the head
            come a dense layer, an activation and a norm. Else a causal one.
        layers: number of blocks (L).
        width: size of the residual stream (D).
        heads: attention heads per block (H).
        queries_per_key: neighbouring heads that share keys and values; the heads of keys and
            values are J = H / this (Llama's grouped heads).
        own_head_size: the head size K where it is not `width / heads`; else 0.
        mlp_width: hidden size of the MLP (F).
        vocab_size: rows of the token embedding (V).
        context: longest input in tokens (T).
        activation: name of the MLP's nonlinearity, as the checkpoint spells it.
        gated_mlp: the MLP's hidden units are multiplied by an activated gate (Llama).
        norm: `layer` subtracts the mean and has biases; `rms` does neither (Llama).
        norm_epsilon: epsilon of every norm.
        positions: how positions enter: a learned table, rotary queries and keys, or ALiBi.
        position_offset: rows of the position table before position 0 (OPT and XLM-R keep 2).
        token_types: rows of the token type table, of which row 0 is added to every token (BERT);
            0 without one.
        rotary_dim: leading head dimensions that rotate (rotary only).
        rotary_theta: base of the rotary frequencies.
        rotary_scaling: how they are stretched; None where they are not.
        window: positions that a token attends to, its own among them; 0 without a limit.
        window_from_layer: the first layer with that limit (a Qwen2 option).
        parallel_residual: attention and MLP both read the block's input (GPT-NeoX).
        residual_after_norm: the residual is the normed input (a BLOOM option).
        norm_after: each norm follows its sum with the residual, not the residual alone (BERT).
        fused_qkv: the checkpoint stores q, k and v as one tensor, so they share one scale.
        attention_bias: attention projections have biases.
        out_bias: the output projection too, if the others do (in Qwen2 it does not).
        mlp_bias: MLP projections have biases.
        embedding_norm: a layer norm follows the embedding (BLOOM, BERT).
        final_norm: a layer norm precedes the head.
        tied_head: the head is the transposed token embedding.
        head_activation: follows the dense layer before the head (masked only).
        scale_attention: scores are divided by sqrt(K).
        scale_by_layer: scores are further divided by (layer index + 1) (a GPT-2 option).
    """

    family: str
    masked: bool = False
    layers: int
    width: int
    heads: int
    queries_per_key: int = 1
    own_head_size: int = 0
    mlp_width: int
    vocab_size: int
    context: int
    activation: str = "gelu_new"
    gated_mlp: bool = False
    norm: Norm = "layer"
    norm_epsilon: float = 1e-5
    positions: Positions = "learned"
    position_offset: int = 0
    token_types: int = 0
    rotary_dim: int = 0
    rotary_theta: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    window: int = 0
    window_from_layer: int = 0
    parallel_residual: bool = False
    residual_after_norm: bool = False
    norm_after: bool = False
    fused_qkv: bool = True
    attention_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    embedding_norm: bool = False
    final_norm: bool = True
    tied_head: bool = True
    head_activation: str = "gelu"
    scale_attention: bool = True
    scale_by_layer: bool = False

    @property
    def head_size(self) -> int:
        """K, the width of one attention head."""
        return self.own_head_size or self.width // self.heads

    @property
    def key_heads(self) -> int:
        """J, heads of keys and values."""
        return self.heads // self.queries_per_key


def require_causal(config: ModelConfig, what: str) -> None:
    """Refuse a masked model where only a causal one makes sense.

    Args:
        config: the architecture.
        what: what makes sense for causal models only, as the message's subject.

    Raises:
        InputError: the model is masked.
    """
    if config.masked:
        raise InputError(
            f"{what} needs a causal model; the model is of the masked family {config.family}"
        )


def complete(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an architecture as a manifest has them, and those that did not exist then.

    Args:
        architecture: field -> value.

    Returns:
        The same, with the defaults of the fields that are missing.
    """
    defaults = {f.name: f.default for f in fields(ModelConfig) if f.default is not MISSING}
    return defaults | dict(architecture)
