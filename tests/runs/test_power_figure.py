"""The figure of power: its words, and what it refuses."""

import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.power_figure import power_figure


def rows(*damages):
    return [
        {"damage": damage, "sentences": count, "told": told, "planned": told}
        for damage in damages
        for count, told in ((10, 20 * damage), (40, min(1.0, 50 * damage)), (160, 1.0))
    ]


def test_the_words_name_where_each_damage_is_told(tmp_path):
    drawing = power_figure(tmp_path / "power.png", rows(0.005, 0.02))
    assert "80 % are reached of a damage of 2 % by 40 sentences, 0.5 % by 160" in drawing.alt
    assert (tmp_path / "power.png").read_bytes() == drawing.png
    again = power_figure(tmp_path / "again.png", rows(0.005, 0.02))
    assert again.png == drawing.png


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(InputError, match="`rows` is empty"):
        power_figure(tmp_path / "none.png", [])
    with pytest.raises(InputError, match="`rows` has 7 damages; 6 can differ"):
        power_figure(tmp_path / "many.png", rows(*(0.01 * n for n in range(1, 8))))
