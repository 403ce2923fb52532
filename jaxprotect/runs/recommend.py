"""What to protect and how within a budget: tried on tune, measured once on test, as rows."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxprotect.evaluation.damage import Row
from jaxprotect.evaluation.disparity import compare, disparity
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.texts import Texts
from jaxprotect.host_arrays import on_host
from jaxprotect.models.axes import Eligible
from jaxprotect.models.config import require_causal
from jaxprotect.models.model import Model
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.packed_params import check_dense
from jaxprotect.quantization.scheme import Scheme
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import collect_statistics
from jaxprotect.runs.ground import make_ground, scheme_evaluator
from jaxprotect.runs.scheme_files import scheme_file_size
from jaxprotect.selection.frontier import Tried, best_of_each, combinations
from jaxprotect.selection.recipes import Ground, fitting_quantizers
from jaxprotect.selection.recommendation import Options
from jaxprotect.selection.techniques import CAUSAL_ONLY, TECHNIQUES

ROUND_TO_NEAREST = "round_to_nearest"
"""The technique that others are held against."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workplace:
    """A model and its sentences, ready for budgets.

    Args:
        ground: what schemes are built from; select and tune sentences only.
        evaluate: scheme -> its evaluation on test.
        base: the original model's evaluation on test.
    """

    ground: Ground
    evaluate: Any
    base: Evaluation


def open_workplace(
    model: Model,
    texts: Mapping[str, Texts],
    *,
    statistics: Path,
    reference: Sequence[str] | None = None,
    rounds: int = 2,
    batch_tokens: int = 4096,
) -> Workplace:
    """Collect what choices need from select and tune, and prepare test.

    Args:
        model: the unquantized model.
        texts: `select`, `tune` and `test` sentences.
        statistics: folder of the statistics on select; measured where they are missing.
        reference: reference languages.
        rounds: candidates per guided choice.
        batch_tokens: most tokens of one batch.

    Returns:
        The workplace.

    Raises:
        InputError: a packed model.
    """
    check_dense("model", model.params)
    store = collect_statistics(statistics, model, texts["select"], batch_tokens=batch_tokens)

    def original(split: str) -> Evaluation:
        encoded = encode(model, texts[split], batch_tokens=batch_tokens)
        return evaluate_encoded(model.params, encoded, model.config)

    ground = make_ground(
        model,
        store,
        texts["select"],
        scheme_evaluator(model, texts["tune"], batch_tokens=batch_tokens),
        original("tune"),
        functools.partial(scheme_file_size, model),
        reference=reference,
        rounds=rounds,
    )
    return Workplace(
        ground=ground,
        evaluate=scheme_evaluator(model, texts["test"], batch_tokens=batch_tokens),
        base=original("test"),
    )


def base_quantizer(eligible: Eligible) -> QuantSpec:
    """What all schemes have in common: two bytes for each weight that is not quantized.

    That is exact for half precision checkpoints.
    """
    return QuantSpec(protected_dtype="float16", eligible=eligible)


def refuse_small_budget(model: Model, budget: int, *, eligible: Eligible = "matrices") -> None:
    """Refuse a budget that no file fits, before anything is measured.

    Args:
        model: the unquantized model; only shapes are read.
        budget: bytes of the files.
        eligible: which parameters are quantized at all.

    Raises:
        InputError: a budget below the smallest possible file, or a packed model.
    """
    check_dense("model", model.params)
    size = functools.partial(scheme_file_size, model)
    fitting_quantizers(model.params, size, budget, base_quantizer(eligible))


def try_budget(
    place: Workplace,
    budget: int,
    *,
    eligible: Eligible = "matrices",
    options: Options | None = None,
) -> list[Tried]:
    """Every technique and the combinations of the best, the best on tune first.

    Of a masked model neither compensated errors nor a cached prefix: those are left out.

    Args:
        place: of `open_workplace`.
        budget: bytes of the files; nothing is larger.
        eligible: which parameters are quantized at all.
        options: what is tried; everything by default.

    Returns:
        What was tried.

    Raises:
        InputError: a budget below the smallest possible file, or for a masked model no technique
            but those.
    """
    options = Options() if options is None else options
    base = base_quantizer(eligible)
    place.ground.fitting(budget, base)  # refuses a budget before any work
    techniques = {name: TECHNIQUES[name] for name in options.techniques}
    combine, config = options.combine, place.ground.config
    if config.masked:
        for name in CAUSAL_ONLY:
            techniques.pop(name, None)
        if not techniques:
            require_causal(config, f"`techniques` {', '.join(options.techniques)}")
        combine = False  # with what was left out
    bar = progress(total=len(techniques) + combine, unit="technique", desc="recommend")

    def named(names: Sequence[str]):
        for name in names:
            bar.set_postfix_str(name)
            yield name
            bar.update()

    singles = best_of_each(place.ground, budget, base, techniques, progress=named)
    made = []
    if combine:
        bar.set_postfix_str("combinations")
        made = combinations(place.ground, budget, base, singles, techniques)
        bar.update()
    bar.close()
    return sorted([*singles, *made], key=lambda one: one.worst)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recommendation:
    """What to do within a budget.

    Args:
        summary: one flat row: technique, quantizer, bytes, worst language on test.
        damages: one row per language on test: the damage, what it is with plain bits (`plain`), and
            what the recommendation removes of that (`removed`, paired).
        tried: one row per technique, the best on tune first.
        scheme: how to store the model.
        kept: what is kept in high precision, in words.
    """

    summary: Row
    damages: list[Row]
    tried: list[Row]
    scheme: Scheme
    kept: str


def recommend(
    place: Workplace,
    budget: int,
    *,
    eligible: Eligible = "matrices",
    options: Options | None = None,
    reference: Sequence[str] | None = None,
    draws: int = 10_000,
) -> Recommendation:
    """The scheme within a budget that tune prefers, with what test says of it.

    Args:
        place: of `open_workplace`.
        budget: bytes of the files.
        eligible: which parameters are quantized at all.
        options: what is tried; everything by default.
        reference: reference languages.
        draws: bootstrap draws.

    Returns:
        The recommendation.

    Raises:
        InputError: a budget below the smallest possible file.
    """
    options = Options() if options is None else options
    found = try_budget(place, budget, eligible=eligible, options=options)
    best = found[0]
    plain = next((one for one in found if one.technique == ROUND_TO_NEAREST), best)
    evaluation = place.evaluate(best.scheme)
    result = disparity(place.base, evaluation, reference=reference, draws=draws)
    of_plain = place.evaluate(plain.scheme)
    before = disparity(place.base, of_plain, reference=reference, draws=draws)
    against = compare(place.base, of_plain, evaluation, draws=draws)
    removed = compare(place.base, evaluation, of_plain, draws=draws).relative
    change = against.worst_relative
    summary = {
        "technique": best.technique,
        "quantizer": best.scheme.spec.label,
        "budget": budget,
        "bytes": best.bytes,
        "tune_worst_relative": best.worst,
        **result.summary(),
        **change.to_row("change"),
        "plain_quantizer": plain.scheme.spec.label,
        **before.worst_relative.to_row("plain_worst_relative"),
        "plain_worst_language": before.worst,
    }
    damages = [
        row
        | before.languages[language].relative.to_row("plain")
        | removed[language].to_row("removed")
        for language, row in zip(result.languages, result.rows(), strict=True)
    ]
    return Recommendation(
        summary=summary,
        damages=damages,
        tried=[tried_row(one) for one in found],
        scheme=best.scheme,
        kept=in_words(place.ground.params, best.scheme),
    )


def in_words(params: Params, scheme: Scheme) -> str:
    """What a scheme keeps and changes: `kept: 1.2 % of the weights in float16; ...`."""
    size = protected_size(params, scheme.mask, scheme.spec, scheme.bits)
    kept = f"kept: {100 * size.protected / size.weights:.3g} % of the weights in high precision"
    parts = [kept if size.protected else "kept: no single weights"]
    if scheme.bits is not None:
        widths = np.concatenate([on_host(leaf).reshape(-1) for leaf in scheme.bits.values()])
        found, counts = np.unique(widths, return_counts=True)
        shares = [
            f"{100 * count / widths.size:.3g} % at {width}"
            for width, count in zip(found, counts, strict=True)
        ]
        parts.append(f"bits by output channel: {', '.join(shares)}")
    if scheme.weights is not None:
        parts.append("rounding errors made up for")
    if scheme.prefix is not None:
        parts.append(f"a cached prefix of {scheme.prefix.length} tokens")
    return "; ".join(parts)


def tried_row(one: Tried) -> Row:
    """A scheme as one flat row."""
    return {
        "technique": one.technique,
        "quantizer": one.scheme.spec.label,
        "bytes": one.bytes,
        "tune_worst_relative": one.worst,
    }
