"""What recipes build on, from texts on disk: statistics on select, damages of schemes on tune."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jaxprotect.evaluation.disparity import disparity
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import Mask
from jaxprotect.quantization.scheme import Scheme, apply_scheme
from jaxprotect.quantization.size import protected_size
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import gather, relative_damages
from jaxprotect.runs.statistics_store import StatisticsStore
from jaxprotect.selection.criteria import Evidence
from jaxprotect.selection.recipes import Ground

EvaluateScheme = Callable[[Scheme], Evaluation]


def scheme_evaluator(
    model: Model, texts: Texts, *, batch_tokens: int = 4096, remembered: int = 16
) -> EvaluateScheme:
    """Scheme -> the stored model's evaluation on texts, with its cached prefix if it has one.

    Args:
        model: the unquantized model.
        texts: the sentences.
        batch_tokens: most tokens of one batch.
        remembered: how many evaluations to keep; a scheme is known again as the same object.

    Returns:
        The function.
    """
    memory: list[tuple[Scheme, Evaluation]] = []

    @functools.cache
    def encoded_for(prefix_tokens: int) -> Encoded:
        return encode(model, texts, batch_tokens=batch_tokens, prefix_tokens=prefix_tokens)

    def evaluate(scheme: Scheme) -> Evaluation:
        for known, evaluation in memory:
            if known is scheme:
                return evaluation
        prefix = scheme.prefix
        encoded = encoded_for(0 if prefix is None else prefix.length)
        params = apply_scheme(model.params, scheme, model.config)
        evaluation = evaluate_encoded(params, encoded, model.config, prefix)
        memory.append((scheme, evaluation))
        del memory[:-remembered]
        return evaluation

    return evaluate


def make_ground(
    model: Model,
    store: StatisticsStore,
    select: Texts,
    evaluate: EvaluateScheme,
    base: Evaluation,
    file_size: Callable[[Scheme], int],
    *,
    reference: Sequence[str] | None = None,
    rounds: int = 2,
) -> Ground:
    """The ground of recipes.

    Args:
        model: the unquantized model.
        store: statistics on the select sentences.
        select: those sentences.
        evaluate: of `scheme_evaluator`, on the tune sentences.
        base: the original model's evaluation of them.
        file_size: scheme -> bytes of its files.
        reference: reference languages.
        rounds: candidates per guided choice.

    Returns:
        The ground; statistics of each language are read once.
    """
    square = functools.cache(store.square)

    def of_mask(mask: Mask, spec: QuantSpec) -> Evaluation:
        return evaluate(Scheme(spec=spec, mask=mask))

    @functools.cache
    def evidence(spec: QuantSpec) -> Evidence:
        found = gather(model, spec, store, of_mask, base, reference=reference)
        return replace(found, square=square)

    @functools.cache
    def select_for(prefix_tokens: int) -> Encoded:
        return encode(model, select, prefix_tokens=prefix_tokens)

    @functools.cache
    def select_base() -> Evaluation:
        return evaluate_encoded(model.params, select_for(0), model.config)

    bos, eos = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    return Ground(
        params=model.params,
        config=model.config,
        evidence=evidence,
        measure=lambda scheme: relative_damages(base, evaluate(scheme)),
        file_size=file_size,
        select=select_for,
        select_base=select_base,
        start=eos if bos is None else bos,
        rounds=rounds,
    )


def scheme_rows(
    name: str,
    technique: str,
    scheme: Scheme,
    size: int,
    model: Model,
    base: Evaluation,
    evaluation: Evaluation,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """Rows of one scheme for a run folder, one per language.

    Args:
        name: of the variant.
        technique: which recipe made it.
        scheme: the scheme.
        size: bytes of its files.
        model: the unquantized model.
        base: its evaluation.
        evaluation: the scheme's, on the same sentences.
        options: `reference` and `draws` of `disparity`.

    Returns:
        The rows.
    """
    counted = protected_size(model.params, scheme.mask, scheme.spec, scheme.bits)
    shared = {
        "variant": name,
        "intervention": {"kind": technique},
        "quantizer": scheme.spec.label,
        "protected": counted.protected,
        "eligible": counted.weights,
        "fraction": counted.protected / counted.weights,
        "bytes": size,
        "overhead_bytes": counted.overhead,
    }
    return [shared | row for row in disparity(base, evaluation, **options).rows()]
