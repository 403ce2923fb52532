"""The languages that a page's reader may choose from, by script."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from jaxprotect.runs.heat_maps import script_name
from jaxprotect.runs.wording import language_names


def language_choices(codes: Iterable[str]) -> dict[str, Any]:
    """What the template of the choice needs.

    Args:
        codes: of all tables of the page; may repeat.

    Returns:
        `languages`, by name: code, name, script; and `scripts` with their counts, most languages
        first, empty where all are of one.
    """
    found = sorted(set(codes))
    names = language_names(found)
    languages = [{"code": of, "name": names[of], "script": script_name(of)} for of in found]
    counts = Counter(language["script"] for language in languages)
    scripts = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "languages": sorted(languages, key=lambda language: language["name"]),
        "scripts": scripts if len(scripts) > 1 else [],
    }
