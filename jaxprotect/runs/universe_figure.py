"""Figure: a model's weights as a treemap down to single heads, and where a protected set lies."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.typing import ColorType

from jaxprotect.errors import InputError
from jaxprotect.models.axes import COMPONENTS, Component, Eligible, is_eligible
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.parts import Part, Place, counts_by_place, part_tree
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.quantization.quantize import Mask, check_tree
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Drawing,
    new_figure,
    readable_on,
    style,
)
from jaxprotect.runs.heat_maps import UNKNOWN
from jaxprotect.runs.treemap import Box, model_boxes
from jaxprotect.runs.wording import counted, listed, of_weights
from jaxprotect.trees import leaf_paths

COLOURS: dict[Component, str] = {
    "attention": BLUE,
    "mlp": ORANGE,
    "token_embedding": GREEN,
    "position_embedding": "#cc79a7",
    "norms": GREY,
    "head": "#e69f00",
}
"""Component -> its colour (of Okabe and Ito)."""

WIDTH, HEIGHT = 7.7, 4.6
"""Inches of the treemap."""

FILLED = LinearSegmentedColormap.from_list("filled", ["#dfeaf5", "#6baed6", "#08306b"])
"""Blue, light where nothing is protected, so that a part still stands out from the page."""

LETTER, LINE = 0.062, 0.13
"""Inches of a letter and of a line of a label."""

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
    inside, room = (Counter(), Counter()) if mask is None else _protected(mask, config, eligible)
    shares = {place: inside[place] / size for place, size in room.items()}
    title = f"Where are the {whole.size:,} parameters of {name}?"
    if mask is not None:
        title = f"Where in {name} are the {counted(sum(inside.values()), 'protected weight')}?"
    with style():
        figure = new_figure(WIDTH + 0.3, HEIGHT + 1.0, title)
        axes = figure.subplots()
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(HEIGHT, 0)
        axes.set_axis_off()
        most = max(shares.values(), default=1.0)
        scale = ScalarMappable(Normalize(0, most), FILLED)

        def colour(place: Place) -> ColorType:
            if mask is None:
                return COLOURS[place[1]]
            if place not in shares:
                return UNKNOWN
            red, green, blue, _ = FILLED(shares[place] / most)
            return red, green, blue

        frames = []
        for part, box in model_boxes(whole, Box(0, 0, WIDTH, HEIGHT)):
            if part.place is None:
                frames.append((box, 3.5 if part.name.startswith("layer") else 1.5))
            else:
                share = of_weights(shares[part.place]) if part.place in shares else ""
                _draw(axes, box, colour(part.place), _label(part, box, share))
        for box, line in frames:  # on top of what they hold
            look = {"fill": False, "edgecolor": "white", "linewidth": line}
            axes.add_patch(Rectangle(box[:2], box.width, box.height, **look))
        if mask is None:
            _legend(figure, whole)
            caption = "Areas: numbers of parameters. In a layer: its MLP, and its heads by number."
            alt = _parts_alt(whole, config)
        else:
            label = "share of the part's quantized weights that is protected"
            bar = figure.colorbar(
                scale, ax=axes, label=label, orientation="horizontal", aspect=50, pad=0.02
            )
            bar.ax.xaxis.set_major_formatter(lambda share, _: of_weights(share))
            caption = (
                "Areas: numbers of parameters. Colours: how much of each part is protected; grey: "
                "never quantized. In a layer: its MLP, and its heads by number."
            )
            alt = _set_alt(inside, room)
        return save(path, figure, title, alt, caption + _unseen(whole))


def _protected(
    mask: Mask, config: ModelConfig, eligible: Eligible
) -> tuple[Counter[Place], Counter[Place]]:
    """How many eligible weights are protected at each place, and how many there are."""
    check_tree("mask", mask, config)
    shapes, flags = leaf_paths(parameter_shapes(config)), leaf_paths(mask)
    inside: Counter[Place] = Counter()
    room: Counter[Place] = Counter()
    for path, leaf in shapes.items():
        if is_eligible(path, eligible):
            shape, of_leaf = leaf.shape, np.asarray(flags[path])
            rank = (1,) * (len(shape) - of_leaf.ndim)
            inside.update(
                counts_by_place(path, shape, of_leaf.reshape(rank + of_leaf.shape), config)
            )
            room.update(counts_by_place(path, shape, np.ones((1,) * len(shape)), config))
    if not inside.total():
        raise InputError("`mask` protects nothing; it lies nowhere")
    return inside, room


def _label(part: Part, box: Box, share: str) -> str:
    """The longest name of a part, with its share, that its box has room for."""
    assert part.place is not None
    layer, kind, head = part.place
    names = [part.name, part.name.replace(" ", "\n")]
    if head is not None:
        names = [part.name, str(head)]
    elif kind == "mlp":
        names = [f"layer {layer}\nMLP", f"MLP {layer}", str(layer)]
    for text in [*(f"{name}\n{share}" for name in names if share), *names]:
        lines = text.splitlines()
        if LETTER * (max(map(len, lines)) + 1) < box.width and LINE * len(lines) < box.height:
            return text
    return ""


def _draw(axes: Axes, box: Box, colour: ColorType, label: str) -> None:
    """A part's box, and its label in the middle."""
    look = {"facecolor": colour, "edgecolor": "white", "linewidth": 0.5}
    axes.add_patch(Rectangle(box[:2], box.width, box.height, **look))
    if label:
        middle = (box.left + box.width / 2, box.top + box.height / 2)
        ink = readable_on(colour)
        axes.text(*middle, label, color=ink, fontsize=7, ha="center", va="center")


def _sizes(whole: Part) -> dict[Component, int]:
    """Component -> its parameters, those that there are."""
    sizes: Counter[Component] = Counter()
    for leaf in whole.leaves():
        if leaf.place is not None:
            sizes[leaf.place[1]] += leaf.size
    return {kind: sizes[kind] for kind in COMPONENTS if sizes[kind]}


def _words(kind: Component) -> str:
    return {"mlp": "MLP", "head": "output head"}.get(kind, kind.replace("_", " "))


def _legend(figure: Figure, whole: Part) -> None:
    handles = [
        Patch(color=COLOURS[kind], label=f"{_words(kind)}, {of_weights(size / whole.size)}")
        for kind, size in _sizes(whole).items()
    ]
    figure.legend(handles=handles, loc="outside lower left", ncol=3)


def _parts_alt(whole: Part, config: ModelConfig) -> str:
    sizes = sorted(_sizes(whole).items(), key=lambda entry: -entry[1])
    told = [f"{_words(kind)} {of_weights(size / whole.size)}" for kind, size in sizes]
    head = next((leaf for leaf in whole.leaves() if leaf.is_head), None)
    each = "" if head is None else f"; one head {of_weights(head.size / whole.size)}"
    layers, heads = counted(config.layers, "layer"), counted(config.heads, "head")
    return f"Treemap of {layers} with {heads} each: {listed(told)} of the parameters{each}."


def _set_alt(inside: Mapping[Place, int], room: Mapping[Place, int]) -> str:
    total = sum(inside.values())
    by_kind: Counter[Component] = Counter()
    for place, count in inside.items():
        by_kind[place[1]] += count
    told = [f"{_words(kind)} {of_weights(n / total)}" for kind, n in by_kind.most_common() if n]
    shares = {place: inside[place] / size for place, size in room.items()}
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
    part = _words(kind) if head is None else f"head {head}"
    return part if layer is None else f"{part} of layer {layer}"


def _unseen(whole: Part) -> str:
    """What is too small to be seen, and how much it is together."""
    sizes = _sizes(whole)
    small: list[Component] = [kind for kind in sizes if sizes[kind] < SMALL * whole.size]
    if not small:
        return ""
    share = of_weights(sum(sizes[kind] for kind in small) / whole.size)
    return f" Too small to see: {listed([_words(kind) for kind in small])} ({share})."
