"""Bars are for eyes: none in a pipe, one at a time on a terminal, none left in a notebook."""

import io
import os
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from jaxprotect import progress as module
from jaxprotect.progress import progress

LOOPS = """
import time
from jaxprotect.progress import progress
for outer in progress(range(2), desc="outer", unit="step"):
    for inner in progress(range(2), desc="inner", unit="step"):
        time.sleep(0.4)
for again in progress(range(3), desc="again", unit="step"):
    time.sleep(0.5)
print("done")
"""


class Terminal(io.StringIO):
    """Text that is watched."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_in_a_pipe_there_is_no_bar(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(module, "DELAY", 0.0)
    assert list(progress(range(3), unit="step")) == [0, 1, 2]
    assert said.getvalue() == ""


def test_on_a_terminal_it_has_a_rate_and_goes(monkeypatch, capsys):
    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(module, "DELAY", 0.0)
    assert list(progress(range(3), desc="sizes", unit="step")) == [0, 1, 2]
    assert "sizes" in said.getvalue()
    assert "step" in said.getvalue()
    assert said.getvalue().endswith("\r")  # its line is empty again
    assert capsys.readouterr().out == ""


def test_short_work_has_no_bar(monkeypatch):
    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    list(progress(range(3), unit="step"))
    assert said.getvalue().strip() == ""


@pytest.mark.slow
def test_a_notebook_keeps_no_bar():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOPS)])
    NotebookClient(notebook, timeout=120).execute(cwd=os.getcwd())
    outputs = notebook.cells[0].outputs
    assert {output.output_type for output in outputs} == {"stream"}  # no widgets
    assert "".join(of.text for of in outputs if of.name == "stdout") == "done\n"
    shown = "".join(of.text for of in outputs if of.name == "stderr")
    assert "outer" in shown
    assert "inner" not in shown  # one at a time
    assert not shown.rstrip("\r").rpartition("\r")[2].strip()  # the line is wiped
