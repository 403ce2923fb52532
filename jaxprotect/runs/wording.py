"""Numbers, languages and protections in words, the same in every figure, table and sentence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

NAMES = {
    "afr": "Afrikaans", "amh": "Amharic", "arb": "Arabic", "ben": "Bengali", "bul": "Bulgarian",
    "cat": "Catalan", "ces": "Czech", "cmn": "Chinese", "dan": "Danish", "deu": "German",
    "ell": "Greek", "eng": "English", "est": "Estonian", "eus": "Basque", "fin": "Finnish",
    "fra": "French", "guj": "Gujarati", "hau": "Hausa", "heb": "Hebrew", "hin": "Hindi",
    "hrv": "Croatian", "hun": "Hungarian", "hye": "Armenian", "ibo": "Igbo", "ind": "Indonesian",
    "ita": "Italian", "jav": "Javanese", "jpn": "Japanese", "kan": "Kannada", "kat": "Georgian",
    "kaz": "Kazakh", "khm": "Khmer", "kor": "Korean", "lit": "Lithuanian", "mal": "Malayalam",
    "mar": "Marathi", "mya": "Burmese", "nld": "Dutch", "nob": "Norwegian", "pan": "Punjabi",
    "pes": "Persian", "pol": "Polish", "por": "Portuguese", "ron": "Romanian", "rus": "Russian",
    "slk": "Slovak", "som": "Somali", "spa": "Spanish", "srp": "Serbian", "swe": "Swedish",
    "swh": "Swahili", "tam": "Tamil", "tel": "Telugu", "tgl": "Tagalog", "tha": "Thai",
    "tur": "Turkish", "ukr": "Ukrainian", "urd": "Urdu", "vie": "Vietnamese", "yor": "Yoruba",
    "zho": "Chinese", "zul": "Zulu",
}  # fmt: skip
"""English names of languages, by the first part of their FLORES code."""


def language_names(codes: Iterable[str]) -> dict[str, str]:
    """Language -> its English name; the code itself where there is none or two would share it."""
    names = {code: NAMES.get(code.split("_")[0], code) for code in codes}
    taken = Counter(names.values())
    return {code: name if taken[name] == 1 else code for code, name in names.items()}


def listed(words: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; beyond `most` words, the number of the others."""
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} others"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 layer`, `2 layers`, `12,345 weights`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def decimals(*values: float) -> int:
    """Decimal places that leave about three significant figures of the largest value."""
    largest = max(abs(value) for value in values)
    for places, least in ((0, 100), (1, 10), (2, 0.1), (3, 0.01)):
        if largest >= least:
            return places
    return 4 if largest else 2


def number(value: float, places: int | None = None) -> str:
    """A number with a true minus sign, and never a negative zero."""
    text = f"{value:.{decimals(value) if places is None else places}f}"
    if text.strip("-0.") == "":
        text = text.removeprefix("-")
    return text.replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, such as `1.42 %`."""
    return f"{number(100 * share)} %"


def of_weights(fraction: float) -> str:
    """A share of the weights in percent, without trailing zeros: `1 %`, `14.8 %`."""
    return f"{100 * fraction:.3g} %"


def with_interval(
    value: float, low: float | None, high: float | None, *, unit: str = "", scale: float = 1
) -> str:
    """A number and its interval with the same places: `1.42 % [1.08, 1.75]`."""
    unit = f" {unit}" if unit else ""
    if low is None or high is None:
        return number(scale * value) + unit
    places = decimals(scale * value, scale * low, scale * high)
    ends = ", ".join(number(scale * end, places) for end in (low, high))
    return f"{number(scale * value, places)}{unit} [{ends}]"


def cell(row: Row, key: str, *, unit: str = "", scale: float = 1) -> str:
    """`with_interval` of the columns `key`, `key_low` and `key_high` of a row."""
    return with_interval(row[key], row[f"{key}_low"], row[f"{key}_high"], unit=unit, scale=scale)


def relative_cell(row: Row, key: str) -> str:
    """`cell` of a relative damage, in percent."""
    return cell(row, key, unit="%", scale=100)


def disparity_cell(row: Row) -> str:
    """The disparity and its interval, or `undefined`."""
    return "undefined" if row["ratio"] is None else cell(row, "ratio")


def undefined_because(row: Row) -> str:
    """Why a summary row has no disparity; empty where it has one."""
    if row["ratio"] is not None:
        return ""
    if row["reference_relative_low"] is None:
        return row["ratio_reason"].removeprefix("undefined: ")
    mean = relative_cell(row, "reference_relative")
    below = row["reference_relative_high"] < 0
    return f"the reference languages' mean relative damage, {mean}, " + (
        "lies below 0" if below else "cannot be told from 0"
    )


def protection(variant: str, intervention: Row) -> str:
    """What a variant protects, in words; the variant's name where the kind is not known.

    Args:
        variant: its name.
        intervention: what it protects, as data.

    Returns:
        Such as `the largest 1 %` or `attention of layer 3`.
    """
    match intervention:
        case {"kind": "none"}:
            return "nothing"
        case {"kind": "magnitude", "fraction": fraction}:
            return f"the largest {100 * fraction:g} %"
        case {"kind": "random", "fraction": fraction, "seed": seed}:
            return f"{100 * fraction:g} % at random, seed {seed}"
        case {"kind": "layers", "layers": [layer]}:
            return f"layer {layer}"
        case {"kind": "layers", "layers": layers}:
            return f"layers {listed([str(layer) for layer in layers])}"
        case {"kind": "heads", "layer": layer, "head": head}:
            return f"head {head} of layer {layer}"
        case {"kind": "components", "components": chosen, "layers": [layer]}:
            return f"{_components(chosen)} of layer {layer}"
        case {"kind": "components", "components": chosen}:
            return _components(chosen)
        case {"count": int(count)}:
            whole = variant.partition("-of-")[2]
            return counted(count, "weight") + (f" out of {int(whole):,}" if whole.isdigit() else "")
    return variant


def part_name(component: str, layer: int | None) -> str:
    """A part of the model: `token embedding`, `layer 3 MLP`."""
    name = "MLP" if component == "mlp" else component.replace("_", " ")
    return name if layer is None else f"layer {layer} {name}"


def _components(chosen: Sequence[str]) -> str:
    if len(chosen) > 1 and all(name.endswith("_embedding") for name in chosen):
        return listed([name.removesuffix("_embedding") for name in chosen]) + " embeddings"
    return listed([name.replace("_", " ") for name in chosen])
