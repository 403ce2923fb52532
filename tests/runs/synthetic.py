"""Made-up finished runs and searches on disk, so that pages are tested without a model."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxprotect.evaluation.disparity import compare, disparity
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.runs.minimal_result import losses
from jaxprotect.runs.results import (
    ORIGINAL,
    Run,
    append_variant,
    open_run,
    save_original,
    to_json,
    write_atomically,
    write_csv,
)
from jaxprotect.runs.sensitivity_run import write_matrix
from jaxprotect.selection.minimal import point_name
from jaxprotect.selection.targets import Target

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr", "tam_Taml")

Plan = dict[str, tuple[dict[str, Any], float, float]]
"""Variant -> what it protects, the share of weights, the damage left in units of plain damage."""


def study(depth: int = 2, heads: int = 2) -> Plan:
    """A variant of every kind that the experiments have."""
    plan: Plan = {"none": ({"kind": "none"}, 0.0, 1.0)}
    for fraction, left in ((0.01, 0.9), (0.05, 0.5), (0.2, 0.1)):
        plan[f"magnitude-{fraction:g}"] = (
            {"kind": "magnitude", "fraction": fraction},
            fraction,
            left,
        )
        for seed in range(2):
            what = {"kind": "random", "fraction": fraction, "seed": seed}
            plan[f"random-{fraction:g}-seed{seed}"] = (what, fraction, 1 - 0.1 * fraction)
    for layer in range(depth):
        what = {"kind": "layers", "layers": [layer]}
        plan[f"layers-{layer}"] = (what, 0.6 / depth, 0.4 if layer == 0 else 0.9)
        what = {"kind": "components", "components": ["attention"], "layers": [layer]}
        plan[f"attention-layer-{layer}"] = (what, 0.2 / depth, 0.9)
        for head in range(heads):
            what = {"kind": "heads", "layer": layer, "head": head}
            plan[f"head-{layer}-{head}"] = (what, 0.2 / depth / heads, 1 - 0.02 * head)
    for chosen in (["attention"], ["token_embedding"], ["token_embedding", "position_embedding"]):
        what = {"kind": "components", "components": chosen}
        plan["components-" + "-".join(chosen)] = (what, 0.2, 0.6)
    return plan


def only(*names: str) -> Plan:
    """Some variants of the study."""
    return {name: study()[name] for name in names}


def make_run(
    folder: Path,
    plan: Plan,
    *,
    languages: tuple[str, ...] = LANGUAGES,
    sentences: int = 12,
    damage: float = 0.02,
    spread: float = 0.5,
    noise: float = 0.3,
    protocol: str = "sound",
    model: str = "made-up",
    quantizers: tuple[str, ...] = ("INT4 per channel",),
    reference: tuple[str, ...] | None = None,
    draws: int = 200,
) -> Run:
    """Write a run whose languages lose more the later they come.

    Args:
        folder: where to.
        plan: what to make up.
        languages: sorted.
        sentences: per language.
        damage: relative damage of plain quantization in the first language.
        spread: what each further language loses more, as a share of that.
        noise: standard deviation over sentences, relative to a language's damage.
        protocol: `sound` or `seed`.
        model: its name.
        quantizers: every variant of the plan under each; the first keeps the names of the plan.
        reference: reference languages.
        draws: bootstrap draws.

    Returns:
        The run.
    """
    generator = np.random.default_rng(1)
    names = {
        f"{name}-{index}" if index else name: (quantizer, index, *of_plan)
        for index, quantizer in enumerate(quantizers)
        for name, of_plan in plan.items()
    }
    manifest = {
        "config": {
            "model": model,
            "split": "test",
            "protocol": protocol,
            "reference": reference,
            "draws": draws,
        },
        "model": {
            "name": model,
            "revision": None,
            "sha256": "0123",
            "architecture": {"family": "gpt2", "vocab_size": 50},
        },
        "texts": {
            "source": "nowhere",
            "sha256": "4567",
            "languages": list(languages),
            "ids": list(range(1, sentences + 1)),
        },
        "experiments": {"exp_010": list(names)},
    }
    sizes = {name: generator.integers(20, 60, sentences) for name in languages}
    before = {name: generator.uniform(1.5, 2.5, sentences) * sizes[name] for name in languages}

    def evaluation(nats: dict[str, np.ndarray]) -> Evaluation:
        return Evaluation(
            nats=nats,
            tokens=sizes,
            bytes=sizes,
            characters=sizes,
            ids=tuple(range(1, sentences + 1)),
            vocab_size=50,
        )

    base = evaluation(before)
    with open_run(folder, manifest) as run:
        save_original(run, base)
        for name, (quantizer, index, what, fraction, left) in names.items():
            factors = generator.normal(1, noise, (len(languages), sentences))
            each = damage * (index + 1) * left * (1 + spread * np.arange(len(languages)))
            after = {
                language: before[language] * (1 + each[row] * factors[row])
                for row, language in enumerate(languages)
            }
            result = disparity(base, evaluation(after), reference=reference, draws=draws)
            shared = {
                "variant": name,
                "intervention": what,
                "quantizer": quantizer,
                "protected": int(1000 * fraction),
                "eligible": 1000,
                "fraction": fraction,
                "bytes": 4000 + int(3000 * fraction),
                "overhead_bytes": int(3000 * fraction),
            }
            rows = [shared | row for row in result.rows()]
            run = append_variant(run, name, evaluation(after), rows)
    return run


def make_search(
    folder: Path, *, found: int | None = 100, criterion: str = "language_guided"
) -> Path:
    """Write a finished search for a minimal set, the last sizes of which meet the target.

    Args:
        folder: where to.
        found: weights of the set found, of 1000: 100 (pruned from 200), 0, or None.
        criterion: what ranked the weights.

    Returns:
        `folder`.
    """
    sizes = [(0, None, 1.0), (20, None, 0.8), (200, None, 0.2), (100, 200, 0.3)]
    plan: Plan = {
        point_name(count, pruned): (
            {"kind": criterion, "count": count} if count else {"kind": "none"},
            count / 1000,
            left,
        )
        for count, pruned, left in sizes
    }
    tune = make_run(folder / "tune", plan)
    rows = {row["variant"]: row for row in tune.rows}
    curve = [
        {
            "protected": count,
            "pruned_from": pruned,
            "fraction": count / 1000,
            "overhead_bytes": rows[point_name(count, pruned)]["overhead_bytes"],
            "tightest_language": "tam_Taml",
            "upper_excess": 0.02 - count / 4000,
            "met": found == 0 or (found is not None and count >= 100),
        }
        for count, pruned, _ in sizes
    ]
    kept, pruned = (200, None) if found is None else (found, 200 if found else None)
    base, plain, protected = (
        tune.evaluation(name) for name in (ORIGINAL, "k0", point_name(kept, pruned))
    )
    on_test, damages = losses(
        Target(share=0.5), base, plain, protected, reference=None, draws=200, level=0.95
    )
    summary = {
        "target": Target(share=0.5).label,
        "criterion": criterion,
        "quantizer": "INT4 per channel",
        "eligible": 1000,
        "found": found,
        "fraction": None if found is None else found / 1000,
        "pruned_from": pruned,
        "closest": 200,
        "closest_excess": 0.01,
        "lower_bound": 80.0 if found else None,
        "bytes": 4000 + 3 * kept,
        "overhead_bytes": 3 * kept,
    }
    write_csv(folder / "curve.csv", curve)
    write_csv(folder / "damages.csv", damages)
    if kept:
        parts = (("token_embedding", None, 0.4, 0.8), ("mlp", 0, 0.6, 1.2))
        places = [
            {
                "layer": layer,
                "component": component,
                "protected": int(kept * share),
                "eligible": 500,
                "share": share,
                "lift": lift,
            }
            for component, layer, share, lift in parts
        ]
        write_csv(folder / "location.csv", places)
    write_atomically(folder / "summary.json", to_json(summary | on_test).encode())
    return folder


def make_map(folder: Path, languages: tuple[str, ...] = LANGUAGES) -> Path:
    """Write a sensitivity map; every language prefers the embedding."""
    places = [
        {
            "language": language,
            "layer": layer,
            "component": component,
            "protected": protected,
            "eligible": 500,
            "share": protected / 10,
            "lift": protected / 5,
        }
        for language in languages
        for component, layer, protected in (("token_embedding", None, 8), ("attention", 0, 2))
    ]
    shared = [[1.0 if a == b else 0.25 for b in languages] for a in languages]
    rows = [
        {
            "language": language,
            "sentences": 12,
            "tokens": 300,
            "nats": 900.0,
            "top_layer": None,
            "top_component": "token_embedding",
            "top_lift": 1.6,
            "closest": languages[place - 1] if len(languages) > 1 else None,
            "closest_share": 0.25 if len(languages) > 1 else None,
        }
        for place, language in enumerate(languages)
    ]
    manifest = {
        "model": {"sha256": "0123"},
        "texts": {"source": "nowhere", "sha256": "4567", "ids": [1, 2]},
        "labels": "data",
        "precision": "float32",
        "device": {"platform": "cpu"},
        "versions": {"jaxprotect": "0"},
        "languages": {},
    }
    write_csv(folder / "languages.csv", rows)
    write_csv(folder / "location.csv", places)
    write_matrix(folder / "overlap.csv", languages, shared)
    write_atomically(folder / "statistics" / "manifest.json", to_json(manifest).encode())
    return folder


def make_recommendation(folder: Path) -> Path:
    """Write a recommendation that leaves half of what plain bits would cost."""
    run = make_run(folder / "run", only("none", "magnitude-0.05"))
    base, plain, kept = (run.evaluation(name) for name in (ORIGINAL, "none", "magnitude-0.05"))
    before, after = (disparity(base, of, draws=200) for of in (plain, kept))
    removed = compare(base, kept, plain, draws=200)
    summary = {
        "technique": "clipped_protection",
        "quantizer": "INT4 per channel",
        "budget": 5000,
        "bytes": 4900,
        "tune_worst_relative": 0.02,
        **after.summary(),
        **compare(base, plain, kept, draws=200).worst_relative.to_row("change"),
        "plain_quantizer": "INT5 per channel",
        **before.worst_relative.to_row("plain_worst_relative"),
        "plain_worst_language": before.worst,
        "kept": "kept: 5 % of the weights in high precision",
        "model": "made-up",
    }
    damages = [
        row
        | before.languages[language].relative.to_row("plain")
        | removed.relative[language].to_row("removed")
        for language, row in zip(after.languages, after.rows(), strict=True)
    ]
    tried = [
        {"technique": name, "quantizer": label, "bytes": size, "tune_worst_relative": worst}
        for name, label, size, worst in (
            ("clipped_protection", "INT4 per channel", 4900, 0.02),
            ("round_to_nearest", "INT5 per channel", 4800, 0.04),
        )
    ]
    write_csv(folder / "out" / "tried.csv", tried)
    write_csv(folder / "out" / "damages.csv", damages)
    write_atomically(folder / "out" / "summary.json", to_json(summary).encode())
    return folder / "out"
