"""FLORES+ from the Hugging Face hub: gated, CC BY-SA 4.0, never shipped with the package.

One JSON Lines file per language and part (`dev/eng_Latn.jsonl`), rows parallel by `id`.
Source: https://huggingface.co/datasets/openlanguagedata/flores_plus (version 4.6).
"""

import difflib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from jaxprotect.errors import InputError, unknown_name

FLORES_REPOSITORY = "openlanguagedata/flores_plus"
FLORES_REVISION = "5fec6c13f9e5a4db2f745d4ec0d7c9721ddc4f06"
"""Version 4.6."""

FLORES_PAGE = f"https://huggingface.co/datasets/{FLORES_REPOSITORY}"

PARTS = {"dev": (1, 997), "devtest": (998, 2009)}
"""The published parts and their first and last sentence, numbered through."""

SPLIT_LINES = {"select": (1, 598), "tune": (599, 997), "test": (998, 2009)}
"""60 % of dev, the rest of dev, and devtest."""

RENAMED = {"zho_Hans": "cmn_Hans", "zho_Hant": "cmn_Hant", "est_Latn": "ekk_Latn"}
"""FLORES-200's code -> the file's name in FLORES+."""

T = TypeVar("T")


def load_flores(
    *,
    languages: Sequence[str] | None,
    split: str | None,
    revision: str = FLORES_REVISION,
) -> tuple[dict[str, tuple[str, ...]], tuple[int, ...]]:
    """Download and read FLORES+ (files already in the hub's cache are not fetched again).

    Args:
        languages: codes such as `eng_Latn`, FLORES-200's spelling allowed; None for every
            language that the parts needed have (over 200).
        split: `select`, `tune`, `test`, or None for all sentences.
        revision: commit of the dataset's repository.

    Returns:
        Language, spelled as asked -> sentences; and each sentence's number, 1 to 997 for dev
        and 998 to 2009 for devtest.

    Raises:
        InputError: access not granted, hub not reached, unknown language, unknown split, or a
            file that is not as published.
    """
    if split is not None and split not in SPLIT_LINES:
        raise unknown_name("split", split, SPLIT_LINES)
    first, last = (1, PARTS["devtest"][1]) if split is None else SPLIT_LINES[split]
    parts = [part for part, (start, end) in PARTS.items() if first <= end and start <= last]
    if languages is None:
        there = [set(_languages_of(part, revision)) for part in parts]
        languages = sorted(set.intersection(*there))
    sentences: dict[str, tuple[str, ...]] = dict.fromkeys(languages, ())
    for part in parts:
        start, end = PARTS[part]
        keep = slice(max(first, start) - start, min(last, end) - start + 1)
        expected: list[int] | None = None
        for language in languages:
            name, rows = _read_rows(part, language, revision)
            identities = sorted(rows)
            if len(rows) != end - start + 1 or identities != (expected or identities):
                raise InputError(
                    f"{name}: has {len(rows)} sentences; {end - start + 1} are expected, with "
                    f"the same ids as in {languages[0]}"
                )
            expected = identities
            sentences[language] += tuple(rows[identity] for identity in identities[keep])
    return sentences, tuple(range(first, last + 1))


def _read_rows(part: str, language: str, revision: str) -> tuple[str, dict[int, str]]:
    name = f"{part}/{RENAMED.get(language, language)}.jsonl"
    try:
        path = _from_hub(
            lambda: huggingface_hub.hf_hub_download(
                FLORES_REPOSITORY, name, repo_type="dataset", revision=revision
            )
        )
    except EntryNotFoundError:
        there = _languages_of(part, revision)
        near = difflib.get_close_matches(language, there, n=5, cutoff=0.3)
        raise InputError(
            f"`languages` names {language}; FLORES+ {part} has {len(there)} others, the nearest "
            f"being {', '.join(near) or 'none'}; {FLORES_PAGE} lists them"
        ) from None
    rows: dict[int, str] = {}
    # Rows end at "\n" only; a sentence may hold other line separators.
    lines = Path(path).read_bytes().removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            identity, text = int(row["id"]), row["text"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{name}:{number}: not a JSON row with `id` and `text`") from None
        if not isinstance(text, str) or not text.strip() or identity in rows:
            raise InputError(f"{name}:{number}: `text` is empty, or `id` {identity} is repeated")
        rows[identity] = text
    return name, rows


def _languages_of(part: str, revision: str) -> list[str]:
    files = _from_hub(
        lambda: huggingface_hub.list_repo_files(
            FLORES_REPOSITORY, repo_type="dataset", revision=revision
        )
    )
    inside = [Path(file) for file in files]
    return sorted(f.stem for f in inside if f.parent.name == part and f.suffix == ".jsonl")


def _from_hub(ask: Callable[[], T]) -> T:
    """Call the hub; every failure but a missing file becomes one line that says what to do."""
    try:
        return ask()
    except RevisionNotFoundError:
        raise InputError(f"`revision` is not a commit of {FLORES_PAGE}") from None
    except LocalEntryNotFoundError as error:
        # The hub's client wraps what went wrong when it finds nothing in its cache either.
        failure = error.__cause__ or error
    except EntryNotFoundError:
        raise
    # The HTTP library's own errors have no stable type across versions of the hub's client.
    except Exception as error:
        failure = error
    if _is_refusal(failure):
        raise InputError(
            f"FLORES+ is gated and the hub refused access: accept the terms at {FLORES_PAGE}, "
            "then run `hf auth login` or set HF_TOKEN"
        ) from failure
    reason = (str(failure).strip().splitlines() or ["no reason given"])[0]
    raise InputError(
        f"FLORES+ could not be downloaded ({type(failure).__name__}: {reason}); check the "
        "network, or give a folder of <language>.txt files as `source`"
    ) from failure


def _is_refusal(failure: BaseException) -> bool:
    if isinstance(failure, GatedRepoError | RepositoryNotFoundError):
        return True
    return isinstance(failure, HfHubHTTPError) and failure.response.status_code in (401, 403)
