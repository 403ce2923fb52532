"""The one error that bad input raises, and the name that was probably meant."""

import difflib
from collections.abc import Iterable
from pathlib import Path

LONGEST = 2000
"""Characters of a message; what a file says may be quoted in it, and is not to fill the screen."""


class InputError(Exception):
    """Bad input, in one line: the argument in backticks, what arrived, what is allowed.

    The command line prints the line and exits with code 2. It is no ValueError, because command
    line parsers catch those and wrap them in text of their own. Names and values that a file
    brought along are quoted: line ends and control characters are escaped here, for all messages.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST:
            message = f"{message[:LONGEST]}..."
        shown = (c if c.isprintable() else ascii(c)[1:-1] for c in message)
        super().__init__("".join(shown))


def reason_of(error: BaseException) -> str:
    """What an error of a library says, on one line; its type's name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line_of(error: BaseException) -> str:
    """The first line of what an error of a library says, where others would confuse."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def listed(names: Iterable[object], most: int = 6) -> str:
    """Names in backticks, for a message; of many the first, and how many more.

    Args:
        names: what there is.
        most: names to show.

    Returns:
        The names, separated by commas.
    """
    every = list(names)
    shown = ", ".join(f"`{name}`" for name in every[:most])
    return f"{shown} and {len(every) - most} more" if len(every) > most else shown


def unknown_name(
    argument: str, value: object, allowed: Iterable[object], *, verb: str = "is"
) -> InputError:
    """The error for a value that is none of a few names, with the nearest of them.

    Args:
        argument: what it was given as.
        value: what arrived.
        allowed: what is allowed.
        verb: `is`, or `has` for one of several values.

    Returns:
        The error, to be raised.
    """
    names = [str(name) for name in allowed]
    meant = did_you_mean(value, names)
    return InputError(f"`{argument}` {verb} {value!r}; allowed are {', '.join(names)}{meant}")


def refuse_unknown(argument: str, given: Iterable[object], allowed: Iterable[object]) -> None:
    """Refuse values of which one is none of a few names.

    Args:
        argument: what they were given as.
        given: what arrived.
        allowed: what is allowed.

    Raises:
        InputError: names the first that is unknown, and the nearest allowed names.
    """
    names = list(allowed)
    for value in given:
        if value not in names:
            raise unknown_name(argument, value, names, verb="has")


def did_you_mean(value: object, allowed: Iterable[str], most: int = 3) -> str:
    """`; did you mean X?` with the names that a value begins or resembles, or nothing.

    Args:
        value: what arrived.
        allowed: what is allowed.
        most: names to offer.

    Returns:
        The end of a message.
    """
    lower = {name.lower(): name for name in allowed}
    given = str(value).lower()
    begun = [name for name in lower if len(given) > 1 and name.startswith(given)]
    near = begun[:most] or difflib.get_close_matches(given, lower, n=most, cutoff=0.6)
    return f"; did you mean {' or '.join(lower[name] for name in near)}?" if near else ""


def did_you_mean_folder(path: Path, holding: str = "") -> str:
    """`; did you mean X?` with folders in or beside a wrong one, or nothing.

    Args:
        path: the folder that was given, and that is missing or not of its kind.
        holding: a file that only folders of that kind have.

    Returns:
        The end of a message.
    """
    try:
        inside = [entry for entry in path.iterdir() if holding] if path.is_dir() else []
        beside = {entry.name: entry for entry in path.parent.iterdir() if entry != path}
    except OSError:
        return ""
    similar = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.6)
    near = [*sorted(inside), *(beside[name] for name in similar)]
    near = [str(entry) for entry in near if entry.is_dir() and (entry / holding).exists()][:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
