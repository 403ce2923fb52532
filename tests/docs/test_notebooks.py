"""The notebooks run, and what they keep is what they print."""

import ast
import contextlib
import io
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from jaxprotect.runs.drawing import Drawing

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
SOME_SLOW = [
    pytest.param(path, marks=pytest.mark.slow if path.stem[0] in "234" else [], id=path.stem)
    for path in NOTEBOOKS
]
"""Half a minute and more of gradients; what they call runs elsewhere, too."""

NUMBER = re.compile(r"\d[\d,]*\.?\d*")
CLOSE = 0.05
"""Most that another machine's rounding may move a number, relative to it."""


def run(source: str, names: dict[str, Any]) -> tuple[str, object]:
    """What a cell prints, and its last expression's value."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        assert last is None or isinstance(last, ast.Expr)
        value = last and eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return printed.getvalue(), value


def check_words(kept: str, now: str) -> None:
    """The same words, and numbers that are close."""
    assert NUMBER.sub("#", now) == NUMBER.sub("#", kept)
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (now, kept)]
    assert numbers[0] == pytest.approx(numbers[1], rel=CLOSE, abs=0.02)


@pytest.mark.parametrize("path", SOME_SLOW)
def test_it_runs_and_says_what_it_keeps(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code":
            continue
        printed, value = run(cell.source, names)
        kept = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        check_words(kept, printed)
        results = [output for output in cell.outputs if output.output_type == "execute_result"]
        if value is None or not cell.source.splitlines()[-1].startswith("jp.plots"):
            assert not results
            continue
        assert isinstance(value, Drawing)
        (result,) = results
        assert result.data["image/png"]
        assert result.metadata["image/png"]["alt"] == result.data["text/plain"]
        assert value.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_keeps_is_of_no_machine(path):
    text = path.read_text("utf-8")
    assert "/work" not in text
    assert "/tmp" not in text
    assert "stderr" not in text
    assert "widget-view" not in text
    assert len(text) < 400_000


def test_there_are_four_and_each_leads_to_the_next():
    assert [path.stem[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]
    for path, following in itertools.pairwise(NOTEBOOKS):
        assert f"]({following.name})" in path.read_text("utf-8")
