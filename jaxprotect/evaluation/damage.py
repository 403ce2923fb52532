"""Records of what quantization costs: one language, one variant, one variant against another.

`to_row`, `rows` and `summary` give plain data under stable keys, for JSON lines and tables.
"""

import math
from dataclasses import dataclass

from jaxprotect.evaluation.bootstrap import Estimate
from jaxprotect.evaluation.evaluation import Evaluation

Row = dict[str, str | int | float | bool | None]
"""One line of a table."""


@dataclass(frozen=True, kw_only=True)
class LanguageDamage:
    """What one variant costs one language.

    Args:
        language: its code.
        sentences: S.
        damage: nats per sentence added.
        relative: share of the original nats added.
        relative_upper: upper bound of `relative` that holds in all languages at once; None
            without intervals.
        nats_original: nats per sentence before.
        nats_quantized: nats per sentence after.
        bits_per_byte_original: before.
        bits_per_byte_quantized: after.
        bits_per_character_original: before.
        bits_per_character_quantized: after.
        tokens_per_byte: scored tokens per byte; how finely the tokenizer cuts this language.
        nats_per_token: after, per scored token.
        destroyed: worse than guessing uniformly, `nats_per_token` > ln V.
    """

    language: str
    sentences: int
    damage: Estimate
    relative: Estimate
    relative_upper: float | None
    nats_original: float
    nats_quantized: float
    bits_per_byte_original: float
    bits_per_byte_quantized: float
    bits_per_character_original: float
    bits_per_character_quantized: float
    tokens_per_byte: float
    nats_per_token: float
    destroyed: bool

    def to_row(self) -> Row:
        """The fields as plain data; `damage` and `relative` with `_low` and `_high`."""
        row = {**vars(self), **self.damage.to_row("damage"), **self.relative.to_row("relative")}
        return row | {"interval_reason": self.relative.reason}


@dataclass(frozen=True, kw_only=True)
class Disparity:
    """How unequally one variant costs the languages.

    Args:
        languages: language -> its damage.
        reference: the languages whose mean relative damage is the yardstick.
        draws: bootstrap draws.
        level: coverage of every interval.
        worst: the language of largest relative damage, the first in order when tied.
        worst_relative: the largest relative damage. Its interval, like those of `worst_damage`,
            `gap` and `ratio`, holds whichever language truly is the worst
            (`simultaneous_interval`); this language's own is in `languages`.
        worst_absolute: the language of most nats per sentence added.
        worst_damage: nats per sentence added there.
        gap: largest minus smallest relative damage.
        reference_relative: mean relative damage of the reference languages.
        ratio: `worst_relative` / `reference_relative`; undefined unless the interval of the
            denominator lies above 0.
        abs_log_ratio: |ln ratio|.
        destroyed: languages where the model is worse than guessing uniformly.
    """

    languages: dict[str, LanguageDamage]
    reference: tuple[str, ...]
    draws: int
    level: float
    worst: str
    worst_relative: Estimate
    worst_absolute: str
    worst_damage: Estimate
    gap: Estimate
    reference_relative: Estimate
    ratio: Estimate
    abs_log_ratio: Estimate
    destroyed: tuple[str, ...]

    def rows(self) -> list[Row]:
        """One `LanguageDamage.to_row` per language."""
        return [damage.to_row() for damage in self.languages.values()]

    def summary(self) -> Row:
        """One flat row of plain data; lists of languages are joined by spaces."""
        return {
            "sentences": self.languages[self.worst].sentences,
            "worst_language": self.worst,
            **self.worst_relative.to_row("worst_relative"),
            "worst_absolute_language": self.worst_absolute,
            **self.worst_damage.to_row("worst_damage"),
            **self.gap.to_row("gap"),
            **self.reference_relative.to_row("reference_relative"),
            **self.ratio.to_row("ratio"),
            **self.abs_log_ratio.to_row("abs_log_ratio"),
            "ratio_reason": self.ratio.reason,
            "interval_reason": self.worst_relative.reason,
            "reference_languages": " ".join(self.reference),
            "destroyed_languages": " ".join(self.destroyed),
            "draws": self.draws,
            "level": self.level,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two variants on the same draws, second minus first; negative = the second costs less.

    Args:
        worst_relative: difference of the largest relative damages; the interval is that of the
            difference in each draw (both maxima are too large by about as much).
        worst_damage: difference of the largest damages in nats per sentence.
        relative: language -> difference of relative damages.
        damage: language -> difference of damages in nats per sentence.
    """

    worst_relative: Estimate
    worst_damage: Estimate
    relative: dict[str, Estimate]
    damage: dict[str, Estimate]

    def rows(self) -> list[Row]:
        """One row of plain data per language: `relative` and `damage` differences, intervals."""
        return [
            {
                "language": name,
                **self.relative[name].to_row("relative_difference"),
                **self.damage[name].to_row("damage_difference"),
            }
            for name in self.relative
        ]

    def summary(self) -> Row:
        """One flat row of plain data: the differences of the worst languages."""
        return {
            **self.worst_relative.to_row("worst_relative_difference"),
            **self.worst_damage.to_row("worst_damage_difference"),
            "interval_reason": self.worst_relative.reason,
        }


def language_damage(
    base: Evaluation,
    quantized: Evaluation,
    language: str,
    damage: Estimate,
    relative: Estimate,
    upper: float | None,
) -> LanguageDamage:
    """A language's record: the sums of an evaluation divided once, beside its estimates.

    Args:
        base: the original model's evaluation.
        quantized: the variant's.
        language: one of theirs.
        damage: nats per sentence added.
        relative: share of the original nats added.
        upper: simultaneous upper bound of `relative`.

    Returns:
        The record.
    """
    before, after = math.fsum(base.nats[language]), math.fsum(quantized.nats[language])
    tokens = int(base.tokens[language].sum())
    bits_byte = int(base.bytes[language].sum()) * math.log(2)
    bits_character = int(base.characters[language].sum()) * math.log(2)
    return LanguageDamage(
        language=language,
        sentences=len(base.ids),
        damage=damage,
        relative=relative,
        relative_upper=upper,
        nats_original=before / len(base.ids),
        nats_quantized=after / len(base.ids),
        bits_per_byte_original=before / bits_byte,
        bits_per_byte_quantized=after / bits_byte,
        bits_per_character_original=before / bits_character,
        bits_per_character_quantized=after / bits_character,
        tokens_per_byte=tokens / int(base.bytes[language].sum()),
        nats_per_token=after / tokens,
        destroyed=after / tokens > math.log(base.vocab_size),
    )
