"""The one error that bad input raises."""

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
