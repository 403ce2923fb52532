import itertools
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.report import write_comparison, write_report
from jaxprotect.runs.results import Run, read_run
from jaxprotect.runs.summary import summarise
from tests.runs.synthetic import LANGUAGES, make_run, only, study

VOID = {
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"),
    *("track", "wbr"),
}
"""Elements that have no end tag."""
UNSEEN = {"title", "style", "script"}
"""Elements whose text is not on the page."""


class Page(HTMLParser):
    """Elements and text of a page; fails where an end tag does not close the innermost element."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()  # without it, an unfinished tag at the end goes unnoticed
        assert self.open == [], "elements without an end"

    def handle_starttag(self, tag, attrs):
        """Remember an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Remember an element; `/>` ends it only inside SVG, and says nothing on void elements."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID and "svg" in self.open:
            self.open.pop()

    def handle_endtag(self, tag):
        """Check that it closes the innermost element."""
        line, column = self.getpos()
        assert self.open[-1:] == [tag], f"</{tag}> inside {self.open} at {line}:{column}"
        self.open.pop()

    def handle_data(self, data):
        """Remember text that is shown."""
        if not UNSEEN & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text shown, with single spaces."""
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        """Attributes of every element of this kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("full") / "run", study())
    return run, write_report(run)


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def data_of(html: str, prefix: str = "run-1") -> dict:
    found = re.search(rf'<script type="application/json" id="{prefix}-data">(.*?)</script>', html)
    assert found
    return json.loads(found[1])


def test_report_holds_every_language_and_variant(full):
    run, path = full
    page, html = read(path), path.read_text()
    assert path == run.folder / "report.html"
    for variant in run.variants:
        assert variant in page.text
        assert {"value": variant} in [{"value": o.get("value")} for o in page.all("option")]
    for language in LANGUAGES:
        assert language in page.text
    data = data_of(html)
    assert set(data) == set(run.variants)
    assert {len(rows) for rows in data.values()} == {len(LANGUAGES)}


def test_report_is_the_same_bytes_twice_and_writes_the_figures(full):
    run, path = full
    before = path.read_bytes()
    again = read_run(run.folder)
    assert write_report(again, summarise(again)).read_bytes() == before
    assert len(list((run.folder / "figures").glob("*.png"))) == 6


def test_report_needs_nothing_from_outside(full):
    html = full[1].read_text()
    assert "http" not in html
    assert not re.search(r"@import|url\(|//cdn", html)
    page = Page(html)
    assert page.all("link") == []
    assert all("src" not in script for script in page.all("script"))
    assert all(img["src"].startswith("data:image/png;base64,") for img in page.all("img"))
    assert all(a["href"].startswith("#") for a in page.all("a"))


def test_report_is_accessible(full):
    page = read(full[1])
    assert page.all("html")[0]["lang"] == "en"
    assert page.elements[[tag for tag, _ in page.elements].index("body") + 1][1]["class"] == "skip"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) >= 4
    assert {th.get("scope") for th in page.all("th")} == {"col", "row"}
    assert all(len(img["alt"]) > 40 for img in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = [a["href"][1:] for a in page.all("a")]
    targets += [label["for"] for label in page.all("label")]
    targets += [of["aria-labelledby"] for _, of in page.elements if "aria-labelledby" in of]
    assert set(targets) <= set(ids)
    labelled = {label["for"] for label in page.all("label")}
    assert {e["id"] for tag, e in page.elements if tag in ("input", "select")} <= labelled


def test_answer_names_the_worst_language_with_its_interval(full):
    text = read(full[1]).text
    assert re.search(r"Tamil suffers most: \d\.\d\d % \[\d\.\d\d, \d\.\d\d\] more nats", text)
    times = r"The largest relative damage is \d\.\d\d \[\d\.\d\d, \d\.\d\d\] times"
    assert re.search(f"{times} the mean of English and German, ", text)
    assert "The interval of Hebrew overlaps with that of Tamil" in text
    assert "protecting the largest 20 % of the eligible weights leaves the least" in text
    assert "This is exploratory" in text
    assert re.search(r"less damage than both masks at [\d %,and]*20 %", text)


def test_answer_comes_first(full):
    page = read(full[1])
    order = [of.get("class") or of.get("id") for _, of in page.elements]
    first = order.index("run-1-answer")
    assert (
        first < order.index("lead") < order.index("run-1-answer-0-caption") < order.index("answers")
    )
    text = page.text
    assert "What to protect The largest 5 % of the eligible weights." in text
    assert re.search(
        r"What it costs 5 % of the eligible weights \(50\) in high precision: 0\.1", text
    )
    assert re.search(
        r"What each language loses At most \d\.\d\d % \[\d\.\d\d, \d\.\d\d\] \(Tamil", text
    )


def test_languages_can_be_chosen_where_there_are_several(full, tmp_path):
    page = read(full[1])
    boxes = [of for of in page.all("input") if of["type"] == "checkbox"]
    assert sorted(of["value"] for of in boxes) == list(LANGUAGES)
    scripts = [of["data-script"] for of in page.all("button") if "data-script" in of]
    assert scripts == ["*", "", "Latin", "Hebrew", "Tamil"]
    rows = [of["data-language"] for of in page.all("tr") if "data-language" in of]
    assert sorted(rows) == sorted(3 * LANGUAGES)  # the answer, the heat map, the languages
    one = make_run(tmp_path / "run", only("none"), languages=("eng_Latn",))
    assert "checkbox" not in write_report(one).read_text()


def test_undefined_disparity_says_why(tmp_path):
    run = make_run(tmp_path / "run", only("none"), damage=-0.01)
    text = read(write_report(run)).text
    assert "Undefined, because the reference languages' mean relative damage, −" in text
    assert "lies below 0" in text
    assert "No language loses anything as measured" in text


def test_overlap_and_a_disparity_of_one_are_admitted(tmp_path):
    # The same relative damage everywhere: nothing to tell the languages apart.
    run = make_run(tmp_path / "run", only("none", "layers-1"), spread=0.0, noise=1.0)
    text = read(write_report(run)).text
    assert re.search(r"The intervals of \w+, \w+ and \w+ overlap with", text)
    assert "leave open which language suffers most" in text
    assert "that languages are hurt unequally is not shown" in text
    assert "The interval reaches 1: that there is a disparity is not shown." in text
    assert "so that it helps is not shown" in text


def test_one_language_one_variant_one_sentence(tmp_path):
    run = make_run(tmp_path / "run", only("none"), languages=("eng_Latn",), sentences=1)
    text = read(write_report(run)).text
    assert "One sentence has no intervals" in text
    assert "one sentence has no interval." in text
    assert "Nothing was protected" in text
    run = make_run(tmp_path / "many", only("magnitude-0.05"), languages=("eng_Latn",))
    text = read(write_report(run)).text
    assert "no unprotected variant" in text
    assert "Protecting the largest 5 % of the eligible weights" in text


def test_only_long_tables_scroll_on_their_own(tmp_path, full):
    languages = ("eng_Latn", *(f"x{number:02}_Latn" for number in range(30)))
    page = read(write_report(make_run(tmp_path / "run", only("none"), languages=languages)))
    classes = [div["class"] for div in page.all("div") if "scroll" in div.get("class", "").split()]
    # The answer, the heat map, the variants, the languages.
    tall = "scroll tall"
    assert [of for of in classes if "card" not in of] == [tall, tall, "scroll", tall]
    assert not any("tall" in div.get("class", "").split() for div in read(full[1]).all("div"))


def test_hostile_names_are_text(tmp_path):
    evil = '</script><script>alert("x")</script>'
    languages = ("<script>", "a&b", "eng_Latn")
    run = make_run(tmp_path / "run", only("none"), languages=languages, model=evil)
    path = write_report(run)
    html, page = path.read_text(), read(path)
    assert len(page.all("script")) == 2  # the data and the page's own
    assert "<script>alert" not in html
    assert evil in unescape(html)
    assert "a&b" in page.text
    assert any(row[0][0] == "<script>" for row in data_of(html)["none"])


def test_seed_protocol_shows_the_ratios_of_the_study(tmp_path, full):
    languages = ("arb_Arab", "deu_Latn", "eng_Latn", "fra_Latn", "heb_Hebr", "zho_Hans")
    plan = only("none", "magnitude-0.05")
    run = make_run(tmp_path / "run", plan, languages=languages, protocol="seed")
    page = read(write_report(run))
    r2 = summarise(run)[0]["seed_r2"]
    assert "R2 (study)" in page.text
    assert f"{r2:.2f}" in page.text
    assert "R1, R2 and R3" in page.text
    fewer = make_run(tmp_path / "fewer", plan, protocol="seed")
    assert "not evaluated: zh, ar" in read(write_report(fewer)).text
    assert "(study)" not in read(full[1]).text


def test_an_unfinished_run_says_so(tmp_path):
    run = make_run(tmp_path / "run", only("none", "layers-0"))
    half = Run(folder=run.folder, manifest=run.manifest, rows=run.rows[: len(LANGUAGES)])
    assert "not finished: 1 planned variant not yet measured" in read(write_report(half)).text


def test_quantizers_stand_side_by_side(tmp_path):
    run = make_run(tmp_path / "run", only("none"), quantizers=("INT4 per channel", "INT2"))
    page = read(write_report(run))
    assert "Unprotected: disparity" in page.text
    assert "none-1" in page.text
    assert "Best within" not in page.text


def test_comparison_of_two_runs(tmp_path):
    a = make_run(tmp_path / "first", study())
    b = make_run(tmp_path / "second", only("none"), model="other", sentences=8)
    out = write_comparison([a, b], tmp_path / "deep" / "compared.html")
    page, html = read(out), out.read_text()
    assert out == tmp_path / "deep" / "compared.html"
    assert "2 runs compared" in page.text
    for word in ("first", "second", "made-up", "other", "not measured"):
        assert word in page.text
    assert "measured on different sentences" in page.text
    assert "of different models" in page.text
    assert "all-by-language" not in html
    assert list(data_of(html, "run-2")) == ["none"]
    again = write_comparison([a, b], out, [summarise(a), summarise(b)])
    assert again.read_text() == html
    assert "http" not in html


def test_runs_of_one_name_are_told_apart(tmp_path):
    a = make_run(tmp_path / "a" / "run", only("none"))
    b = make_run(tmp_path / "b" / "run", only("none"))
    page = read(write_comparison([a, b], tmp_path / "out.html"))
    assert str(tmp_path / "a" / "run") in page.text
    assert "All runs are measured on the same sentences" in page.text


def test_runs_on_the_same_sentences_show_languages_and_curves_together(tmp_path):
    a = make_run(tmp_path / "a", study())
    b = make_run(tmp_path / "b", study(), damage=0.04)
    page = read(write_comparison([a, b], tmp_path / "out.html"))
    assert "all-by-language" in [of.get("id") for of in page.all("div")]
    for heading in ("a: unprotected", "b: unprotected", "b: the largest 5 % of the eligible"):
        assert heading in page.text
    assert any("a: from" in of["alt"] and "b: from" in of["alt"] for of in page.all("img"))


def test_nothing_to_report_is_refused(tmp_path):
    out = tmp_path / "out.html"
    with pytest.raises(InputError, match="`runs` is empty"):
        write_comparison([], out)
    run = make_run(tmp_path / "run", only("none"))
    with pytest.raises(InputError, match="same folder more than once"):
        write_comparison([run, run], out)
    empty = Run(folder=tmp_path / "empty", manifest=run.manifest, rows=())
    with pytest.raises(InputError, match="no finished variant"):
        write_report(empty)
    with pytest.raises(InputError, match="no finished variant"):
        write_comparison([run, empty], out)
    assert not out.exists()
    assert not (tmp_path / "empty").exists()
