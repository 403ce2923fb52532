"""The documentation builds without a warning, and has every public name."""

import doctest
import importlib
import os
import re
import subprocess
import sys

import pytest
from sphinx.util.inventory import InventoryFile

import jaxprotect
from tests.docs.pages import ROOT, text_of


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as HTML; broken links, unknown names and missing pictures are warnings."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    folders = ["-d", str(out / "doctrees"), str(ROOT / "docs"), str(out / "html")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    built = subprocess.run(
        [*command, *folders], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert built.returncode == 0, built.stderr
    return out / "html"


def test_every_public_name_has_its_place(site):
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    documented = {
        name.removeprefix("jaxprotect.")
        for kind in ("py:function", "py:class", "py:exception", "py:module")
        for name in inventory.data[kind]
    }
    assert set(jaxprotect.__all__) <= documented
    masks = {f"masks.{name}" for name in ("by_magnitude", "heads", "layers", "random", "union")}
    assert masks <= documented


def test_pages_need_no_network(site):
    """Nothing is loaded from elsewhere: no script, style, font or picture."""
    for page in site.rglob("*.html"):
        html = page.read_text("utf-8")
        for loading in ('src="http', 'src="//', 'rel="stylesheet" href="http'):
            assert loading not in html, page.name


def test_formulas_and_help_are_there(site):
    assert "<math" in (site / "techniques" / "language_guided.html").read_text("utf-8")
    commands = (site / "commands.html").read_text("utf-8")
    for name in ("census", "minimal-set", "recommend"):
        assert f"jaxprotect {name}" in commands


def test_readme_is_short_and_its_links_lead_somewhere():
    readme = text_of("README.md")
    assert len(readme.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", readme)
    assert links
    for link in links:
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_docstrings_become_restructuredtext(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "sphinx")
    docstrings = importlib.import_module("docstrings")
    failed, tried = doctest.testmod(docstrings)
    assert (failed, tried) == (0, 1)
    lines = ["Keep |w|.", "", "    s = |w| / n", "", "Args:", "    k: of `mask`s."]
    docstrings.rewrite(lines)
    wanted = ["Keep \\|w\\|.", "", "::", "", "    s = |w| / n", "", "", "Args:"]
    assert lines == [*wanted, "    k: of ``mask``\\ s."]


def test_notebooks_are_copied_and_listed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "sphinx")
    copies = importlib.import_module("notebook_copies")
    docs, notebooks = tmp_path / "docs", tmp_path / "notebooks"
    listed = docs / "generated" / "notebooks.md"
    copies.copy_notebooks(docs)
    assert listed.read_text("utf-8") == copies.NONE
    notebooks.mkdir()
    (notebooks / "1_universe.ipynb").write_text("{}", "utf-8")
    copies.copy_notebooks(docs)
    assert "generated/notebooks/1_universe\n" in listed.read_text("utf-8")
    assert (docs / "generated" / "notebooks" / "1_universe.ipynb").exists()
    (notebooks / "1_universe.ipynb").unlink()
    copies.copy_notebooks(docs)
    assert listed.read_text("utf-8") == copies.NONE
    assert not (docs / "generated" / "notebooks" / "1_universe.ipynb").exists()


def test_figures_of_notebooks_have_alt_text(site):
    page = (site / "generated" / "notebooks" / "1_weight_universe.html").read_text("utf-8")
    for parameters in ("3,008,640", "124,439,808"):
        assert f'alt="Where are the {parameters} parameters' in page
