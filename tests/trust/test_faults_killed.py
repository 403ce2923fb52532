"""kill -9 at any point of a sweep or a search: the next process ends with the same bytes."""

import functools

import pytest

from tests.trust.children import finish, kill_often, results, run_search, run_sweep, save_inputs

JOBS = {"sweep": (run_sweep, 12), "search": (run_search, 20)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """What a job leaves if nothing disturbs it."""

    @functools.cache
    def of(name):
        out = tmp_path_factory.mktemp("whole") / name
        finish(JOBS[name][0], model, out)
        return results(out)

    return of


def check(name, model, folder, whole, **options):
    job, apart = JOBS[name]
    for out in kill_often(job, model, folder, apart=apart, **options):
        found = results(out)
        assert found.keys() == whole(name).keys()
        for file, content in found.items():
            assert content == whole(name)[file], file


@pytest.mark.parametrize("name", ["sweep", pytest.param("search", marks=pytest.mark.slow)])
def test_a_job_killed_at_a_few_points_ends_as_if_it_had_not_been(name, model, whole, tmp_path):
    check(name, model, tmp_path, whole, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(900)  # two seconds a child, where nothing else runs
@pytest.mark.parametrize("name", JOBS)
def test_a_job_killed_at_fifty_points_ends_as_if_it_had_not_been(name, model, whole, tmp_path):
    check(name, model, tmp_path, whole, kills=50, seed=2)
