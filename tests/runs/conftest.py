"""What tests of figures share."""

import pytest

from jaxprotect.runs import criteria_figures


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, as they are when they become files."""
    drawn = []
    to_png = criteria_figures.to_png
    monkeypatch.setattr(
        criteria_figures, "to_png", lambda figure: [drawn.append(figure), to_png(figure)][1]
    )
    return drawn
