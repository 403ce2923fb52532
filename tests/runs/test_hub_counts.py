"""Counting the models of a hub: pages, pauses, limits, what is kept, and every refusal.

Only a small server of our own was asked, never the hub.
"""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from huggingface_hub import close_session, constants

from jaxprotect.errors import InputError
from jaxprotect.models.hub_listing import TRIES
from jaxprotect.models.hub_tally import ALL, GENERATING, LANGUAGES, RULES, size_class, tally
from jaxprotect.models.pace import LimitReachedError, Pace, Pacer
from jaxprotect.runs.hub_counts import count_hub
from tests.hub_server import reached
from tests.models.listing_server import start

BUSY = 429, {"Retry-After": "7"}, b""
DOWN = 503, {}, b""


class Time:
    """A clock that sleeping moves."""

    def __init__(self):
        """It starts at 0."""
        self.now = 0.0
        self.slept = []

    def sleep(self, seconds):
        """Move on."""
        self.slept.append(round(seconds, 6))
        self.now += seconds

    def pacer(self, **limits):
        """A pacer that lives in this time."""
        return Pacer(Pace(**limits), clock=lambda: self.now, sleep=self.sleep)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def hub(monkeypatch):
    server, handler = start(page=2)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    with reached(server, monkeypatch):
        yield handler


def counted(folder, time, **limits):
    return count_hub(folder, Pace(), pacer=time.pacer(**limits))


def test_every_page_is_counted_once(hub, time, tmp_path):
    found = counted(tmp_path, time)
    levels = [(of.level, of.models, of.weights, of.at_least) for of in found.amounts()]
    assert levels == [
        (0, 7, None, ()),
        (1, 5, 7_550_000_000, ("weights",)),
        (2, 4, 7_250_000_000, ("weights",)),
        (3, 1, 200_000_000, ()),
    ]
    generating, everything = found.listed
    assert generating.matching("language") == {"zh": 2, "fr": 2, "en": 2, "de": 1, "ar": 1}
    assert generating.matching("size") == {
        "100 million to 1 billion": 2,
        "not stated": 1,
        "1 to 10 billion": 1,
        "under 100 million": 1,
    }
    assert everything.matching("category") == {"text-generation": 5, "fill-mask": 2}
    assert found.findings() == []
    assert found.stopped == ""
    assert len(hub.asked) == len(set(hub.asked)) == 3 + 4
    address = f"{constants.ENDPOINT}/api/models"
    assert [of.source for of in found.amounts()] == [
        address,
        f"{address}?pipeline_tag=text-generation; 4 state their weights",
        f"{RULES[2]}; 3 state their weights",
        RULES[3],
    ]
    assert {of.date for of in found.amounts()} == {datetime.now(UTC).date().isoformat()}
    assert time.slept == [1.0] * 6  # a request a second


def test_a_finished_count_is_not_made_again(hub, time, tmp_path):
    once = counted(tmp_path, time)
    hub.asked.clear()
    assert counted(tmp_path, time) == once
    assert hub.asked == []


@pytest.mark.parametrize("pages", [1, 2, 3, 4, 6])
def test_a_count_that_was_cut_is_a_lower_bound_and_goes_on(hub, time, tmp_path, pages):
    first = counted(tmp_path / "cut", time, max_pages=pages)
    assert len(hub.asked) == pages
    assert first.stopped == f"`max_pages` is {pages}"
    of_all = [of for of in first.amounts() if of.level == 0]
    assert [of.at_least for of in of_all] == [("models",)] * (pages > 3)
    assert first.findings()[-1].startswith("all models: stopped after")
    if pages < 3:
        assert first.amounts()[0].words("models") == f"at least {2 * pages}"
    asked = list(hub.asked)
    second = counted(tmp_path / "cut", time)
    assert len(hub.asked) == len(set(hub.asked)) == 7  # no page twice
    assert hub.asked[:pages] == asked
    assert second == counted(tmp_path / "whole", time)


def test_a_killed_count_goes_on(hub, time, tmp_path):
    """What a kill leaves is some pages, and perhaps a file that was not renamed yet."""
    whole = counted(tmp_path, time)
    pages = sorted((tmp_path / "all-models").iterdir())
    pages[-1].rename(pages[-1].with_name(f".{pages[-1].name}.tmp"))
    pages[-2].unlink()
    hub.asked.clear()
    assert counted(tmp_path, time) == whole
    assert ["cursor" in query for query in hub.asked] == [True, True]


def test_pauses_that_the_hub_asks_for_are_kept(hub, time, tmp_path):
    hub.instead = [BUSY, None, DOWN, DOWN, None]
    assert counted(tmp_path, time).stopped == ""
    assert time.slept[:4] == [7.0, 1.0, 1.0, 2.0]
    assert hub.asked[0] == hub.asked[1]


def test_dates_and_rate_limits_are_pauses_too(hub, time, tmp_path):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    hub.instead = [
        (429, {"RateLimit": '"api";r=0;t=55', "Retry-After": "3"}, b""),
        (429, {"Retry-After": soon}, b""),
        (429, {"Retry-After": "whenever"}, b""),
    ]
    hub.headers_of_pages = {"RateLimit": '"api";r=0;t=20'}
    counted(tmp_path, time)
    assert time.slept[0] == 55
    assert 85 < time.slept[1] <= 90
    assert time.slept[2:4] == [4.0, 20.0]  # no date: as after a failure


def test_a_pause_beyond_the_time_limit_is_not_waited_for(hub, time, tmp_path):
    hub.instead = [None, (429, {"Retry-After": "600"}, b"")]
    found = counted(tmp_path, time, max_seconds=60)
    assert found.stopped == "`max_seconds` is 60, and the hub asks to wait 600 s"
    assert sum(time.slept) < 60
    assert found.amounts()[0].models == 2


def test_time_is_limited(hub, time, tmp_path):
    found = counted(tmp_path, time, max_seconds=2.5, requests_per_second=1)
    assert found.stopped == "`max_seconds` is 2.5"
    assert len(hub.asked) == 3


def refusal(folder, time):
    with pytest.raises(InputError) as refused:
        counted(folder, time)
    return str(refused.value)


def test_a_hub_that_is_down_is_one_line_and_keeps_what_it_gave(hub, time, tmp_path):
    hub.instead = [None, None, *[DOWN] * TRIES]
    said = refusal(tmp_path, time)
    assert said == (
        f"{constants.ENDPOINT} cannot be reached: HTTP status 503, {TRIES} tries; kept: 2 pages "
        f"in {tmp_path}, the same command goes on"
    )
    assert counted(tmp_path, time).stopped == ""
    assert len(hub.asked) == 2 + TRIES + 5


def test_no_server_at_all(hub, time, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached: " in refusal(tmp_path, time)


def test_offline(hub, time, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert refusal(tmp_path, time).startswith("HF_HUB_OFFLINE is set; unset it")


LOOP = {"Link": f'</api/models?{GENERATING.text}>; rel="next"'}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {}, b""), "refuses /api/models?pipeline_tag=text-generation&"),
        ((200, {}, b"<html>"), "is not readable as JSON"),
        ((200, {}, b'{"error": "no"}'), "answers a dict; expected a list of models"),
        ((200, {}, b'["owner/model"]'), "lists 'owner/model'; expected an object with an `id`"),
        ((200, {}, b'[{"name": "x"}]'), "expected an object with an `id`"),
        ((200, {}, b'[{"id": 1}]'), "expected an object with an `id`"),
        ((200, {"Link": '<https://x/y>; rel="next"'}, b"[]"), "which has no cursor"),
        ((200, LOOP, b"[]"), "names a page as its own successor"),
    ],
)
def test_malformed_answers(hub, time, tmp_path, answer, said):
    hub.instead = [answer]
    message = refusal(tmp_path, time)
    assert said in message
    assert message.endswith(f"kept: 0 pages in {tmp_path}, the same command goes on")
    assert counted(tmp_path, time).amounts()[1].models == 5


def test_fields_of_another_type_count_as_not_stated():
    odd = {"id": "x", "tags": [1, "en"], "safetensors": {"total": "7"}, "gated": None}
    assert tally(GENERATING, [odd, {"id": "y", "tags": "en", "safetensors": 3}]) == {
        "level 1": 2,
        "language en": 1,
        "size not stated": 2,
    }
    assert tally(ALL, [{"id": "x", "pipeline_tag": None}]) == {
        "level 0": 1,
        "category not stated": 1,
    }


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (None, "not stated"),
        (10**8 - 1, "under 100 million"),
        (10**8, "100 million to 1 billion"),
        (10**9, "1 to 10 billion"),
        (10**10, "10 billion and more"),
    ],
)
def test_size_classes(weights, name):
    assert size_class(weights) == name


def test_languages_are_codes_of_two_letters():
    assert len(LANGUAGES) == 185
    assert {len(code) for code in LANGUAGES} == {2}


def test_a_hub_that_leaves_the_order_is_told(hub, time, tmp_path, monkeypatch):
    counted(tmp_path, time)
    path = tmp_path / "all-models" / "00002.json"
    page = json.loads(path.read_text())
    path.write_text(json.dumps(page | {"first": "2025-01-01T00:00:00.000Z"}))
    (line,) = counted(tmp_path, time).findings()
    assert line.startswith("all models: the hub left the order of creation")


def test_folders_of_other_counts_and_damaged_ones(hub, time, tmp_path, monkeypatch):
    counted(tmp_path, time)
    page = tmp_path / "all-models" / "00001.json"
    content = json.loads(page.read_text())
    for damaged, said in (
        ("{", "is not readable as JSON"),
        (json.dumps(content | {"counts": []}), "counts is []"),
        (json.dumps(content | {"counts": {"level 0": "7"}}), "has what is no whole number"),
        (json.dumps(content | {"next": 3}), "next is 3"),
    ):
        page.write_text(damaged)
        assert said in refusal(tmp_path, time)
    page.unlink()
    assert "lacks page 1" in refusal(tmp_path, time)
    before = constants.ENDPOINT
    monkeypatch.setattr(constants, "ENDPOINT", "http://elsewhere")
    assert f"a count of {before}, not of http://elsewhere" in refusal(tmp_path, time)


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_second": 0},
        {"requests_per_second": 101},
        {"requests_per_second": float("nan")},
        {"max_pages": 0},
        {"max_seconds": 0},
        {"max_seconds": float("inf")},
    ],
)
def test_bad_paces(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"`{name}` is "):
        Pace(**wrong)


def test_a_page_beyond_the_limit_is_not_begun(time):
    pacer = time.pacer(max_pages=1)
    pacer.start_page()
    with pytest.raises(LimitReachedError, match="max_pages"):
        pacer.start_page()
