"""Figures of what whole layers, heads and components take off the damage of plain quantization."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxprotect.runs.comparisons import Group, Row, excludes_zero
from jaxprotect.runs.drawing import (
    BLUE,
    DIVERGING,
    ORANGE,
    Drawing,
    new_figure,
    readable_on,
    to_png,
    zero_line,
)
from jaxprotect.runs.wording import (
    counted,
    listed,
    number,
    of_weights,
    percent,
    protection,
    with_interval,
)

SHARE_LABEL = "worst-language damage removed, % of the unprotected"
MOST_WRITTEN = 16
"""Heads of a layer beyond which the squares are too narrow for numbers."""

LegendPlace = Literal["outside lower left", "outside lower right"]


def structure_figures(group: Group, end: str) -> list[Drawing]:
    """Layers, attention by head and layer, whole components, and each language by all of these.

    Args:
        group: variants of one quantizer, with plain quantization among them.
        end: of the file names.

    Returns:
        Drawings of what the group has variants for.
    """
    layers, whole, attention = group.of_kind("layers"), _whole(group), _attention(group)
    heads = group.of_kind("heads")
    drawings = []
    if layers:
        question = "Which layers carry the worst language's damage?"
        drawings.append(_bars(group, layers, f"layers{end}", question))
    if heads or attention:
        drawings.append(_heads(group, heads, attention, f"attention{end}"))
    if whole:
        question = "Which whole components carry the worst language's damage?"
        drawings.append(_bars(group, whole, f"components{end}", question))
    structural = [*layers, *attention, *whole]
    if structural and len(group.names) > 1:
        drawings.append(_languages(group, structural, f"languages-by-structure{end}"))
    return drawings


def _whole(group: Group) -> list[str]:
    """Components protected in every layer."""
    what = group.interventions
    return [name for name in group.of_kind("components") if "layers" not in what[name]]


def _attention(group: Group) -> list[str]:
    """Attention of single layers, in the order of the layers."""
    of_layers = {
        name: group.interventions[name]["layers"]
        for name in group.of_kind("components")
        if group.interventions[name]["components"] == ["attention"]
        and len(group.interventions[name].get("layers", ())) == 1
    }
    return sorted(of_layers, key=lambda name: of_layers[name])


def _label(group: Group, variant: str) -> str:
    return protection(variant, group.interventions[variant])


def _bars(group: Group, variants: Sequence[str], name: str, title: str) -> Drawing:
    figure = new_figure(8, 1.75 + 0.34 * len(variants), title)
    axes = figure.subplots()
    _draw_bars(axes, group, variants, np.arange(len(variants)))
    axes.set_yticks(range(len(variants)), [_label(group, variant) for variant in variants])
    axes.set_ylim(len(variants) - 0.4, -0.6)
    _bar_legend(figure, axes, "outside lower left")
    return Drawing(
        name=name, title=title, alt=_bars_alt(group, variants), caption=_CAPTION, png=to_png(figure)
    )


def _draw_bars(axes: Axes, group: Group, variants: Sequence[str], places: np.ndarray) -> None:
    """Damage removed as a bar with its interval, cost in weights as a diamond."""
    shares = [group.removed_share(variant) for variant in variants]
    values = np.array([100 * (share.value or 0) for share in shares])
    axes.barh(places, values, height=0.62, color=BLUE, alpha=0.8, label="damage removed")
    for place, share in zip(places, shares, strict=True):
        if share.low is not None and share.high is not None:
            ends = [100 * share.low, 100 * share.high]
            axes.plot(ends, [place, place], color="#333333", linewidth=1.2, zorder=3)
    cost = [100 * group.rows[variant]["fraction"] for variant in variants]
    axes.plot(cost, places, "D", color=ORANGE, markersize=5, label="share of weights", zorder=4)
    zero_line(axes, vertical=True)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{SHARE_LABEL}{group.note('paired ')}")


def _bar_legend(figure: Figure, axes: Axes, where: LegendPlace) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc=where, ncol=2)


def _bars_alt(group: Group, variants: Sequence[str]) -> str:
    texts = []
    for variant in variants:
        share = group.removed_share(variant)
        assert share.value is not None
        removed = with_interval(share.value, share.low, share.high, unit="%", scale=100)
        cost = of_weights(group.rows[variant]["fraction"])
        texts.append(f"{_label(group, variant)}: {removed} for {cost} of the weights")
    return f"Share of the worst language's damage removed. {'; '.join(texts)}."


_CAPTION = (
    "Bar: what protecting this alone takes off the largest relative damage. Line: interval of the "
    "paired difference, divided by the unprotected damage as measured; where it crosses 0, nothing "
    "is shown to be removed. Diamond: the share of the eligible weights it keeps in high "
    "precision; a bar that ends left of its diamond removes less than its share."
)


def _heads(group: Group, heads: Sequence[str], attention: Sequence[str], name: str) -> Drawing:
    title = "Does any attention head or layer carry the worst language's damage?"
    where = {variant: group.interventions[variant] for variant in heads}
    depth = 1 + max(
        [what["layer"] for what in where.values()]
        + [group.interventions[variant]["layers"][0] for variant in attention]
    )
    count = 1 + max((what["head"] for what in where.values()), default=0)
    figure = new_figure(9 if heads and attention else 8, 2.2 + 0.36 * depth, title)
    widths = ([1.15] if heads else []) + ([1] if attention else [])
    panels = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    alt = caption = ""
    if heads:
        axes = panels.pop(0)
        shares = np.full((depth, count), np.nan)
        clear = np.zeros((depth, count), bool)
        for variant, what in where.items():
            share = group.removed_share(variant)
            shares[what["layer"], what["head"]] = 100 * (share.value or 0)
            clear[what["layer"], what["head"]] = excludes_zero(share)
        _heat_map(figure, axes, shares, clear, written=count <= MOST_WRITTEN)
        axes.set_title("Each head alone: damage removed, %")
        axes.set_xticks(range(count))
        axes.set_yticks(range(depth))
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        best = max(heads, key=lambda variant: group.removed(variant).value or 0)
        share = group.removed_share(best)
        assert share.value is not None
        removed = with_interval(share.value, share.low, share.high, unit="%", scale=100)
        alt = (
            f"Heat map of {counted(len(heads), 'head')}: the most is removed by "
            f"{_label(group, best)}, {removed} for {of_weights(group.rows[best]['fraction'])} of "
            f"the weights; {int(clear.sum())} of {len(heads)} differ from 0 beyond the intervals. "
        )
        caption = (
            "Squares: what protecting one head alone takes off the largest relative damage. "
            f"Coloured where the {group.level} paired interval excludes 0; of heads that change "
            f"nothing, about one in {round(1 / (1 - group.worst.level))} is coloured by chance. "
        )
    if attention:
        axes = panels.pop(0)
        places = [group.interventions[variant]["layers"][0] for variant in attention]
        _draw_bars(axes, group, attention, np.array(places))
        axes.set_yticks(places, [f"layer {place}" for place in places])
        axes.set_ylim(depth - 0.5, -0.5)
        axes.set_title("All attention of one layer")
        axes.set_xlabel(f"damage removed, %{group.note('paired ')}")
        _bar_legend(figure, axes, "outside lower right" if heads else "outside lower left")
        alt += _bars_alt(group, attention)
        caption += _CAPTION
    return Drawing(name=name, title=title, alt=alt.strip(), caption=caption, png=to_png(figure))


def _languages(group: Group, variants: Sequence[str], name: str) -> Drawing:
    """Rows: languages, the most damaged on top; only where there is damage to remove."""
    assert group.plain is not None
    title = "Do the same parts help every language?"
    plain = group.languages[group.plain]
    ordered = sorted(plain, key=lambda language: -plain[language]["relative"])
    known = [_clearly_damaged(plain[language]) for language in ordered]
    shares = np.full((len(ordered), len(variants)), np.nan)
    clear = np.zeros(shares.shape, bool)
    for column, variant in enumerate(variants):
        added = group.added(variant)
        for row, language in enumerate(ordered):
            if known[row]:
                value = added[language].value
                assert value is not None
                shares[row, column] = -100 * value / plain[language]["relative"]
                clear[row, column] = excludes_zero(added[language])
    figure = new_figure(2.6 + 0.52 * max(len(variants), 8), 2.4 + 0.29 * len(ordered), title)
    axes = figure.subplots()
    _heat_map(figure, axes, shares, clear, written=True)
    labels = [_label(group, variant) for variant in variants]
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    labels = [f"{group.names[name]}  {percent(plain[name]['relative'])}" for name in ordered]
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.set_title("Share of each language's own damage removed, %; beside its name the damage")
    caption = (
        "Blue: damage removed; red: damage added; uncoloured: the paired interval "
        f"({group.level}, of each square alone) includes 0, so no change is shown. Shares are "
        "large, and uncertain, where there is little damage to begin with."
    )
    unknown = [
        group.names[name] for name, is_known in zip(ordered, known, strict=True) if not is_known
    ]
    if unknown:
        caption += f" Grey: no damage clearly above 0 when unprotected ({listed(unknown, 25)})."
    alt = f"Heat map of {counted(len(ordered), 'language')} by {counted(len(variants), 'part')}. "
    if clear.any():
        helped = (clear & (shares > 0)).sum(axis=0)
        counts = zip(variants, helped, strict=True)
        texts = [f"{_label(group, variant)} in {count}" for variant, count in counts]
        alt += f"Languages, of {len(ordered)}, with clearly less damage: {'; '.join(texts)}."
    else:
        alt += "No clear change."
    return Drawing(name=name, title=title, alt=alt, caption=caption, png=to_png(figure))


def _clearly_damaged(row: Row) -> bool:
    return (row["relative"] if row["relative_low"] is None else row["relative_low"]) > 0


def _heat_map(
    figure: Figure, axes: Axes, values: np.ndarray, clear: np.ndarray, *, written: bool
) -> None:
    """Percentages around 0: coloured where clear, grey where unknown, written where they fit."""
    limit = min(100.0, max(1.0, np.abs(values[clear]).max(initial=0)))
    axes.set_facecolor("#d9d9d9")
    shown = np.where(clear | np.isnan(values), values, 0)
    image = axes.imshow(shown, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    figure.colorbar(image, ax=axes, label="damage removed, %", pad=0.02, shrink=0.9, aspect=30)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not written:
        return
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else number(value, 0)
        colour = "#666666"
        if clear[row, column]:
            red, green, blue, _ = image.to_rgba(value)
            colour = readable_on((red, green, blue))
        axes.text(column, row, text, color=colour, fontsize=8, ha="center", va="center")
