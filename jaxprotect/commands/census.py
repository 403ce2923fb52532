"""`jaxprotect census`."""

from dataclasses import dataclass

from jaxprotect.commands.options import print_json


@dataclass(frozen=True, kw_only=True)
class Census:
    """Count a model's parameters per component, layer and head, without loading weights.

    Args:
        model: `reference`, a known model's hub id (needs no network), a Hugging Face folder, or
            another hub id.
        revision: commit, branch or tag of a hub id.
        layers: also print every layer.
        brief: also compare with the figures of the study behind this project (GPT-2).
        json: print JSON.
    """

    model: str = "reference"
    revision: str | None = None
    layers: bool = False
    brief: bool = False
    json: bool = False

    def run(self) -> None:
        """Print the census."""
        from jaxprotect.models.census import brief_comparison, census_of
        from jaxprotect.runs.tables import print_brief, print_census

        found = census_of(self.model, revision=self.revision)
        brief = brief_comparison() if self.brief else []
        if self.json:
            counts = {"name": found.name, "rows": found.rows(), "eligible": found.eligible}
            print_json(counts | ({"brief": brief} if brief else {}))
            return
        print_census(found, layers=self.layers)
        if brief:
            print_brief(brief)
