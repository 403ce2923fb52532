"""FLORES+ as the hub would serve it, with the hub's client replaced: no network."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from jaxprotect.errors import InputError
from jaxprotect.evaluation.flores import FLORES_REVISION, load_flores

SIZES = {"dev": 997, "devtest": 1012}


def sentence(part: str, language: str, identity: int) -> str:
    return f"{language} {part}\u2028{identity}"


def write_part(folder: Path, part: str, language: str, count: int | None = None) -> None:
    (folder / part).mkdir(parents=True, exist_ok=True)
    # Rows come in no particular order; the ids say which sentence is which.
    rows = [
        json.dumps({"text": sentence(part, language, i), "id": i, "domain": "x"})
        for i in reversed(range(SIZES[part] if count is None else count))
    ]
    (folder / part / f"{language}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in SIZES:
        for language in ("eng_Latn", "cmn_Hans", "deu_Latn"):
            write_part(tmp_path, part, language)
    write_part(tmp_path, "dev", "mhr_Cyrl")

    def download(repository: str, name: str, *, repo_type: str, revision: str) -> str:
        asked = (repository, repo_type, revision)
        assert asked == ("openlanguagedata/flores_plus", "dataset", FLORES_REVISION)
        if not (tmp_path / name).exists():
            raise errors.EntryNotFoundError(f"404 for {name}")
        return str(tmp_path / name)

    def listing(repository: str, *, repo_type: str, revision: str) -> list[str]:
        files = [str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.jsonl")]
        return ["README.md", "convert.py", *files]

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", listing)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "ids", "parts"),
    [
        ("select", range(1, 599), [("dev", 0, 598)]),
        ("tune", range(599, 998), [("dev", 598, 997)]),
        ("test", range(998, 2010), [("devtest", 0, 1012)]),
        (None, range(1, 2010), [("dev", 0, 997), ("devtest", 0, 1012)]),
    ],
)
def test_splits_are_parts_of_dev_and_devtest(
    hub: Path, split: str | None, ids: range, parts: list[tuple[str, int, int]]
) -> None:
    sentences, numbers = load_flores(languages=["eng_Latn", "deu_Latn"], split=split)
    assert numbers == tuple(ids)
    for language in ("eng_Latn", "deu_Latn"):
        expected = [sentence(p, language, i) for p, first, end in parts for i in range(first, end)]
        assert sentences[language] == tuple(expected)


def test_a_split_downloads_only_its_part(hub: Path) -> None:
    (hub / "devtest" / "eng_Latn.jsonl").unlink()
    load_flores(languages=["eng_Latn"], split="select")
    with pytest.raises(InputError, match="eng_Latn"):
        load_flores(languages=["eng_Latn"], split="test")


def test_codes_of_flores_200_are_understood_and_kept(hub: Path) -> None:
    sentences, _ = load_flores(languages=["zho_Hans"], split="tune")
    assert sentences["zho_Hans"][0] == sentence("dev", "cmn_Hans", 598)


def test_all_languages_are_those_of_every_part_needed(hub: Path) -> None:
    assert set(load_flores(languages=None, split="tune")[0]) == {
        "cmn_Hans",
        "deu_Latn",
        "eng_Latn",
        "mhr_Cyrl",
    }
    assert list(load_flores(languages=None, split=None)[0]) == ["cmn_Hans", "deu_Latn", "eng_Latn"]


def refusal(languages: list[str], split: str | None = "tune") -> str:
    with pytest.raises(InputError) as caught:
        load_flores(languages=languages, split=split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_language_and_split_are_refused(hub: Path) -> None:
    message = refusal(["deu_Latm"])
    assert "names deu_Latm" in message
    assert "nearest being deu_Latn" in message
    assert "'dev'" in refusal(["eng_Latn"], "dev")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", ":3: not a JSON row"),
        ("", ":3: not a JSON row"),
        ('["text"]', ":3: not a JSON row"),
        ('{"id": 5}', ":3: not a JSON row"),
        ('{"id": "five", "text": "x"}', ":3: not a JSON row"),
        ('{"id": 994, "text": "  "}', ":3: `text` is empty"),
        ('{"id": 994, "text": null}', ":3: `text` is empty"),
        ('{"id": 996, "text": "x"}', "`id` 996 is repeated"),
    ],
)
def test_a_bad_row_is_named(hub: Path, row: str, words: str) -> None:
    path = hub / "dev" / "deu_Latn.jsonl"
    rows = path.read_text(encoding="utf-8").split("\n")
    rows[2] = row
    path.write_text("\n".join(rows), encoding="utf-8")
    message = refusal(["eng_Latn", "deu_Latn"])
    assert message.startswith("dev/deu_Latn.jsonl")
    assert words in message


def test_missing_and_misaligned_sentences_are_refused(hub: Path) -> None:
    write_part(hub, "dev", "deu_Latn", count=996)
    assert refusal(["eng_Latn", "deu_Latn"]).startswith(
        "dev/deu_Latn.jsonl: has 996 sentences; 997 are expected"
    )
    path = hub / "dev" / "deu_Latn.jsonl"
    extra = json.dumps({"id": 5000, "text": "a sentence that English lacks"})
    path.write_text(path.read_text(encoding="utf-8") + extra, encoding="utf-8")
    assert "the same ids as in eng_Latn" in refusal(["eng_Latn", "deu_Latn"])


class ConnectError(Exception):
    """Like the errors of HTTP libraries: no relation to those of the hub's client."""


def http_error(kind: Callable[..., Exception], status: int) -> Exception:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status} Client Error\nfor url", response=response)


def wrapped(cause: Exception) -> Exception:
    error = errors.LocalEntryNotFoundError("not in the cache either")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        http_error(errors.GatedRepoError, 401),
        http_error(errors.GatedRepoError, 403),
        http_error(errors.RepositoryNotFoundError, 401),
        http_error(errors.HfHubHTTPError, 401),
        http_error(errors.HfHubHTTPError, 403),
        wrapped(http_error(errors.HfHubHTTPError, 403)),
    ],
    ids=["gated-401", "gated-403", "hidden-401", "401", "403", "wrapped-403"],
)
def test_refused_access_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    message = refusal(["eng_Latn"])
    assert "accept the terms at https://huggingface.co/datasets/openlanguagedata" in message
    assert "`hf auth login`" in message
    assert "HF_TOKEN" in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.OfflineModeIsEnabled("offline mode is on"), "offline mode is on"),
        (errors.LocalEntryNotFoundError("no\nconnection"), "LocalEntryNotFoundError: no)"),
        (wrapped(ConnectError("name not resolved")), "ConnectError: name not resolved"),
        (ConnectError(""), "no reason given"),
        (http_error(errors.HfHubHTTPError, 500), "500 Client Error"),
    ],
)
def test_network_failures_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    message = refusal(["eng_Latn"])
    assert "could not be downloaded" in message
    assert "accept the terms" not in message
    assert words in message


def test_an_unknown_revision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise http_error(errors.RevisionNotFoundError, 404)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", fail)
    with pytest.raises(InputError, match="`revision` is not a commit"):
        load_flores(languages=None, split="test", revision="0" * 40)
