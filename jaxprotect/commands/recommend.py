"""`jaxprotect recommend`."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from jaxprotect.commands.options import (
    PlacedModelOptions,
    Reference,
    Switch,
    TextOptions,
    group,
    print_json,
)
from jaxprotect.host_start import Hosts
from jaxprotect.selection.recommendation import Options


@dataclass(frozen=True, kw_only=True)
class Recommend:
    """Say what to protect, and how, so that the model fits a budget.

    Every technique is tried within the budget: chosen on select, compared on tune; the best one is
    measured once on test and, with --pack, written as a packed model.

    Examples:
        jaxprotect recommend --budget-bytes 1300000
        jaxprotect recommend --budget-bytes 1300000 --techniques guided_protection mixed_precision
        jaxprotect recommend --budget-bytes 1300000 --pack packed

    Args:
        budget_bytes: bytes of the packed weights, indices and scales included.
        source: where the model comes from.
        hosts: several of them as one job.
        measured: what it is measured on; its languages are those to serve.
        eligible: which parameters are quantized at all.
        options: what is tried.
        reference: languages whose mean the disparity divides by.
        draws: bootstrap draws.
        statistics: folder or URL of statistics to share, such as `runs/sensitivity/statistics`.
        pack: also write the model there, a folder or URL.
        out: also write the tables there, a folder or URL, for `jaxprotect report`.
        json: print one JSON document.
    """

    budget_bytes: int
    source: Annotated[PlacedModelOptions, group("model")] = PlacedModelOptions()
    hosts: Annotated[Hosts, group("hosts")] = Hosts()
    measured: Annotated[TextOptions, group("texts")] = TextOptions()
    eligible: Literal["matrices", "weights", "everything"] = "matrices"
    options: Annotated[Options, group("technique")] = Options()
    reference: Reference = None
    draws: int = 10_000
    statistics: Path = Path("runs/recommend/statistics")
    pack: Path | None = None
    out: Path | None = None
    json: Switch = False

    def run(self) -> None:
        """Try, choose, print, and write if asked."""
        from jaxprotect.models.folders import refuse_used_folder
        from jaxprotect.runs.recommend import open_workplace, recommend, refuse_small_budget
        from jaxprotect.runs.recommend_folder import refuse_other_folder, save_recommendation
        from jaxprotect.runs.remote_folder import address, working_folder
        from jaxprotect.runs.scheme_files import pack_scheme
        from jaxprotect.runs.scheme_tables import print_recommendation

        with contextlib.ExitStack() as stack:
            pack, out = self.pack, self.out
            if pack is not None:
                pack = stack.enter_context(working_folder(pack, name="pack", new=True))
                refuse_used_folder("pack", pack)
            if out is not None:
                out = stack.enter_context(working_folder(out))
                refuse_other_folder(out)
            shared = working_folder(self.statistics, name="statistics", shared=True)
            statistics = stack.enter_context(shared)
            texts, model = self.measured.load_splits(), self.source.load()
            refuse_small_budget(model, self.budget_bytes, eligible=self.eligible)
            place = open_workplace(
                model,
                texts,
                statistics=statistics,
                reference=self.reference,
                rounds=self.options.rounds,
                batch_tokens=self.measured.batch_tokens,
            )
            made = recommend(
                place,
                self.budget_bytes,
                eligible=self.eligible,
                options=self.options,
                reference=self.reference,
                draws=self.draws,
            )
            if pack is not None:
                pack_scheme(pack, model, made.scheme)
            if out is not None:
                save_recommendation(out, made, model.name)
        if self.json:
            print_json({"summary": made.summary, "tried": made.tried, "languages": made.damages})
        else:
            print_recommendation(made, None if self.pack is None else address(self.pack))
