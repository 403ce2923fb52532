"""The seven levels: exact where the model says so, silent where nobody counted, told where odd."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from jaxprotect.errors import InputError
from jaxprotect.models.census import KNOWN_MODELS, census, census_of
from jaxprotect.models.hub_tally import LEVELS
from jaxprotect.models.model import Model
from jaxprotect.runs.ecosystem import Amount
from jaxprotect.runs.mask_files import save_mask
from jaxprotect.runs.minimal_folder import read_minimal
from jaxprotect.runs.minimal_mask import check_same_model, mask_of, policy_of
from jaxprotect.runs.universe import UNCOUNTED, UNSEARCHED, places, universe
from jaxprotect.runs.universe_picture import short, universe_picture
from jaxprotect.runs.universe_tables import level_cells, page
from jaxprotect.selection import masks
from tests.runs.synthetic import make_search
from tests.runs.test_sensitivity_figures import cut_off
from tests.tiny import CONFIG, random_params

MODEL = Model(config=CONFIG, params=random_params(), tokenizer=None, name="tiny", sha256="a" * 64)
TINY = census(MODEL)
GPT2 = census_of("gpt2")
COUNTED = [
    Amount(level=0, name=LEVELS[0], models=90_000, at_least=("models",), source="s", date="d"),
    Amount(level=1, name=LEVELS[1], models=9_000, weights=8 * 10**12, source="a | b"),
    Amount(level=2, name=LEVELS[2], models=800),
    Amount(level=3, name=LEVELS[3], models=70, weights=6 * 10**9, at_least=("weights",)),
]


def searched(folder, *, found: int | None = 100, model=MODEL, revision=None):
    """A finished search on a model, whose set are its 100 largest weights."""
    make_search(folder, found=found)
    path = folder / "tune" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["model"] = {
        "name": model.name,
        "revision": revision,
        "sha256": model.sha256,
        "architecture": asdict(model.config),
    }
    manifest["config"]["spec"] = {"eligible": "matrices"}
    path.write_text(json.dumps(manifest))
    if found is not None:
        total = masks.eligible_count(model.params, "matrices")
        kept = masks.by_magnitude(model.params, fraction=(found + 0.5) / total)
        save_mask(folder / "mask.npz", kept if found else masks.none(model.params), model)
    return folder


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("search") / "search")


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_levels_of_the_model_are_its_census(name):
    counted = census_of(name)
    rows = universe(counted).rows()
    whole, *components = [row for row in rows if row["level"] == 4]
    assert whole["weights"] == counted.total == sum(row["weights"] for row in components)
    assert sum(row["share"] for row in components) == pytest.approx(1)
    layer, head = [row for row in rows if row["level"] == 5]
    assert layer["weights"] == sum(of.total for of in counted.layer.values())
    layers, heads = counted.config.layers, counted.config.heads * counted.config.layers
    assert layer["source"] == f"{layers * layer['weights']:,} in {layers} layers"
    assert head["source"] == f"{heads * head['weights']:,} in {heads:,} heads"
    # The census counts keys and values that heads share for each of them.
    shared = head["weights"] < counted.attention_head.total
    assert head["name"] == "an attention head" + ", without shared keys and values" * shared
    assert shared == (counted.config.queries_per_key > 1)


def test_what_nobody_counted_has_no_number():
    rows = universe(GPT2).rows()
    assert [row["name"] for row in rows if row["source"] == UNCOUNTED] == list(LEVELS.values())
    for row in rows:
        if row["level"] < 4 or row["level"] == 6:
            assert row["models"] is row["weights"] is row["share"] is None
    assert rows[-1]["source"] == UNSEARCHED


def test_rows_are_in_the_order_of_levels():
    levels = [row["level"] for row in universe(GPT2, amounts=COUNTED[::-1][:3]).rows()]
    assert levels == sorted(levels)
    assert set(levels) == set(range(7))
    assert level_cells(universe(GPT2, amounts=COUNTED).rows()[0]) == [
        "0",
        "all models",
        "≥ 90,000",
        "",
        "",
        "s (d)",
    ]


def test_what_does_not_fit_is_told():
    found = universe(GPT2, amounts=[*COUNTED, Amount(level=0, name="weights", weights=10**6)])
    assert "level 0, weights, has 1,000,000 weights, fewer than gpt2 alone" in found.findings
    large = census_of("mistralai/Mistral-7B-v0.1")
    (line,) = universe(large, amounts=COUNTED).findings
    assert line.endswith("has 7,241,732,096 parameters, so it is not on level 3")
    assert universe(GPT2, amounts=COUNTED).findings == ()


def test_published_counts_of_gpt2_stand_beside_the_exact_ones():
    assert universe(GPT2).brief() == universe(census_of("openai-community/gpt2")).brief()
    written = page(universe(GPT2), universe_picture(None, universe(GPT2)))
    assert "| MLP weights | 57,428,736 | 56,623,104 | 805,632 |" in written
    assert universe(TINY).brief() == []


def test_the_minimal_set_is_the_last_level(search):
    read = read_minimal(search)
    found = universe(TINY, search=read, mask=mask_of(read, TINY))
    row = found.rows()[-1]
    assert (row["level"], row["weights"], row["share"]) == (6, 100, 100 / TINY.total)
    assert row["source"].startswith("INT4 per channel; damage ≤ 50 % of unprotected; on test ")
    assert places(read) == [
        {"layer": None, "token_embedding": 40, "mlp": 0},
        {"layer": 0, "token_embedding": 0, "mlp": 60},
    ]
    drawing = universe_picture(None, found)
    assert "6 must be protected: 100 (" in drawing.alt
    assert "Treemap of a protected set" in drawing.alt
    assert policy_of(read) == "matrices"


@pytest.mark.parametrize(("count", "said"), [(0, "nothing"), (None, "not found")])
def test_searches_without_a_set(tmp_path, count, said):
    read = read_minimal(searched(tmp_path / "search", found=count))
    check_same_model(read, TINY)
    assert mask_of(read, TINY) is None
    found = universe(TINY, search=read)
    assert found.rows()[-1]["weights"] == count
    assert f"6 must be protected: {said}" in universe_picture(None, found).alt


def test_sets_of_other_models_are_refused(search, tmp_path):
    read = read_minimal(search)
    check_same_model(read, TINY)
    with pytest.raises(InputError, match="not of gpt2: layers is 2 there, 12 here"):
        check_same_model(read, GPT2)
    with pytest.raises(InputError, match="is of the model tiny, not of other"):
        check_same_model(read, replace(TINY, name="other"))
    reference = census_of("reference")
    other = replace(MODEL, config=reference.config, name="reference")
    with pytest.raises(InputError, match="not of reference: the weights' sha256 differ"):
        check_same_model(read_minimal(relabelled(search, tmp_path / "sha", other)), reference)
    known = replace(MODEL, config=GPT2.config, name="openai-community/gpt2")
    check_same_model(read_minimal(relabelled(search, tmp_path / "name", known)), GPT2)


def relabelled(search, folder, model):
    """The same search, said to be on another model."""
    make_search(folder)
    path = folder / "tune" / "manifest.json"
    manifest = json.loads((search / "tune" / "manifest.json").read_text())
    found = {"name": model.name, "revision": "c" * 40, "sha256": model.sha256}
    manifest["model"] = found | {"architecture": asdict(model.config)}
    path.write_text(json.dumps(manifest))
    return folder


def test_the_commit_is_compared_where_it_is_named(search, tmp_path):
    known = replace(MODEL, config=GPT2.config, name="gpt2")
    read = read_minimal(relabelled(search, tmp_path / "gpt2", known))
    check_same_model(read, GPT2, revision="c" * 40)


def test_manifests_that_do_not_say_what_is_quantized(tmp_path):
    read = read_minimal(make_search(tmp_path / "search"))
    with pytest.raises(InputError, match="has eligible None in its manifest"):
        policy_of(read)


PICTURES = {
    "gpt2": (GPT2, []),
    "counted": (GPT2, COUNTED),
    "partly": (GPT2, COUNTED[1:2]),
    "deep": (census_of("mistralai/Mistral-7B-v0.1"), []),
    "long name": (replace(TINY, name="somebody/" + "a-long-name-of-a-model-" * 3), []),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_cut_no_word_and_say_it_all(figures, tmp_path, kind):
    counted, amounts = PICTURES[kind]
    found = universe(counted, amounts=amounts)
    drawing = universe_picture(tmp_path / "universe.png", found)
    assert (tmp_path / "universe.png").read_bytes() == drawing.png
    assert cut_off(figures[0]) == []
    for level in range(7):
        assert f"{level} " in drawing.alt
    assert drawing.size[0] < 1000  # a column of print, a phone's width without a magnifier
    written = page(found, drawing)
    assert f"({drawing.name}.png)" in written
    for table in (block for block in written.split("\n\n") if block.startswith("|")):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_bars_are_the_known_levels(figures):
    universe_picture(None, universe(GPT2, amounts=COUNTED))
    models, weights, _ = figures[0].axes
    assert [text.get_text() for text in models.texts] == [
        "0  all models: ≥ 90,000",
        "1  text generation: 9,000",
        "2  multilingual: 800",
        "3  open weights, under 1 billion parameters: 70",
    ]
    assert weights.texts[-1].get_text() == "6  must be protected: not searched"
    ends = [patch.get_x() + patch.get_width() for patch in weights.patches]
    np.testing.assert_allclose(ends, [8e12, 6e9, 124_439_808, 7_087_872, 196_800])


def test_a_count_of_0_is_said(figures):
    alt = universe_picture(None, universe(GPT2, amounts=[Amount(level=1, name="x", models=0)])).alt
    assert "1 x: 0 models" in alt
    assert len(figures[0].axes) == 2  # no bar, no panel of models


def test_round_numbers_are_short():
    assert [short(count) for count in (0.1, 10, 1e3, 1e8, 1e9, 1e13)] == [
        "0.1",
        "10",
        "1 k",
        "100 M",
        "1 G",
        "10 T",
    ]
