"""The questions of Exp-015 about languages: whose weights, where, and whom do they help?

A language's own set is its top 1 % by Fisher x delta^2, which knows nothing of other languages. Two
sets are held against chance (what random sets share) and against the same language's sets from
two halves of its sentences (what noise alone leaves).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.claims import claims, print_claims
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.axes import component, layer_axis
from jaxprotect.models.model import Model
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.evidence import relative_damages
from jaxprotect.runs.results import ORIGINAL, Run, to_json, write_atomically, write_csv
from jaxprotect.runs.sensitivity_figures import cross_language_map, location_map, overlap_map
from jaxprotect.runs.sensitivity_run import write_matrix
from jaxprotect.runs.sweep import Variant, sweep
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import Evidence, own_set
from jaxprotect.selection.overlap import (
    FAMILIES,
    chance_overlap,
    group_contrast,
    location,
    overlap_matrix,
    script,
)
from jaxprotect.selection.sensitivity import language_statistics
from jaxprotect.trees import leaf_paths

FRACTION = 0.01
"""Share of the weights in a language's own set."""


@dataclass(frozen=True, kw_only=True)
class LanguageAnswers:
    """What one split says of the languages' own weights.

    Args:
        run: the run with their variants.
        claims: rows of `claims`.
        overlap: whose sets share weights.
        location: where the sets are.
        cross_language: whom protecting a set helps.
    """

    run: Run
    claims: list[dict[str, Any]]
    overlap: Drawing
    location: Drawing
    cross_language: Drawing


def _own(square: dict, evidence: Evidence) -> Mask:
    eligible = evidence.spec.eligible
    return own_set(square, evidence.delta, fraction=FRACTION, eligible=eligible)


def language_questions(
    run: Run,
    model: Model,
    evidence: Evidence,
    texts: Mapping[str, Texts],
    test: Encoded,
    options: Mapping[str, Any],
) -> LanguageAnswers:
    """Measure languages' own sets and the parts of the model; write tables; print the answers.

    Args:
        run: the open run of a split, its criteria measured.
        model: the unquantized model.
        evidence: of the split.
        texts: its sentences.
        test: the test sentences in tokens.
        options: of `sweep`.

    Returns:
        The answers, and the run with one variant per language and part; `overlap.csv`,
        `location.csv`, `cross_language.csv`, `languages.json`, `claims.csv` and three figures
        lie beside it.
    """
    run = sweep(run, model, test, _own_variants(evidence) + _part_variants(evidence), **options)
    languages = list(evidence.nats)
    sets = {language: _own(evidence.square(language), evidence) for language in languages}
    eligible = evidence.spec.eligible
    names, shared = overlap_matrix(sets, model.params, eligible)
    found = {
        "languages": list(names),
        "overlap": np.asarray(shared).tolist(),
        "chance": chance_overlap(FRACTION),
        "split_half": _split_half(model, evidence, texts["select"]),
        "script": _contrast(shared, names, {name: script(name) for name in names}),
        "family": _contrast(shared, names, {name: FAMILIES.get(name, name) for name in names}),
        "cross_language": _cross_language(run, languages),
    }
    rows = [
        {"language": language} | row
        for language in languages
        for row in location(sets[language], model.params, eligible)
    ]
    write_csv(run.folder / "location.csv", rows)
    write_matrix(run.folder / "overlap.csv", names, found["overlap"])
    write_matrix(run.folder / "cross_language.csv", languages, found["cross_language"])
    write_atomically(run.folder / "languages.json", to_json(found, indent=1).encode())
    figures = run.folder / "figures"
    cross = np.asarray(found["cross_language"])
    chance = found["chance"]
    answers = claims(run, model, evidence, found)
    write_csv(run.folder / "claims.csv", answers)
    print_claims(answers)
    return LanguageAnswers(
        run=run,
        claims=answers,
        overlap=overlap_map(figures / "overlap.png", names, np.asarray(shared), chance=chance),
        location=location_map(figures / "location.png", rows),
        cross_language=cross_language_map(figures / "cross-language.png", languages, cross),
    )


def _own_variants(evidence: Evidence) -> list[Variant]:
    return [
        Variant(
            name=f"own-{language}",
            intervention={"kind": "own", "language": language, "fraction": FRACTION},
            spec=evidence.spec,
            mask=lambda params, name=language: _own(evidence.square(name), evidence),
        )
        for language in evidence.nats
    ]


def _part_variants(evidence: Evidence) -> list[Variant]:
    """Whole components and whole layers, as in Exp-012 to Exp-014."""
    paths = leaf_paths(evidence.params)
    present = dict.fromkeys(component(p) for p in paths if component(p) != "norms")
    depth = next(leaf.shape[0] for path, leaf in paths.items() if layer_axis(path) == 0)
    parts = [
        Variant(
            name=f"component-{name}",
            intervention={"kind": "components", "components": [name]},
            spec=evidence.spec,
            mask=lambda params, name=name: masks.components(params, [name]),
        )
        for name in present
    ]
    return parts + [
        Variant(
            name=f"layer-{layer}",
            intervention={"kind": "layers", "layers": [layer]},
            spec=evidence.spec,
            mask=lambda params, layer=layer: masks.layers(params, [layer]),
        )
        for layer in range(depth)
    ]


def _split_half(model: Model, evidence: Evidence, select: Texts) -> dict[str, float]:
    """What a language's own sets from the two halves of its sentences share."""
    halves = [encode(model, select.take(range(start, len(select.ids), 2))) for start in (0, 1)]
    shared = {}
    for language in evidence.nats:
        both = {
            str(half): _own(
                language_statistics(model.params, encoded, model.config, language=language).square,
                evidence,
            )
            for half, encoded in enumerate(halves)
        }
        shared[language] = float(
            overlap_matrix(both, model.params, evidence.spec.eligible)[1][0, 1]
        )
    return shared


def _contrast(matrix: np.ndarray, languages: list[str], groups: dict[str, str]) -> dict[str, Any]:
    contrast = group_contrast(matrix, languages, groups)
    return dict(zip(("within", "between", "p"), contrast, strict=True))


def _cross_language(run: Run, languages: list[str]) -> list[list[float]]:
    """Row: whose set is protected; column: the share of whose damage it removes."""
    base = run.evaluation(ORIGINAL)
    plain = relative_damages(base, run.evaluation("none"))
    rows = []
    for owner in languages:
        kept = relative_damages(base, run.evaluation(f"own-{owner}"))
        rows.append([1 - kept[language] / plain[language] for language in languages])
    return rows
