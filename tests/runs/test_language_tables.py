"""The tables of languages and the answer in words, against the numbers that they are made of."""

import pytest

from jaxprotect.runs.comparison_figure import curves_of_runs
from jaxprotect.runs.comparisons import grouped
from jaxprotect.runs.drawing import style
from jaxprotect.runs.language_choices import language_choices
from jaxprotect.runs.language_tables import answer_table, heat_table, language_table, to_data
from jaxprotect.runs.lead import best_within, chosen, lead
from jaxprotect.runs.side_by_side import Side, languages_side_by_side
from jaxprotect.runs.summary import summarise
from tests.runs.synthetic import LANGUAGES, make_run, only, study


def groups_of(run):
    return grouped(run, summarise(run))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run", study())


@pytest.fixture(scope="module")
def group(run):
    return groups_of(run)[0]


def lead_of(folder, plan, **options):
    (group,) = groups_of(make_run(folder, plan, **options))
    return [finding.text for finding in lead(group)]


def test_the_answer_is_the_best_within_five_percent(group):
    assert chosen(group) == best_within(group, 0.05) == "magnitude-0.05"
    assert best_within(group, 0.2) == "magnitude-0.2"
    assert best_within(group, 0.001) is None
    what, cost, loss = (finding.text for finding in lead(group))
    assert what.startswith("The largest 5 % of the eligible weights. Of ")
    assert "Chosen and measured on the same sentences" in what
    assert cost.startswith("5 % of the eligible weights (50) in high precision: 0.1 KiB more, 3.75")
    assert "4 of 4 languages lose less, 0 more." in loss


def test_a_larger_protection_answers_where_none_is_small(tmp_path):
    what, _, _ = lead_of(tmp_path / "run", only("none", "layers-0"))
    assert what == "Layer 0. It is the only protection measured."


def test_the_answer_admits_what_is_not_known(tmp_path):
    what, cost, loss = lead_of(tmp_path / "nothing", only("none"))
    assert what == "Nothing was protected in this run, so it cannot tell."
    assert cost == "The quantized model takes 3.9 KiB."
    assert "unprotected" not in loss
    what, _, _ = lead_of(tmp_path / "equal", only("none", "layers-1"), spread=0.0, noise=1.0)
    assert "That it helps is not shown" in what
    what, _, _ = lead_of(tmp_path / "one", only("none", "magnitude-0.05"), sentences=1)
    assert "One sentence does not show whether it helps." in what
    plan = {"none": only("none")["none"], "layers-0": ({"kind": "layers", "layers": [0]}, 0.3, 3.0)}
    what, _, loss = lead_of(tmp_path / "worse", plan)
    assert what.endswith("It makes the worst damage larger: better protect nothing.")
    assert "0 of 4 languages lose less, 4 more." in loss
    what, _, loss = lead_of(tmp_path / "alone", only("magnitude-0.05"))
    assert "not shown" not in what
    assert "Removed" not in loss


def test_the_answer_table_is_a_subtraction(group):
    table = answer_table(group, "magnitude-0.05", "answer")
    assert sorted(table.languages) == list(LANGUAGES)
    after = [row[2].sort for row in table.rows]
    assert after == sorted(after, reverse=True)
    for row in table.rows:
        _, before, then, removed, _ = (cell.sort for cell in row)
        assert removed == pytest.approx(before - then)
    plain = answer_table(group, "none", "plain")
    assert plain.columns == ("Language", "Unprotected", "Nats per sentence then")


def test_the_heat_map_holds_every_damage_and_darkens_with_it(group):
    table = heat_table(group, "heat")
    assert len(table.columns) == 1 + len(group.rows)
    # By kind, then by share of the weights.
    assert table.columns[1:5] == (
        "nothing",
        "the largest 1 %",
        "the largest 5 %",
        "the largest 20 %",
    )
    for code, row in zip(table.languages, table.rows, strict=True):
        # Each square stands below the heading of its own variant.
        for heading, variant in (("the largest 20 %", "magnitude-0.2"), ("layer 1", "layers-1")):
            cell = row[table.columns.index(heading)]
            assert cell.sort == pytest.approx(group.languages[variant][code]["relative"], rel=1e-5)
        assert row[1].sort == pytest.approx(group.languages["none"][code]["relative"], rel=1e-5)
        for cell in row[1:]:
            assert cell.look == ("more" if cell.sort >= 0 else "less")
            assert 0 <= cell.share <= 1
    squares = sorted((cell.sort, cell.share) for row in table.rows for cell in row[1:])
    of_more = [share for damage, share in squares if damage >= 0]
    assert of_more == sorted(of_more)
    assert table.rows[0][1].share == 1


def test_less_loss_than_the_original_looks_different(tmp_path):
    (group,) = groups_of(make_run(tmp_path / "run", only("none"), damage=-0.01))
    looks = {row[1].look for row in heat_table(group, "heat").rows}
    assert looks == {"less"}
    assert all(row[1].text.startswith("−") for row in heat_table(group, "heat").rows)


def test_the_page_script_gets_each_language_with_its_row(group):
    table = language_table(group, "none")
    data = to_data(table)
    assert [row[0][3] for row in data] == list(table.languages)
    assert [row[1][1] for row in data] == [row[1].sort for row in table.rows]


def test_choices_are_by_name_and_by_script():
    codes = ["tam_Taml", "eng_Latn", "deu_Latn", "eng_Latn"]
    found = language_choices(codes)
    assert [of["name"] for of in found["languages"]] == ["English", "German", "Tamil"]
    assert found["scripts"] == [("Latin", 2), ("Tamil", 1)]
    assert language_choices(codes[1:])["scripts"] == []


def test_languages_stand_side_by_side_only_on_the_same_sentences(tmp_path, run, group):
    here = Side(label="here", run=run, groups=[group])
    other = make_run(tmp_path / "other", only("none"), damage=0.08)
    there = Side(label="there", run=other, groups=groups_of(other))
    table = languages_side_by_side([here, there])
    assert table is not None
    assert table.columns[1:3] == (
        "here: unprotected",
        "here: the largest 5 % of the eligible weights",
    )
    assert table.columns[3:] == ("there: unprotected",)
    for code, row in zip(table.languages, table.rows, strict=True):
        assert row[3].sort == there.groups[0].languages["none"][code]["relative"]
    fewer = make_run(tmp_path / "fewer", only("none"), sentences=5)
    away = Side(label="away", run=fewer, groups=groups_of(fewer))
    assert languages_side_by_side([here, away]) is None


def test_curves_of_runs_need_two_and_name_all(group):
    assert curves_of_runs({"a": group}) is None
    with style():
        drawing = curves_of_runs({"a": group, "b": group})
    assert drawing is not None
    assert "a: from" in drawing.alt
    assert "b: from" in drawing.alt
    again = curves_of_runs({"a": group, "b": group})
    assert again is not None
    assert again.png == drawing.png
