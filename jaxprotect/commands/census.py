"""`jaxprotect census`."""

from dataclasses import dataclass
from typing import Annotated

from jaxprotect.commands.options import ModelOptions, Switch, group, print_json


@dataclass(frozen=True, kw_only=True)
class Census:
    """Count a model's parameters by component, layer and head.

    The models of the study behind this project need no network: gpt2, facebook/opt-125m and others.

    Examples:
        jaxprotect census
        jaxprotect census --model gpt2 --brief

    Args:
        source: whose parameters to count.
        layers: also print every layer.
        brief: also compare with the figures of the study behind this project (GPT-2).
        json: print one JSON document.
    """

    source: Annotated[ModelOptions, group("model")] = ModelOptions()
    layers: Switch = False
    brief: Switch = False
    json: Switch = False

    def run(self) -> None:
        """Print the census."""
        from jaxprotect.models.census import brief_comparison, census_of
        from jaxprotect.runs.tables import print_brief, print_census

        found = census_of(self.source.model, revision=self.source.revision)
        brief = brief_comparison() if self.brief else []
        if self.json:
            counts = {"name": found.name, "rows": found.rows(), "eligible": found.eligible}
            print_json(counts | ({"brief": brief} if brief else {}))
            return
        print_census(found, layers=self.layers)
        if brief:
            print_brief(brief)
