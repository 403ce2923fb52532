"""Every Python snippet of README and docs runs on the shipped model and prints what it says."""

import ast
import doctest

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

import jaxprotect
from tests.docs.pages import PAGES, ROOT, blocks_of

LONG = {
    f"docs/techniques/{name}.md"
    for name in (
        "cached_prefix",
        "error_compensation",
        "expected_gain",
        "language_guided",
        "language_sensitivity",
        "magnitude",
        "minimal_set",
        "mixed_precision",
        "packing",
        "ranges",
        "recommend",
    )
}
"""Pages that measure gradients, search, or compile what no other page does."""

WITH_PYTHON = [page for page in PAGES if blocks_of(page, "python")]


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.slow] if p in LONG else []) for p in WITH_PYTHON],
)
def test_snippets_print_what_stands_there(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS)
    examples = list(Sybil([parser], encoding="utf-8").parse(ROOT / page).examples())
    assert examples
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("page", sorted(LONG))
def test_long_snippets_name_what_exists(page):
    """The quick part of a slow test: syntax, imports, public names."""
    parser = doctest.DocTestParser()
    examples = [one for block in blocks_of(page, "python") for one in parser.get_examples(block)]
    tree = ast.parse("".join(one.source for one in examples))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), page, "exec"), {})
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    public = {node.attr for node in names if ast.unparse(node.value) == "jp"}
    assert public
    assert public <= set(jaxprotect.__all__)


def test_the_package_docstring_is_true():
    failed, tried = doctest.testmod(jaxprotect)
    assert tried > 5
    assert failed == 0
