"""What a quantizer does, as data."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxprotect.errors import InputError, unknown_name
from jaxprotect.models.axes import ELIGIBLE, Eligible

Granularity = Literal["channel", "tensor", "group"]
ProtectedDtype = Literal["float32", "float16", "bfloat16", "int8"]
Ranges = Literal["absmax", "percentile", "mse", "aciq", "activation_mse", "fisher_mse", "learned"]
DATA_FREE_RANGES: tuple[Ranges, ...] = ("absmax", "percentile", "mse", "aciq")
"""Ranges that follow from the weights alone."""

RANGE_NAMES: dict[Ranges, str] = {
    "absmax": "absmax",
    "percentile": "percentile",
    "mse": "MSE",
    "aciq": "ACIQ",
    "activation_mse": "activation MSE",
    "fisher_mse": "Fisher MSE",
    "learned": "learned",
}
"""How tables call each."""


@dataclass(frozen=True, kw_only=True)
class QuantSpec:
    """How weights are rounded, and which weights are rounded at all.

    Args:
        bits: bits per quantized weight, 2 to 8.
        granularity: weights that share one scale: an output channel, a checkpoint tensor, or a
            group of `group_size` inputs of one output channel.
        group_size: inputs per group (group only); the last group may be shorter.
        symmetric: levels around zero, scale = max|w| / (2^(bits-1) - 1); else levels from the
            smallest to the largest weight with an integer zero point.
        scale_from: which weights set the scale: the unprotected ones, or all of them.
        eligible: which parameters are quantized at all: matrices (kernels and embeddings);
            weights (norm gains too: all that checkpoints name `weight`, the seed protocol); or
            everything (biases too).
        protected_dtype: how protected weights are stored; int8 has one scale per tensor, and
            leaves that are not eligible are float16 then.
        ranges: what the grid of a block reaches to: its largest weight; a percentile of its
            weights; where the squared error is least, or is expected to be (aciq); or with data,
            as `grids`: least squared error weighted by activations or by Fisher information,
            learned.
    """

    bits: int = 4
    granularity: Granularity = "channel"
    group_size: int = 64
    symmetric: bool = True
    scale_from: Literal["unprotected", "all"] = "unprotected"
    eligible: Eligible = "matrices"
    protected_dtype: ProtectedDtype = "float32"
    ranges: Ranges = "absmax"

    def __post_init__(self) -> None:
        """Refuse values that no quantizer has."""
        if not 2 <= self.bits <= 8:
            raise InputError(f"`bits` is {self.bits}; allowed are 2 to 8")
        if self.group_size < 1:
            raise InputError(f"`group_size` is {self.group_size}; it must be at least 1")
        choices = {
            "granularity": ("channel", "tensor", "group"),
            "scale_from": ("unprotected", "all"),
            "eligible": ELIGIBLE,
            "protected_dtype": get_args(ProtectedDtype),
            "ranges": get_args(Ranges),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise unknown_name(name, getattr(self, name), allowed)

    @property
    def label(self) -> str:
        """Short name for tables, such as `INT4 per channel`."""
        groups = f"groups of {self.group_size}" if self.granularity == "group" else self.granularity
        joined = f"in {groups}" if self.granularity == "group" else f"per {groups}"
        extra = "" if self.symmetric else ", asymmetric"
        extra += "" if self.ranges == "absmax" else f", {RANGE_NAMES[self.ranges]} ranges"
        return f"INT{self.bits} {joined}{extra}"

    @property
    def other_dtype(self) -> Literal["float32", "float16", "bfloat16"]:
        """How leaves that are not eligible, and output channels of 16 bits, are stored."""
        return "float16" if self.protected_dtype == "int8" else self.protected_dtype


SEED_SPEC = QuantSpec(bits=4, granularity="tensor", scale_from="all", eligible="weights")
"""The original study's quantizer: symmetric per-tensor absmax INT4, scales taken before masking."""
