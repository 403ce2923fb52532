"""Options as a dataclass -> their command line: grouped help with examples, mistakes in a line."""

import contextlib
import inspect
import io
import os
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar

import tyro

from jaxprotect.errors import InputError, did_you_mean

Options = TypeVar("Options")

_MARKERS = (
    tyro.conf.OmitArgPrefixes,  # groups are headings of the help, no part of an option's name
    tyro.conf.DisallowNone,
)


def parse(
    options: type[Options],
    arguments: Sequence[str] | None = None,
    *,
    prog: str,
    description: str | None = None,
) -> Options:
    """The options that a command line gives.

    Args:
        options: a dataclass; nested ones are groups of the help, and the lines under `Examples:`
            in its docstring end it.
        arguments: the words of the command line; those of the process by default.
        prog: what the help calls the command.
        description: what it does; the first lines of the docstring by default.

    Returns:
        The options.

    Raises:
        InputError: words that the options do not allow; names the nearest option.
        SystemExit: with code 0, after the help.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _plain_where_asked():
            found, unknown = tyro.cli(
                options,
                prog=prog,
                args=arguments,
                description=description,
                return_unknown_args=True,
                config=_MARKERS,
            )
    except SystemExit as end:
        if end.code == 0:
            _print_examples(options)
            raise
        raise InputError(f"{_first_paragraph(said.getvalue())}; see {prog} --help") from None
    if unknown:
        word = unknown[0].partition("=")[0]
        meant = did_you_mean(word, option_names(options)) if word.startswith("-") else ""
        raise InputError(f"`{word}` is no option of {prog}{meant or f'; see {prog} --help'}")
    return found


@contextlib.contextmanager
def _plain_where_asked() -> Iterator[None]:
    """Help without colours where `NO_COLOR` is set, which tyro itself does not read."""
    before = os.environ.get("TERM")
    if os.environ.get("NO_COLOR"):
        os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TERM", None)
        else:
            os.environ["TERM"] = before


def option_names(options: type) -> list[str]:
    """Every option of a dataclass and its nested ones, such as `--batch-tokens`."""
    names, hints = [], typing.get_type_hints(options)
    for field in fields(options):
        if is_dataclass(hint := hints[field.name]):
            names += option_names(typing.cast(type, hint))
            continue
        name = field.name.replace("_", "-")
        names += [f"--{name}", f"--no-{name}"] if field.default is True else [f"--{name}"]
    return names


def examples_of(options: type) -> list[str]:
    """The lines under `Examples:` in a docstring; each is a command that works."""
    _, _, after = (inspect.getdoc(options) or "").partition("\nExamples:\n")
    return [line.strip() for line in after.split("\n\n")[0].splitlines()]


def _print_examples(options: type) -> None:
    if lines := examples_of(options):
        print("\nexamples:", *(f"  {line}" for line in lines), sep="\n")


def _first_paragraph(box: str) -> str:
    """What tyro says in the first part of the box that it draws around a mistake, on one line."""
    words = []
    for line in box.splitlines()[1:]:
        line = line.strip("│| ")
        if re.match(r"[─╰+-]{3,}", line):
            break
        words += line.split()
    return " ".join(words).rstrip(".")
