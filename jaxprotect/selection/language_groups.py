"""Languages by script and by family, and whether those of one group are more alike than others."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxprotect.errors import InputError

SCRIPTS = {
    "Arab": "Arabic", "Beng": "Bengali", "Cyrl": "Cyrillic", "Deva": "Devanagari", "Grek": "Greek",
    "Hang": "Hangul", "Hans": "Chinese (simplified)", "Hant": "Chinese (traditional)",
    "Hebr": "Hebrew", "Jpan": "Japanese", "Latn": "Latin", "Taml": "Tamil", "Telu": "Telugu",
    "Thai": "Thai",
}  # fmt: skip
"""English names of scripts, by the suffix of a FLORES code."""

FAMILIES = {
    "arb_Arab": "Semitic", "ben_Beng": "Indo-Aryan", "deu_Latn": "Germanic", "ell_Grek": "Hellenic",
    "eng_Latn": "Germanic", "fin_Latn": "Finnic", "fra_Latn": "Romance", "heb_Hebr": "Semitic",
    "hin_Deva": "Indo-Aryan", "ind_Latn": "Malayo-Polynesian", "ita_Latn": "Romance",
    "jpn_Jpan": "Japonic", "kor_Hang": "Koreanic", "pol_Latn": "Slavic", "por_Latn": "Romance",
    "rus_Cyrl": "Slavic", "spa_Latn": "Romance", "swh_Latn": "Bantu", "tam_Taml": "Dravidian",
    "tel_Telu": "Dravidian", "tha_Thai": "Tai", "tur_Latn": "Turkic", "ukr_Cyrl": "Slavic",
    "vie_Latn": "Vietic", "zho_Hans": "Sinitic",
}  # fmt: skip
"""Branches, not whole families: Germanic and Slavic apart, though both are Indo-European.

Six have two languages or more: Germanic, Romance, Slavic, Indo-Aryan, Semitic and Dravidian (which
is a whole family: Tamil and Telugu are of different branches).
"""


class Contrast(NamedTuple):
    """Overlap inside groups of languages against overlap across them.

    Args:
        within: mean over pairs of one group; None where no group has two languages.
        between: mean over pairs of different groups; None where all are in one group.
        p: share of relabellings that separate the groups as much; None where a mean is missing.
    """

    within: float | None
    between: float | None
    p: float | None

    @property
    def reason(self) -> str:
        """Why there is no p-value; empty where there is one."""
        if self.within is None:
            return "undefined: no group has two languages"
        return "" if self.between is not None else "undefined: all languages are in one group"


def script(language: str) -> str:
    """The suffix of a FLORES code; a code without one is a script of its own.

    >>> script("hin_Deva")
    'Deva'
    """
    return language.split("_", 1)[-1]


def group_contrast(
    matrix: Float[np.ndarray, "L L"],
    languages: Sequence[str],
    group_of: Mapping[str, str],
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> Contrast:
    """Do languages of one group share more? Mean overlap within and between, and a p-value.

    p = (1 + relabellings whose within - between is at least that measured) / (1 + relabellings),
    the groups dealt to the languages at random. One-sided.

    Args:
        matrix: overlaps; the diagonal is not read.
        languages: of its rows.
        group_of: language -> its group, such as its script or family.
        permutations: relabellings.
        seed: of the relabellings.

    Returns:
        The contrast; undefined, with a reason, without pairs of either kind.

    Raises:
        InputError: sizes that differ, overlaps that are no numbers, a language without a group, or
            fewer than 1 permutation.

    Source: the permutation test of Mantel, Cancer Research 27 (1967), for groups.
    """
    if len(languages) != len(matrix):
        raise InputError(f"`languages` has {len(languages)} names; `matrix` has {len(matrix)} rows")
    pairs = ~np.eye(len(matrix), dtype=bool)
    if not np.isfinite(matrix[pairs]).all():
        raise InputError("`matrix` has overlaps that are not finite")
    missing = [language for language in languages if language not in group_of]
    if missing:
        raise InputError(f"`group_of` has no group for {missing[0]!r}; every language needs one")
    if permutations < 1:
        raise InputError(f"`permutations` is {permutations}; it must be at least 1")
    labels = np.unique([group_of[language] for language in languages], return_inverse=True)[1]
    same = (labels[:, None] == labels) & pairs
    inside, outside = matrix[same], matrix[pairs & ~same]
    within, between = (float(of.mean()) if of.size else None for of in (inside, outside))
    if within is None or between is None:
        return Contrast(within, between, None)
    # The groups keep their sizes, so within - between grows with the sum of the pairs within.
    measured = inside.sum()
    least = measured - 1e-9 * np.abs(inside).sum()  # equal sums may differ in their rounding
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(permutations):
        dealt = generator.permutation(labels)
        hits += int(matrix[(dealt[:, None] == dealt) & pairs].sum() >= least)
    return Contrast(within, between, (1 + hits) / (1 + permutations))
