"""The universe of a model as a folder: its picture, its page, and the count on the hub."""

from pathlib import Path

from jaxprotect.models.census import census_of
from jaxprotect.models.pace import Pace
from jaxprotect.runs.drawing import Drawing
from jaxprotect.runs.estimates import read_estimates
from jaxprotect.runs.hub_counts import HubCount, count_hub
from jaxprotect.runs.minimal_mask import mask_of, search_on
from jaxprotect.runs.results import write_atomically
from jaxprotect.runs.universe import Universe, universe
from jaxprotect.runs.universe_picture import universe_picture
from jaxprotect.runs.universe_tables import page


def map_universe(
    model: str,
    *,
    out: Path,
    revision: str | None = None,
    estimates: Path | None = None,
    pace: Pace | None = None,
    minimal_set: Path | None = None,
) -> tuple[Universe, Drawing, HubCount | None]:
    """Find out what is asked for, and write `universe.png` and `universe.md`.

    Args:
        model: name or folder; only its architecture is read.
        out: the folder; a count on the hub lies in its `hub`.
        revision: of the hub repository.
        estimates: file of published counts.
        pace: how fast and how long to count on the hub; None does not.
        minimal_set: folder of a finished search on this model.

    Returns:
        The universe, its picture, and the count on the hub.

    Raises:
        InputError: no such model, file or folder, or one that does not fit; a hub that is down.
    """
    census = census_of(model, revision=revision)
    amounts, findings = ([], []) if estimates is None else read_estimates(estimates)
    search = mask = None
    if minimal_set is not None:
        search = search_on(minimal_set, census, revision=revision)
        mask = mask_of(search, census)
    hub = None
    if pace is not None:  # last, as it takes long
        hub = count_hub(out / "hub", pace)
        amounts, findings = [*hub.amounts(), *amounts], [*findings, *hub.findings()]
    found = universe(census, amounts=amounts, findings=findings, search=search, mask=mask)
    drawing = universe_picture(out / "universe.png", found)
    write_atomically(out / "universe.md", page(found, drawing, hub).encode())
    return found, drawing, hub
