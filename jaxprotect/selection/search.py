"""How to look for a minimal set, as data."""

from dataclasses import dataclass

from jaxprotect.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Search:
    """How to look for a minimal set.

    Args:
        criterion: how weights are ranked; one of `criteria.CRITERIA`.
        precision: stop when the found size is at most this multiple of a size that fails.
        max_fraction: try no larger share of the eligible weights.
        rounds: candidates per size of `language_guided`, each measured on tune.
        draws: bootstrap draws.
        level: confidence that every language meets the target.
    """

    criterion: str = "language_guided"
    precision: float = 1.1
    max_fraction: float = 0.5
    rounds: int = 3
    draws: int = 10_000
    level: float = 0.95

    def __post_init__(self) -> None:
        """Refuse numbers out of range before anything is measured."""
        if not self.precision > 1:
            raise InputError(f"`precision` is {self.precision}; it must be above 1")
        if not 0 < self.max_fraction <= 1:
            raise InputError(f"`max_fraction` is {self.max_fraction}; allowed is above 0 to 1")
        if self.rounds < 1:
            raise InputError(f"`rounds` is {self.rounds}; it must be at least 1")
