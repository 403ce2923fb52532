"""Files of published counts: what is read, what is told, what is refused."""

from datetime import date

import pytest

from jaxprotect.errors import InputError
from jaxprotect.runs.ecosystem import Amount, contradictions, uncounted
from jaxprotect.runs.estimates import read_estimates

TODAY = date(2026, 6, 1)

GOOD = """
[[estimate]]
level = 0
name = "all models"
models = 100
source = "a page"
date = 2026-01-31

[[estimate]]
level = 1
name = "text generation"
models = 40
weights = 5_000
source = "a page"
date = "2026-02-01"
part_of = "all models"

[[estimate]]
level = 0
name = "the others"
models = 60
source = "a page"
date = 2026-01-31
part_of = "all models"
"""


def read(tmp_path, text):
    path = tmp_path / "estimates.toml"
    path.write_text(text)
    return read_estimates(path, today=TODAY)


def test_rows_that_fit(tmp_path):
    amounts, findings = read(tmp_path, GOOD)
    assert findings == []
    assert contradictions(amounts) == []
    assert amounts[1] == Amount(
        level=1,
        name="text generation",
        models=40,
        weights=5000,
        source="a page",
        date="2026-02-01",
        part_of="all models",
    )
    assert uncounted(amounts) == [
        (2, "multilingual"),
        (3, "open weights, under 1 billion parameters"),
    ]


SAID = "level 0, all models: "


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "models = 100\n",
            "models = -1\n",
            SAID + "models is -1, no whole number from 0; not used",
        ),
        ("models = 100\n", "models = 1.5\n", SAID + "models is 1.5, no whole number from 0"),
        ("models = 100\n", "models = true\n", SAID + "models is True, no whole number from 0"),
        ("models = 100\n", 'models = "2 million"\n', SAID + "models is '2 million', no whole"),
        ("models = 100\n", f"models = {10**25}\n", SAID + f"models is {10**25}, no whole"),
        ("models = 100\n", "", SAID + "no count, neither of models nor of weights"),
        ('source = "a page"\n', "", SAID + "no source"),
        ('source = "a page"\n', 'source = " "\n', SAID + "no source"),
        ("date = 2026-01-31\n", "", SAID + "no date"),
        ("2026-01-31", '"January 2026"', SAID + "date 'January 2026' is no ISO date"),
        ("2026-01-31", "2026", SAID + "date 2026 is no ISO date such as 2026-01-31"),
        ("2026-01-31", "2026-06-02T10:00:00", SAID + "date 2026-06-02 has not come yet"),
    ],
)
def test_what_is_missing_or_wrong_is_told_once(tmp_path, old, new, said):
    amounts, findings = read(tmp_path, GOOD.replace(old, new, 1))
    assert len(amounts) == 3
    (line,) = findings
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("level = ", "is no TOML: "),
        ("a = 1\na = 2", "is no TOML: "),
        ("", "has no rows; expected tables under [[estimate]]"),
        ("estimate = 3", "has no rows"),
        ("estimate = [3]", "has no rows"),
        ("[[estimates]]\nlevel = 0", "did you mean estimate?"),
        (GOOD.replace("source", "sources", 1), "did you mean source?"),
        (GOOD.replace("level = 0", "level = 4", 1), "row 1` has level 4; allowed are 0 to 3"),
        (GOOD.replace("level = 0", "level = true", 1), "row 1` has level True"),
        (GOOD.replace("level = 0\n", "", 1), "row 1` has level None"),
        (GOOD.replace('name = "all models"\n', ""), "row 1` has name None"),
        (GOOD.replace('of = "all models"', "of = 3"), "row 2` has part_of 3"),
        (GOOD.replace('of = "all models"', 'of = "all"'), "is part of 'all', which has no row"),
        (GOOD.replace('of = "all models"', 'of = "the others"'), "part of 'the others', which"),
    ],
)
def test_malformed_files(tmp_path, text, said):
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"`estimates` .*none.toml cannot be read: No such file"):
        read_estimates(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_estimates(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is no TOML"):
        read_estimates(tmp_path / "binary")


def amount(level, name, **more):
    return Amount(level=level, name=name, **more)


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        (
            [amount(0, "all", models=10), amount(2, "many", models=11)],
            ["level 2, many, has 11 models, more than level 0, all, which contains it: 10"],
        ),
        (
            [amount(0, "all", weights=10), amount(1, "text", weights=11, at_least=("weights",))],
            ["level 1, text, has at least 11 weights, more than level 0, all"],
        ),
        ([amount(0, "all", models=10, at_least=("models",)), amount(1, "text", models=11)], []),
        ([amount(0, "all", models=10), amount(1, "text", weights=11)], []),
        ([amount(0, "all", models=0), amount(1, "text", models=1)], ["level 1, text, has 1"]),
        (
            [
                amount(0, "all", models=10),
                amount(0, "text", models=4, part_of="all"),
                amount(0, "images", models=5, part_of="all"),
            ],
            ["level 0, all: its parts have 9 models together, 1 fewer than the whole, 10"],
        ),
        (
            [
                amount(0, "all", models=10),
                amount(0, "text", models=11, part_of="all"),
                amount(0, "images", part_of="all"),
            ],
            ["level 0, all: its parts have 11 models together, 1 more than the whole, 10"],
        ),
        (
            [
                amount(0, "all", models=10),
                amount(0, "text", models=4, part_of="all"),
                amount(0, "images", part_of="all"),
            ],
            [],
        ),
        (
            [
                amount(0, "all", models=10, source="here", date="2026-01-01"),
                amount(0, "all", models=12),
            ],
            ["level 0, all: 10 models (here, 2026-01-01) or 12 (no source)"],
        ),
        (
            [amount(0, "all", models=10), amount(0, "all", models=9, at_least=("models",))],
            [],
        ),
        (
            [amount(0, "all", models=10), amount(0, "all", models=11, at_least=("models",))],
            ["level 0, all: 10 models (no source) or at least 11 (no source)"],
        ),
        (
            [amount(0, "all", models=10, weights=9)],
            ["level 0, all: 9 weights are fewer than 10 models"],
        ),
        # A part of a level contains no other level.
        (
            [
                amount(0, "all", models=10),
                amount(0, "images", models=4, part_of="all"),
                amount(1, "text", models=6, part_of="all"),
            ],
            [],
        ),
        # One that is a part of the level before still contains the next.
        (
            [
                amount(0, "all", models=10),
                amount(0, "images", models=4, part_of="all"),
                amount(1, "text", models=6, part_of="all"),
                amount(2, "many", models=7),
            ],
            ["level 2, many, has 7 models, more than level 1, text, which contains it: 6"],
        ),
    ],
)
def test_contradictions(amounts, said):
    lines = contradictions(amounts)
    assert len(lines) == len(said)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)
