import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxprotect.errors import InputError
from jaxprotect.runs import criteria_figures
from jaxprotect.runs.criteria_figures import HIGHLIGHTED, LOOKS, PLAIN, looks_of
from jaxprotect.runs.sensitivity_figures import (
    criteria_curves,
    cross_language_map,
    location_map,
    minimal_set_dots,
    overlap_map,
)

LANGUAGES = ["ukr_Cyrl", "eng_Latn", "arb_Arab", "rus_Cyrl"]
LONG = ["eng_Latn", "Kven as it is spoken and written around Tromsø", "a$b$"]
SHARED = np.array([[1, 0.2, 0.1, 0.6], [0.2, 1, 0.3, 0.4], [0.1, 0.3, 1, 0.2], [0.6, 0.4, 0.2, 1]])
REMOVED = np.array(
    [[0.5, 0.1, 0.2, 0.4], [0.3, 0.6, 0.2, 0.1], [0.4, 0.1, -1.5, 0.1], [0.2, 0.2, 0.9, 0.5]]
)


def places(languages, depth=2):
    """More of every set in later layers; nothing in the position embedding."""
    return [
        {
            "language": language,
            "layer": layer,
            "component": component,
            "lift": 0.0 if component == "position_embedding" else 0.5 * 2.0 ** ((layer or 0) + i),
        }
        for i, language in enumerate(languages)
        for component, layer in [
            ("head", None),
            ("position_embedding", None),
            *((name, layer) for layer in range(depth) for name in ("mlp", "attention")),
        ]
    ]


def curve(criterion, damages, fractions=(0.01, 0.05), band=0.1):
    return [
        {
            "criterion": criterion,
            "fraction": fraction,
            "worst_relative": damage,
            "worst_relative_low": None if band is None else damage * (1 - band),
            "worst_relative_high": None if band is None else damage * (1 + band),
        }
        for fraction, damage in zip(fractions, damages, strict=True)
    ]


CURVES = curve("random", (0.04, 0.039)) + curve("language_guided", (0.02, 0.01))


def search(quantizer, criterion, found, bound):
    return {
        "quantizer": quantizer,
        "criterion": criterion,
        "eligible": 10_000,
        "found": found,
        "lower_bound": bound,
    }


SEARCHES = [
    search("INT4", "language_guided", 0, 0.0),
    search("INT3", "language_guided", 20, 8.5),
    search("INT3", "magnitude", 400, 9.0),
    search("INT3", "random", None, None),
    search("INT2", "random", None, None),
]

DRAWN = {
    "overlap": lambda path: overlap_map(path, LANGUAGES, SHARED, chance=0.01),
    "cross": lambda path: cross_language_map(path, LANGUAGES, REMOVED),
    "location": lambda path: location_map(path, places(LANGUAGES)),
    "criteria": lambda path: criteria_curves(path, CURVES, unprotected=0.041),
    "sets": lambda path: minimal_set_dots(path, SEARCHES, target="damage <= 50 %"),
}

AWKWARD = {
    "overlap-long": lambda path: overlap_map(path, LONG, SHARED[:3, :3], chance=0.01),
    "overlap-equal": lambda path: overlap_map(path, LONG[:2], np.ones((2, 2)), chance=1.0),
    "overlap-many": lambda path: overlap_map(
        path, [f"l{i}_Latn" for i in range(31)], np.full((31, 31), 0.3), chance=0.01
    ),
    "cross-long": lambda path: cross_language_map(path, LONG, REMOVED[:3, :3]),
    "cross-nothing": lambda path: cross_language_map(path, LONG[:2], np.full((2, 2), np.nan)),
    "location-long": lambda path: location_map(path, places(LONG)),
    "location-deep": lambda path: location_map(path, places(LONG[:1], depth=17)),
    "criteria-one": lambda path: criteria_curves(
        path, curve("a_very_long_name_of_a_criterion", (0.02,), (0.01,), None), unprotected=0.01
    ),
    "criteria-many": lambda path: criteria_curves(
        path, [row for i in range(19) for row in curve(f"c{i}", (0.02, 0.01))], unprotected=0.021
    ),
    "criteria-negative": lambda path: criteria_curves(
        path, curve("random", (0.02, -0.01)), unprotected=0.02
    ),
    "sets-none": lambda path: minimal_set_dots(path, [SEARCHES[0], SEARCHES[4]]),
    "sets-long": lambda path: minimal_set_dots(
        path, [SEARCHES[1] | {"quantizer": "INT4 in groups of 64, asymmetric, 2nd try"}]
    ),
}


def cut_off(figure: Figure) -> list[str]:
    """Texts that end outside a figure that has been drawn."""
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    cut = []
    for text in figure.findobj(Text):
        if not text.get_text() or not text.get_visible():
            continue
        box = Text.get_window_extent(text, renderer)  # an annotation's own has its arrow too
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1:
            cut.append(text.get_text())
    return cut


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, as they are when they become files."""
    drawn = []
    to_png = criteria_figures.to_png

    def remember(figure):
        drawn.append(figure)
        return to_png(figure)

    monkeypatch.setattr(criteria_figures, "to_png", remember)
    return drawn


@pytest.mark.parametrize("name", DRAWN | AWKWARD)
def test_figures_are_files_with_words_and_nothing_is_cut(tmp_path, figures, name):
    path = tmp_path / "figures" / f"{name}.png"
    drawing = (DRAWN | AWKWARD)[name](path)
    assert path.read_bytes() == drawing.png
    assert drawing.png.startswith(b"\x89PNG")
    assert drawing.name == name
    assert drawing.alt.endswith(".")
    assert drawing.caption.endswith(".")
    assert cut_off(figures[0]) == []


@pytest.mark.parametrize("name", ["overlap", "criteria", "sets"])
def test_the_same_bytes_whatever_the_user_has_set(tmp_path, name):
    first = DRAWN[name](tmp_path / "a.png").png
    with mpl.rc_context({"font.size": 25, "lines.linewidth": 9}):
        assert DRAWN[name](tmp_path / "b.png").png == first
        assert mpl.rcParams["font.size"] == 25


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_overlaps_are_ordered_by_script_and_written(tmp_path, figures):
    drawing = DRAWN["overlap"](tmp_path / "a.png")
    axes = figures[0].axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["Arabic", "Russian", "Ukrainian", "English"]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown[0], [np.nan, 20, 10, 30])
    assert texts(axes)[:3] == ["20", "10", "30"]
    assert "Cyrillic" in texts(axes)
    assert "Latin" not in texts(axes)  # one language alone
    assert "from 10.0 % (Arabic and Ukrainian) to 60.0 % (Russian and Ukrainian)" in drawing.alt
    assert "random sets share 1 %" in drawing.alt
    assert "random sets share 1 %" in drawing.caption
    assert axes.images[0].norm.vmin == 1  # white is chance


def test_cross_language_colours_are_above_the_mean_of_the_column(tmp_path, figures):
    shares = REMOVED.copy()
    shares[:, 0] = np.inf  # Ukrainian has no damage
    drawing = cross_language_map(tmp_path / "a.png", LANGUAGES, shares)
    axes = figures[0].axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    english = 100 * np.array([0.1, 0.2, 0.1, 0.6])  # whose weights: Arabic, Russian, ...
    np.testing.assert_allclose(shown[:, 3], english - english.mean())
    assert np.isnan(shown[:, 2]).all()
    assert "Grey: no damage to remove (Ukrainian)" in drawing.caption
    # Arabic is helped most by Russian, English and Russian by their own.
    assert "its own is the best for 2 of 3" in drawing.alt
    assert "a language's own set removes −13 % of its damage on average" in drawing.alt
    best = {(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in axes.patches[1:]}
    assert best == {(0, 1), (1, 1), (3, 3)}  # column, row
    assert texts(axes)[-3:] == ["−5", "28", "25"]  # means


def test_locations_have_a_panel_per_component(tmp_path, figures):
    drawing = DRAWN["location"](tmp_path / "a.png")
    outside, attention, mlp = figures[0].axes[:3]
    assert [label.get_text() for label in outside.get_xticklabels()] == [
        "position embedding",
        "head",
    ]
    assert [axes.get_title(loc="left") for axes in (attention, mlp)] == ["attention", "MLP"]
    assert texts(mlp)[:4] == ["2.0", "4.0", "4.0", "8.0"]  # Arabic, Russian
    assert texts(outside)[0] == "0.0"
    shown = outside.images[0].get_array()
    assert shown[0, 0] == 1 / 8  # no weight at all has the colour of the end
    assert "least in position embedding (0, 0 to 0)" in drawing.alt
    assert "most in MLP of layer 1 (3.8, 1 to 8)" in drawing.alt


def test_curves_are_named_and_ordered(tmp_path, figures):
    drawing = DRAWN["criteria"](tmp_path / "a.png")
    axes = figures[0].axes[0]
    assert set(texts(axes)) == {"nothing protected, 4.10 %", "language guided", "random"}
    assert axes.get_xscale() == "log"
    assert list(axes.get_xticks()) == [1, 5]
    assert (
        "the bytes of 5 % of the weights language guided (1.00 %) is best and random (3.90 %) last"
        in drawing.alt
    )
    assert len(axes.collections) == 2  # bands
    tenfold = curve("random", (0.2, 0.01))
    assert criteria_curves(tmp_path / "b.png", tenfold, unprotected=0.2)
    assert [figure.axes[0].get_yscale() for figure in figures] == ["linear", "log"]


def test_labels_of_curves_keep_their_order_and_their_distance():
    places = [0.5, 0.1, 0.5, 0.52, 0.98, 0.97]
    moved = criteria_figures._apart(places, 0.06)
    assert np.diff(np.sort(moved)).min() >= 0.06 - 1e-12
    assert moved.min() >= 0
    assert moved.max() <= 1
    np.testing.assert_array_equal(np.argsort(moved), np.argsort(places, kind="stable"))
    np.testing.assert_allclose(criteria_figures._apart([0.9, 0.2], 0.1), [0.9, 0.2])


def test_highlighted_criteria_look_the_same_everywhere():
    few = looks_of(["random", "magnitude", "new"], HIGHLIGHTED)
    many = looks_of([*HIGHLIGHTED, "new"], HIGHLIGHTED)
    assert few["random"] == many["random"]
    assert few["new"] in LOOKS
    assert len(set(few.values())) == 3
    assert many["new"] == PLAIN


def test_sets_found_stand_above_their_bounds(tmp_path, figures):
    drawing = DRAWN["sets"](tmp_path / "a.png")
    axes = figures[0].axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:4] == ["INT4", "language guided", "INT3", "language guided"]
    assert texts(axes) == ["nothing needed", "0.20 %", "4.00 %", "not reached", "not reached"]
    drawn = [line.get_xdata() for line in axes.lines if line.get_marker() in ("o", "|")]
    np.testing.assert_allclose(np.concatenate(drawn), [0.085, 0.2, 0.09])
    assert drawing.alt == (
        "Smallest sets found with damage ≤ 50 %. INT4: nothing is needed; INT3: 0.2 % of the "
        "weights by language guided (not reached by random); INT2: not reached."
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: overlap_map(p, ["a"], np.eye(1), chance=0.1), "`languages` has 1; at least two"),
        (lambda p: overlap_map(p, LONG, np.eye(2), chance=0.1), "`matrix` has 2 rows; there are 3"),
        (lambda p: cross_language_map(p, LONG, np.eye(2)), "`shares` has 2 rows"),
        (lambda p: location_map(p, []), "`rows` is empty"),
        (lambda p: criteria_curves(p, [], unprotected=0.1), "`rows` is empty"),
        (
            lambda p: criteria_curves(p, curve("a", (0.1,), (0.0,)), unprotected=0.1),
            "`rows` has the fraction 0.0",
        ),
        (
            lambda p: criteria_curves(p, CURVES, unprotected=0.1, highlight=list("abcdefg")),
            "`highlight` has 7 criteria; 6 can differ",
        ),
        (lambda p: minimal_set_dots(p, []), "`rows` is empty"),
    ],
)
def test_bad_input(tmp_path, call, words):
    with pytest.raises(InputError, match=words):
        call(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
