"""Evidence for a selection from texts on disk: statistics on select, damages on tune."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprotect.evaluation.disparity import reference_languages
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import Mask, quantize_tree
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.scratch import scratch_in
from jaxprotect.runs.statistics_store import (
    Precision,
    StatisticsStore,
    measure_statistics,
    open_store,
)
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import Evidence
from jaxprotect.selection.sensitivity import Labels
from jaxprotect.selection.statistics import Statistics, add


def describe(texts: Texts) -> dict[str, Any]:
    """What identifies texts in a manifest."""
    return {
        "source": texts.source,
        "sha256": texts.sha256,
        "languages": list(texts.languages),
        "ids": list(texts.ids),
    }


def collect_statistics(
    folder: Path,
    model: Model,
    texts: Texts,
    *,
    labels: Labels = "data",
    seed: int = 0,
    precision: Precision = "float32",
    batch_tokens: int = 4096,
) -> StatisticsStore:
    """Statistics of every language, measured where the folder does not have them yet.

    Args:
        folder: of the store.
        model: the unquantized model.
        texts: the select sentences.
        labels: see `language_statistics`.
        seed: of drawn labels.
        precision: of the trees on disk.
        batch_tokens: most tokens of one batch; changes the result by rounding only.

    Returns:
        The complete store.

    Raises:
        InputError: as `open_store` and `measure_statistics`.
    """
    store = open_store(
        folder,
        model=model,
        texts_description=describe(texts),
        labels=labels,
        seed=seed,
        precision=precision,
    )
    if set(store.languages) == set(texts.languages):
        return store
    encoded = encode(model, texts, batch_tokens=batch_tokens)
    base = evaluate_encoded(model.params, encoded, model.config)
    nats = {language: float(values.sum()) for language, values in base.nats.items()}
    return measure_statistics(store, model, encoded, nats, batch_tokens=batch_tokens)


def relative_damages(base: Evaluation, variant: Evaluation) -> dict[str, float]:
    """Added nats over original nats, by language."""
    return {
        language: float(variant.nats[language].sum() / nats.sum() - 1)
        for language, nats in base.nats.items()
    }


def make_evaluator(
    model: Model, encoded: Encoded, *, remembered: int = 4
) -> Callable[[Mask, QuantSpec], Evaluation]:
    """(mask, quantizer) -> the evaluation of the protected model on encoded sentences.

    Args:
        model: the unquantized model.
        encoded: the sentences.
        remembered: how many evaluations to keep, so that the set that a choice has measured
            and returned is not measured again.

    Returns:
        The function; it knows a mask again by being the same object.
    """
    memory: list[tuple[Mask, QuantSpec, Evaluation]] = []

    def evaluate(mask: Mask, spec: QuantSpec) -> Evaluation:
        for known, under, evaluation in memory:
            if known is mask and under == spec:
                return evaluation
        params = quantize_tree(model.params, mask, spec, model.config)
        evaluation = evaluate_encoded(params, encoded, model.config)
        memory.append((mask, spec, evaluation))
        del memory[:-remembered]
        return evaluation

    return evaluate


def gather(
    model: Model,
    spec: QuantSpec,
    store: StatisticsStore,
    evaluate: Callable[[Mask, QuantSpec], Evaluation],
    base: Evaluation,
    *,
    unprotected: Mapping[str, float] | None = None,
    reference: Sequence[str] | None = None,
) -> Evidence:
    """Evidence for one quantizer.

    Args:
        model: the unquantized model.
        spec: the quantizer.
        store: statistics on the select sentences.
        evaluate: of `make_evaluator`, on the tune sentences.
        base: the original model's evaluation of them.
        unprotected: relative damages of plain quantization there; measured if not given.
        reference: reference languages.

    Returns:
        The evidence; statistics are read when a criterion asks for them.
    """

    def measure(mask: Mask, under: QuantSpec) -> dict[str, float]:
        return relative_damages(base, evaluate(mask, under))

    pooled: list[Statistics] = []

    def pool() -> Statistics:
        if not pooled:
            total = None
            for language in store.languages:
                part = store.load(language)
                total = part if total is None else add(total, part)
            assert total is not None
            pooled.append(total)
        return pooled[0]

    return Evidence(
        params=model.params,
        config=model.config,
        spec=spec,
        pooled=pool,
        square=store.square,
        nats=store.nats,
        unprotected=measure(masks.none(model.params), spec) if unprotected is None else unprotected,
        measure=measure,
        reference=reference_languages(base, reference),
        allocate=scratch_in(store.folder),
    )
