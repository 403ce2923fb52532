"""What a run shows, in sentences that claim no more than its intervals do."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from jaxprotect.runs.comparisons import Group, Row, duels, excludes_zero, verdict
from jaxprotect.runs.results import Run
from jaxprotect.runs.wording import (
    cell,
    counted,
    disparity_cell,
    listed,
    of_weights,
    percent,
    protection,
    relative_cell,
    undefined_because,
    with_interval,
)

BUDGETS = (0.01, 0.05, 0.20)
"""Shares of the eligible weights within which the best protection is looked up."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer.

    Args:
        title: what it is about.
        text: sentences.
    """

    title: str
    text: str


def findings(run: Run, group: Group) -> list[Finding]:
    """The answers that the variants of one quantizer give, the most important first.

    Args:
        run: the run.
        group: its variants of one quantizer.

    Returns:
        Findings; only those that the run has variants for.
    """
    found = []
    if group.plain is None:
        text = "The run has no unprotected variant, so what a protection removes is not known."
        found.append(Finding(title="Unprotected", text=text))
    else:
        found.append(Finding(title="Unprotected", text=_unprotected(group, group.plain)))
        found.append(Finding(title="Disparity", text=_disparity(group, group.rows[group.plain])))
    if group.protected():
        found.append(Finding(title="Best protection measured", text=_best(run, group)))
    if group.controls():
        found.append(Finding(title="Largest weights or random ones", text=_magnitude(group)))
    structure = _structure(group) if group.can_remove else ""
    if structure:
        found.append(Finding(title="Layers, heads and components", text=structure))
    return found


def what_was_run(run: Run, groups: Sequence[Group]) -> str:
    """Model, quantizer, texts, and how much of the plan is finished."""
    config, languages = run.manifest["config"], run.manifest["texts"]["languages"]
    sentences = len(run.manifest["texts"]["ids"])
    planned = {name for names in run.manifest["experiments"].values() for name in names}
    the_same = "the same " if sentences > 1 else ""
    text = (
        f"The model {run.manifest['model']['name']} was quantized to "
        f"{listed([group.quantizer for group in groups])} in "
        f"{counted(len(run.variants), 'variant')}, each measured on {the_same}"
        f"{counted(sentences, 'parallel sentence')} in {counted(len(languages), 'language')}"
    )
    text += f" (split {config['split']})." if config.get("split") else "."
    if config["protocol"] == "seed":
        text += " The seed protocol repeats the original study's quantizer and scoring."
    if not any(group.protected() for group in groups):
        text += " Nothing was protected."
    missing = len(planned - set(run.variants))
    if missing:
        text += f" The run is not finished: {counted(missing, 'planned variant')} not yet measured."
    if sentences == 1:
        text += " One sentence has no intervals: nothing beyond it can be concluded."
    return text


def _unprotected(group: Group, plain: str) -> str:
    row, names = group.rows[plain], group.names
    ordered = sorted(group.languages[plain].values(), key=lambda of: -of["relative"])
    worst, least = ordered[0], ordered[-1]
    worst_name, added = names[worst["language"]], relative_cell(row, "worst_relative")
    if row["worst_relative"] <= 0:
        text = f"No language loses anything as measured; the largest relative damage is {added}."
        return text
    has_interval = row["worst_relative_low"] is not None
    one_of_many = len(ordered) > 1
    text = f"{worst_name} suffers most: " if one_of_many else f"In {worst_name} it takes "
    text += f"{added} more nats than the unquantized model needs"
    if has_interval and one_of_many:
        text += f" ({group.level} interval, whichever language truly is the worst)"
    text += ". "
    if has_interval and one_of_many:
        overlap = [
            names[of["language"]]
            for of in ordered[1:]
            if of["relative_high"] >= worst["relative_low"]
        ]
        theirs = "interval of {} overlaps" if len(overlap) == 1 else "intervals of {} overlap"
        text += (
            f"The {theirs.format(listed(overlap))} with that of {worst_name}, so these sentences "
            "leave open which language suffers most. "
            if overlap
            else f"No other language's interval overlaps with that of {worst_name}. "
        )
    text += (
        f"Per sentence, most is added in {names[row['worst_absolute_language']]}: "
        f"{cell(row, 'worst_damage', unit='nats')}. "
    )
    if one_of_many:
        text += (
            f"{names[least['language']]} suffers least: {relative_cell(least, 'relative')}. The "
            f"two are {cell(row, 'gap', unit='percentage points', scale=100)} apart"
        )
        if has_interval:
            text += (
                ", and the interval lies above 0: the languages are not hurt alike"
                if row["gap_low"] > 0
                else ", and the interval reaches 0: that languages are hurt unequally is not shown"
            )
        text += ". "
    destroyed = [names[language] for language in row["destroyed_languages"].split()]
    if destroyed:
        text += f"Destroyed, that is worse than guessing uniformly: {listed(destroyed, 30)}."
    return text.strip()


def _disparity(group: Group, row: Row) -> str:
    reference = [group.names[language] for language in row["reference_languages"].split()]
    if row["ratio"] is None:
        return f"Undefined, because {undefined_because(row)}."
    who = f"that of {reference[0]}" if len(reference) == 1 else f"the mean of {listed(reference)}"
    text = (
        f"The largest relative damage is {cell(row, 'ratio')} times {who}, "
        f"{relative_cell(row, 'reference_relative')}. "
    )
    text += (
        "The interval stays above 1: the choice of sentences does not explain it."
        if row["ratio_low"] > 1
        else "The interval reaches 1: that there is a disparity is not shown."
    )
    if row["worst_language"] in row["reference_languages"].split():
        text += " The worst-hit language is itself one of the reference languages."
    return text


def _best(run: Run, group: Group) -> str:
    protected = group.protected()
    best = min(protected, key=lambda name: group.rows[name]["worst_relative"])
    row = group.rows[best]
    among = f"Of {len(protected)} protections, protecting" if len(protected) > 1 else "Protecting"
    text = (
        f"{among} {with_cost(group, best)} "
        f"leaves the least in the worst language: {relative_cell(row, 'worst_relative')}, measured "
        f"in {group.names[row['worst_language']]}. "
    )
    if group.plain is not None:
        removed = group.removed(best)
        assert removed.value is not None
        points = with_interval(
            removed.value, removed.low, removed.high, unit="percentage points", scale=100
        )
        text += f"Against no protection it removes {points}"
        if removed.low is None:
            text += ". "
        elif excludes_zero(removed):
            text += f" (paired {group.level} interval). "
        else:
            text += "; the paired interval includes 0, so that it helps is not shown. "
    if row["ratio"] is None:
        text += f"Its disparity is undefined, because {undefined_because(row)}. "
    else:
        text += f"Its disparity is {disparity_cell(row)}. "
    if len(protected) > 1:
        split = run.manifest["config"].get("split")
        where = f"the split {split}, which also gives the numbers" if split else "these sentences"
        text += (
            f"This is exploratory: all variants were looked at on {where}, and the best of many "
            "looks better than it is."
        )
    return text.strip()


def within_budgets(group: Group) -> list[tuple[str, str]]:
    """(budget, best variant within it), the last of them without a limit; none repeated."""
    chosen: dict[str, str] = {}
    for budget in (*BUDGETS, 1.0):
        within = [name for name in group.protected() if group.rows[name]["fraction"] <= budget]
        if within:
            best = min(within, key=lambda name: group.rows[name]["worst_relative"])
            chosen.setdefault(best, "any share" if budget == 1 else f"up to {of_weights(budget)}")
    return [(budget, best) for best, budget in chosen.items()]


def _magnitude(group: Group) -> str:
    ended: dict[str, list[str]] = {}
    for duel in duels(group):
        ended.setdefault(verdict(duel), []).append(of_weights(group.rows[duel.variant]["fraction"]))
    parts = [f"{how} at {listed(where, 12)}" for how, where in ended.items()]
    text = (
        "Protecting the largest weights, against random masks of as many weights, by the worst "
        f"language and beyond the paired intervals: {'; '.join(parts)}. "
    )
    means = {
        duel.variant: fmean(group.rows[name]["worst_relative"] for name in duel.random)
        for duel in duels(group)
    }
    last = list(means)[-1]
    text += (
        f"At {of_weights(group.rows[last]['fraction'])} the largest weights leave "
        f"{percent(group.rows[last]['worst_relative'])}, random ones "
        f"{percent(means[last])} on average. The paired {group.level} intervals are about other "
        "sentences; what other random masks would do, only the spread of these few tells."
    )
    return text


def _structure(group: Group) -> str:
    heads = group.of_kind("heads")
    kinds = [
        (group.of_kind("layers"), "choice of layers", "choices of layers"),
        (heads, "single head", "single heads"),
        (group.of_kind("components"), "choice of components", "choices of components"),
    ]
    texts = []
    for variants, one, many in kinds:
        if not variants:
            continue
        best = max(variants, key=lambda name: group.removed(name).value or 0.0)
        share = group.removed_share(best)
        estimates = [group.removed(name) for name in variants]
        above = sum(excludes_zero(e) and (e.value or 0) > 0 for e in estimates)
        assert share.value is not None
        removed = with_interval(share.value, share.low, share.high, unit="%", scale=100)
        text = f"Of {counted(len(variants), one, many)}, {above or 'none'} "
        text += "removes" if above == 1 else "remove"
        text += (
            " damage from the worst language beyond the paired interval; most is removed by "
            f"{with_cost(group, best)}: {removed} of it."
        )
        texts.append(text)
    if heads:
        texts.append(
            "Each interval stands alone: of heads without any effect, about one in "
            f"{round(2 / (1 - group.worst.level))} would seem to remove damage."
        )
    return " ".join(texts)


def describe(group: Group, variant: str) -> str:
    """What a variant of the group protects, in words."""
    return protection(variant, group.interventions[variant])


def with_cost(group: Group, variant: str) -> str:
    """What a variant protects, and its share of the eligible weights."""
    what = describe(group, variant)
    if group.interventions[variant]["kind"] in ("magnitude", "random"):
        return what.replace(" %", " % of the eligible weights")
    return f"{what} ({of_weights(group.rows[variant]['fraction'])} of the eligible weights)"
