"""Pages of minimal sets and sensitivity maps, and folders that no page can be made of."""

import csv
import json
import re
from pathlib import Path

import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.folder_kinds import kind_of
from jaxprotect.runs.folder_pages import write_pages
from jaxprotect.runs.minimal_folder import read_minimal
from jaxprotect.runs.minimal_words import answer
from jaxprotect.runs.packed_files import FORMAT
from jaxprotect.runs.recommend_folder import read_recommendation, refuse_other_folder
from jaxprotect.runs.sensitivity_page import read_map
from tests.runs.synthetic import (
    LANGUAGES,
    make_map,
    make_recommendation,
    make_run,
    make_search,
    only,
)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return make_search(tmp_path_factory.mktemp("search") / "search")


@pytest.fixture(scope="module")
def page(search):
    (path,) = [write_pages([search], Path("unused.html"))["report"]]
    return Path(path).read_text(encoding="utf-8")


def told(folder):
    return {finding.title: finding.text for finding in answer(read_minimal(folder))}


def test_the_answer_is_first_and_whole(search, page):
    words = told(search)
    assert words["What to protect"].startswith(
        "100 weights, 10 % of the 1,000 eligible ones, chosen by the criterion language guided."
    )
    assert "left of 200 after pruning" in words["What to protect"]
    assert "no set below 80 weights" in words["What to protect"]
    assert words["What it costs"].startswith("0.3 KiB (300 bytes) more, 7.50 % of the 3.9 KiB")
    assert "On tune, where it was sought: yes, with 95 % confidence" in words["Is the target met?"]
    assert "On test (12 sentences)" in words["Is the target met?"]
    loss = words["What each language loses"]
    assert "Tamil" in loss
    assert "unprotected" in loss
    assert "nats per sentence" in loss
    assert "Disparity" in loss
    body = page[page.index("<main") :]
    places = [body.index(f"<dt>{title}</dt>") for title in words]
    assert places == sorted(places)
    assert places[-1] < body.index("<img") < body.index("<table")


def test_the_page_holds_every_number_of_the_files(search, page):
    damages = list(csv.DictReader((search / "damages.csv").open()))
    assert {row["language"] for row in damages} == set(LANGUAGES)
    for row in damages:
        before, after, removed = (float(row[key]) for key in ("unprotected", "relative", "removed"))
        assert removed == pytest.approx(before - after)
        for value in (before, after, removed):
            assert f'data-sort="{value}"' in page
    curve = list(csv.DictReader((search / "curve.csv").open()))
    for row in curve:
        assert f"{int(row['protected']):,}" in page
    assert page.count("<img") == 2
    assert 'href="http' not in page
    assert 'src="http' not in page
    assert {path.name for path in (search / "figures").iterdir()} == {"sizes.png", "languages.png"}


def test_the_same_search_gives_the_same_bytes(search, page):
    again = write_pages([search], Path("unused.html"))
    assert Path(again["report"]).read_text(encoding="utf-8") == page
    assert again["summary"] == json.loads((search / "summary.json").read_text())


def test_what_needs_nothing_and_what_is_not_reached_are_told(tmp_path):
    nothing = make_search(tmp_path / "nothing", found=0, criterion="magnitude")
    words = told(nothing)
    assert words["What to protect"].startswith("Nothing: plain quantization meets the target")
    assert words["What it costs"] == "The quantized model takes 3.9 KiB."
    missed = make_search(tmp_path / "missed", found=None, criterion="random")
    words = told(missed)
    assert words["What to protect"].startswith("No set that was tried is enough. The closest one")
    assert "no, 1.00 % of the original nats short" in words["Is the target met?"]
    for folder in (nothing, missed, nothing / "tune", missed / "tune"):
        assert Path(write_pages([folder], Path("unused.html"))["report"]).exists()


@pytest.fixture
def fresh(tmp_path):
    return make_search(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("summary.json", '"found": 100', '"found": "100"', "found is '100'; expected int"),
        ("summary.json", '"target"', '"tarket"', "lacks target: it is damaged or of an older"),
        ("summary.json", "tam_Taml", "tam_Tamil", "names 'tam_Tamil', which the run does not have"),
        ("curve.csv", "True", "yes", "met is 'yes'; expected bool"),
        ("curve.csv", "\n20,", "\n21,", "lacks k21, which curve.csv has"),
        ("curve.csv", "tam_Taml", "tam", "names 'tam'"),
        ("damages.csv", "removed", "took", "has no column removed"),
        ("damages.csv", "heb_Hebr", "eng_Latn", "is not one row per language of the run"),
        ("damages.csv", "\neng_Latn", "\neng_Latn,nan", "expected"),
        ("location.csv", "token_embedding", "token_embedding,", "expected int"),
    ],
)
def test_damaged_files_of_a_search_are_named(fresh, name, old, new, message):
    path = fresh / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=re.escape(name if "k21" not in message else "tune")) as e:
        read_minimal(fresh)
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def test_a_search_that_is_not_finished_is_told_how_to_go_on(fresh):
    (fresh / "summary.json").unlink()
    with pytest.raises(InputError, match=r"is not finished; the same `jaxprotect minimal-set`"):
        write_pages([fresh], Path("unused.html"))


def test_a_map_of_sensitivity_has_a_page(tmp_path):
    folder = make_map(tmp_path / "map")
    found = write_pages([folder], Path("unused.html"))
    page = Path(found["report"]).read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "Token embedding is what 4 of 4 languages prefer most" in page
    assert "Two languages share 25.0 % of their own weights" in page
    assert "random sets share 1 %" in page
    assert page.count("<img") == 2
    assert [row["language"] for row in found["languages"]] == list(LANGUAGES)
    alone = make_map(tmp_path / "alone", languages=("eng_Latn",))
    page = Path(write_pages([alone], Path("unused.html"))["report"]).read_text(encoding="utf-8")
    assert page.count("<img") == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("location.csv", "attention", "attentive", "is no part of a model"),
        ("location.csv", "tam_Taml,0", "eng_Latn,0", "differ in their languages"),
        ("overlap.csv", "tam_Taml", "tam", "has no column tam_Taml"),
        ("languages.csv", ",heb_Hebr,", ",hebrew,", "names 'hebrew'"),
        ("statistics/manifest.json", '"labels"', '"label"', "labels is missing"),
    ],
)
def test_damaged_files_of_a_map_are_named(tmp_path, name, old, new, message):
    folder = make_map(tmp_path / "map")
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=re.escape(message)):
        read_map(folder)


def test_a_recommendation_has_a_page(tmp_path):
    folder = make_recommendation(tmp_path)
    found = write_pages([folder], Path("unused.html"))
    page = Path(found["report"]).read_text(encoding="utf-8").replace("\u00a0", " ")
    assert "Clipped protection, INT4 per channel; kept: 5 % of the weights" in page
    assert "4,900 bytes, 98.0 % of the budget." in page
    assert "with plain bits within the budget, INT5 per channel, " in page
    assert page.count("<img") == 1
    for row in read_recommendation(folder).damages:
        assert row["removed"] == pytest.approx(row["plain"] - row["relative"])
    refuse_other_folder(folder)
    refuse_other_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"`out` .* holds \['lock', 'manifest.json'"):
        refuse_other_folder(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("summary.json", '"budget": 5000', '"budget": "5"', "budget is '5'; expected int"),
        ("summary.json", "tam_Taml", "tam", "names 'tam', which damages.csv does not have"),
        ("damages.csv", "heb_Hebr", "eng_Latn", "has a language twice"),
        ("tried.csv", ",4800,", ",,", "bytes is ''; expected int"),
    ],
)
def test_damaged_files_of_a_recommendation_are_named(tmp_path, name, old, new, message):
    folder = make_recommendation(tmp_path)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=re.escape(message)):
        read_recommendation(folder)


def test_other_folders_are_refused_by_what_they_are(tmp_path, search):
    def refusal(*folders):
        with pytest.raises(InputError) as error:
            write_pages(folders, Path("unused.html"))
        assert "\n" not in str(error.value)
        return str(error.value)

    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "manifest.json").write_text(json.dumps({"format": FORMAT}))
    assert f"is a packed model; `jaxprotect evaluate --model {packed}`" in refusal(packed)
    statistics = make_map(tmp_path / "map") / "statistics"
    assert "holds statistics; report the folder that" in refusal(statistics)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    assert "is a model; `jaxprotect evaluate" in refusal(model)
    assert "is not a run folder: it has no manifest.json" in refusal(tmp_path / "nowhere")
    assert "is a minimal set; only runs are compared" in refusal(search, search)
    assert refusal().startswith("`runs` is empty")


def test_an_experiment_folder_names_its_page_and_the_runs_inside(tmp_path):
    folder = tmp_path / "exp"
    make_run(folder / "split-0" / "run", only("none"), sentences=3, draws=40)
    make_search(folder / "int4--guided")
    (folder / "report.html").write_text("")
    with pytest.raises(InputError) as error:
        kind_of(folder)
    assert "report one of those inside: int4--guided and split-0/run" in str(error.value)
    assert f"its page, {folder / 'report.html'}, is written by the experiment" in str(error.value)
    assert kind_of(folder / "split-0" / "run") == "run"
    assert kind_of(folder / "int4--guided") == "minimal set"
