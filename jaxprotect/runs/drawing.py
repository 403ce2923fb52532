"""What every figure shares: how it looks, how it becomes a file, and the words beside it."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.typing import ColorType

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#9a9a9a", "#222222"
"""Colours that stay apart for colour-blind eyes (Okabe and Ito)."""

DIVERGING = "RdBu"
"""Red below 0, white at 0, blue above."""

MARKS = tuple(digit * 10.0**power for power in range(-2, 5) for digit in (1, 2, 5))
"""Where a logarithmic axis of percentages may be marked."""

MARGIN = 0.1
"""Inches left free around a figure and each of its panels."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "text.color": INK,
    "text.parse_math": False,  # a language may be called anything, `a$b$` too
    "xtick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.color": "#555555",
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 150,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure as a file and as words; a notebook shows it, with its words as the alt text.

    Args:
        name: file name without its ending.
        title: the question it answers.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
        png: the picture.
    """

    name: str
    title: str
    alt: str
    caption: str
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the file's header has them."""
        return int.from_bytes(self.png[16:20]), int.from_bytes(self.png[20:24])

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What Jupyter stores and shows: the picture, and its words where there are no pictures."""
        words = f"{self.title} {self.alt}"
        return {"image/png": self.png, "text/plain": words}, {"image/png": {"alt": words}}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The project's style, whatever the user's matplotlibrc says; theirs is back afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def new_figure(width: float | int, height: float | int, title: str) -> Figure:
    """An empty figure in inches, with its title at the left."""
    margins = ConstrainedLayoutEngine(w_pad=MARGIN, h_pad=MARGIN)
    figure = Figure(figsize=(width, height), layout=margins)
    figure.suptitle(title, x=MARGIN / width, horizontalalignment="left", wrap=True)
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Positions moved up, in order, until neighbours are at least `gap` apart."""
    moved = np.array(positions, float)
    last = -np.inf
    for index in np.argsort(moved, kind="stable"):
        moved[index] = last = max(moved[index], last + gap)
    return moved.tolist()


def readable_on(ground: ColorType) -> str:
    """Ink or white, whichever contrasts more with a colour (relative luminance of WCAG 2)."""
    ink, white, of_ground = (
        float(np.dot(_linear(to_rgb(colour)), (0.2126, 0.7152, 0.0722))) + 0.05
        for colour in (INK, "white", ground)
    )
    return INK if of_ground / ink > white / of_ground else "white"


def _linear(colour: tuple[float, float, float]) -> np.ndarray:
    """Light intensities of sRGB values."""
    srgb = np.array(colour)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def zero_line(axes: Axes, *, vertical: bool) -> None:
    """A thin line at 0."""
    draw = axes.axvline if vertical else axes.axhline
    draw(0, color="#888888", linewidth=0.8, zorder=1)


def whiskers(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[2, N] lengths below and above the values; ends is [N, 2]."""
    return np.abs(ends - values[:, None]).T


def mark_plainly(axis: Axis, marks: Sequence[float]) -> None:
    """Mark an axis there and nowhere else, in plain numbers."""
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda mark, _: f"{mark:g}".replace("-", "−")))
