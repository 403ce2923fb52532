"""Figure: a model's weights as a treemap down to single heads, and where a protected set lies."""

from collections import Counter
from pathlib import Path

from jaxprotect.models.axes import Component, Eligible
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.parts import Part, Place, part_tree
from jaxprotect.quantization.quantize import Mask
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import Drawing, new_figure, style
from jaxprotect.runs.parts_drawing import add_key, component_sizes, draw_parts, kind_words
from jaxprotect.runs.wording import counted, listed, of_weights
from jaxprotect.selection.places import PlacedSet, protected_by_place

WIDTH, HEIGHT = 7.7, 4.6
"""Inches of the treemap."""

SMALL = 0.002
"""Share of the model below which a part is only named in the caption."""


def universe_map(
    path: Path | None,
    config: ModelConfig,
    *,
    name: str = "model",
    mask: Mask | None = None,
    eligible: Eligible = "matrices",
) -> Drawing:
    """Where a model's parameters are: a treemap; areas are exact numbers of parameters.

    Args:
        path: the PNG file to write; None writes nothing.
        config: the architecture; no weights are needed.
        name: of the model.
        mask: a protected set; every part then has the colour of the share of it that is protected.
        eligible: which leaves of the mask count.

    Returns:
        The drawing: embeddings, layers in the order of the forward pass, and in each layer its MLP
        and its heads.

    Raises:
        InputError: a mask that does not fit the architecture or protects nothing.
    """
    whole = part_tree(config, name)
    placed = None if mask is None else protected_by_place(mask, config, eligible)
    title = f"Where are the {whole.size:,} parameters of {name}?"
    if placed is not None:
        title = f"Where in {name} are the {counted(placed.count, 'protected weight')}?"
    with style():
        figure = new_figure(WIDTH + 0.3, HEIGHT + 1.0, title)
        axes = figure.subplots()
        shares = None if placed is None else placed.shares
        draw_parts(axes, whole, (WIDTH, HEIGHT), shares)
        add_key(figure, axes, whole, shares)
        return save(path, figure, title, parts_alt(whole, config, placed), caption(whole, placed))


def caption(whole: Part, placed: PlacedSet | None) -> str:
    """How to read a treemap of a model's parts, or of a set in it."""
    text = "Areas: numbers of parameters. "
    if placed is not None:
        text += "Colours: how much of each part is protected; grey: never quantized. "
    return text + "In a layer: its MLP, and its heads by number." + _unseen(whole)


def parts_alt(whole: Part, config: ModelConfig, placed: PlacedSet | None) -> str:
    """What a treemap shows: where the parameters are, or where a set lies."""
    if placed is not None:
        return _set_alt(placed)
    sizes = sorted(component_sizes(whole).items(), key=lambda entry: -entry[1])
    told = [f"{kind_words(kind)} {of_weights(size / whole.size)}" for kind, size in sizes]
    head = next((leaf for leaf in whole.leaves() if leaf.is_head), None)
    each = "" if head is None else f"; one head {of_weights(head.size / whole.size)}"
    layers, heads = counted(config.layers, "layer"), counted(config.heads, "head")
    return f"Treemap of {layers} with {heads} each: {listed(told)} of the parameters{each}."


def _set_alt(placed: PlacedSet) -> str:
    total, room, shares = placed.count, placed.room, placed.shares
    by_kind: Counter[Component] = Counter()
    for place, count in placed.inside.items():
        by_kind[place[1]] += count
    told = [f"{kind_words(kind)} {of_weights(n / total)}" for kind, n in by_kind.most_common() if n]
    empty = [place for place in room if not shares[place]]
    most, least = max(room, key=shares.__getitem__), min(room, key=shares.__getitem__)
    least_told = f"smallest in {_where(least)} ({of_weights(shares[least])})"
    if empty:
        least_told = f"nothing of it is in {len(empty)} of {counted(len(room), 'part')}"
    return (
        f"Treemap of a protected set: {listed(told)} of it. The share that is protected is largest "
        f"in {_where(most)} ({of_weights(shares[most])}); {least_told}."
    )


def _where(place: Place) -> str:
    layer, kind, head = place
    part = kind_words(kind) if head is None else f"head {head}"
    return part if layer is None else f"{part} of layer {layer}"


def _unseen(whole: Part) -> str:
    """What is too small to be seen, and how much it is together."""
    sizes = component_sizes(whole)
    small: list[Component] = [kind for kind in sizes if sizes[kind] < SMALL * whole.size]
    if not small:
        return ""
    share = of_weights(sum(sizes[kind] for kind in small) / whole.size)
    return f" Too small to see: {listed([kind_words(kind) for kind in small])} ({share})."
