"""`jaxprotect minimal-set`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jaxprotect.commands.options import (
    PlacedModelOptions,
    Reference,
    Switch,
    TextOptions,
    group,
    print_json,
)
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.search import Search


@dataclass(frozen=True, kw_only=True)
class MinimalSet:
    """Find the fewest weights that keep every language within a target.

    Scores come from the select sentences, sizes are tried on tune, the result is measured once on
    test. At least one of --share, --relative, --disparity, --bits-per-byte says what is enough.

    Examples:
        jaxprotect minimal-set --share 0.5 --bits 3
        jaxprotect minimal-set --relative 0.02 --bits 3 --out runs/within-2-percent
        jaxprotect minimal-set --share 0.5 --statistics runs/sensitivity/statistics

    Args:
        source: where the model comes from.
        measured: what it is measured on; the target holds for every language of it.
        share: largest damage, as a share of the same language's unprotected damage.
        relative: largest damage, relative to the original nats.
        disparity: largest relative damage over the mean of the reference languages.
        bits_per_byte: most bits per byte after quantization.
        spec: how weights are rounded.
        search: how sizes are tried.
        reference: languages whose mean the disparity divides by.
        statistics: folder of statistics to share, such as `runs/sensitivity/statistics`.
        out: folder of the search; the same command continues it.
        json: print one JSON document.
    """

    source: Annotated[PlacedModelOptions, group("model")] = PlacedModelOptions()
    measured: Annotated[TextOptions, group("texts")] = TextOptions()
    share: float | None = None
    relative: float | None = None
    disparity: float | None = None
    bits_per_byte: float | None = None
    spec: Annotated[QuantSpec, group("quantizer")] = QuantSpec(protected_dtype="float16")
    search: Annotated[Search, group("search")] = Search()
    reference: Reference = None
    statistics: Path | None = None
    out: Path = Path("runs/minimal-set")
    json: Switch = False

    def run(self) -> None:
        """Search, write the folder, print what was found."""
        from jaxprotect.runs.minimal_run import find_minimal_set
        from jaxprotect.runs.tables import print_minimal_set
        from jaxprotect.selection.targets import Target

        target = Target(
            share=self.share,
            relative=self.relative,
            disparity=self.disparity,
            bits_per_byte=self.bits_per_byte,
        )
        texts, model = self.measured.load_splits(), self.source.load()
        made = find_minimal_set(
            model,
            texts,
            self.spec,
            target,
            out=self.out,
            search=self.search,
            reference=self.reference,
            statistics=self.statistics,
            batch_tokens=self.measured.batch_tokens,
        )
        if self.json:
            print_json({"summary": made.summary, "curve": made.curve, "languages": made.damages})
        else:
            print_minimal_set(made.summary, made.curve, str(self.out))
