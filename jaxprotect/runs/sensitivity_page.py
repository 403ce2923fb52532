"""The page of a sensitivity map: where each language's own weights lie, and whose they share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError
from jaxprotect.models.axes import COMPONENTS
from jaxprotect.models.json_files import read_json
from jaxprotect.runs.csv_files import Kinds, read_csv
from jaxprotect.runs.findings import Finding
from jaxprotect.runs.location_figure import location_map
from jaxprotect.runs.pages import Section, write_study
from jaxprotect.runs.provenance import UNKNOWN, pairs
from jaxprotect.runs.report_tables import Cell, Table
from jaxprotect.runs.run_checks import LARGEST, require
from jaxprotect.runs.sensitivity_figures import overlap_map
from jaxprotect.runs.wording import (
    counted,
    language_names,
    listed,
    number,
    of_weights,
    part_name,
    percent,
)
from jaxprotect.selection.overlap import chance_overlap

Row = Mapping[str, Any]

LANGUAGES: Kinds = {
    "language": (str,),
    **dict.fromkeys(("sentences", "tokens"), (int,)),
    "nats": (float,),
    "top_layer": (int, NoneType),
    "top_component": (str,),
    "top_lift": (float,),
    "closest": (str, NoneType),
    "closest_share": (float, NoneType),
}
LOCATION: Kinds = {
    "language": (str,),
    "layer": (int, NoneType),
    "component": (str,),
    **dict.fromkeys(("protected", "eligible"), (int,)),
    **dict.fromkeys(("share", "lift"), (float,)),
}
MANIFEST: Kinds = {
    **dict.fromkeys(("model", "texts", "device", "versions"), (dict,)),
    **dict.fromkeys(("labels", "precision"), (str,)),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class MapFolder:
    """A sensitivity map, read back.

    Args:
        folder: where it lies.
        manifest: of its statistics.
        languages: one row per language.
        location: one row per language and part of the model.
        overlap: share of the weights that two languages' own sets share, in the order of
            `languages`.
    """

    folder: Path
    manifest: Row
    languages: list[dict[str, Any]]
    location: list[dict[str, Any]]
    overlap: Float[np.ndarray, "L L"]

    @property
    def chance(self) -> float:
        """The share of the weights in an own set, which random sets share."""
        of_first = [row for row in self.location if row["language"] == self.codes[0]]
        protected = sum(row["protected"] for row in of_first)
        return chance_overlap(protected / sum(row["eligible"] for row in of_first))

    @property
    def codes(self) -> list[str]:
        """The languages."""
        return [row["language"] for row in self.languages]


def read_map(folder: Path) -> MapFolder:
    """The sensitivity map of a folder.

    Args:
        folder: the `out` of `map_sensitivity`.

    Returns:
        The map.

    Raises:
        InputError: a file is missing or damaged, or the files are not of the same languages.
    """
    manifest_path = folder / "statistics" / "manifest.json"
    manifest = read_json(manifest_path)
    require(manifest, MANIFEST, f"`{manifest_path}`")
    languages = read_csv(folder / "languages.csv", LANGUAGES)
    codes = [row["language"] for row in languages]
    location = read_csv(folder / "location.csv", LOCATION)
    matrix = read_csv(
        folder / "overlap.csv", {"language": (str,), **dict.fromkeys(codes, (float,))}
    )
    for row in location:
        layer = row["layer"] or 0
        if row["component"] not in COMPONENTS or not 0 <= layer < LARGEST or row["eligible"] < 1:
            raise InputError(f"`{folder / 'location.csv'}` has {row}, which is no part of a model")
    places = {(row["language"], row["component"], row["layer"]) for row in location}
    wanted = {(code, part, layer) for code in codes for _, part, layer in places}
    twice = len(set(codes)) < len(codes) or len(places) < len(location)
    if twice or places != wanted:
        raise InputError(f"`{folder / 'location.csv'}` and languages.csv differ in their languages")
    if [row["language"] for row in matrix] != codes:
        raise InputError(f"`{folder / 'overlap.csv'}` and languages.csv differ in their languages")
    if odd := [row["closest"] for row in languages if row["closest"] not in (None, *codes)]:
        raise InputError(f"`{folder / 'languages.csv'}` names {odd[0]!r}, which it does not have")
    return MapFolder(
        folder=folder,
        manifest=manifest,
        languages=languages,
        location=location,
        overlap=np.array([[row[code] for code in codes] for row in matrix], float),
    )


def write_sensitivity_page(found: MapFolder) -> Path:
    """Write the map's figures and its report.html.

    Args:
        found: the map.

    Returns:
        The page; the same map gives the same bytes.
    """
    figures = found.folder / "figures"
    share = of_weights(found.chance)
    sections = [
        Section(
            title="The answer",
            text=(),
            findings=tuple(_answer(found)),
            tables=(_languages(found),),
        ),
        Section(
            title="Where in the model?",
            text=(),
            drawings=(location_map(figures / "location.png", found.location),),
            tables=(_places(found),),
        ),
    ]
    if len(found.codes) > 1:
        drawing = overlap_map(
            figures / "overlap.png", found.codes, found.overlap, chance=found.chance
        )
        text = "Weights that are shared protect several languages for one price."
        sections.append(Section(title="Who needs the same?", text=(text,), drawings=(drawing,)))
    sections.append(Section(title="Provenance", text=(), facts=tuple(_facts(found.manifest))))
    return write_study(
        found.folder / "report.html",
        title="Which weights does each language need?",
        lead=(
            f"Each language's own set: the {share} of the eligible weights whose quantization "
            "would cost it most, by Fisher × delta². An estimate from gradients; what protecting "
            "them really saves is measured by minimal-set."
        ),
        sections=sections,
        damages=False,
    )


def _answer(found: MapFolder) -> list[Finding]:
    names = language_names(found.codes)
    tops = Counter(part_name(row["top_component"], row["top_layer"]) for row in found.languages)
    (part, count), *_ = tops.most_common()
    lifts = [
        row["top_lift"]
        for row in found.languages
        if part_name(row["top_component"], row["top_layer"]) == part
    ]
    text = (
        f"{part[0].upper()}{part[1:]} is what {count} of {counted(len(names), 'language')} "
        f"{'prefers' if count == 1 else 'prefer'} most: {number(min(lifts), 1)} to "
        f"{number(max(lifts), 1)} times what a random set has there."
    )
    answers = [Finding(title="Where the weights are", text=text)]
    if len(names) > 1:
        shares = found.overlap[~np.eye(len(names), dtype=bool)]
        closest = max(found.languages, key=lambda row: row["closest_share"] or 0.0)
        pair = listed(sorted(names[of] for of in (closest["language"], closest["closest"]) if of))
        answers.append(
            Finding(
                title="Who needs the same",
                text=(
                    f"Two languages share {percent(float(shares.mean()))} of their own weights on "
                    f"average, from {percent(float(shares.min()))} to "
                    f"{percent(float(shares.max()))} ({pair}); random sets share "
                    f"{of_weights(found.chance)}."
                ),
            )
        )
    return answers


def _languages(found: MapFolder) -> Table:
    names = language_names(found.codes)
    rows = []
    for row in sorted(found.languages, key=lambda row: names[row["language"]]):
        code, closest = row["language"], row["closest"]
        part = part_name(row["top_component"], row["top_layer"])
        per = row["nats"] / row["sentences"] if row["sentences"] else None
        with_whom = names[closest] if closest else "–"
        rows.append(
            (
                _language(names, code),
                Cell(text=f"{row['sentences']:,}", sort=row["sentences"]),
                Cell(text="–" if per is None else number(per, 1), sort=per),
                Cell(text=part, sort=part),
                Cell(text=number(row["top_lift"], 1), sort=row["top_lift"]),
                Cell(text=with_whom, sort=with_whom),
                Cell(
                    text="–" if row["closest_share"] is None else percent(row["closest_share"]),
                    sort=row["closest_share"],
                ),
            )
        )
    return Table(
        name="languages",
        caption="Each language, the part of the model that its own set prefers most, and the "
        "language with which it shares most of it.",
        columns=(
            "Language",
            "Sentences",
            "Nats per sentence",
            "Prefers",
            "Times a random set",
            "Shares most with",
            "Shared",
        ),
        rows=tuple(rows),
        filter="Filter languages",
        languages=tuple(sorted(found.codes, key=lambda code: names[code])),
    )


def _places(found: MapFolder) -> Table:
    names = language_names(found.codes)
    ordered = sorted(found.codes, key=lambda code: names[code])
    lifts = {
        (row["language"], (row["component"], row["layer"])): row["lift"] for row in found.location
    }
    parts = list(dict.fromkeys((row["component"], row["layer"]) for row in found.location))
    rows = [
        (
            _language(names, code),
            *(Cell(text=number(lifts[code, of], 2), sort=lifts[code, of]) for of in parts),
        )
        for code in ordered
    ]
    return Table(
        name="places",
        caption="Each language's own set by part of the model: its share of the set over its share "
        "of the eligible weights. 1 is what a random set has.",
        columns=("Language", *(part_name(*of) for of in parts)),
        rows=tuple(rows),
        filter="Filter parts",
        find="columns",
        languages=tuple(ordered),
    )


def _language(names: Mapping[str, str], code: str) -> Cell:
    return Cell(text=names[code], sort=names[code], note=code if code != names[code] else "")


def _facts(manifest: Row) -> Sequence[tuple[str, str]]:
    model, texts = manifest["model"], manifest["texts"]
    ids = texts.get("ids")
    return [
        *(("Model", model[key]) for key in ("name",) if isinstance(model.get(key), str)),
        ("Weights, sha256", str(model.get("sha256") or UNKNOWN)),
        ("Texts", str(texts.get("source") or UNKNOWN)),
        ("Texts, sha256", str(texts.get("sha256") or UNKNOWN)),
        ("Sentences", f"{len(ids)} lines" if isinstance(ids, list) else UNKNOWN),
        ("Labels", manifest["labels"]),
        ("Precision", manifest["precision"]),
        ("Device", pairs(manifest["device"])),
        ("Versions", pairs(manifest["versions"])),
    ]
