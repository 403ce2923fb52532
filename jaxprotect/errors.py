"""The one error that bad input raises."""


class InputError(ValueError):
    """Bad input, in one line: the argument in backticks, what arrived, what is allowed.

    The command line prints the line and exits with code 2.
    """
