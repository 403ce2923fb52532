"""`jaxprotect universe`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from jaxprotect.commands.options import ModelOptions, Switch, group, print_json
from jaxprotect.models.pace import Pace


@dataclass(frozen=True, kw_only=True)
class Universe:
    """Map the weight universe: from all models to the weights that must be protected.

    Levels 0 to 3 are the ecosystem (counted with --live, or from a file of estimates), 4 is the
    model by component, 5 its layers and heads, 6 its minimal set.

    Examples:
        jaxprotect universe
        jaxprotect universe --model gpt2 --estimates estimates.toml
        jaxprotect universe --minimal-set runs/minimal-set
        jaxprotect universe --live --max-pages 100

    Args:
        source: whose weights to map; known models need no network.
        estimates: TOML file of published counts, with source and date.
        live: count the hub's models (HF_ENDPOINT); the same command goes on where it stopped.
        pace: how fast and how long the hub is asked.
        minimal_set: folder that `minimal-set` has filled, for the same model.
        out: folder of picture, page and count.
        json: print one JSON document.
    """

    source: Annotated[ModelOptions, group("model")] = ModelOptions()
    estimates: Path | None = None
    live: Switch = False
    pace: Annotated[Pace, group("live")] = Pace()
    minimal_set: Path | None = None
    out: Path = Path("runs/universe")
    json: Switch = False

    def run(self) -> None:
        """Count, draw, write the folder, print the table."""
        from jaxprotect.runs.universe_run import map_universe
        from jaxprotect.runs.universe_tables import breakdown, print_universe

        found, drawing, hub = map_universe(
            self.source.model,
            revision=self.source.revision,
            estimates=self.estimates,
            pace=self.pace if self.live else None,
            minimal_set=self.minimal_set,
            out=self.out,
        )
        if self.json:
            print_json(
                {
                    "rows": found.rows(),
                    "findings": found.findings,
                    "brief": found.brief(),
                    "minimal_set": found.search and found.search.summary,
                    "location": found.search and found.search.location,
                    "hub": hub and breakdown(hub),
                    "alt": drawing.alt,
                }
            )
            return
        print_universe(found, hub)
        print(f"picture and page: {self.out}")
