"""The brief's claims, each beside a measurement."""

from dataclasses import replace
from typing import Any

import numpy as np

from jaxprotect.models.model import Model
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.tables import console, table
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import GUIDED, Evidence, select
from jaxprotect.selection.overlap import outlier_share


def claims(
    run: Run, model: Model, evidence: Evidence, found: dict[str, Any]
) -> list[dict[str, Any]]:
    """Claim, measurement and verdict.

    Args:
        run: a split of Exp-015 with criteria, parts and languages' own sets.
        model: the unquantized model.
        evidence: of the split.
        found: overlaps and contrasts of `language_questions`.

    Returns:
        Rows of `claim`, `measured`, `holds` (yes, no, open).
    """
    worst = _worst_by_variant(run)
    rows = [
        _five_percent(run, worst),
        _location(run, worst),
        *_parts(run, worst),
        _norms(run, model, evidence),
        _outliers(model, evidence),
        _specific(found),
        _group("script", found),
        _group("family", found),
        _own_helps_most(found),
    ]
    return [dict(zip(("claim", "measured", "holds"), row, strict=True)) for row in rows]


def _worst_by_variant(run: Run) -> dict[str, float]:
    base = run.evaluation(ORIGINAL)
    return {
        name: max(relative_damages(base, run.evaluation(name)).values()) for name in run.variants
    }


def _fractions(run: Run) -> dict[str, float]:
    return {row["variant"]: row["fraction"] for row in run.rows}


def _five_percent(run: Run, worst: dict[str, float]) -> tuple[str, str, str]:
    claim = "5 % of the weights, by magnitude, is the least that helps"
    fractions = _fractions(run)
    magnitude = {fractions[n]: w for n, w in worst.items() if n.startswith("magnitude-")}
    guided = {fractions[n]: w for n, w in worst.items() if n.startswith(f"{GUIDED}-")}
    if not magnitude or not guided:
        return claim, "magnitude and language_guided were not both measured", "open"
    largest = max(magnitude)
    enough = [f for f in sorted(guided) if guided[f] <= magnitude[largest]]
    measured = (
        f"worst damage {100 * magnitude[largest]:.2f} % at {100 * largest:.2g} % by magnitude; "
        + (
            f"the guided choice is there with {100 * enough[0]:.2g} % "
            f"({100 * guided[enough[0]]:.2f} %)"
            if enough
            else "the guided choice is at no tried size"
        )
    )
    return claim, measured, "no" if enough and enough[0] < largest else "yes"


def _location(run: Run, worst: dict[str, float]) -> tuple[str, str, str]:
    """Whole parts against scattered weights by magnitude, fewer of them."""
    claim = "where a weight is matters more than how large it is"
    fractions = _fractions(run)
    parts = {n: w for n, w in worst.items() if n.startswith(("component-", "layer-"))}
    magnitude = {n: w for n, w in worst.items() if n.startswith("magnitude-")}
    if not parts or not magnitude:
        return claim, "parts and magnitude were not both measured", "open"
    best = min(parts, key=lambda name: parts[name])
    largest = max(magnitude, key=lambda name: fractions[name])
    measured = (
        f"the best whole part ({best.split('-', 1)[1].replace('_', ' ')}, "
        f"{100 * fractions[best]:.1f} % of the weights) leaves {100 * parts[best]:.2f} %; the "
        f"largest {100 * fractions[largest]:.2g} % of the weights, wherever they are, leave "
        f"{100 * magnitude[largest]:.2f} % (unprotected {100 * worst['none']:.2f} %)"
    )
    smaller = fractions[largest] < fractions[best]
    if smaller and magnitude[largest] <= parts[best]:
        return claim, measured, "no"
    return claim, measured, "yes" if parts[best] < magnitude[largest] and not smaller else "open"


def _parts(run: Run, worst: dict[str, float]) -> list[tuple[str, str, str]]:
    """Damage removed by a part, over its share of the weights: above 1 = worth its size."""
    fractions = _fractions(run)

    def worth(name: str) -> float:
        return (1 - worst[name] / worst["none"]) / fractions[name]

    expected = {
        "component-token_embedding": ("token embeddings are critical", lambda v: v > 1.5),
        "component-position_embedding": ("position embeddings matter little", lambda v: v < 1),
        "component-attention": ("attention matters medium to much", lambda v: v >= 1),
        "component-mlp": ("MLPs matter little to medium", lambda v: v <= 1),
        "layer-0": ("layer 0 matters much", lambda v: v > 1.5),
    }
    rows = []
    for name, (claim, holds) in expected.items():
        if name in worst:
            value = worth(name)
            measured = (
                f"{100 * fractions[name]:.1f} % of the weights remove "
                f"{100 * (1 - worst[name] / worst['none']):.0f} % of the worst damage: "
                f"{value:.2f} times their share"
            )
            rows.append((claim, measured, "yes" if holds(value) else "no"))
    return rows


def _norms(run: Run, model: Model, evidence: Evidence) -> tuple[str, str, str]:
    """Norm scales are not quantized by default: what would it cost to?"""
    spec = evidence.spec
    if spec.eligible != "matrices":
        return "norms matter little", "norms are quantized in this run anyway", "open"
    wider = replace(spec, eligible="weights")
    only_norms = masks.complement(masks.components(model.params, ["norms"]))
    damages = evidence.measure(only_norms, wider)
    worst = max(damages.values())
    measured = (
        f"quantizing the norm scales alone costs the worst language {100 * worst:.2f} % "
        f"(all matrices: {100 * max(evidence.unprotected.values()):.2f} %), on tune"
    )
    small = worst < 0.1 * max(evidence.unprotected.values())
    return "norms matter little", measured, "yes" if small else "no"


def _outliers(model: Model, evidence: Evidence) -> tuple[str, str, str]:
    count = masks.eligible_count(model.params, evidence.spec.eligible) // 100
    mask, _ = select(GUIDED, evidence, count, rounds=1)
    share, chance = outlier_share(mask, model.params, evidence.spec)
    measured = (
        f"{100 * share:.1f} % of the guided 1 % lie over 3 standard deviations out, "
        f"{100 * chance:.2f} % of all weights do"
    )
    return "disparity-critical weights are outliers", measured, "yes" if share > 0.5 else "no"


def _specific(found: dict[str, Any]) -> tuple[str, str, str]:
    matrix = np.array(found["overlap"])
    off = matrix[~np.eye(len(matrix), dtype=bool)].mean()
    same = float(np.mean(list(found["split_half"].values())))
    measured = (
        f"two languages share {100 * off:.0f} % of their top 1 %, two halves of one language's "
        f"sentences {100 * same:.0f} %, chance is {100 * found['chance']:.0f} %"
    )
    return "there are language-specific weights", measured, "yes" if off < same else "no"


def _group(kind: str, found: dict[str, Any]) -> tuple[str, str, str]:
    claim = {
        "script": "sensitive weights encode the script",
        "family": "sensitive weights encode the language family (morphology)",
    }[kind]
    contrast = found[kind]
    if contrast["p"] is None or contrast["within"] is None:
        return claim, "no two languages share one", "open"
    measured = (
        f"overlap {100 * contrast['within']:.1f} % within a {kind}, "
        f"{100 * contrast['between']:.1f} % between, p = {contrast['p']:.4f}"
    )
    return claim, measured, "yes" if contrast["p"] < 0.05 else "no"


def _own_helps_most(found: dict[str, Any]) -> tuple[str, str, str]:
    matrix = np.array(found["cross_language"])
    own = float(np.diag(matrix).mean())
    others = float(matrix[~np.eye(len(matrix), dtype=bool)].mean())
    first = int((matrix.argmax(axis=0) == np.arange(len(matrix))).sum())
    measured = (
        f"a language's own top 1 % removes {100 * own:.0f} % of its damage, other languages' sets "
        f"{100 * others:.0f} % on average; its own is the best of all for {first} of {len(matrix)}"
    )
    return (
        "protecting a language's weights helps that language most",
        measured,
        ("yes" if own > others else "no"),
    )


def print_claims(rows: list[dict[str, Any]]) -> None:
    """Print the table of claims."""
    made = table("the brief's claims, measured", ["claim", "holds"], [])
    made.add_column("measured", overflow="fold")
    for row in rows:
        made.add_row(row["claim"], row["holds"], row["measured"])
    console().print(made)
