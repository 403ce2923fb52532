"""Exp-015, Exp-016 and the minimal set end to end, on a tiny checkpoint and three languages."""

import csv
import json

import numpy as np
import pytest

from experiments import exp_015, exp_016
from experiments.common import Setup
from experiments.splits import load_splits
from jaxprotect.errors import InputError
from jaxprotect.models.hub import load_model
from jaxprotect.quantization.spec import QuantSpec
from jaxprotect.runs import minimal_run
from jaxprotect.runs.mask_files import load_mask
from jaxprotect.runs.minimal_run import find_minimal_set
from jaxprotect.selection import masks
from jaxprotect.selection.criteria import CRITERIA
from jaxprotect.selection.search import Search
from jaxprotect.selection.targets import Target
from tests.tiny import save_tiny_model

LANGUAGES = ("deu_Latn", "eng_Latn", "heb_Hebr")
SPEC = QuantSpec(bits=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random one-layer model with the reference tokenizer."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def setup(folder, tmp_path):
    return Setup(model=str(folder), languages=LANGUAGES, draws=200, out=tmp_path / "run", spec=SPEC)


def test_splits_are_disjoint_whatever_the_seed(setup):
    for seed in (0, 1, 2):
        splits = load_splits(setup, seed)
        lines = [set(texts.ids) for texts in splits.values()]
        assert [len(of_split) for of_split in lines] == [40, 40, 40]
        assert len(set.union(*lines)) == 120
    assert load_splits(setup, 1)["test"].ids != load_splits(setup, 2)["test"].ids
    assert load_splits(setup, 1)["test"].ids == load_splits(setup, 1)["test"].ids


@pytest.mark.slow
def test_exp_015_measures_every_criterion_on_every_split(setup):
    config = exp_015.Config(setup=setup, fractions=(0.01,), split_seeds=2, rounds=1)
    runs = exp_015.run(config)
    assert len(runs) == 2
    first, second = (set(run.variants) for run in runs)
    criteria = {f"{name}-0.01" for name in CRITERIA} | {"none"}
    assert second == criteria
    assert first > criteria
    sizes = {row["variant"]: row for row in runs[1].rows}
    guided = sizes["language_guided-0.01"]
    assert guided["protected"] == int(0.01 * guided["eligible"])
    for name in criteria - {"none", "super_weights-0.01"}:
        # Whole columns come in steps; all else fills the budget.
        least = 0.5 if name.startswith(("owq", "activation")) else 0.97
        assert sizes[name]["overhead_bytes"] <= guided["overhead_bytes"], name
        assert sizes[name]["overhead_bytes"] >= least * guided["overhead_bytes"], name
    assert sizes["super_weights-0.01"]["protected"] == 1
    rows = list(csv.DictReader((setup.out / "criteria.csv").open()))
    assert {row["criterion"] for row in rows} == set(CRITERIA)
    split = setup.out / "split-0" / "run"
    answers = list(csv.DictReader((split / "claims.csv").open()))
    assert all(row["holds"] in ("yes", "no", "open") and row["measured"] for row in answers)
    found = json.loads((split / "languages.json").read_text())
    matrix = np.array(found["overlap"])
    assert np.allclose(np.diag(matrix), 1)
    assert np.allclose(matrix, matrix.T)

    before = (split / "results.jsonl").read_bytes()
    exp_015.run(config)
    assert (split / "results.jsonl").read_bytes() == before


@pytest.fixture
def trained(tmp_path):
    """The shipped model: a search needs damages that are not noise."""
    return Setup(languages=("eng_Latn", "heb_Hebr"), draws=500, out=tmp_path / "run")


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """Where the searches on the shipped model share their statistics."""
    return tmp_path_factory.mktemp("shared") / "statistics"


@pytest.mark.slow
def test_exp_016_reports_what_it_found(trained, folder):
    config = exp_016.Config(
        setup=trained,
        target=Target(share=0.8),
        quantizers=("int3-channel",),
        criteria=("language_guided", "random"),
        rounds=1,
        precision=4.0,
    )
    rows = exp_016.run(config)
    assert [row["criterion"] for row in rows] == ["language_guided", "random"]
    guided = rows[0]
    assert guided["found"] is not None
    assert 0 < guided["found"] <= 0.5 * guided["eligible"]
    assert guided["overhead_bytes"] > 2 * guided["found"]
    ratio = next(csv.DictReader((trained.out / "byte_ratios.csv").open()))
    assert ratio["criterion"] == "random"
    assert 0 <= float(ratio["ratio_low"]) <= float(ratio["ratio"]) <= float(ratio["ratio_high"])
    assert float(ratio["ratio_high"]) < 1  # the guided set is smaller than a random one
    tiny, folder = folder, trained.out / "int3-channel--language_guided"
    curve = list(csv.DictReader((folder / "curve.csv").open()))
    assert curve[0]["protected"] == "0"
    assert any(row["met"] == "True" for row in curve)
    model = load_model(trained.model)
    mask = load_mask(folder / "mask.npz", model)
    assert masks.count(mask, model.params) == guided["found"]
    assert masks.count(load_mask(folder / "mask.npz", model), model.params) == guided["found"]
    with pytest.raises(InputError, match="another model"):
        load_mask(folder / "mask.npz", load_model(str(tiny)))


@pytest.mark.slow
def test_a_killed_search_ends_as_if_it_had_not_been(trained, statistics, tmp_path, monkeypatch):
    model, texts = load_model(trained.model), load_splits(trained)
    options = {
        "search": Search(criterion="fisher_delta", precision=3.0, draws=200),
        "statistics": statistics,
    }
    target = Target(share=0.8)
    whole = find_minimal_set(model, texts, SPEC, target, out=tmp_path / "a", **options)

    calls = []
    real = minimal_run.measure

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(minimal_run, "measure", dies)
    with pytest.raises(KeyboardInterrupt):
        find_minimal_set(model, texts, SPEC, target, out=tmp_path / "b", **options)
    again = find_minimal_set(model, texts, SPEC, target, out=tmp_path / "b", **options)
    assert again.summary == whole.summary
    for name in ("curve.csv", "damages.csv", "summary.json", "mask.npz", "tune/results.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.slow
def test_targets_met_already_and_targets_out_of_reach(trained, statistics, tmp_path):
    model, texts = load_model(trained.model), load_splits(trained)
    options = {
        "search": Search(criterion="magnitude", max_fraction=0.0001, draws=200),
        "statistics": statistics,
    }
    met = find_minimal_set(
        model, texts, SPEC, Target(relative=100.0), out=tmp_path / "met", **options
    )
    assert met.summary["found"] == 0
    assert met.summary["overhead_bytes"] == 0
    assert met.summary["lower_bound"] == 0
    far = find_minimal_set(model, texts, SPEC, Target(share=1e-6), out=tmp_path / "far", **options)
    assert far.summary["found"] is None
    assert far.mask is None
    assert far.summary["closest_excess"] > 0
    assert not (tmp_path / "far" / "mask.npz").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: exp_015.Config(criteria=("magic",)), "`criteria` has 'magic'"),
        (lambda: exp_015.Config(criteria=("random",)), "`criteria` lacks language_guided"),
        (lambda: exp_015.Config(fractions=(1.5,)), "`fraction` is 1.5"),
        (lambda: exp_015.Config(split_seeds=0), "`split_seeds` is 0"),
        (lambda: exp_016.Config(quantizers=("int9",)), "`quantizers` has 'int9'"),
        (lambda: exp_016.Config(criteria=("magic",)), "`criteria` has 'magic'"),
    ],
)
def test_unknown_options_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
