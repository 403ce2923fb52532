"""`jaxprotect recommend`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxprotect.commands.options import Flat, print_json
from jaxprotect.selection.recommendation import Options


@dataclass(frozen=True, kw_only=True)
class Recommend:
    """Say what to protect, and how, so that the packed model fits a budget.

    Every technique is tried within the budget: chosen on select, compared on tune; the best one is
    measured once on test and, with --pack, written as a packed model.

    Args:
        budget_bytes: bytes of the packed weights, indices and scales included.
        model: `reference`, a Hugging Face folder, or a hub id.
        revision: commit, branch or tag of a hub id.
        texts: `reference`, `flores`, or a folder of `<language>.txt`.
        languages: languages to serve; all by default.
        eligible: which parameters are quantized at all.
        options: what is tried.
        reference: languages whose mean the disparity divides by.
        draws: bootstrap draws.
        statistics: folder of statistics to share, such as `runs/sensitivity/statistics`.
        pack: also write the model there.
        out: also write the tables there, for `jaxprotect report`.
        batch_tokens: most tokens of one batch; less where memory is short.
        json: print JSON.
    """

    budget_bytes: int
    model: str = "reference"
    revision: str | None = None
    texts: str = "reference"
    languages: tuple[str, ...] | None = None
    eligible: Literal["matrices", "weights", "everything"] = "matrices"
    options: Annotated[Options, Flat] = Options()
    reference: tuple[str, ...] | None = None
    draws: int = 10_000
    statistics: Path = Path("runs/recommend/statistics")
    pack: Path | None = None
    out: Path | None = None
    batch_tokens: int = 4096
    json: bool = False

    def run(self) -> None:
        """Try, choose, print, and write if asked."""
        from jaxprotect.evaluation.texts import SPLITS, load_texts
        from jaxprotect.models.folders import refuse_used_folder
        from jaxprotect.runs.packed_loading import load_model
        from jaxprotect.runs.recommend import open_workplace, recommend
        from jaxprotect.runs.recommend_folder import refuse_other_folder, save_recommendation
        from jaxprotect.runs.scheme_files import pack_scheme
        from jaxprotect.runs.scheme_tables import print_recommendation

        if self.pack is not None:
            refuse_used_folder("pack", self.pack)
        if self.out is not None:
            refuse_other_folder(self.out)
        texts = {s: load_texts(self.texts, languages=self.languages, split=s) for s in SPLITS}
        model = load_model(self.model, revision=self.revision)
        place = open_workplace(
            model,
            texts,
            statistics=self.statistics,
            reference=self.reference,
            rounds=self.options.rounds,
            batch_tokens=self.batch_tokens,
        )
        made = recommend(
            place,
            self.budget_bytes,
            eligible=self.eligible,
            options=self.options,
            reference=self.reference,
            draws=self.draws,
        )
        if self.pack is not None:
            pack_scheme(self.pack, model, made.scheme)
        if self.out is not None:
            save_recommendation(self.out, made, model.name)
        if self.json:
            print_json({"summary": made.summary, "tried": made.tried, "languages": made.damages})
        else:
            print_recommendation(made, None if self.pack is None else str(self.pack))
