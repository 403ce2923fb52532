import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.frontier_figure import LINES, frontier_curves
from jaxprotect.selection.recommendation import TECHNIQUE_NAMES

SIZES = {"int3": 1_000_000, "int4": 1_400_000}


def rows_of(techniques, worst=0.05):
    return [
        {"technique": name, "bytes": size, "worst_relative": worst * (1 + i) / size * 1e6}
        for i, name in enumerate(techniques)
        for size in SIZES.values()
    ]


def chosen(worst):
    made = rows_of(["recommended"], worst)
    return [r | {"worst_relative_low": -0.01, "worst_relative_high": 0.2} for r in made]


@pytest.mark.parametrize("worst", [0.02, -0.002])
def test_every_technique_has_a_line_of_its_own(tmp_path, worst):
    assert len(set(LINES)) == len(LINES) >= len(TECHNIQUE_NAMES)
    drawing = frontier_curves(
        tmp_path / "f.png", rows_of(TECHNIQUE_NAMES), chosen=chosen(worst), sizes=SIZES
    )
    assert (tmp_path / "f.png").stat().st_size > 10_000
    assert "by recommended" in drawing.alt
    assert "Damage of the worst language" in drawing.alt


def test_bad_input(tmp_path):
    many = [f"technique {i}" for i in range(len(LINES) + 1)]
    with pytest.raises(InputError, match=rf"`rows` has {len(many)} techniques; {len(LINES)} can"):
        frontier_curves(tmp_path / "f.png", rows_of(many), chosen=chosen(0.1), sizes=SIZES)
    with pytest.raises(InputError, match="`rows` or `chosen` is empty"):
        frontier_curves(tmp_path / "f.png", [], chosen=chosen(0.1), sizes=SIZES)
