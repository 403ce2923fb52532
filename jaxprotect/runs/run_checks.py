"""What a run's files must say before a summary or a report is made of them.

Rows and manifest carry no checksums: a value of another type, or a layer that the model does not
have, is refused here with the file's name, instead of failing somewhere in a table or a figure.
"""

from collections.abc import Mapping
from types import NoneType
from typing import Any

from jaxprotect.errors import InputError
from jaxprotect.evaluation.bootstrap import MOST_DRAWS
from jaxprotect.runs.results import Run

LARGEST = 1000
"""Layers, and heads of a layer, that a figure has room for."""

Kinds = Mapping[str, tuple[type, ...]]

OF_CONFIG: Kinds = {"protocol": (str,), "draws": (int,), "reference": (list, NoneType)}
OF_MANIFEST: Mapping[str, Kinds] = {
    "model": {
        "name": (str,),
        "revision": (str, NoneType),
        "sha256": (str, NoneType),
        "architecture": (dict,),
    },
    "texts": {"source": (str,), "sha256": (str, NoneType)},
    "device": {},
    "versions": {},
    "experiments": {},
}
OF_ROW: Kinds = {
    **dict.fromkeys(("variant", "quantizer", "language"), (str,)),
    **dict.fromkeys(("protected", "eligible", "bytes", "overhead_bytes"), (int,)),
    **dict.fromkeys(("fraction", "relative", "damage"), (int, float)),
    **dict.fromkeys(("relative_low", "relative_high", "relative_upper"), (float, NoneType)),
    **dict.fromkeys(("damage_low", "damage_high"), (float, NoneType)),
    **dict.fromkeys(("nats_original", "nats_quantized", "tokens_per_byte"), (float,)),
    **dict.fromkeys(("bits_per_byte_original", "bits_per_byte_quantized"), (float,)),
    "destroyed": (bool,),
    "intervention": (dict,),
}


def check_for_summary(run: Run, columns: tuple[str, ...]) -> None:
    """Refuse a run that no summary can be made of.

    Args:
        run: a run.
        columns: what the summary takes from each row.

    Raises:
        InputError: entries of the manifest or columns that are missing or of another type.
    """
    where = f"`{run.folder / 'manifest.json'}`"
    config = _object(run.manifest, "config", where)
    require(config, OF_CONFIG, f"{where} config")
    if not 1 <= config["draws"] <= MOST_DRAWS:
        raise InputError(f"{where} config.draws is {config['draws']}; allowed: 1 to {MOST_DRAWS}")
    if not all(isinstance(name, str) for name in config["reference"] or ()):
        raise InputError(f"{where} config.reference is {config['reference']!r}; allowed: languages")
    for name, variants in _object(run.manifest, "experiments", where).items():
        if not isinstance(variants, list) or not all(isinstance(of, str) for of in variants):
            raise InputError(f"{where} experiments.{name} is no list of variants")
    for number, row in enumerate(run.rows, 1):
        if missing := [column for column in columns if column not in row]:
            raise InputError(f"`{run.folder / 'results.jsonl'}:{number}` has no {missing[0]}")


def check_for_report(run: Run) -> None:
    """Refuse a run that no report can be made of.

    Args:
        run: a run.

    Raises:
        InputError: see `check_for_summary`; languages of a variant that are missing or doubled,
            or an intervention that the report would misread.
    """
    where = f"`{run.folder / 'manifest.json'}`"
    for entry, kinds in OF_MANIFEST.items():
        require(_object(run.manifest, entry, where), kinds, f"{where} {entry}")
    languages: dict[str, list[str]] = {}
    quantizers: dict[str, set[str]] = {}
    for number, row in enumerate(run.rows, 1):
        place = f"`{run.folder / 'results.jsonl'}:{number}`"
        require(row, OF_ROW, place)
        _check_intervention(row["intervention"], f"{place} intervention")
        languages.setdefault(row["variant"], []).append(row["language"])
        quantizers.setdefault(row["variant"], set()).add(row["quantizer"])
    wanted = sorted(run.manifest["texts"]["languages"])
    for variant, found in languages.items():
        if sorted(found) != wanted or len(quantizers[variant]) > 1:
            raise InputError(
                f"`{run.folder / 'results.jsonl'}`: the rows of {variant} are not one per language "
                "of the manifest, with one quantizer"
            )


def require(content: Mapping[str, Any], kinds: Kinds, where: str) -> None:
    """Refuse an object without these entries of these types.

    Args:
        content: the object.
        kinds: entry -> its types.
        where: its name, for messages.

    Raises:
        InputError: an entry that is missing or of another type.
    """
    for name, allowed in kinds.items():
        if name not in content or type(content[name]) not in allowed:
            said = " or ".join("null" if kind is NoneType else kind.__name__ for kind in allowed)
            found = repr(content[name]) if name in content else "missing"
            raise InputError(f"{where}.{name} is {found}; expected {said}")


def _check_intervention(what: dict[str, Any], where: str) -> None:
    kinds: dict[Any, Kinds] = {
        "magnitude": {"fraction": (int, float)},
        "random": {"fraction": (int, float), "seed": (int,)},
        "layers": {"layers": (list,)},
        "heads": {"layer": (int,), "head": (int,)},
        "components": {"components": (list,)},
    }
    require(what, {"kind": (str,)}, where)
    # Searches say how many weights they protect, whatever chose them.
    of_kind: Kinds = {"count": (int,)} if "count" in what else kinds.get(what["kind"], {})
    require(what, of_kind, where)
    names, layers = what.get("components", ["all"]), what.get("layers", [0])
    if not isinstance(names, list) or not names or not all(isinstance(of, str) for of in names):
        raise InputError(f"{where}.components is {names!r}; allowed: names of components")
    if not isinstance(layers, list) or not layers:
        raise InputError(f"{where}.layers is {layers!r}; allowed: a list of layers")
    for number in (*layers, what.get("layer", 0), what.get("head", 0)):
        if type(number) is not int or not 0 <= number < LARGEST:
            raise InputError(f"{where} names layer or head {number!r}; allowed: below {LARGEST}")


def _object(content: dict[str, Any], entry: str, where: str) -> dict[str, Any]:
    if not isinstance(content.get(entry), dict):
        raise InputError(f"{where} has no `{entry}`; expected an object")
    return content[entry]
