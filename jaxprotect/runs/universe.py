"""The weight universe: from all models that exist down to the few weights that must be protected.

Levels 0 to 3 are the ecosystem, counted by others or on the hub; 4 is the model by component, 5
its layers and heads, 6 the minimal set. What nobody counted has no number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprotect.models.census import Census, brief_comparison, census_of
from jaxprotect.models.hub_tally import LEVELS, SMALL
from jaxprotect.models.parts import Part, part_tree
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.ecosystem import Amount, contradictions, uncounted
from jaxprotect.runs.minimal_folder import MinimalFolder
from jaxprotect.runs.minimal_words import target_words
from jaxprotect.runs.wording import counted, part_name

Row = dict[str, Any]

UNCOUNTED = "not counted (use --live or --estimates FILE)"
UNSEARCHED = "not searched (run jaxprotect minimal-set)"


@dataclass(frozen=True, kw_only=True)
class Universe:
    """What is known of the seven levels.

    Args:
        census: the model's exact counts.
        whole: the model's parts, down to heads.
        amounts: counts of levels 0 to 3, from any sources.
        findings: what does not fit together, or a reader must know.
        search: the search whose set is level 6.
        mask: that set; None if there is none to show.
    """

    census: Census
    whole: Part
    amounts: tuple[Amount, ...] = ()
    findings: tuple[str, ...] = ()
    search: MinimalFolder | None = None
    mask: Mask | None = None

    @property
    def name(self) -> str:
        """The model's name; of a folder its last part."""
        path = Path(self.census.name)
        return path.resolve().name if path.is_dir() else self.census.name

    def rows(self) -> list[Row]:
        """The seven levels as a table, one JSON object per row.

        Returns:
            Rows `{level, name, models, weights, at_least, share, source, date}`. `models` and
            `weights` are None where they are not counted, `at_least` names those that are lower
            bounds, `share` is of the model's weights.
        """
        return [*self._ecosystem(), *self._model(), *self._parts(), self._set()]

    def brief(self) -> list[dict[str, str | int]]:
        """Of GPT-2, published counts beside the exact ones; else nothing."""
        return brief_comparison() if self.census.config == census_of("gpt2").config else []

    def _ecosystem(self) -> list[Row]:
        rows = [
            _row(
                of.level,
                of.name,
                models=of.models,
                weights=of.weights,
                at_least=list(of.at_least),
                source=of.source,
                date=of.date,
            )
            for of in self.amounts
        ]
        rows += [_row(level, name, source=UNCOUNTED) for level, name in uncounted(self.amounts)]
        return sorted(rows, key=lambda row: row["level"])

    def _model(self) -> list[Row]:
        total, exact = self.census.total, "counted from the architecture"
        rows = [_row(4, f"the model, {self.name}", models=1, weights=total, source=exact)]
        rows += [
            _row(4, part_name(kind, None), weights=count.total, source=exact)
            for kind, count in self.census.components.items()
            if count.total
        ]
        return [row | {"share": row["weights"] / total} for row in rows]

    def _parts(self) -> list[Row]:
        layers, heads = layers_and_heads(self.whole)
        inside = f"{sum(part.size for part in layers):,} in {counted(len(layers), 'layer')}"
        of_heads = f"{sum(part.size for part in heads):,} in {counted(len(heads), 'head')}"
        rows = [_row(5, "a layer", weights=part.size, source=inside) for part in layers[:1]]
        name = "an attention head"
        if self.census.config.queries_per_key > 1:
            name += ", without shared keys and values"  # so that the heads sum to what is said
        rows += [_row(5, name, weights=part.size, source=of_heads) for part in heads[:1]]
        return [row | {"share": row["weights"] / self.census.total} for row in rows]

    def _set(self) -> Row:
        name = "must be protected"
        if self.search is None:
            return _row(6, name, source=UNSEARCHED)
        found = self.search.summary["found"]
        if found is None:
            source = f"no set reached the target, {target_words(self.search)}"
            return _row(6, name, source=source)
        source = f"{self.search.summary['quantizer']}; {target_words(self.search)}; on test "
        source += on_test(self.search)
        return _row(6, name, weights=found, source=source) | {"share": found / self.census.total}


def universe(
    census: Census,
    *,
    amounts: Sequence[Amount] = (),
    findings: Sequence[str] = (),
    search: MinimalFolder | None = None,
    mask: Mask | None = None,
) -> Universe:
    """Put the levels together, and say what does not fit.

    Args:
        census: of the model.
        amounts: counts of levels 0 to 3.
        findings: what their sources said about them.
        search: a finished search on this model.
        mask: its set.

    Returns:
        The universe.
    """
    return Universe(
        census=census,
        whole=part_tree(census.config, census.name),
        amounts=tuple(amounts),
        findings=(*findings, *contradictions(amounts), *_misplaced(census, amounts)),
        search=search,
        mask=mask,
    )


def on_test(search: MinimalFolder) -> str:
    """Whether a set held on the sentences that nothing was chosen on."""
    if search.summary["test_met"]:
        return f"met with {search.level} confidence"
    return (
        f"met on average, not with {search.level} confidence"
        if search.summary["test_met_on_average"]
        else "missed"
    )


def layers_and_heads(whole: Part) -> tuple[list[Part], list[Part]]:
    """The layers of a model, and its single attention heads."""
    layers = [part for part in whole.parts if part.parts]
    return layers, [leaf for leaf in whole.leaves() if leaf.is_head]


def places(search: MinimalFolder) -> list[Row]:
    """Where a set lies: one row per layer, the rest first, and in it a count per component."""
    kinds = list(dict.fromkeys(str(row["component"]) for row in search.location))
    layers = dict.fromkeys(row["layer"] for row in search.location)
    return [
        {"layer": layer}
        | {
            kind: sum(
                row["protected"]
                for row in search.location
                if (row["layer"], row["component"]) == (layer, kind)
            )
            for kind in kinds
        }
        for layer in layers
    ]


def _misplaced(census: Census, amounts: Sequence[Amount]) -> list[str]:
    """Where the model itself contradicts the levels around it."""
    lines = []
    if any(of.level == 3 and of.name == LEVELS[3] for of in amounts) and census.total >= SMALL:
        lines.append(f"{census.name} has {census.total:,} parameters, so it is not on level 3")
    lines += [
        f"level 0, {of.name}, has {of.weights:,} weights, fewer than {census.name} alone"
        for of in amounts
        if of.level == 0 and of.part_of is None
        if of.weights is not None and of.weights < census.total and "weights" not in of.at_least
    ]
    return lines


def _row(level: int, name: str, **known: Any) -> Row:
    empty: Row = {"models": None, "weights": None, "at_least": [], "share": None}
    return {"level": level, "name": name, **empty, "source": "", "date": "", **known}
