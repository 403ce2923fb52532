"""Pages of questions and answers: complete, self-contained, escaped."""

import re
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest

from jaxprotect.runs.pages import Section, plain_table, render, write_study
from jaxprotect.runs.sensitivity_figures import overlap_map

LANGUAGES = ("eng_Latn", "heb_Hebr")


@pytest.fixture
def page(tmp_path):
    drawing = overlap_map(tmp_path / "overlap.png", LANGUAGES, np.eye(2), chance=0.01)
    table = plain_table(
        "sizes",
        "Sizes <of sets>.",
        [{"Criterion": "a & b", "Weights": ("1,000", 1000.0)}, {"Criterion": "c", "Weights": "-"}],
    )
    sections = [
        Section(title="Whose?", text=("12 % [1, 3] of <them>.",), drawings=(drawing,)),
        Section(title="How many?", text=("One.", "Two."), tables=(table,)),
    ]
    path = tmp_path / "report.html"
    write_study(path, title="A study of <x>", lead="On 40 sentences.", sections=sections)
    return path


class Reader(HTMLParser):
    """Open tags, ids, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        """Keep what is checked."""
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Tags close in order."""
        assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_nothing_else(page):
    reader = Reader()
    reader.feed(page.read_text())
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    assert len(reader.sources) == 1
    assert reader.sources[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?://", page.read_text())


def test_text_is_escaped_and_numbers_keep_their_units(page):
    text = page.read_text()
    assert "<h1>A study of &lt;x&gt;</h1>" in text
    assert "a &amp; b" in text
    assert "Sizes &lt;of sets&gt;." in text
    assert "12\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}[1,\N{NO-BREAK SPACE}3] of &lt;them&gt;." in text
    assert 'data-sort="1000.0"' in text
    assert "On 40 sentences." in text


def test_the_same_study_gives_the_same_bytes(page, tmp_path):
    table = plain_table("t", "", [{"a": "b"}])
    sections = [Section(title="Q", text=("A",), tables=(table,))]
    made = [
        write_study(tmp_path / name, title="T", lead="L", sections=sections).read_bytes()
        for name in ("one.html", "two.html")
    ]
    assert made[0] == made[1]


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("study.html.j2", lead="L", sections=[])
