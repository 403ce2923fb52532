import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxprotect.evaluation.disparity import compare
from jaxprotect.runs.comparisons import duels, grouped, verdict
from jaxprotect.runs.drawing import INK, readable_on, spread
from jaxprotect.runs.figures import draw_figures, write_figures
from jaxprotect.runs.fraction_figure import fraction_axis
from jaxprotect.runs.results import ORIGINAL
from jaxprotect.runs.summary import summarise
from jaxprotect.runs.wording import (
    decimals,
    language_names,
    listed,
    number,
    protection,
    with_interval,
)
from tests.runs.synthetic import make_run, only, study


def drawings(run):
    return {drawing.name: drawing for drawing in draw_figures(grouped(run, summarise(run)))}


def test_every_figure_is_a_png_and_the_same_bytes_twice(tmp_path):
    run = make_run(tmp_path / "run", study())
    rows = summarise(run)
    paths = write_figures(run, rows)
    assert {path.parent for path in paths} == {run.folder / "figures"}
    assert [path.stem for path in paths] == [
        "damage-by-language",
        "damage-by-fraction",
        "layers",
        "attention",
        "components",
        "languages-by-structure",
    ]
    first = [path.read_bytes() for path in paths]
    assert all(data.startswith(b"\x89PNG") for data in first)
    with mpl.rc_context({"font.size": 25, "lines.linewidth": 9}):  # a user's own settings
        write_figures(run, rows)
        assert mpl.rcParams["font.size"] == 25
    assert [path.read_bytes() for path in paths] == first
    assert b"Software" not in first[0]


def test_figures_are_those_that_the_run_has_variants_for(tmp_path):
    assert list(drawings(make_run(tmp_path / "a", only("none")))) == ["damage-by-language"]
    heads = drawings(make_run(tmp_path / "b", only("none", "head-0-1", "head-1-0")))
    assert list(heads) == ["damage-by-language", "attention"]
    unpaired = drawings(make_run(tmp_path / "c", only("layers-0", "magnitude-0.01")))
    assert unpaired == {}
    curve = drawings(make_run(tmp_path / "d", only("none", "magnitude-0.05", "magnitude-0.01")))
    assert list(curve) == ["damage-by-language", "damage-by-fraction"]


def test_nothing_is_said_to_be_removed_where_nothing_was_lost(tmp_path):
    better = drawings(make_run(tmp_path / "run", study(), damage=-0.01))
    assert list(better) == ["damage-by-language", "damage-by-fraction"]


@pytest.mark.parametrize("languages", [("eng_Latn",), (r"$\frac$", "<script>", "eng_Latn")])
def test_one_sentence_and_strange_languages_are_drawn(tmp_path, languages):
    run = make_run(tmp_path / "run", study(), languages=languages, sentences=1)
    drawn = drawings(run)
    assert "damage-by-language" in drawn
    assert all(drawing.size[0] > 800 for drawing in drawn.values())
    assert "[" not in drawn["damage-by-language"].alt  # no intervals with one sentence


def test_alternative_texts_state_the_finding(tmp_path):
    drawn = drawings(make_run(tmp_path / "run", study()))
    by_language = drawn["damage-by-language"].alt
    assert by_language.index("Tamil") < by_language.index("Hebrew") < by_language.index("German")
    assert "layer 0: " in drawn["layers"].alt
    assert "30 % of the weights" in drawn["layers"].alt
    assert "Random masks leave" in drawn["damage-by-fraction"].alt
    assert "Heat map of 4 heads" in drawn["attention"].alt
    assert "layer 0 in 4" in drawn["languages-by-structure"].alt


def test_each_quantizer_has_its_figures_and_all_have_one(tmp_path):
    run = make_run(tmp_path / "run", only("none"), quantizers=("INT8 per channel", "INT2"))
    drawn = drawings(run)
    assert list(drawn) == ["damage-by-quantizer", "damage-by-language-1", "damage-by-language-2"]
    assert "INT2: Tamil" in drawn["damage-by-quantizer"].alt
    negative = make_run(tmp_path / "b", only("none"), quantizers=("A", "B"), damage=-0.001)
    assert "damage-by-quantizer" in drawings(negative)


def test_paired_differences_are_those_of_compare(tmp_path):
    run = make_run(tmp_path / "run", study())
    (group,) = grouped(run, summarise(run))
    for first, second in (("none", "layers-0"), ("random-0.05-seed1", "magnitude-0.05")):
        want = compare(
            run.evaluation(ORIGINAL), run.evaluation(first), run.evaluation(second), draws=200
        ).worst_relative
        got = group.worst.difference(first, second)
        assert (got.value, got.low, got.high) == (-want.value, -want.high, -want.low)
    whole = group.rows["none"]["worst_relative"]
    removed, share = group.removed("layers-0"), group.removed_share("layers-0")
    np.testing.assert_allclose(share.value * whole, removed.value)
    np.testing.assert_allclose(share.low * whole, removed.low)


def test_magnitude_is_compared_with_random_masks_of_its_own_fraction(tmp_path):
    run = make_run(tmp_path / "run", study())
    (group,) = grouped(run, summarise(run))
    assert group.controls()["magnitude-0.05"] == ["random-0.05-seed0", "random-0.05-seed1"]
    ended = {duel.variant: verdict(duel) for duel in duels(group)}
    assert ended["magnitude-0.2"] == "less damage than both masks"
    alone = make_run(tmp_path / "alone", only("none", "magnitude-0.05", "random-0.2-seed0"))
    assert duels(grouped(alone, summarise(alone))[0]) == []


def test_labels_are_moved_apart_and_no_further():
    assert spread([0.0, 1.0], 0.5) == [0.0, 1.0]
    assert spread([1.0, 0.9, 3.0], 0.5) == [1.4, 0.9, 3.0]


def test_numbers_on_coloured_squares_can_be_read():
    assert readable_on("white") == readable_on("#92c5de") == INK
    assert readable_on("#053061") == readable_on((0.4, 0.0, 0.12)) == "white"


@pytest.mark.parametrize(
    ("shares", "marks"),
    [
        ([0, 0.999998, 2.99997, 20], [0, 1, 3, 20]),
        ([1, 1.1, 20], [0, 1, 2, 5, 10, 20]),  # 1 and 1.1 would be written over each other
    ],
)
def test_shares_measured_are_marked_where_they_fit(shares, marks):
    axes = Figure().subplots()
    axes.plot(shares, shares)
    fraction_axis(axes, shares)
    within = [mark for mark in axes.get_xticks() if mark <= axes.get_xlim()[1]]
    assert within == marks


def test_numbers_keep_their_places_and_their_sign():
    assert with_interval(0.0142, 0.0108, 0.0175, unit="%", scale=100) == "1.42 % [1.08, 1.75]"
    assert with_interval(12.345, -1, 20) == "12.3 [−1.0, 20.0]"
    assert with_interval(3.0, None, None, unit="nats") == "3.00 nats"
    assert number(-0.0001, 2) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert number(0.0) == "0.00"
    assert number(-100.0, 0) == "−100"
    assert [decimals(v) for v in (250, 25, 2.5, 0.25, 0.025, 0.0025)] == [0, 1, 2, 2, 3, 4]


def test_languages_have_names_where_they_are_known_and_unlike():
    assert language_names(["eng_Latn", "xyz_Latn"]) == {
        "eng_Latn": "English",
        "xyz_Latn": "xyz_Latn",
    }
    both = ("zho_Hans", "zho_Hant")
    assert language_names(both) == dict(zip(both, both, strict=True))


def test_protections_are_told_in_words():
    assert protection("a", {"kind": "none"}) == "nothing"
    assert protection("a", {"kind": "magnitude", "fraction": 0.015}) == "the largest 1.5 %"
    assert protection("a", {"kind": "layers", "layers": [0, 3]}) == "layers 0 and 3"
    assert protection("a", {"kind": "heads", "layer": 2, "head": 1}) == "head 1 of layer 2"
    embeddings = ["token_embedding", "position_embedding"]
    what = {"kind": "components", "components": embeddings}
    assert protection("a", what) == "token and position embeddings"
    assert protection("new-kind", {"kind": "something else"}) == "new-kind"
    assert listed(list("abc")) == "a, b and c"
    assert listed(list("abcd"), 2) == "a, b and 2 others"
