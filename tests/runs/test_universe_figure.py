import numpy as np
import pytest
from matplotlib.text import Text

from jaxprotect.errors import InputError
from jaxprotect.models.census import KNOWN_MODELS, census_of
from jaxprotect.models.parts import part_tree
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.runs import criteria_figures
from jaxprotect.runs.treemap import Box, below, beside, in_rows, model_boxes
from jaxprotect.runs.universe_figure import COLOURS, universe_map
from jaxprotect.selection import masks
from tests.models.tiny_models import CONFIGS
from tests.runs.test_sensitivity_figures import cut_off
from tests.tiny import random_params

GPT2 = census_of("gpt2").config
WHOLE = Box(1.0, 2.0, 7.0, 4.0)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, as they are when they become files."""
    drawn = []
    to_png = criteria_figures.to_png
    monkeypatch.setattr(
        criteria_figures, "to_png", lambda figure: [drawn.append(figure), to_png(figure)][1]
    )
    return drawn


@pytest.mark.parametrize("layout", [beside, below, in_rows])
@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1, 1, 1], [9, 0.001, 3]])
def test_layouts_fill_the_box_in_order(layout, sizes):
    boxes = layout(sizes, WHOLE)
    areas = [box.width * box.height for box in boxes]
    np.testing.assert_allclose(areas, 28 * np.array(sizes) / sum(sizes), rtol=1e-9)
    corners = [(round(box.top, 9), box.left) for box in boxes]
    assert corners == sorted(corners)
    for box in boxes:
        assert box.left >= 1 - 1e-9
        assert box.top >= 2 - 1e-9
        assert box.left + box.width <= 8 + 1e-9
        assert box.top + box.height <= 6 + 1e-9


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_areas_are_numbers_of_parameters(name):
    whole = part_tree(census_of(name).config)
    placed = list(model_boxes(whole, WHOLE))
    leaves = [(part, box) for part, box in placed if part.place is not None]
    assert [part for part, _ in leaves] == list(whole.leaves())
    for part, box in placed:
        assert box.width * box.height == pytest.approx(28 * part.size / whole.size, rel=1e-6)
    points = np.random.default_rng(0).uniform((1, 2), (8, 6), (200, 2))
    for x, y in points:  # in exactly one
        held = [b for _, b in leaves if 0 <= x - b.left < b.width and 0 <= y - b.top < b.height]
        assert len(held) == 1


NAMES = ["EleutherAI/pythia-160m", "mistralai/Mistral-7B-v0.1", "gpt2", "bloom"]


@pytest.mark.parametrize("name", NAMES)
def test_labels_lie_in_their_boxes_and_nothing_is_cut(tmp_path, figures, name):
    config = CONFIGS[name] if name in CONFIGS else census_of(name).config
    drawing = universe_map(tmp_path / "universe.png", config, name=name)
    assert (tmp_path / "universe.png").read_bytes() == drawing.png
    assert cut_off(figures[0]) == []
    axes = figures[0].axes[0]
    renderer = figures[0].canvas.get_renderer()
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches if patch.get_fill()]
    for text in axes.texts:
        inside = Text.get_window_extent(text, renderer)
        assert any(
            box.x0 <= inside.x0
            and inside.x1 <= box.x1
            and box.y0 <= inside.y0 + 1
            and inside.y1 <= box.y1 + 1
            for box in boxes
        ), text.get_text()


def test_gpt2_in_words():
    drawing = universe_map(None, GPT2, name="GPT-2")
    assert drawing.title == "Where are the 124,439,808 parameters of GPT-2?"
    assert drawing.alt == (
        "Treemap of 12 layers with 12 heads each: MLP 45.5 %, token embedding 31 %, attention "
        "22.8 %, position embedding 0.632 % and norms 0.0309 % of the parameters; one head "
        "0.158 %."
    )
    assert drawing.caption.endswith("Too small to see: norms (0.0309 %).")
    assert drawing.png == universe_map(None, GPT2, name="GPT-2").png


def test_a_set_has_the_colours_of_its_shares(figures):
    config = CONFIGS["gpt2"]
    drawing = universe_map(None, config, mask=masks.heads(random_params(config), {1: [2]}))
    assert drawing.title == "Where in model are the 48 protected weights?"  # 4 matrices, 6 by 2
    assert drawing.alt == (
        "Treemap of a protected set: attention 100 % of it. The share that is protected is "
        "largest in head 2 of layer 1 (100 %); nothing of it is in 9 of 10 parts."
    )
    boxes = [patch for patch in figures[0].axes[0].patches if patch.get_fill()]
    assert len({box.get_facecolor() for box in boxes}) == 3  # none, all, never quantized


def test_components_have_colours_of_their_own():
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (masks.none(parameter_shapes(GPT2)), "`mask` protects nothing"),
        (masks.none(parameter_shapes(CONFIGS["opt"])), "`mask` and the model differ in the leaves"),
        (
            masks.components(parameter_shapes(GPT2), ["norms"]),
            "`mask` protects nothing",  # norms are never quantized
        ),
    ],
)
def test_bad_masks(mask, message):
    with pytest.raises(InputError, match=message):
        universe_map(None, GPT2, mask=mask)
