"""The one error that bad input raises."""


class InputError(Exception):
    """Bad input, in one line: the argument in backticks, what arrived, what is allowed.

    The command line prints the line and exits with code 2. It is no ValueError, because command
    line parsers catch those and wrap them in text of their own.
    """
