"""`jaxprotect sensitivity`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxprotect.commands.options import (
    PlacedModelOptions,
    Split,
    Switch,
    TextOptions,
    group,
    print_json,
)
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Map which weights each language needs, and how much.

    Examples:
        jaxprotect sensitivity --languages eng_Latn tam_Taml
        jaxprotect sensitivity --fraction 0.001 --bits 3 --out runs/sensitivity

    Args:
        source: where the model comes from.
        measured: what it is measured on.
        split: sentences to measure on.
        labels: `data` for the empirical Fisher matrix, `model` for labels drawn from the model.
        seed: of the drawn labels.
        precision: of the statistics on disk.
        fraction: share of the weights in a language's own set.
        spec: the quantizer whose errors the scores weigh.
        out: folder; the same command continues it, `minimal-set --statistics` reads it.
        json: print one JSON document.
    """

    source: Annotated[PlacedModelOptions, group("model")] = PlacedModelOptions()
    measured: Annotated[TextOptions, group("texts")] = TextOptions()
    split: Split = "select"
    labels: Literal["data", "model"] = "data"
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    fraction: float = 0.01
    spec: Annotated[QuantSpec, group("quantizer")] = QuantSpec()
    out: Path = Path("runs/sensitivity")
    json: Switch = False

    def run(self) -> None:
        """Measure, write the folder, print the map."""
        from jaxprotect.runs.sensitivity_run import map_sensitivity
        from jaxprotect.runs.tables import print_sensitivity

        made = map_sensitivity(
            self.source.load(),
            self.measured.load(self.split),
            self.spec,
            out=self.out,
            fraction=self.fraction,
            labels=self.labels,
            seed=self.seed,
            precision=self.precision,
            batch_tokens=self.measured.batch_tokens,
        )
        if self.json:
            overlap = {"languages": made.names, "shares": made.overlap.tolist()}
            print_json({"languages": made.languages, "location": made.location, "overlap": overlap})
        else:
            print_sensitivity(made.languages, made.chance, str(self.out))
