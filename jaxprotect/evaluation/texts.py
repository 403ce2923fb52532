"""Parallel sentences in many languages: the shipped ones, a folder's, or FLORES+."""

import codecs
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxprotect.errors import InputError, did_you_mean, did_you_mean_folder, unknown_name
from jaxprotect.evaluation.flores import FLORES_REPOSITORY, FLORES_REVISION, load_flores

REFERENCE_TEXTS = Path(__file__).resolve().parents[1] / "reference" / "texts"
"""The folder that ships with the package."""

SPLITS = ("select", "tune", "test")
"""Disjoint uses of the sentences: choosing weights, tuning fractions, reporting."""

Sentences = dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The same sentences in several languages.

    Args:
        sentences: language -> its sentences; sentence i means the same in every language. The
            languages are kept in sorted order.
        ids: 1-based line number of each sentence in its source.
        source: where the sentences come from, for reports.

    Raises:
        InputError: no language, no sentence, or languages with different numbers of sentences.
    """

    sentences: Sentences
    ids: tuple[int, ...]
    source: str

    def __post_init__(self) -> None:
        """Sort the languages, and refuse sentences that are not parallel."""
        if not self.sentences:
            raise InputError("`sentences` has no language; at least one is needed")
        if not self.ids:
            raise InputError("`ids` is empty; at least one sentence is needed")
        for language, sentences in self.sentences.items():
            if len(sentences) != len(self.ids):
                raise InputError(
                    f"`sentences` has {len(sentences)} sentences in {language!r}; "
                    f"`ids` has {len(self.ids)}, and every language must have as many"
                )
        object.__setattr__(self, "sentences", dict(sorted(self.sentences.items())))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages, sorted."""
        return tuple(self.sentences)

    @property
    def sha256(self) -> str:
        """Checksum of languages and sentences, whatever order they were given in."""
        return hashlib.sha256(json.dumps(self.sentences).encode()).hexdigest()

    def only(self, languages: Sequence[str]) -> "Texts":
        """The same sentences in fewer languages.

        Args:
            languages: the languages to keep.

        Returns:
            Texts in those languages, sorted.

        Raises:
            InputError: a language is not there or asked twice, or none is asked.
        """
        asked = _asked(languages)
        _require_known(asked, self.languages, self.source)
        kept = {language: self.sentences[language] for language in asked}
        return Texts(sentences=kept, ids=self.ids, source=self.source)

    def take(self, positions: Sequence[int]) -> "Texts":
        """Some of the sentences, in every language.

        Args:
            positions: indices into `ids`, from 0, each at most once.

        Returns:
            Texts of those sentences, in the order asked.

        Raises:
            InputError: no position, one that is not there, or one asked twice.
        """
        if len(positions) == 0 or len(set(positions)) < len(positions):
            raise InputError("`positions` must name at least one sentence, and none twice")
        if min(positions) < 0 or max(positions) >= len(self.ids):
            raise InputError(
                f"`positions` go from {min(positions)} to {max(positions)}; allowed are 0 to "
                f"{len(self.ids) - 1}"
            )
        return Texts(
            sentences={
                language: tuple(sentences[i] for i in positions)
                for language, sentences in self.sentences.items()
            },
            ids=tuple(self.ids[i] for i in positions),
            source=self.source,
        )


def load_texts(
    source: str | Path, *, languages: Sequence[str] | None = None, split: str | None = None
) -> Texts:
    """Load parallel sentences.

    A folder holds one `<language>.txt` per language in UTF-8, one sentence per line, line i
    parallel across languages. Its `splits.json`, where there is one, gives the lines of each
    split, first and last included: `{"select": [1, 40], "tune": [41, 80], "test": [81, 120]}`.
    Without it the first 40 % of the lines select, the next 30 % tune and the last 30 % test.

    Args:
        source: `reference` (the shipped texts), `flores` or `flores_plus` (downloaded), or a
            folder.
        languages: the languages to read, as the files are called; all of them by default.
        split: `select`, `tune` or `test`; every sentence by default.

    Returns:
        The sentences, their `ids` being line numbers.

    Raises:
        InputError: a missing folder or language, an unknown or empty split, languages with
            different line counts, an empty line, a NUL, or bytes that are not UTF-8.
    """
    if split is not None and split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    asked = None if languages is None else _asked(languages)
    if str(source) in ("flores", "flores_plus"):
        sentences, ids = load_flores(languages=asked, split=split)
        return Texts(sentences=sentences, ids=ids, source=f"{FLORES_REPOSITORY}@{FLORES_REVISION}")
    folder = REFERENCE_TEXTS if str(source) == "reference" else Path(source)
    lines = _read_folder(folder, asked)
    count = len(next(iter(lines.values())))
    first, last = (1, count) if split is None else _split_lines(folder, split, count)
    return Texts(
        sentences={language: all_lines[first - 1 : last] for language, all_lines in lines.items()},
        ids=tuple(range(first, last + 1)),
        source=str(source),
    )


def _asked(languages: Sequence[str]) -> tuple[str, ...]:
    if isinstance(languages, str):
        raise InputError(f"`languages` is the string {languages!r}; give a list of languages")
    if not languages:
        raise InputError("`languages` is empty; name at least one, or leave it out for all")
    twice = [language for language, times in Counter(languages).items() if times > 1]
    if twice:
        raise InputError(f"`languages` names {', '.join(twice)} more than once")
    return tuple(languages)


def _require_known(asked: Sequence[str], there: Sequence[str], where: object) -> None:
    unknown = [language for language in asked if language not in there]
    if unknown:
        raise InputError(
            f"`languages` names {', '.join(unknown)}; {where} has {', '.join(sorted(there))}"
            f"{did_you_mean(unknown[0], there)}"
        )


def _read_folder(folder: Path, asked: tuple[str, ...] | None) -> Sentences:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(
            f"`source` is {str(folder)!r}, which {what}; allowed are reference, flores, "
            f"flores_plus, or a folder of <language>.txt files{did_you_mean_folder(folder)}"
        )
    files = {path.stem: path for path in sorted(folder.glob("*.txt")) if path.stem[0] != "."}
    if not files:
        raise InputError(f"`source` is {str(folder)!r}, a folder without <language>.txt files")
    if asked is not None:
        _require_known(asked, tuple(files), folder)
    lines = {language: _read_lines(files[language]) for language in asked or files}
    _require_parallel(lines, files)
    return lines


def _read_lines(path: Path) -> tuple[str, ...]:
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    stripped = path.stat().st_size - len(data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: byte {error.start + stripped} of the file, "
            f"0x{data[error.start]:02x}, is not UTF-8"
        ) from None
    # Only "\n" ends a line: U+2028 and the like may stand inside a sentence.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if not text:
        raise InputError(f"{path}: the file is empty; one sentence per line is needed")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise InputError(f"{path}:{number}: the line is empty; each needs a sentence")
        if "\0" in line:
            raise InputError(f"{path}:{number}: the line holds a NUL; the file must be UTF-8 text")
    return tuple(lines)


def _require_parallel(lines: Sentences, files: Mapping[str, Path]) -> None:
    counts = {language: len(of_language) for language, of_language in lines.items()}
    # What most files have is expected, so that the odd one out is named.
    expected, _ = Counter(counts.values()).most_common(1)[0]
    like = next(language for language, count in counts.items() if count == expected)
    for language, count in counts.items():
        if count != expected:
            raise InputError(
                f"{files[language]}: the file has {count} lines; {expected} are expected, as in "
                f"{files[like].name}, because line i is the same sentence in every language"
            )


def _split_lines(folder: Path, split: str, count: int) -> tuple[int, int]:
    path = folder / "splits.json"
    if path.exists():
        ranges = _read_splits(path, count)
        if split not in ranges:
            raise InputError(f"`split` is {split!r}; {path} names {', '.join(ranges) or 'none'}")
        return ranges[split]
    bounds = {"select": (0, 40), "tune": (40, 70), "test": (70, 100)}[split]
    first, last = (count * percent // 100 for percent in bounds)
    if first == last:
        raise InputError(f"`split` is {split!r}, which has no sentence: {folder} has {count} lines")
    return first + 1, last


def _read_splits(path: Path, count: int) -> dict[str, tuple[int, int]]:
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: the top level must be an object of split -> [first, last]")
    ranges: dict[str, tuple[int, int]] = {}
    for name, value in content.items():
        if name not in SPLITS:
            raise InputError(f"{path}: split {name!r} is unknown; allowed are {', '.join(SPLITS)}")
        is_pair = isinstance(value, list) and len(value) == 2
        if not is_pair or any(type(bound) is not int for bound in value):
            raise InputError(f"{path}: {name} is {value!r}; it must be two line numbers")
        first, last = value
        if not 1 <= first <= last <= count:
            raise InputError(
                f"{path}: {name} is [{first}, {last}]; allowed are lines 1 to {count}, first "
                "not after last"
            )
        for other, (other_first, other_last) in ranges.items():
            if first <= other_last and other_first <= last:
                raise InputError(
                    f"{path}: {name} [{first}, {last}] overlaps {other} "
                    f"[{other_first}, {other_last}]; splits must be disjoint"
                )
        ranges[name] = (first, last)
    return ranges
