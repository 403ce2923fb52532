"""Options that commands share, as groups of their help; and JSON on the terminal."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

Split = Literal["select", "tune", "test", "all"]

Flat = tyro.conf.arg(name="")
"""Options of a nested dataclass without a group of their own."""


def group(name: str) -> Any:
    """Options of a nested dataclass under a heading: `<name> options`."""
    return tyro.conf.arg(name=name)


Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""An option that is off unless it is named."""

Codes = Annotated[
    tuple[str, ...] | None, tyro.conf.arg(metavar="CODE ...", help_behavior_hint="(default: all)")
]
"""Languages, all of them by default."""

Reference = Annotated[
    tuple[str, ...] | None,
    tyro.conf.arg(
        metavar="CODE ...", help_behavior_hint="(default: English, German, French if there)"
    ),
]
"""Languages that the disparity divides by."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Where the model comes from.

    Args:
        model: `reference` (ships with jaxprotect), a Hugging Face or packed folder, or a hub id.
        revision: commit, branch or tag of a hub id.
    """

    model: str = "reference"
    revision: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: main)")] = None

    def load(self) -> Any:
        """The model."""
        from jaxprotect.runs.packed_loading import load_model

        return load_model(self.model, revision=self.revision)


@dataclass(frozen=True, kw_only=True)
class PlacedModelOptions:
    """Where the model comes from, and the devices that it is put on.

    Args:
        model: `reference` (ships with jaxprotect), a Hugging Face or packed folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        mesh: devices: `model` of them share one copy of the weights, `data` copies work on
            different sentences.
    """

    model: str = "reference"
    revision: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: main)")] = None
    mesh: Annotated[
        str | None,
        tyro.conf.arg(metavar="data=N,model=M", help_behavior_hint="(default: all devices)"),
    ] = None

    def load(self) -> Any:
        """The model, on its devices."""
        from jaxprotect.runs.packed_loading import load_placed

        return load_placed(self.model, revision=self.revision, mesh=self.mesh)

    def load_or_open(self, weights: Any, copies: float) -> Any:
        """The model on its devices, or with its weights in their files."""
        from jaxprotect.runs.stored_loading import load_or_open

        return load_or_open(
            self.model, revision=self.revision, mesh=self.mesh, weights=weights, copies=copies
        )


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Which sentences it is measured on.

    Args:
        texts: `reference` (ships with jaxprotect), `flores`, or a folder of `<language>.txt`.
        languages: languages to measure.
        batch_tokens: most tokens of one batch; less where memory is short.
    """

    texts: str = "reference"
    languages: Codes = None
    batch_tokens: int = 4096

    def load(self, split: str) -> Any:
        """The texts of a split, or all of them."""
        from jaxprotect.evaluation.texts import load_texts

        wanted = None if split == "all" else split
        return load_texts(self.texts, languages=self.languages, split=wanted)  # type: ignore

    def load_splits(self) -> dict[str, Any]:
        """The texts of every split."""
        from jaxprotect.evaluation.texts import SPLITS

        return {split: self.load(split) for split in SPLITS}


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinity are errors, not text."""
    print(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))
