"""The answer of a search for a minimal set, in a few sentences."""

from jaxprotect.runs.criteria_figures import criterion_name
from jaxprotect.runs.findings import Finding
from jaxprotect.runs.minimal_folder import MinimalFolder
from jaxprotect.runs.wording import (
    cell,
    counted,
    disparity_cell,
    listed,
    number,
    of_weights,
    percent,
    relative_cell,
    undefined_because,
)


def target_words(search: MinimalFolder) -> str:
    """The target as the page says it."""
    return search.summary["target"].replace("<=", "≤")


def set_words(search: MinimalFolder) -> str:
    """The set that was measured on test, in a heading."""
    return f"protecting {counted(search.kept, 'weight')}" if search.kept else "protecting nothing"


def answer(search: MinimalFolder) -> list[Finding]:
    """What to protect, what it costs, whether the target is met, what each language loses.

    Args:
        search: a finished search.

    Returns:
        Four findings.
    """
    return [
        Finding(title="What to protect", text=_what(search)),
        Finding(title="What it costs", text=_cost(search)),
        Finding(title="Is the target met?", text=_met(search)),
        Finding(title="What each language loses", text=_loss(search)),
    ]


def _share(search: MinimalFolder) -> str:
    found, total = search.kept, search.summary["eligible"]
    return f"{counted(found, 'weight')}, {of_weights(found / total)} of the {total:,} eligible ones"


def _what(search: MinimalFolder) -> str:
    summary = search.summary
    if summary["found"] == 0:
        return "Nothing: plain quantization meets the target in every language."
    chosen = f"chosen by the criterion {criterion_name(summary['criterion'])}"
    if summary["found"] is None:
        return (
            "No set that was tried is enough. The closest one, on which the rest of this page is: "
            f"{_share(search)}, {chosen}."
        )
    text = f"{_share(search)}, {chosen}. mask.npz says which. "
    if summary["pruned_from"] is not None:
        text += f"They are what is left of {summary['pruned_from']:,} after pruning. "
    bound = summary["lower_bound"]
    if bound is not None:
        text += (
            f"By the surrogate, which is linear, no set below {bound:,.0f} weights can be enough: "
            f"this one is {number(summary['found'] / bound, 2)} times as large. "
            if bound
            else ""
        )
    return text.strip()


def _cost(search: MinimalFolder) -> str:
    row = search.summary
    whole, more = row["bytes"], row["overhead_bytes"]
    if not search.kept:
        return f"The quantized model takes {_kib(whole)}."
    text = f"{_kib(more)} ({more:,} bytes) more"
    if whole > more:
        text += f", {percent(more / (whole - more))} of the {_kib(whole - more)} without it"
    return f"{text}; {_kib(whole)} in all. Values and indices are counted."


def _met(search: MinimalFolder) -> str:
    row = search.summary
    text = f"The target: {target_words(search)}, in every language. On tune, where it was sought: "
    if row["found"] is None:
        text += f"no, {percent(row['closest_excess'])} of the original nats short at the closest. "
    else:
        text += f"yes, with {search.level} confidence. "
    text += f"On test ({counted(row['test_sentences'], 'sentence')}), where nothing was chosen: "
    if row["test_met"]:
        return f"{text}yes, with {search.level} confidence."
    tightest = search.names[row["test_tightest_language"]]
    short = f"{tightest} may miss it by {percent(row['test_upper_excess'])} of the original nats"
    if row["test_met_on_average"]:
        return f"{text}on average yes, but not with {search.level} confidence: {short}."
    return f"{text}no: {short}."


def _loss(search: MinimalFolder) -> str:
    row, names = search.summary, search.names
    test = {
        key.removeprefix("test_"): value for key, value in row.items() if key.startswith("test_")
    }
    text = f"On test, at most {relative_cell(test, 'worst_relative')}"
    text += f" ({names[test['worst_language']]})"
    if search.kept:
        text += f", unprotected {relative_cell(test, 'unprotected_worst_relative')}"
        text += f" ({names[test['unprotected_worst_language']]})"
    text += f". In nats per sentence, at most {cell(test, 'worst_damage')}"
    text += f" ({names[test['worst_absolute_language']]}). "
    against = listed([names[code] for code in test["reference_languages"].split()])
    text += f"Disparity, the worst over the mean of {against}: {disparity_cell(test)}"
    reason = undefined_because(test)
    text += f", as {reason}. " if reason else ". "
    destroyed = [names[code] for code in test["destroyed_languages"].split()]
    if destroyed:
        text += f"Worse than guessing: {listed(destroyed)}."
    return text.strip()


def _kib(size: float) -> str:
    return f"{size / 1024:,.1f} KiB"
