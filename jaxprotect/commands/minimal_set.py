"""`jaxprotect minimal-set`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jaxprotect.commands.options import Flat, print_json
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.selection.search import Search


@dataclass(frozen=True, kw_only=True)
class MinimalSet:
    """Find the smallest set of weights that keeps every language within a target.

    Scores come from the select sentences, sizes are tried on tune, the result is measured once on
    test. At least one of --share, --relative, --disparity, --bits-per-byte says what is enough.

    Args:
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to hold to the target; all by default.
        share: largest damage, as a share of the same language's unprotected damage.
        relative: largest damage, relative to the original nats.
        disparity: largest relative damage over the mean of the reference languages.
        bits_per_byte: most bits per byte after quantization.
        spec: the quantizer.
        search: criterion and precision.
        reference: languages whose mean the disparity divides by.
        statistics: folder of statistics to share, such as `runs/sensitivity/statistics`.
        out: folder of the search; the same command continues it.
        batch_tokens: most tokens of one batch; less where memory is short.
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    share: float | None = None
    relative: float | None = None
    disparity: float | None = None
    bits_per_byte: float | None = None
    spec: Annotated[QuantSpec, Flat] = QuantSpec(protected_dtype="float16")
    search: Annotated[Search, Flat] = Search()
    reference: tuple[str, ...] | None = None
    statistics: Path | None = None
    out: Path = Path("runs/minimal-set")
    batch_tokens: int = 4096
    json: bool = False

    def run(self) -> None:
        """Search, write the folder, print what was found."""
        from jaxprotect.evaluation.texts import SPLITS, load_texts
        from jaxprotect.runs.minimal_run import find_minimal_set
        from jaxprotect.runs.packed_loading import load_model
        from jaxprotect.runs.tables import print_minimal_set
        from jaxprotect.selection.targets import Target

        target = Target(
            share=self.share,
            relative=self.relative,
            disparity=self.disparity,
            bits_per_byte=self.bits_per_byte,
        )
        texts = {s: load_texts(self.texts, languages=self.languages, split=s) for s in SPLITS}
        model = load_model(self.model, revision=self.revision)
        made = find_minimal_set(
            model,
            texts,
            self.spec,
            target,
            out=self.out,
            search=self.search,
            reference=self.reference,
            statistics=self.statistics,
            batch_tokens=self.batch_tokens,
        )
        if self.json:
            print_json({"summary": made.summary, "curve": made.curve, "languages": made.damages})
        else:
            print_minimal_set(made.summary, made.curve, str(self.out))
