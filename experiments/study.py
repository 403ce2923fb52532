"""The original study's results as data: what was protected, on which texts, with which loss.

The figures are in `data/original_study.json`; the texts are known by their checksums alone.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxprotect.errors import InputError, refuse_unknown, unknown_name
from jaxprotect.evaluation.seed import STUDY_CODES

DATA = Path(__file__).parent / "data" / "original_study.json"
LAYERS = 12
"""Blocks of every model in the study."""

BLOCK = ("qkv", "attention_out", "mlp_up", "mlp_down", "norm_attention", "norm_mlp")
PARTS = {
    "attention": ("qkv", "attention_out"),
    "mlp": ("mlp_up", "mlp_down"),
    "norms": ("norm_attention", "norm_mlp", "final_norm"),
    **{name: (name,) for name in (*BLOCK, "final_norm", "token_embedding", "position_embedding")},
}
"""Component, whole or in part -> its tensors in a block or in the model."""

LANGUAGES = {code: language for language, code in reversed(STUDY_CODES.items())}
"""The study's code -> language, as texts are called here."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """What is protected; two are equal when they protect the same weights.

    Args:
        fraction: share of the eligible weights of largest magnitude; 0 without them.
        tensors: (tensor, layer) protected whole; the layer is None outside the blocks.
    """

    fraction: float = 0.0
    tensors: frozenset[tuple[str, int | None]] = frozenset()


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """One result of the study; languages as elsewhere in this project.

    Args:
        experiment: its number there.
        model: hub id.
        name: what the study called the variant.
        intervention: what was protected.
        eligible: the policy, `weights` or `everything`.
        texts: language -> checksum of each text.
        fraction: share protected, of what the study chose to count; None where not stored.
        count: weights protected.
        disparity_kind: R1, R2 or R3, or "R3 of he, ar".
        disparity: the study's ratio; infinite where it stored that.
        ln_ppl_original: language -> ln PPL; from another result on the same text where this one
            lacks it.
        ln_ppl_quantized: language -> ln PPL; from the degradation where it was not stored;
            left out where it overflowed.
        degradation_pct: language -> degradation.
        flags: what is wrong with the entry; the data file explains each.
    """

    experiment: str
    model: str
    name: str
    intervention: Intervention
    eligible: str
    texts: dict[str, tuple[str, ...]]
    fraction: float | None = None
    count: int | None = None
    disparity_kind: str | None = None
    disparity: float | None = None
    ln_ppl_original: dict[str, float] = field(default_factory=dict)
    ln_ppl_quantized: dict[str, float] = field(default_factory=dict)
    degradation_pct: dict[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def intervention(
    kind: str,
    *,
    fraction: float = 0.0,
    layers: Sequence[int] | None = None,
    components: Sequence[str] = (),
    of: Sequence[Mapping] = (),
) -> Intervention:
    """What a variant protects, as the data file spells it.

    Args:
        kind: `none`; `magnitude` (`fraction`); `layers` (`layers`, whole blocks); `components`
            (`components`, within `layers` or everywhere); `embeddings` (`components`, tokens and
            positions by default); `union` (`of`).
        fraction: 0 to 1.
        layers: block numbers from 0.
        components: of `PARTS`.
        of: the arguments of each member of a union.

    Returns:
        The intervention, by its tensors.

    Raises:
        InputError: an unknown kind, component or layer, or a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"`fraction` is {fraction}; allowed is 0 to 1")
    beyond = [layer for layer in layers or () if not 0 <= layer < LAYERS]
    if beyond:
        raise InputError(f"`layers` has {beyond[0]}; the study's models have 0 to {LAYERS - 1}")
    refuse_unknown("components", components, PARTS)
    if kind == "none":
        return Intervention()
    if kind == "magnitude":
        return Intervention(fraction=fraction)
    if kind == "union":
        members = [intervention(**member) for member in of]
        return Intervention(
            fraction=max((member.fraction for member in members), default=0.0),
            tensors=frozenset().union(*(member.tensors for member in members)),
        )
    if kind == "layers":
        parts = BLOCK
        layers = layers or ()
    elif kind in ("components", "embeddings"):
        if kind == "embeddings":
            components = components or ("token_embedding", "position_embedding")
        parts = [part for name in components for part in PARTS[name]]
        # Within given layers only what lies in a block is meant.
        parts = [part for part in parts if layers is None or part in BLOCK]
    else:
        kinds = ("none", "magnitude", "layers", "components", "embeddings", "union")
        raise unknown_name("kind", kind, kinds)
    tensors = _tensors(parts, range(LAYERS) if layers is None else layers)
    if not tensors:
        raise InputError(f"`{kind}` names nothing; give at least one layer and component")
    return Intervention(tensors=tensors)


def stored_results(model: str | None = "gpt2", experiment: str | None = None) -> list[StoredResult]:
    """The study's results, in its order.

    Args:
        model: hub id of the model, or None for all.
        experiment: number such as `Exp-012`, or None for all.

    Returns:
        The results.

    Raises:
        InputError: a model or an experiment that the study does not have.
    """
    results = _all_results()
    for name, value in (("model", model), ("experiment", experiment)):
        there = dict.fromkeys(getattr(result, name) for result in results)
        if value is not None and value not in there:
            raise InputError(f"`{name}` is {value!r}; the study has {', '.join(there)}")
    return [
        result
        for result in results
        if model in (None, result.model) and experiment in (None, result.experiment)
    ]


@functools.cache
def _all_results() -> tuple[StoredResult, ...]:
    data = json.loads(DATA.read_text(encoding="utf-8"))
    sets = data["text_sets"]
    # A baseline depends on the model and the text alone, and most entries leave it out.
    known = {
        (entry["model"], *sets[entry["texts"]][code]): math.log(ppl)
        for entry in data["entries"]
        for code, ppl in entry.get("ppl_baseline", {}).items()
    }
    return tuple(_result(entry, sets[entry["texts"]], known) for entry in data["entries"])


def _result(entry: dict, texts: dict, known: Mapping[tuple, float]) -> StoredResult:
    before = {
        code: known[entry["model"], *of_code]
        for code, of_code in texts.items()
        if (entry["model"], *of_code) in known
    }
    rises = {code: float(rise) for code, rise in entry.get("degradation_pct", {}).items()}
    after = {code: math.log(float(ppl)) for code, ppl in entry.get("ppl_quantized", {}).items()}
    for code in before.keys() & rises.keys() - after.keys():
        after[code] = before[code] + math.log1p(rises[code] / 100)
    after = {code: value for code, value in after.items() if math.isfinite(value)}
    disparity = entry.get("disparity")

    def named(values: Mapping) -> dict:
        return {LANGUAGES[code]: values[code] for code in texts if code in values}

    return StoredResult(
        experiment=entry["experiment"],
        model=entry["model"],
        name=entry["name"],
        intervention=intervention(**entry["intervention"]),
        eligible=entry["eligible"],
        texts={name: tuple(hashes) for name, hashes in named(texts).items()},
        fraction=entry.get("fraction"),
        count=entry.get("count"),
        disparity_kind=entry.get("disparity_kind"),
        disparity=None if disparity is None else float(disparity),
        ln_ppl_original=named(before),
        ln_ppl_quantized=named(after),
        degradation_pct=named(rises),
        flags=tuple(entry.get("flags", ())),
    )


def _tensors(parts: Iterable[str], layers: Iterable[int]) -> frozenset[tuple[str, int | None]]:
    chosen = list(layers)
    return frozenset(
        (part, layer) for part in parts for layer in (chosen if part in BLOCK else [None])
    )
