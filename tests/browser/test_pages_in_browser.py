"""The pages as a browser shows them: no errors, no requests, and all that one can do on them."""

import re
from pathlib import Path

import pytest

from experiments import exp_020
from experiments.exp_020_page import write_frontier
from jaxprotect.runs.folder_pages import write_pages
from jaxprotect.runs.frontier_figure import frontier_curves
from jaxprotect.runs.report import write_comparison, write_report
from jaxprotect.runs.results import Run
from tests.runs.synthetic import (
    LANGUAGES,
    make_map,
    make_recommendation,
    make_run,
    make_search,
    only,
    study,
)

NAMES = {"deu_Latn": "German", "eng_Latn": "English", "heb_Hebr": "Hebrew", "tam_Taml": "Tamil"}

PAGES = ("report", "comparison", "experiment", "search", "map", "recommendation")

CHECKS = (Path(__file__).parent / "checks.js").read_text(encoding="utf-8")
"""Functions that look a page over, each returning what is wrong."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    first = make_run(folder / "first", study())
    second = make_run(folder / "second", only("none", "magnitude-0.05"), damage=0.04)
    return {
        "report": write_report(first),
        "comparison": write_comparison([first, second], folder / "compared.html"),
        "experiment": experiment_page(folder / "experiment"),
        "search": page_of(make_search(folder / "search")),
        "recommendation": page_of(make_recommendation(folder / "recommended")),
        "map": page_of(make_map(folder / "map")),
    }


def page_of(folder: Path) -> Path:
    """What `jaxprotect report` writes for a folder."""
    return Path(write_pages([folder], folder)["report"])


def experiment_page(folder: Path) -> Path:
    """Exp-020's page of a made-up run."""
    names = ("round_to_nearest", "clipped_protection + cached_prefix", "mixed_precision")
    plan = {
        f"int4-channel--{kind}": ({"kind": name}, 0.02 * place, 1 - 0.2 * place)
        for place, name in enumerate(names)
        for kind in [name.replace(" + ", "+")]
    }
    plan["int4-channel--recommended"] = plan["int4-channel--mixed_precision"]
    run = make_run(folder / "run", plan)
    told = [
        row
        | {"tune_worst_relative": 0.03, "mixed": row["intervention"]["kind"] == "mixed_precision"}
        for row in run.rows
    ]
    run = Run(folder=run.folder, manifest=run.manifest, rows=tuple(told))
    sizes = {"int4-channel": 4200}
    rows = exp_020.summary(run, sizes, None, 200)
    parts = {
        kind: [row for row in rows if row["kind"] == kind] for kind in ("single", "recommended")
    }
    curves = frontier_curves(
        folder / "frontier.png", parts["single"], chosen=parts["recommended"], sizes=sizes
    )
    path = folder / "report.html"
    return write_frontier(path, "made-up", run, rows, exp_020.undominated(rows), curves)


@pytest.fixture
def visit(browser, pages):
    """Open a page: any console error, script error or request to anywhere fails the test."""
    faults: list[str] = []
    contexts = []

    def opened(name, *, width=1280, scheme="light", fragment=""):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        context.set_default_timeout(5000)
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(request.url[:80]))
        allowed = ("file:", "data:", "blob:")
        page.on(
            "request",
            lambda request: request.url.startswith(allowed) or faults.append(request.url),
        )
        page.goto(pages[name].as_uri() + fragment)
        page.evaluate(f"() => {{ {CHECKS} }}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def column(page, table, number):
    """The texts of a column's cells, of the rows that are seen."""
    return page.eval_on_selector_all(
        f"#{table} tbody tr:not([hidden])",
        "(rows, n) => rows.map((row) => row.cells[n].firstChild.textContent)",
        number,
    )


def keys(page, table, number):
    """What a column sorts by, top down."""
    return page.eval_on_selector_all(
        f"#{table} tbody tr", "(rows, n) => rows.map((row) => row.cells[n].dataset.sort)", number
    )


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_a_page_can_be_read_by_everyone(visit, name, width, scheme):
    page = visit(name, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((of) => { of.open = true; })")
    assert page.evaluate("figures()") == []
    assert page.evaluate("document.images.length") >= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("contrasts()") == []
    assert page.evaluate("structure()") == []


@pytest.mark.parametrize("name", PAGES)
def test_tab_reaches_every_control(visit, name):
    page = visit(name)
    page.evaluate("document.querySelectorAll('details').forEach((of) => { of.open = true; })")
    wanted = page.evaluate("controls()")
    assert wanted > 10
    for _ in range(wanted):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.dataset.reached = ''")
    assert page.evaluate("document.querySelectorAll('[data-reached]').length") == wanted


def test_sorting_by_click_and_by_keyboard(visit):
    page = visit("report")
    table, removed = "run-1-variants", 4
    heads = page.locator(f"#{table} thead th")
    assert "Removed" in heads.nth(removed).inner_text()
    heads.nth(removed).locator("button").click()
    up = keys(page, table, removed)
    assert heads.nth(removed).get_attribute("aria-sort") == "ascending"
    heads.nth(removed).locator("button").focus()
    page.keyboard.press("Enter")
    down = keys(page, table, removed)
    assert heads.nth(removed).get_attribute("aria-sort") == "descending"
    # What is not known comes last both ways.
    assert up[-1] == down[-1] == ""
    numbers = [float(key) for key in up[:-1]]
    assert numbers == sorted(numbers)
    assert [float(key) for key in down[:-1]] == sorted(numbers, reverse=True)
    # Equal shares keep the order that they had.
    before = column(page, table, 0)
    page.locator(f"#{table} thead th").nth(1).locator("button").press("Space")
    shares = dict(zip(column(page, table, 0), keys(page, table, 1), strict=True))
    expected = sorted(before, key=lambda name: float(shares[name]))
    assert column(page, table, 0) == expected
    assert heads.nth(removed).get_attribute("aria-sort") is None


def test_texts_sort_as_people_count(visit):
    page = visit("report")
    page.locator("#run-1-variants thead button").first.click()
    names = [name for name in column(page, "run-1-variants", 0) if name.startswith("magnitude")]
    assert names == ["magnitude-0.01", "magnitude-0.05", "magnitude-0.2"]
    orders = page.evaluate(
        "[['a-10', 'a-9'], ['a', 'a-1'], ['b-1', 'a-2']].map((of) => compareTexts(...of))"
    )
    assert [order > 0 for order in orders] == [True, False, True]


def test_filters_find_rows_and_columns(visit):
    page = visit("report")
    page.get_by_label("Filter variants").fill("the largest")
    found = column(page, "run-1-variants", 0)
    assert found == ["magnitude-0.01", "magnitude-0.05", "magnitude-0.2"]
    assert re.fullmatch(r"3 of \d+ rows", page.locator("#run-1-variants output").inner_text())
    page.get_by_label("Filter protections").fill("at random")
    heads = page.locator("#run-1-heat-0 thead th:not([hidden])").all_inner_texts()
    assert heads[0].startswith("Language")
    assert len(heads) == 7
    assert page.locator("#run-1-heat-0 tbody tr:first-child > :not([hidden])").count() == 7


def test_languages_are_chosen_for_all_tables_and_kept_in_the_address(visit):
    page = visit("report")
    tables = ("run-1-answer-0", "run-1-heat-0", "run-1-languages")
    page.locator("#run-1-answer-0").get_by_role("link", name="Languages: all 4").click()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.locator("#languages").get_attribute("open") is not None
    page.get_by_role("button", name="Latin (2)").click()
    for table in tables:
        assert sorted(column(page, table, 0)) == ["English", "German"]
    assert (
        page.evaluate("location.hash") == "#languages=deu_Latn,eng_Latn"
        or page.evaluate("location.hash") == "#languages=eng_Latn,deu_Latn"
    )
    page.get_by_label("Tamil", exact=True).focus()
    page.keyboard.press("Space")
    assert sorted(column(page, "run-1-heat-0", 0)) == ["English", "German", "Tamil"]
    assert "3 of 4" in page.locator("#languages summary").inner_text()
    # Another variant's rows obey the choice, and so does the other filter.
    page.get_by_label("Variant", exact=True).select_option("layers-0")
    assert sorted(column(page, "run-1-languages", 0)) == ["English", "German", "Tamil"]
    page.get_by_label("Filter languages").fill("ta")
    assert column(page, "run-1-languages", 0) == ["Tamil"]
    page.get_by_role("button", name="None", exact=True).click()
    assert column(page, "run-1-heat-0", 0) == []
    page.get_by_role("button", name="All", exact=True).click()
    assert len(column(page, "run-1-heat-0", 0)) == 4
    assert page.evaluate("location.hash") == ""


def test_a_search_is_sorted_and_filtered(visit):
    page = visit("search")
    assert page.locator("figure img").count() == 2
    languages, sizes = "question-languages", "question-sizes"
    for table, number in ((languages, 3), (sizes, 0)):
        head = page.locator(f"#{table} thead th").nth(number)
        for direction, factor in (("ascending", 1), ("descending", -1)):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == direction
            found = [factor * float(key) for key in keys(page, table, number)]
            assert found == sorted(found)
    assert page.locator("figcaption span").first.is_hidden()
    page.locator(f"#{languages}").get_by_role("link", name="Languages: all 4").click()
    page.get_by_role("button", name="Latin (2)").click()
    for table in (languages, "question-heat"):
        assert sorted(column(page, table, 0)) == ["English", "German"]
    assert len(column(page, sizes, 0)) == 4
    # Figures keep every language, and say so.
    assert page.locator("figcaption span").first.is_visible()
    page.get_by_role("button", name="All", exact=True).click()
    assert page.locator("figcaption span").first.is_hidden()
    page.get_by_label("Filter protections").fill("out of")
    heads = page.locator("#question-heat thead th:not([hidden])").all_inner_texts()
    assert len(heads) == 2
    assert "100 weights out of 200" in heads[1]


@pytest.mark.parametrize("fragment", ["#languages=heb_Hebr", "#languages=heb_Hebr,no_Such,%"])
def test_an_address_brings_its_languages(visit, fragment):
    page = visit("comparison", fragment=fragment)
    for table in ("all-by-language", "run-1-heat-0", "run-2-heat-0", "run-2-languages"):
        assert column(page, table, 0) == ["Hebrew"]
    page = visit("experiment", fragment=fragment)
    assert column(page, "question-languages", 0) == ["Hebrew"]
    assert len(column(page, "question-techniques", 0)) == 3


def test_a_variant_is_chosen_and_the_order_stays(visit):
    page = visit("report")
    table = "run-1-languages"
    before = keys(page, table, 1)
    page.locator(f"#{table} thead button").first.click()
    page.get_by_label("Variant", exact=True).select_option("magnitude-0.2")
    assert column(page, table, 0) == sorted(NAMES.values())
    assert max(map(float, keys(page, table, 1))) < max(map(float, before))


def test_a_table_is_saved_as_it_is_seen(visit):
    page = visit("report", fragment="#languages=tam_Taml")
    with page.expect_download() as download:
        page.locator("#run-1-answer-0").get_by_role("button", name="Save as CSV").click()
    assert download.value.suggested_filename == "run-1-answer-0.csv"
    heads, row = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert heads.startswith("Language,Language: note,Unprotected,Unprotected: number,")
    assert row.startswith("Tamil,tam_Taml,")
    float(row.split(",")[-1])


def test_colours_of_the_heat_map_deepen_with_the_damage(visit):
    for scheme in ("light", "dark"):
        page = visit("report", scheme=scheme)
        steps = page.evaluate("heat('#run-1-heat-0')")
        assert len(steps) > 20
        distances = [distance for _, distance in sorted(steps)]
        assert distances == sorted(distances)


def test_paper_shows_what_can_be_read_and_nothing_to_press(visit):
    page = visit("report")
    page.emulate_media(media="print")
    for selector in (".tools", "nav", "#languages"):
        assert not page.locator(selector).first.is_visible()
    assert page.locator(".lead").first.is_visible()
    style = "getComputedStyle(document.querySelector('#run-1-languages .scroll')).overflowX"
    assert page.evaluate(style) == "visible"
    assert set(LANGUAGES) == set(NAMES)
