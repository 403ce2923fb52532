"""kill -9 at any point of any experiment: the next process ends with the same bytes."""

import pytest

from tests.trust import experiment_jobs
from tests.trust.children import finish, kill_often, results, save_inputs

OPERATIONS = {
    "quickstart": 288,
    "exp_015": 511,
    "exp_016": 490,
    "exp_017": 297,
    "exp_018": 228,
    "exp_019": 125,
    "exp_020": 213,
}
"""On files, in a run that nothing disturbs."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # exp_020 takes most of a minute where nothing else runs
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_experiment_killed_at_a_few_points_ends_as_if_it_had_not_been(name, model, tmp_path):
    job = getattr(experiment_jobs, f"run_{name}")
    finish(job, model, tmp_path / "whole")
    whole = results(tmp_path / "whole")
    assert any(file.endswith("results.jsonl") for file in whole)
    # Half of all operations, so that a second child is killed where the first one had finished.
    apart = OPERATIONS[name] // 2
    for out in kill_often(job, model, tmp_path, kills=3, seed=3, apart=apart):
        found = results(out)
        assert found.keys() == whole.keys()
        for file, content in found.items():
            assert content == whole[file], file
