"""What a page of the hub's list of models amounts to: counts by category, size and language.

Languages are tags of two letters that ISO 639-1 has, so a model that is tagged `ml` for machine
learning counts as Malayalam; languages that only have a code of three letters are not seen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jaxprotect.models.hub_listing import Query

SMALL = 10**9
"""Parameters; level 3 has fewer."""

SIZES = (
    (10**8, "under 100 million"),
    (SMALL, "100 million to 1 billion"),
    (10**10, "1 to 10 billion"),
)
"""Upper end, exclusive -> name of a size class."""

LARGE, UNSTATED = "10 billion and more", "not stated"

LEVELS = {
    0: "all models",
    1: "text generation",
    2: "multilingual",
    3: "open weights, under 1 billion parameters",
}
"""Level of the universe -> what the hub has on it; each level is a part of the one before."""

RULES = {
    2: "of level 1, tagged multilingual or with two languages or more",
    3: "of level 2, not gated, and stated to have fewer than 10^9 weights",
}
"""Level -> what is picked out of the list of the level before."""

ALL = Query(name=LEVELS[0], expand=("createdAt", "pipeline_tag"))
GENERATING = Query(
    name=LEVELS[1],
    where=(("pipeline_tag", "text-generation"),),
    expand=("createdAt", "gated", "safetensors", "tags"),
)
QUERIES = (GENERATING, ALL)
"""What is listed, the shorter list first: levels 1 to 3, then level 0."""

LANGUAGES = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy
    da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu
    hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb
    lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om
    or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv
    sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()  # noqa: SIM905
)
"""ISO 639-1, with what it had until lately (`bh`, `sh`)."""

MULTILINGUAL = "multilingual"
"""The hub's tag; a model with two languages or more counts as well."""


def tally(query: Query, entries: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Counts of some models of a query; those of its pages add up.

    Args:
        query: one of `QUERIES`.
        entries: JSON objects, as the hub lists them.

    Returns:
        `level 2` -> models, `level 2 weights` -> parameters that they state, `level 2 stated` ->
        models that state them; and `category ...`, `size ...`, `language ...` -> models.
    """
    counts: Counter[str] = Counter()
    for entry in entries:
        if query == ALL:
            counts["level 0"] += 1
            counts[f"category {entry.get('pipeline_tag') or UNSTATED}"] += 1
            continue
        weights = _weights(entry)
        tags = entry.get("tags")
        tags = {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()
        languages = tags & LANGUAGES
        counts[f"size {size_class(weights)}"] += 1
        counts.update(f"language {language}" for language in languages)
        many = MULTILINGUAL in tags or len(languages) > 1
        small = many and weights is not None and weights < SMALL
        is_open = small and entry.get("gated") is False
        for level, on_it in ((1, True), (2, many), (3, is_open)):
            if on_it:
                counts[f"level {level}"] += 1
            if on_it and weights is not None:
                counts[f"level {level} weights"] += weights
                counts[f"level {level} stated"] += 1
    return counts


def size_class(weights: int | None) -> str:
    """The name of the size class of a number of parameters; None is not stated."""
    if weights is None:
        return UNSTATED
    return next((name for end, name in SIZES if weights < end), LARGE)


def _weights(entry: Mapping[str, Any]) -> int | None:
    """Parameters, as the hub reads them from the headers of safetensors files."""
    stated = entry.get("safetensors")
    total = stated.get("total") if isinstance(stated, dict) else None
    return total if type(total) is int and total > 0 else None
