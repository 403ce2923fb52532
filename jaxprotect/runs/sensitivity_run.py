"""Where each language lives in a model: statistics, own sets, their places and overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.evaluation.damage import Row
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.model import Model
from jaxprotect.quantization.packed_params import check_dense
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs.evidence import collect_statistics
from jaxprotect.runs.results import write_csv
from jaxprotect.runs.sensitivity_figures import location_map, overlap_map
from jaxprotect.runs.statistics_store import Precision, StatisticsStore
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import own_set, quantization_delta
from jaxprotect.selection.overlap import chance_overlap, location, overlap_matrix
from jaxprotect.selection.sensitivity import Labels


@dataclass(frozen=True, kw_only=True, eq=False)
class SensitivityMap:
    """What each language needs.

    Args:
        languages: one row per language: sentences, tokens, nats, the part of the model that its
            own set prefers, and with whom it shares most.
        location: one row per language and part of the model.
        names: languages of the overlap's rows and columns.
        overlap: share of the weights that two languages' own sets share.
        chance: the share that random sets share.
        store: the statistics, for `minimal-set` and the criteria.
    """

    languages: list[Row]
    location: list[Row]
    names: list[str]
    overlap: Float[np.ndarray, "L L"]
    chance: float
    store: StatisticsStore


def map_sensitivity(
    model: Model,
    texts: Texts,
    spec: QuantSpec,
    *,
    out: Path,
    fraction: float = 0.01,
    labels: Labels = "data",
    seed: int = 0,
    precision: Precision = "float32",
    batch_tokens: int = 4096,
) -> SensitivityMap:
    """Measure every language's statistics and say where its most sensitive weights are.

    A language's own set is its top share of the weights by Fisher x delta^2.

    Args:
        model: the unquantized model.
        texts: the select sentences.
        spec: the quantizer, which gives delta.
        out: folder; languages that it has already are not measured again.
        fraction: share of the eligible weights in an own set.
        labels: see `language_statistics`.
        seed: of drawn labels.
        precision: of the statistics on disk.
        batch_tokens: most tokens of one batch.

    Returns:
        The map; `statistics/`, `languages.csv`, `location.csv`, `overlap.csv` and figures lie in
        `out`.

    Raises:
        InputError: a fraction that holds no weight, or statistics of something else in `out`.
    """
    check_dense("model", model.params)
    if masks.target_count(masks.eligible_count(model.params, spec.eligible), None, fraction) < 1:
        raise InputError(f"`fraction` is {fraction}, which is not one weight of this model")
    store = collect_statistics(
        out / "statistics",
        model,
        texts,
        labels=labels,
        seed=seed,
        precision=precision,
        batch_tokens=batch_tokens,
    )
    delta = quantization_delta(model.params, masks.none(model.params), spec, model.config)
    sets = {
        name: own_set(store.square(name), delta, fraction=fraction, eligible=spec.eligible)
        for name in store.languages
    }
    names, shared = overlap_matrix(sets, model.params, spec.eligible)
    places: list[Row] = [
        {"language": name} | row
        for name, mask in sets.items()
        for row in location(mask, model.params, spec.eligible)
    ]
    found = SensitivityMap(
        languages=[_language_row(name, store, places, names, shared) for name in names],
        location=places,
        names=names,
        overlap=shared,
        chance=chance_overlap(fraction),
        store=store,
    )
    write_csv(out / "languages.csv", found.languages)
    write_csv(out / "location.csv", places)
    write_matrix(out / "overlap.csv", names, shared.tolist())
    location_map(out / "figures" / "location.png", places)
    if len(names) > 1:
        overlap_map(out / "figures" / "overlap.png", names, shared, chance=found.chance)
    return found


def write_matrix(path: Path, languages: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    """Write a square table, a row and a column per language.

    Args:
        path: the CSV file.
        languages: of rows and columns.
        matrix: the numbers.
    """
    rows = [
        {"language": language} | dict(zip(languages, values, strict=True))
        for language, values in zip(languages, matrix, strict=True)
    ]
    write_csv(path, rows)


def _lift(row: Row) -> float:
    return float(row["lift"] or 0.0)


def _language_row(
    name: str,
    store: StatisticsStore,
    places: Sequence[Row],
    names: Sequence[str],
    shared: Float[np.ndarray, "L L"],
) -> Row:
    entry = store.manifest["languages"][name]
    top = max((row for row in places if row["language"] == name), key=_lift)
    row: Row = {
        "language": name,
        "sentences": entry["sentences"],
        "tokens": entry["tokens"],
        "nats": entry["nats"],
        "top_layer": top["layer"],
        "top_component": top["component"],
        "top_lift": top["lift"],
        "closest": None,
        "closest_share": None,
    }
    if len(names) > 1:
        own = list(names).index(name)
        others = np.where(np.arange(len(names)) == own, -1.0, shared[own])
        closest = int(others.argmax())
        row |= {"closest": names[closest], "closest_share": float(others[closest])}
    return row
