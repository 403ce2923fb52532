"""Folders of parallel sentences: what is read, and each way in which they can be wrong."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from jaxprotect.errors import InputError
from jaxprotect.evaluation import texts as texts_module
from jaxprotect.evaluation.texts import SPLITS, Texts, load_texts


def write_folder(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for language, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{language}.txt").write_bytes(data)
    return folder


def numbered(count: int, word: str = "line") -> str:
    return "".join(f"{word} {number}\n" for number in range(1, count + 1))


def refusal(folder: Path | str, **options: Sequence[str] | str | None) -> str:
    with pytest.raises(InputError) as caught:
        load_texts(folder, **options)  # pyright: ignore[reportArgumentType]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_folder_is_read_line_by_line_with_sorted_languages(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", fra_Latn="un\ndeux\n", deu_Latn="eins\nzwei\n")
    texts = load_texts(folder)
    assert texts.languages == ("deu_Latn", "fra_Latn")
    assert texts.sentences == {"deu_Latn": ("eins", "zwei"), "fra_Latn": ("un", "deux")}
    assert texts.ids == (1, 2)
    assert texts.source == str(folder)


def test_only_the_languages_asked_are_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", a="x\n", b="y\n", broken=b"\xff")
    assert load_texts(folder, languages=["b", "a"]).languages == ("a", "b")


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ("a\nb", ("a", "b")),
        ("a\r\nb\r\n", ("a", "b")),
        ("\ufeffa\nb\n", ("a", "b")),
        ("one\u2028two\nb\u0085c\x0bd\n", ("one\u2028two", "b\u0085c\x0bd")),
        ("  a \n\tb\n", ("  a ", "\tb")),
    ],
    ids=["no-last-newline", "crlf", "bom", "other-separators", "spaces-kept"],
)
def test_only_a_newline_ends_a_line(
    tmp_path: Path, content: str, sentences: tuple[str, ...]
) -> None:
    texts = load_texts(write_folder(tmp_path / "t", x=content))
    assert texts.sentences["x"] == sentences


def test_default_splits_are_the_first_40_the_next_30_and_the_last_30_percent(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path / "t", x=numbered(1000))
    spans = {}
    for split in SPLITS:
        texts = load_texts(folder, split=split)
        assert texts.sentences["x"] == tuple(f"line {i}" for i in texts.ids)
        spans[split] = (texts.ids[0], texts.ids[-1], len(texts.ids))
    assert spans == {"select": (1, 400, 400), "tune": (401, 700, 300), "test": (701, 1000, 300)}


@pytest.mark.parametrize("count", [4, 5, 7, 11, 99])
def test_default_splits_partition_the_lines(tmp_path: Path, count: int) -> None:
    folder = write_folder(tmp_path / "t", x=numbered(count))
    ids = [i for split in SPLITS for i in load_texts(folder, split=split).ids]
    assert ids == list(range(1, count + 1)) == list(load_texts(folder).ids)


def test_splits_json_gives_the_lines_first_and_last_included(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", x=numbered(9), y=numbered(9, "ligne"))
    ranges = {"tune": [5, 9], "test": [1, 2], "select": [3, 3]}
    (folder / "splits.json").write_text(json.dumps(ranges))
    assert load_texts(folder, split="select").sentences == {"x": ("line 3",), "y": ("ligne 3",)}
    assert load_texts(folder, split="test").ids == (1, 2)
    assert load_texts(folder, split="tune").ids == (5, 6, 7, 8, 9)
    assert load_texts(folder).ids == tuple(range(1, 10))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"select": [1, 4], "tune": [4, 6]}', ["tune [4, 6]", "overlaps select [1, 4]"]),
        ('{"tune": [5, 6], "select": [1, 9]}', ["select [1, 9]", "overlaps tune [5, 6]"]),
        ('{"test": [0, 4]}', ["test is [0, 4]", "1 to 9"]),
        ('{"test": [1, 10]}', ["test is [1, 10]", "1 to 9"]),
        ('{"test": [4, 3]}', ["test is [4, 3]"]),
        ('{"test": [1]}', ["test is [1]", "two line numbers"]),
        ('{"test": [1, "4"]}', ["test is [1, '4']"]),
        ('{"test": [true, 4]}', ["test is [True, 4]"]),
        ('{"dev": [1, 4]}', ["'dev'", "select, tune, test"]),
        ('{"select": [1, 4]}', ["`split` is 'test'", "names select"]),
        ("{}", ["`split` is 'test'", "names none"]),
        ("[1, 4]", ["object"]),
        ("{", ["not JSON"]),
    ],
)
def test_bad_splits_json_is_refused(tmp_path: Path, content: str, words: list[str]) -> None:
    folder = write_folder(tmp_path / "t", x=numbered(9))
    (folder / "splits.json").write_text(content)
    message = refusal(folder, split="test")
    assert str(folder / "splits.json") in message
    assert all(word in message for word in words), message


def test_a_language_with_another_number_of_lines_is_named(tmp_path: Path) -> None:
    # The first file is the odd one out, so it must not be what the others are held against.
    folder = write_folder(tmp_path / "t", a=numbered(3), b=numbered(4), c=numbered(4))
    message = refusal(folder)
    assert message.startswith(f"{folder / 'a.txt'}: the file has 3 lines; 4 are expected")
    assert "b.txt" in message


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"a\n\nb\n", 2, "empty"),
        (b"a\nb\n\n", 3, "empty"),
        (b"a\n \t\nb\n", 2, "empty"),
        (b"\n", 1, "empty"),
        (b"ab\ncd\nd\xffe\n", 3, "byte 7 of the file, 0xff,"),
        (b"\xef\xbb\xbfab\n\xe4b", 2, "byte 6 of the file, 0xe4,"),
        (b"\xff\xfea\x00\n\x00", 1, "byte 0 of the file, 0xff,"),
        (b"a\nb\x00c\n", 2, "NUL"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, line: int, words: str) -> None:
    folder = write_folder(tmp_path / "t", good="x\ny\n", bad=content)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'bad.txt'}:{line}:")
    assert words in message


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", x="")
    assert refusal(folder).startswith(f"{folder / 'x.txt'}: the file is empty")
    folder = write_folder(tmp_path / "t", x="\ufeff")
    assert refusal(folder).startswith(f"{folder / 'x.txt'}: the file is empty")


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "is not a folder" in refusal(write_folder(tmp_path / "t", x="a\n") / "x.txt")
    assert "reference, flores" in refusal("refrence")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.md").write_text("no texts\n")
    assert "without <language>.txt" in refusal(tmp_path / "empty")


def test_bad_languages_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", b="x\n", a="y\n")
    message = refusal(folder, languages=["a", "xyz_Latn"])
    assert "names xyz_Latn;" in message
    assert message.endswith("has a, b")
    assert "names a more than once" in refusal(folder, languages=["a", "b", "a"])
    assert "`languages` is empty" in refusal(folder, languages=[])
    assert "give a list" in refusal(folder, languages="a")


def test_unknown_and_empty_splits_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "t", x="only one\n")
    assert "`split` is 'dev'; allowed are select, tune, test" in refusal(folder, split="dev")
    assert "`split` is 'dev'" in refusal("flores", split="dev")
    assert "has no sentence" in refusal(folder, split="select")
    assert load_texts(folder, split="test").ids == (1,)


def test_checksum_is_of_languages_and_sentences_not_of_their_order_or_source() -> None:
    def checksum(source: str = "s", **sentences: tuple[str, ...]) -> str:
        return Texts(sentences=sentences, ids=(1, 2), source=source).sha256

    base = checksum(a=("x", "y"), b=("z", "w"))
    assert len(base) == 64
    assert base == checksum(b=("z", "w"), a=("x", "y")) == checksum("t", a=("x", "y"), b=("z", "w"))
    assert base != checksum(a=("y", "x"), b=("z", "w"))
    assert base != checksum(a=("x", "y"), c=("z", "w"))
    assert base != checksum(a=("x", "y"))
    assert checksum(a=("xy", "z")) != checksum(a=("x", "yz"))


def test_only_keeps_some_languages() -> None:
    texts = Texts(sentences={"b": ("1",), "a": ("2",), "c": ("3",)}, ids=(7,), source="s")
    kept = texts.only(["c", "a"])
    assert kept.sentences == {"a": ("2",), "c": ("3",)}
    assert kept.languages == ("a", "c")
    assert (kept.ids, kept.source) == ((7,), "s")
    with pytest.raises(InputError, match=r"names d; s has a, b, c"):
        texts.only(["d"])
    with pytest.raises(InputError, match="more than once"):
        texts.only(["a", "a"])
    with pytest.raises(InputError, match="is empty"):
        texts.only([])


def test_texts_that_are_not_parallel_cannot_be_made() -> None:
    with pytest.raises(InputError, match="2 sentences in 'b'"):
        Texts(sentences={"a": ("1",), "b": ("2", "3")}, ids=(1,), source="s")
    with pytest.raises(InputError, match="no language"):
        Texts(sentences={}, ids=(1,), source="s")
    with pytest.raises(InputError, match="`ids` is empty"):
        Texts(sentences={"a": ()}, ids=(), source="s")


def test_the_shipped_texts_are_found_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = load_texts("reference", languages=["eng_Latn"])
    assert len(texts.ids) == 120
    assert texts.source == "reference"
    parts = [load_texts("reference", languages=["eng_Latn"], split=s).ids for s in SPLITS]
    assert sorted(i for part in parts for i in part) == list(texts.ids)


@pytest.mark.parametrize("name", ["flores", "flores_plus"])
def test_flores_is_asked_for_languages_and_split(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def fake(**options: object) -> tuple[dict[str, tuple[str, ...]], tuple[int, ...]]:
        asked.update(options)
        return {"eng_Latn": ("hello",)}, (998,)

    monkeypatch.setattr(texts_module, "load_flores", fake)
    texts = load_texts(name, languages=["eng_Latn"], split="test")
    assert asked == {"languages": ("eng_Latn",), "split": "test"}
    assert texts.ids == (998,)
    assert texts.source.startswith("openlanguagedata/flores_plus@")


def test_take_keeps_sentences_parallel_and_refuses_what_is_not_there():
    texts = load_texts("reference", languages=["eng_Latn", "heb_Hebr"])
    some = texts.take([7, 2])
    assert some.ids == (8, 3)
    for language in texts.languages:
        whole = texts.sentences[language]
        assert some.sentences[language] == (whole[7], whole[2])
    for positions, message in (([], "at least one"), ([1, 1], "none twice"), ([120], "from 120")):
        with pytest.raises(InputError, match=message):
            texts.take(positions)
