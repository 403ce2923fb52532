"""Run many variants on one model: quantize, evaluate, compare, write; skip what is finished."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.evaluation.disparity import disparity
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.grid import Bits
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.results import ORIGINAL, Run, append_variant, save_original
from jaxprotect.selection import masks


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One quantizer and one protection.

    Args:
        name: unique in a run and fit for a file name.
        intervention: what is protected, as data, for the rows.
        spec: the quantizer.
        mask: params -> mask; called once, when the variant's turn comes.
    """

    name: str
    intervention: dict[str, Any]
    spec: QuantSpec
    mask: Callable[[Params], Mask]


def measure_original(run: Run, model: Model, encoded: Encoded) -> Evaluation:
    """The unquantized model's evaluation; read from the run if it is there."""
    if not run.has_original:
        save_original(run, evaluate_encoded(model.params, encoded, model.config))
    return run.evaluation(ORIGINAL)


def sweep(
    run: Run,
    model: Model,
    encoded: Encoded,
    variants: Sequence[Variant],
    *,
    reference: Sequence[str] | None = None,
    draws: int = 10_000,
) -> Run:
    """Measure every variant that the run does not have yet.

    The quantizer compiles once per kind of mask and the evaluation once per batch shape, however
    many thresholds, layers or heads are tried.

    Args:
        run: an open run.
        model: the unquantized model.
        encoded: tokenised texts.
        variants: what to measure, in order.
        reference: languages whose mean relative damage the disparity divides by.
        draws: bootstrap draws.

    Returns:
        The run with all variants.

    Raises:
        InputError: two variants of one name.
    """
    names = [variant.name for variant in variants]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"`variants` has these names twice: {doubled}")
    base = measure_original(run, model, encoded)
    finished = set(run.variants)
    todo = [variant for variant in variants if variant.name not in finished]
    bar = progress(todo, initial=len(names) - len(todo), total=len(names), unit="variant")
    for variant in bar:
        bar.set_description(variant.name)
        rows, evaluation = measure(variant, model, encoded, base, reference=reference, draws=draws)
        run = append_variant(run, variant.name, evaluation, rows)
    return run


def measure(
    variant: Variant,
    model: Model,
    encoded: Encoded,
    base: Evaluation,
    *,
    reference: Sequence[str] | None = None,
    draws: int = 10_000,
    evaluate: Callable[[Mask, QuantSpec], Evaluation] | None = None,
    bits: Bits | None = None,
) -> tuple[list[dict[str, Any]], Evaluation]:
    """One variant's rows, one per language, and its nats.

    Args:
        variant: what to measure.
        model: the unquantized model.
        encoded: tokenised texts.
        base: the unquantized model's evaluation.
        reference: languages whose mean relative damage the disparity divides by.
        draws: bootstrap draws.
        evaluate: evaluates a set on `encoded`, if it may know it already.
        bits: mixed precision, see `Bits`; `evaluate` must know of it.

    Returns:
        Rows, and nats and sizes of every sentence.
    """
    mask = variant.mask(model.params)
    eligible = variant.spec.eligible
    protected = masks.count(mask, model.params, eligible)
    total = masks.eligible_count(model.params, eligible)
    size = protected_size(model.params, mask, variant.spec, bits)
    if evaluate is not None:
        evaluation = evaluate(mask, variant.spec)
    else:
        quantized = quantize_tree(model.params, mask, variant.spec, model.config, bits=bits)
        evaluation = evaluate_encoded(quantized, encoded, model.config)
    result = disparity(base, evaluation, reference=reference, draws=draws)
    shared = {
        "variant": variant.name,
        "intervention": variant.intervention,
        "quantizer": variant.spec.label,
        "protected": protected,
        "eligible": total,
        "fraction": protected / total,
        "bytes": size.total,
        "overhead_bytes": size.overhead,
    }
    rows = [shared | row for row in result.rows()]
    return rows, evaluation
