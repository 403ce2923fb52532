"""Options of a recommendation."""

from dataclasses import dataclass

from jaxprotect.errors import InputError, refuse_unknown

TECHNIQUE_NAMES = (
    "round_to_nearest",
    "calibrated_ranges",
    "error_compensation",
    "guided_protection",
    "guided_protection_int8",
    "clipped_protection",
    "mixed_precision",
    "clipped_mixed_precision",
    "clipped_mixed_protection",
    "whole_heads",
    "whole_layers",
    "cached_prefix",
)
"""Every technique, see `techniques.TECHNIQUES`; here because that takes long to import."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is tried within a budget.

    Args:
        techniques: which techniques; combinations of the best follow.
        combine: also try the best with error compensation and a cached prefix.
        rounds: candidates per guided choice.
    """

    techniques: tuple[str, ...] = TECHNIQUE_NAMES
    combine: bool = True
    rounds: int = 2

    def __post_init__(self) -> None:
        """Refuse techniques that do not exist, or none."""
        refuse_unknown("techniques", self.techniques, TECHNIQUE_NAMES)
        if not self.techniques:
            raise InputError(f"`techniques` is empty; allowed are {', '.join(TECHNIQUE_NAMES)}")
        if self.rounds < 1:
            raise InputError(f"`rounds` is {self.rounds}; it must be at least 1")
