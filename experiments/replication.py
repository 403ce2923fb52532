"""The original study's figures beside ours: ln PPL by ln PPL, on the same texts or not at all.

Question: does `--protocol seed` reproduce the exploratory study that this project grew out of?
Its figures are in `data/original_study.json`; its texts are not shipped and are known by their
checksums, so a user provides them. Perplexities are compared as logarithms, to 0.01; protected
counts exactly. The ratios stand beside each other but judge nothing: they magnify rounding.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.study import LAYERS, Intervention, StoredResult, intervention, stored_results
from jaxprotect.evaluation.seed import degradation, ln_perplexity, seed_ratios
from jaxprotect.evaluation.texts import Texts
from jaxprotect.models.config import ModelConfig
from jaxprotect.runs.results import ORIGINAL, Run
from jaxprotect.runs.tables import console, table

LN_PPL_TOLERANCE = 0.01
WHOSE = ("stored", "ours", "difference")
COUNTS = ("count_stored", "count_ours")
Row = dict[str, str | int | float | bool | None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One of our variants, under the seed protocol.

    Args:
        intervention: what is protected.
        ln_ppl_original: language -> ln PPL before.
        ln_ppl_quantized: language -> ln PPL after.
        texts: language -> checksum of each text, see `text_checksums`.
        count: weights protected, ties included.
        eligible: the policy.
    """

    intervention: Intervention
    ln_ppl_original: Mapping[str, float]
    ln_ppl_quantized: Mapping[str, float]
    texts: Mapping[str, tuple[str, ...]]
    count: int | None = None
    eligible: str = "weights"


def text_checksums(texts: Texts) -> dict[str, tuple[str, ...]]:
    """Language -> first 16 digits of the SHA-256 of each text in UTF-8, as the study's are."""
    return {
        language: tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in sentences)
        for language, sentences in texts.sentences.items()
    }


def replication_table(
    ours: Iterable[Measured], *, model: str = "gpt2", experiment: str | None = None
) -> list[Row]:
    """Stored figures beside ours, wherever the same weights are protected.

    Per matching pair there is a row for each language that both have, and where the study stored
    a ratio a last one with `language` "all". Differences are ours minus stored, and None unless
    the texts are the same; `texts` says "same" or "texts differ". `agrees` is None unless both
    differences are there.

    Args:
        ours: our variants of the model.
        model: hub id.
        experiment: only this experiment of the study.

    Returns:
        Rows of plain data, all with the same keys, in the study's order.

    Raises:
        InputError: see `stored_results`.
    """
    measured = list(ours)
    return [
        row
        for stored in stored_results(model, experiment)
        for mine in measured
        if mine.intervention == stored.intervention and mine.eligible == stored.eligible
        for row in _rows(stored, mine)
    ]


def study_model(config: ModelConfig) -> str | None:
    """The study's model of this architecture by hub id; None where it had none."""
    names = {"gpt2": "gpt2", "opt": "facebook/opt-125m", "gpt_neox": "EleutherAI/pythia-160m"}
    return names.get(config.family) if (config.layers, config.width) == (LAYERS, 768) else None


def our_variants(run: Run, texts: Texts) -> list[Measured]:
    """The variants of a seed-protocol run that the study could have had.

    Args:
        run: a finished run under the seed protocol.
        texts: the texts it was measured on.

    Returns:
        One `Measured` per variant; random controls and single heads are left out.
    """
    checksums, base = text_checksums(texts), run.evaluation(ORIGINAL)
    first = {}
    for row in run.rows:
        first.setdefault(row["variant"], row)
    return [
        Measured(
            intervention=intervention(**row["intervention"]),
            ln_ppl_original=ln_perplexity(base),
            ln_ppl_quantized=ln_perplexity(run.evaluation(name)),
            texts=checksums,
            count=row["protected"],
        )
        for name, row in first.items()
        if row["intervention"]["kind"] not in ("random", "heads")
    ]


def _rows(stored: StoredResult, mine: Measured) -> list[Row]:
    shared = [
        name
        for name in stored.texts
        if name in mine.ln_ppl_quantized and name in mine.ln_ppl_original
    ]
    same = {name: mine.texts.get(name) == stored.texts[name] for name in shared}
    rows = []
    for name in shared:
        pairs = {
            "ln_ppl_original": (stored.ln_ppl_original, mine.ln_ppl_original),
            "ln_ppl_quantized": (stored.ln_ppl_quantized, mine.ln_ppl_quantized),
        }
        values: Row = {}
        for key, (theirs, own) in pairs.items():
            before, now = theirs.get(name), own.get(name)
            values |= {f"{key}_stored": before, f"{key}_ours": now}
            values[f"{key}_difference"] = (
                now - before if same[name] and before is not None and now is not None else None
            )
        gaps = [values[f"{key}_difference"] for key in pairs]
        found = [abs(gap) for gap in gaps if isinstance(gap, float)]
        values["agrees"] = max(found) <= LN_PPL_TOLERANCE if len(found) == len(gaps) else None
        rows.append(_row(stored, mine, name, same[name], values))
    if stored.disparity is not None and len(shared) == len(stored.texts):
        rows.append(_row(stored, mine, "all", all(same.values()), {"agrees": None}))
    return rows


def _row(stored: StoredResult, mine: Measured, language: str, same: bool, values: Mapping) -> Row:
    ratios = language == "all"
    keys = [f"ln_ppl_{k}_{w}" for k in ("original", "quantized") for w in WHOSE]
    return {
        "experiment": stored.experiment,
        "model": stored.model,
        "variant": stored.name,
        "eligible": stored.eligible,
        "language": language,
        "texts": "same" if same else "texts differ",
        **dict.fromkeys(keys),
        **values,
        "count_stored": stored.count,
        "count_ours": mine.count,
        "disparity_kind": stored.disparity_kind if ratios else None,
        "disparity_stored": _finite(stored.disparity) if ratios else None,
        "disparity_ours": _our_ratio(stored, mine) if ratios else None,
        "flags": " ".join(stored.flags),
    }


def _our_ratio(stored: StoredResult, mine: Measured) -> float | None:
    kind = stored.disparity_kind or ""
    named = ("eng_Latn", "heb_Hebr", "arb_Arab") if kind == "R3 of he, ar" else stored.texts
    rises = {
        name: degradation(mine.ln_ppl_original[name], mine.ln_ppl_quantized[name]) for name in named
    }
    return getattr(seed_ratios(rises), kind[:2].lower())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def print_replication(rows: list[Row]) -> None:
    """Print ln PPL of the quantized model, the study's beside ours, and the protected counts."""
    made = table(
        "Replication: ln PPL of the quantized model",
        ["study", "protected", "language", "texts"],
        ["stored", "ours", "difference", "count stored", "count ours"],
    )
    for row in rows:
        if row["language"] == "all":
            continue
        stored, ours, difference = (row[f"ln_ppl_quantized_{whose}"] for whose in WHOSE)
        losses = ["" if value is None else f"{value:.4f}" for value in (stored, ours, difference)]
        counts = ["" if row[key] is None else f"{row[key]:,}" for key in COUNTS]
        named = [str(row[key]) for key in ("experiment", "variant", "language", "texts")]
        made.add_row(*named, *losses, *counts)
    console().print(made)
