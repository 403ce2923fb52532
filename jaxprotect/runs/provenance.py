"""What a run's numbers are numbers of, as names and values for a page."""

from collections.abc import Mapping
from typing import Any

from jaxprotect.runs.results import Run

UNKNOWN = "not recorded"


def provenance(run: Run) -> list[tuple[str, str]]:
    """Model, texts, device and versions of a run.

    Args:
        run: a run that a report can be made of.

    Returns:
        Names and values.
    """
    model, texts, device = (run.manifest[key] for key in ("model", "texts", "device"))
    ids = texts["ids"]
    lines = f"{len(ids)} lines, from {min(ids)} to {max(ids)}"
    return [
        ("Model", model["name"]),
        ("Revision", model["revision"] or UNKNOWN),
        ("Weights, sha256", model["sha256"] or UNKNOWN),
        ("Architecture", pairs(model["architecture"])),
        ("Texts", texts["source"]),
        ("Texts, sha256", texts["sha256"] or UNKNOWN),
        ("Sentences", lines),
        ("Languages", ", ".join(texts["languages"])),
        ("Protocol", run.manifest["config"]["protocol"]),
        ("Device", pairs(device)),
        ("Versions", pairs(run.manifest["versions"])),
    ]


def pairs(values: Mapping[str, Any]) -> str:
    """`layers 4, tied head True`, each name and its value on one line."""
    found = (f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return ", ".join(pair.replace(" ", "\N{NO-BREAK SPACE}") for pair in found)
