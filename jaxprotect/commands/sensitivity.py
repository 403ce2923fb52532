"""`jaxprotect sensitivity`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxprotect.commands.options import Flat, Split, print_json
from jaxprotect.quantization.spec import QuantSpec


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Measure how much each language needs each weight, and map where its weights are.

    Args:
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to measure; all by default.
        split: sentences to measure on.
        labels: `data` for the empirical Fisher matrix, `model` for labels drawn from the model.
        seed: of the drawn labels.
        precision: of the statistics on disk.
        fraction: share of the weights in a language's own set.
        spec: the quantizer whose errors the scores weigh.
        out: folder; the same command continues it, `minimal-set --statistics` reads it.
        batch_tokens: most tokens of one batch; less where memory is short.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    split: Split = "select"
    labels: Literal["data", "model"] = "data"
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    fraction: float = 0.01
    spec: Annotated[QuantSpec, Flat] = QuantSpec()
    out: Path = Path("runs/sensitivity")
    batch_tokens: int = 4096
    json: bool = False

    def run(self) -> None:
        """Measure, write the folder, print the map."""
        from jaxprotect.evaluation.texts import load_texts
        from jaxprotect.runs.packed_loading import load_model
        from jaxprotect.runs.sensitivity_run import map_sensitivity
        from jaxprotect.runs.tables import print_sensitivity

        split = None if self.split == "all" else self.split
        texts = load_texts(self.texts, languages=self.languages, split=split)
        made = map_sensitivity(
            load_model(self.model, revision=self.revision),
            texts,
            self.spec,
            out=self.out,
            fraction=self.fraction,
            labels=self.labels,
            seed=self.seed,
            precision=self.precision,
            batch_tokens=self.batch_tokens,
        )
        if self.json:
            overlap = {"languages": made.names, "shares": made.overlap.tolist()}
            print_json({"languages": made.languages, "location": made.location, "overlap": overlap})
        else:
            print_sensitivity(made.languages, made.chance, str(self.out))
