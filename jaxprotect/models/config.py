"""One frozen description of a decoder-only transformer, whatever its family."""

from dataclasses import dataclass
from typing import Literal

Positions = Literal["learned", "rotary", "alibi"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of a decoder-only transformer: all that `forward` needs to know.

    Args:
        family: the checkpoint's `model_type` (`gpt2`, `opt`, `gpt_neox`, `bloom`).
        layers: number of blocks (L).
        width: size of the residual stream (D).
        heads: attention heads per block (H); the head size K is `width // heads`.
        mlp_width: hidden size of the MLP (F).
        vocab_size: rows of the token embedding (V).
        context: longest input in tokens (T).
        activation: name of the MLP's nonlinearity, as the checkpoint spells it.
        norm_epsilon: epsilon of every layer norm.
        positions: how positions enter: a learned table, rotary queries and keys, or ALiBi.
        position_offset: rows of the position table before position 0 (OPT keeps 2).
        rotary_dim: leading head dimensions that rotate (rotary only).
        rotary_theta: base of the rotary frequencies.
        parallel_residual: attention and MLP both read the block's input (GPT-NeoX).
        residual_after_norm: the residual is the normed input (a BLOOM option).
        fused_qkv: the checkpoint stores q, k and v as one tensor, so they share one scale.
        attention_bias: attention projections have biases.
        mlp_bias: MLP projections have biases.
        embedding_norm: a layer norm follows the token embedding (BLOOM).
        final_norm: a layer norm precedes the head.
        tied_head: the head is the transposed token embedding.
        scale_attention: scores are divided by sqrt(K).
        scale_by_layer: scores are further divided by (layer index + 1) (a GPT-2 option).
    """

    family: str
    layers: int
    width: int
    heads: int
    mlp_width: int
    vocab_size: int
    context: int
    activation: str = "gelu_new"
    norm_epsilon: float = 1e-5
    positions: Positions = "learned"
    position_offset: int = 0
    rotary_dim: int = 0
    rotary_theta: float = 10_000.0
    parallel_residual: bool = False
    residual_after_norm: bool = False
    fused_qkv: bool = True
    attention_bias: bool = True
    mlp_bias: bool = True
    embedding_norm: bool = False
    final_norm: bool = True
    tied_head: bool = True
    scale_attention: bool = True
    scale_by_layer: bool = False

    @property
    def head_size(self) -> int:
        """K, the width of one attention head."""
        return self.width // self.heads
