"""Figure: the seven levels on a logarithmic scale, and below them the model down to its heads.

Narrow and tall, so that it can be read on a phone and in a column of print.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxprotect.models.hub_tally import LEVELS
from jaxprotect.runs.criteria_figures import save
from jaxprotect.runs.drawing import BLUE, GREEN, INK, ORANGE, Drawing, new_figure, style
from jaxprotect.runs.ecosystem import KINDS, Kind, uncounted
from jaxprotect.runs.minimal_mask import policy_of
from jaxprotect.runs.parts_drawing import add_key, draw_parts
from jaxprotect.runs.universe import Row, Universe
from jaxprotect.runs.universe_figure import caption, parts_alt
from jaxprotect.runs.wording import of_weights
from jaxprotect.selection.places import protected_by_place

WIDTH = 5.0
"""Inches of the treemap."""

TREEMAP, BAR = 4.8, 0.42
"""Inches of height: of the treemap, and of a bar with its words."""

UNKNOWN = "#666666"
"""Of words without a bar."""

MARKS = 7
"""Of an axis, at most."""

LONGEST = 40
"""Letters of a model's name."""

COLOURS: dict[Kind, str] = {"models": GREEN, "weights": BLUE}
"""What is counted -> its colour; the minimal set has one of its own."""

MINIMAL = ORANGE

SUFFIXES = ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k"))


def universe_picture(path: Path | None, found: Universe) -> Drawing:
    """Levels 0 to 6 as bars, those that are known, and the model as a treemap.

    Args:
        path: the PNG file to write; None writes nothing.
        found: the universe.

    Returns:
        The drawing.
    """
    placed = None
    if found.mask is not None and found.search is not None:
        placed = protected_by_place(found.mask, found.census.config, policy_of(found.search))
    panels: dict[Kind, list[Row]] = {kind: bars for kind in KINDS if (bars := _bars(found, kind))}
    first = next(iter(panels))
    for row in _unknown(found):
        panels[first if row["level"] < 4 else "weights"].append(row)
    panels = {kind: sorted(bars, key=lambda row: row["level"]) for kind, bars in panels.items()}
    heights = [BAR * len(bars) + 0.25 for bars in panels.values()]
    title = f"From all models to single weights: the universe around {_short_name(found)}"
    with style():
        figure = new_figure(WIDTH + 0.3, sum(heights) + TREEMAP + 1.6, title)
        axes = figure.subplots(len(panels) + 1, 1, height_ratios=[*heights, TREEMAP])
        for one, (kind, bars) in zip(axes[:-1], panels.items(), strict=True):
            _draw_bars(one, kind, bars)
        shares = None if placed is None else placed.shares
        draw_parts(axes[-1], found.whole, (WIDTH, TREEMAP), shares)
        add_key(figure, axes[-1], found.whole, shares, columns=2)
        words = (
            f"Bars: the levels, by number; shares are of the model. {caption(found.whole, placed)}"
        )
        alt = _alt(panels) + parts_alt(found.whole, found.census.config, placed)
        return save(path, figure, title, alt, words)


def _bars(found: Universe, kind: Kind) -> list[Row]:
    """The rows that are bars: whole levels, and of the model no components."""
    name = f"the model, {_short_name(found)}"
    return [
        row | {"name": name} if row["level"] == 4 else row
        for row in found.rows()
        if row[kind]
        if row["level"] != 4 or (row["models"] and kind == "weights")
    ]


def _unknown(found: Universe) -> list[Row]:
    """The levels that have no bar, as rows that say so."""
    missing = uncounted(found.amounts)
    rows = [{"level": level, "said": f"{level}  {name}: not counted"} for level, name in missing]
    if len(rows) == len(LEVELS):
        rows = [{"level": 0, "said": "0 to 3  the ecosystem: not counted"}]
    rows += [
        {"level": of.level, "said": f"{of.level}  {of.name}: 0 {kind}"}
        for of in found.amounts
        for kind in KINDS
        if of.count(kind) == 0
    ]
    count = None if found.search is None else found.search.summary["found"]
    if not count:
        said = "nothing" if count == 0 else "not searched" if found.search is None else "not found"
        rows.append({"level": 6, "said": f"6  must be protected: {said}"})
    return rows


def _draw_bars(axes: Axes, kind: Kind, bars: Sequence[Row]) -> None:
    """A bar for each row, its words above it, so that they have the whole width."""
    known = [(place, row) for place, row in enumerate(bars) if "said" not in row]
    counts = [row[kind] for _, row in known]
    least = 10 ** max(len(str(min(counts))) - 2, -1)  # below the smallest: its bar is to be seen
    colours = [MINIMAL if row["level"] == 6 else COLOURS[kind] for _, row in known]
    lengths = [count - least for count in counts]
    axes.barh([place for place, _ in known], lengths, left=least, height=0.36, color=colours)
    axes.set_xscale("log")
    axes.set_xlim(least, max(counts) * 1.5)
    axes.set_ylim(len(bars) - 0.5, -0.8)
    for place, row in enumerate(bars):
        ink = UNKNOWN if "said" in row else INK
        axes.text(least, place - 0.26, _words(row, kind), va="bottom", fontsize=9, color=ink)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    powers = range(len(str(least)) - 1 if least >= 1 else -1, len(str(max(counts))) + 1)
    marks = [10.0**power for power in powers if 10.0**power <= max(counts) * 1.5]
    axes.xaxis.set_major_locator(FixedLocator(marks[:: -(-len(marks) // MARKS)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: short(count)))
    axes.set_xlabel(f"{kind}, logarithmic scale")


def _short_name(found: Universe) -> str:
    name = found.name
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def short(count: float) -> str:
    """A round number in a few letters: `10`, `1 k`, `100 M`."""
    for size, suffix in SUFFIXES:
        if count >= size:
            return f"{count / size:g}{suffix}"
    return f"{count:g}"


def _words(row: Row, kind: Kind) -> str:
    if "said" in row:
        return row["said"]
    bound = "≥ " if kind in row["at_least"] else ""
    share = "" if row["share"] in (None, 1) else f" ({of_weights(row['share'])})"
    return f"{row['level']}  {row['name']}: {bound}{row[kind]:,}{share}"


def _alt(panels: dict[Kind, list[Row]]) -> str:
    return "".join(
        f"Bars of {kind}, logarithmic: {'; '.join(_words(row, kind) for row in bars)}. "
        for kind, bars in panels.items()
    ).replace("  ", " ")
