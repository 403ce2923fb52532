"""The answer first: what to protect, what it costs, what each language loses then."""

from jaxprotect.runs.comparisons import Group, excludes_zero
from jaxprotect.runs.findings import Finding, describe
from jaxprotect.runs.wording import (
    counted,
    listed,
    of_weights,
    percent,
    relative_cell,
    with_interval,
)

WITHIN = 0.05
"""Share of the eligible weights that the answer stays within, where anything was measured there."""


def best_within(group: Group, share: float = WITHIN) -> str | None:
    """The protection of at most this share that leaves the worst language the least; or None."""
    within = [name for name in group.protected() if group.rows[name]["fraction"] <= share]
    return min(within, key=lambda name: group.rows[name]["worst_relative"], default=None)


def chosen(group: Group) -> str | None:
    """The protection that the answer is about: the best one within 5 %, or else of any size."""
    return best_within(group) or best_within(group, 1.0)


def lead(group: Group) -> list[Finding]:
    """Three answers in a few sentences, about the variants of one quantizer.

    Args:
        group: variants of one quantizer.

    Returns:
        What to protect, what it costs, what each language loses.
    """
    variant = chosen(group)
    return [
        Finding(title="What to protect", text=_what(group, variant)),
        Finding(title="What it costs", text=_cost(group, variant)),
        Finding(title="What each language loses", text=_loss(group, variant)),
    ]


def _what(group: Group, variant: str | None) -> str:
    if variant is None:
        return "Nothing was protected in this run, so it cannot tell."
    within = best_within(group) is not None
    among = [
        name for name in group.protected() if not within or group.rows[name]["fraction"] <= WITHIN
    ]
    limit = f" within {of_weights(WITHIN)} of the weights" if within else ""
    words = describe(group, variant).replace(" %", " % of the eligible weights")
    text = f"{words[0].upper()}{words[1:]}. "
    if len(among) > 1:
        text += f"Of {len(among)} protections{limit} it leaves the worst-hit language the least. "
    else:
        text += f"It is the only protection measured{limit}. "
    if group.plain is not None:
        removed = group.removed(variant)
        if removed.low is None:
            text += "One sentence does not show whether it helps."
        elif not excludes_zero(removed):
            text += "That it helps is not shown: the paired interval includes 0."
        elif (removed.value or 0) < 0:
            text += "It makes the worst damage larger: better protect nothing."
        elif len(among) > 1:
            text += "Chosen and measured on the same sentences, so it looks better than it is."
    return text.strip()


def _cost(group: Group, variant: str | None) -> str:
    if variant is None:
        assert group.plain is not None
        return f"The quantized model takes {_kib(group.rows[group.plain]['bytes'])}."
    row = group.rows[variant]
    count = f"{of_weights(row['fraction'])} of the eligible weights ({row['protected']:,})"
    text = f"{count} in high precision: {_kib(row['overhead_bytes'])} more"
    plain = row["bytes"] - row["overhead_bytes"]
    if plain > 0:
        text += f", {percent(row['overhead_bytes'] / plain)} of the {_kib(plain)} without it"
    return f"{text}. Values and indices are counted."


def _kib(size: float) -> str:
    return f"{size / 1024:,.1f} KiB"


def _loss(group: Group, variant: str | None) -> str:
    after = variant or group.plain
    assert after is not None
    row, names = group.rows[after], group.names
    ordered = sorted(group.languages[after].values(), key=lambda of: -of["relative"])
    worst, least = ordered[0], ordered[-1]
    text = f"At most {relative_cell(row, 'worst_relative')} ({names[worst['language']]})"
    if group.plain is not None and variant is not None:
        before = group.rows[group.plain]
        text += (
            f", unprotected {relative_cell(before, 'worst_relative')} "
            f"({names[before['worst_language']]})"
        )
    if len(ordered) > 1:
        text += f"; at least {relative_cell(least, 'relative')} ({names[least['language']]})"
    text += ". "
    if group.plain is not None and variant is not None:
        removed = group.removed(variant)
        assert removed.value is not None
        points = with_interval(
            removed.value, removed.low, removed.high, unit="percentage points", scale=100
        )
        text += f"Removed from the worst: {points}. "
        if removed.low is not None and len(ordered) > 1:
            added = [of for of in group.added(variant).values() if excludes_zero(of)]
            less = sum((of.value or 0) < 0 for of in added)
            text += (
                f"Beyond its own paired interval, {less} of {counted(len(ordered), 'language')} "
                f"{'loses' if less == 1 else 'lose'} less, {len(added) - less} more. "
            )
    destroyed = [names[language] for language in row["destroyed_languages"].split()]
    if destroyed:
        text += f"Worse than guessing: {listed(destroyed)}. "
    return text.strip()
