"""A model's parts drawn on axes, as a treemap down to heads, and the key of its colours."""

from collections import Counter
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.typing import ColorType

from jaxprotect.models.axes import COMPONENTS, Component
from jaxprotect.models.parts import Part, Place
from jaxprotect.runs.drawing import BLUE, GREEN, GREY, ORANGE, readable_on
from jaxprotect.runs.heat_maps import UNKNOWN
from jaxprotect.runs.treemap import Box, model_boxes
from jaxprotect.runs.wording import of_weights

COLOURS: dict[Component, str] = {
    "attention": BLUE,
    "mlp": ORANGE,
    "token_embedding": GREEN,
    "position_embedding": "#cc79a7",
    "norms": GREY,
    "head": "#e69f00",
}
"""Component -> its colour (of Okabe and Ito)."""

FILLED = LinearSegmentedColormap.from_list("filled", ["#dfeaf5", "#6baed6", "#08306b"])
"""Blue, light where nothing is protected, so that a part still stands out from the page."""

LETTER, LINE = 0.062, 0.13
"""Inches of a letter and of a line of a label."""

FRAME = 0.025
"""Inches that the white around a layer takes from a box at its edge."""

Shares = Mapping[Place, float]
"""Place -> share of it that is protected; places that are never quantized are missing."""


def draw_parts(axes: Axes, whole: Part, size: tuple[float, float], shares: Shares | None) -> None:
    """Fill axes with a model's parts.

    Args:
        axes: empty axes, as large as the treemap is to be.
        whole: the model.
        size: width and height of the treemap in inches, which labels are fitted to.
        shares: colours; None for those of the components.
    """
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    axes.set_axis_off()
    most = _most(shares)

    def colour(place: Place) -> ColorType:
        if shares is None:
            return COLOURS[place[1]]
        if place not in shares:
            return UNKNOWN
        red, green, blue, _ = FILLED(shares[place] / most)
        return red, green, blue

    frames = []
    for part, box in model_boxes(whole, Box(0, 0, *size)):
        if part.place is None:
            frames.append((box, 3.5 if part.name.startswith("layer") else 1.5))
        else:
            found = None if shares is None else shares.get(part.place)
            share = "" if found is None else of_weights(found)
            _draw(axes, box, colour(part.place), _label(part, box, share))
    for box, line in frames:  # on top of what they hold
        look = {"fill": False, "edgecolor": "white", "linewidth": line}
        axes.add_patch(Rectangle(box[:2], box.width, box.height, **look))


def add_key(
    figure: Figure, axes: Axes, whole: Part, shares: Shares | None, columns: int = 3
) -> None:
    """What the colours of a treemap mean: a legend of components, or a scale of shares.

    Args:
        figure: the figure.
        axes: the treemap's.
        whole: the model.
        shares: as `draw_parts` had them.
        columns: of the legend.
    """
    if shares is None:
        handles = [
            Patch(color=COLOURS[kind], label=f"{kind_words(kind)}, {of_weights(size / whole.size)}")
            for kind, size in component_sizes(whole).items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncol=columns)
        return
    scale = ScalarMappable(Normalize(0, _most(shares)), FILLED)
    label = "share of the part's quantized weights that is protected"
    bar = figure.colorbar(
        scale, ax=axes, label=label, orientation="horizontal", aspect=50, pad=0.02
    )
    bar.ax.xaxis.set_major_formatter(lambda share, _: of_weights(share))


def component_sizes(whole: Part) -> dict[Component, int]:
    """Component -> its parameters, those that there are."""
    sizes: Counter[Component] = Counter()
    for leaf in whole.leaves():
        if leaf.place is not None:
            sizes[leaf.place[1]] += leaf.size
    return {kind: sizes[kind] for kind in COMPONENTS if sizes[kind]}


def kind_words(kind: Component) -> str:
    """A component in words."""
    return {"mlp": "MLP", "head": "output head"}.get(kind, kind.replace("_", " "))


def _most(shares: Shares | None) -> float:
    return max((shares or {}).values(), default=1.0)


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
        if (
            LETTER * (max(map(len, lines)) + 1) < box.width
            and LINE * len(lines) + FRAME < box.height
        ):
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
