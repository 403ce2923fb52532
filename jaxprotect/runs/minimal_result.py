"""What a finished search amounts to: its curve, its lower bound, and the verdict on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprotect.evaluation.damage import Row
from jaxprotect.evaluation.disparity import compare, disparity
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import GUIDED, Evidence
from jaxprotect.selection.guided import corrected_gains
from jaxprotect.selection.minimal import MinimalSearch
from jaxprotect.selection.overlap import location
from jaxprotect.selection.search import Search
from jaxprotect.selection.size_bound import size_lower_bound
from jaxprotect.selection.targets import Demands, Target, check_target


@dataclass(frozen=True, kw_only=True)
class MinimalSet:
    """What a search found; `None` where there is nothing to say.

    Args:
        summary: one flat row: target, criterion, found size, bytes, bound, verdict on test.
        curve: one row per size tried on tune.
        damages: one row per language on test: the damage, what it is unprotected, and what the set
            removes of it (paired, relative to the original nats).
        location: where in the model the set lies, one row per layer and component; empty if it
            protects nothing.
        mask: what to protect; None if the target was not reached.
    """

    summary: Row
    curve: list[Row]
    damages: list[Row]
    location: list[Row]
    mask: Mask | None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a search is asked.

    Args:
        model: the unquantized model.
        texts: `select`, `tune` and `test` sentences.
        spec: the quantizer.
        target: what is enough.
        search: criterion and precision.
        reference: reference languages.
        batch_tokens: most tokens of one batch.
    """

    model: Model
    texts: Mapping[str, Texts]
    spec: QuantSpec
    target: Target
    search: Search
    reference: Sequence[str] | None
    batch_tokens: int = 4096


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a search knows before it tries a size, all of it from select and tune sentences.

    Args:
        base: the original model on tune.
        unprotected: plain quantization on tune.
        evidence: what sets are chosen by.
        demands: the target, as demands on the damages on tune.
    """

    base: Evaluation
    unprotected: Evaluation
    evidence: Evidence
    demands: Demands


def conclude(
    question: Question, tuning: Tuning, result: MinimalSearch, rows: Sequence[Row], mask: Mask
) -> MinimalSet:
    """Curve, lower bound, and the one measurement on test.

    Args:
        question: what was asked.
        tuning: what the search went by.
        result: the finished search.
        rows: the rows of the run on tune.
        mask: the set found, or the closest one.

    Returns:
        What the search found.
    """
    model, spec, search = question.model, question.spec, question.search
    total = masks.eligible_count(model.params, spec.eligible)
    found = result.found
    size = protected_size(model.params, mask, spec)
    summary: Row = {
        "target": question.target.label,
        "criterion": search.criterion,
        "quantizer": spec.label,
        "eligible": total,
        "found": None if found is None else found.count,
        "fraction": None if found is None else found.count / total,
        "pruned_from": None if found is None else found.pruned_from,
        "closest": result.closest.count,
        "closest_excess": max(result.closest.verdict.upper.values()),
        "isolated": " ".join(map(str, result.isolated)),
        "lower_bound": _lower_bound(search.criterion, result, tuning, mask),
        "bytes": size.total,
        "overhead_bytes": size.overhead,
    }
    on_test, damages = _on_test(question, mask)
    return MinimalSet(
        summary=summary | on_test,
        curve=_curve(result, rows, tuning.base, total),
        damages=damages,
        location=location(mask, model.params, spec.eligible) if size.protected else [],
        mask=None if found is None else mask,
    )


def _curve(result: MinimalSearch, rows: Sequence[Row], base: Evaluation, total: int) -> list[Row]:
    """One row per set tried on tune."""
    sizes = {row["variant"]: row for row in rows}
    curve: list[Row] = []
    for point in result.points:
        relative = relative_damages(base, point.evaluation)
        worst = max(relative, key=lambda language: relative[language])
        curve.append(
            {
                "protected": point.count,
                "pruned_from": point.pruned_from,
                "fraction": point.count / total,
                "bytes": sizes[point.name]["bytes"],
                "overhead_bytes": sizes[point.name]["overhead_bytes"],
                "worst_language": worst,
                "worst_relative": relative[worst],
                "tightest_language": point.verdict.worst,
                "upper_excess": point.verdict.upper[point.verdict.worst],
                "met": point.verdict.met,
            }
        )
    return curve


def _on_test(question: Question, mask: Mask) -> tuple[Row, list[Row]]:
    """The verdict on test, and every language's damage there, with and without protection."""
    model, search = question.model, question.search
    encoded = encode(model, question.texts["test"], batch_tokens=question.batch_tokens)

    def evaluated(protected: Mask) -> Evaluation:
        params = quantize_tree(model.params, protected, question.spec, model.config)
        return evaluate_encoded(params, encoded, model.config)

    original = evaluate_encoded(model.params, encoded, model.config)
    plain, kept = evaluated(masks.none(model.params)), evaluated(mask)
    return losses(
        question.target,
        original,
        plain,
        kept,
        reference=question.reference,
        draws=search.draws,
        level=search.level,
    )


def losses(
    target: Target,
    original: Evaluation,
    plain: Evaluation,
    kept: Evaluation,
    *,
    reference: Sequence[str] | None,
    draws: int,
    level: float,
) -> tuple[Row, list[Row]]:
    """The verdict on test, and what each language loses there.

    Args:
        target: what is enough.
        original: the original model on test.
        plain: with nothing protected.
        kept: with the set protected.
        reference: reference languages.
        draws: bootstrap draws.
        level: confidence, and coverage of the intervals.

    Returns:
        The entries `test_...` of the summary; one row per language: the damage, `unprotected`, and
        `removed` (paired, relative to the original nats).
    """
    options: dict[str, Any] = {"reference": reference, "draws": draws, "level": level}
    verdict = check_target(target, original, plain, kept, **options)
    damages = disparity(original, kept, **options)
    before = disparity(original, plain, **options)
    summary: Row = {
        "test_met": verdict.met,
        "test_met_on_average": max(verdict.excess.values()) <= 0,
        "test_tightest_language": verdict.worst,
        "test_upper_excess": verdict.upper[verdict.worst],
    }
    summary |= {f"test_{key}": value for key, value in damages.summary().items()}
    summary |= before.worst_relative.to_row("test_unprotected_worst_relative")
    summary["test_unprotected_worst_language"] = before.worst
    change = compare(original, kept, plain, draws=draws, level=level)
    rows = [
        row
        | before.languages[language].relative.to_row("unprotected")
        | change.relative[language].to_row("removed")
        for language, row in zip(damages.languages, damages.rows(), strict=True)
    ]
    return summary, rows


def _lower_bound(criterion: str, result: MinimalSearch, tuning: Tuning, mask: Mask) -> float | None:
    """The surrogate's bound on the size, corrected at the set that was found.

    What was asked of the set is asked of the bound: the target, less the margin of confidence.
    Only around a guided set: far from the best one the surrogate is linear in the wrong place,
    and the bound that follows from another criterion's set may exceed a set that is known.
    """
    found, evidence, demands = result.found, tuning.evidence, tuning.demands
    if found is not None and found.count == 0:
        return 0.0
    if found is None or criterion != GUIDED:
        return None
    languages = demands.languages
    gains, losses_L = corrected_gains(
        evidence.params,
        {name: evidence.squares[name] for name in languages},
        evidence.nats,
        evidence.spec,
        mask,
        relative_damages(tuning.base, found.evaluation),
        allocate=evidence.allocate,
    )
    needs_M = demands.weights @ losses_L - (demands.limits - np.array(found.verdict.margins))
    bound, _ = size_lower_bound(gains, needs_M, weights=demands.weights, start=found.count)
    return bound if bound < float("inf") else None
