"""Long texts in windows of the context, every token predicted exactly once."""

from collections.abc import Sequence

from jaxprotect.errors import InputError


def rolling_windows(
    tokens: Sequence[int], prefix: int, max_length: int, context: int = 1
) -> list[tuple[list[int], list[int]]]:
    """Cut a long text so that every token is predicted exactly once, in order.

    The first window predicts `max_length` tokens from the prefix token. Each later one predicts
    the next `max_length - context + 1` tokens after `context` tokens of the text; the last
    reaches further back, so that it is as long as the others. The model's input is
    `(context + targets)[:-1]`, never longer than `max_length`.

    Args:
        tokens: the text.
        prefix: token that stands before the text.
        max_length: longest input of the model, in tokens.
        context: tokens of the text before the targets of a later window, 1 to `max_length`.

    Returns:
        (context tokens, target tokens) of each window; empty for an empty text.

    Raises:
        InputError: `max_length` below 1, or `context` outside 1 to `max_length`.

    Source: the definition that lm-evaluation-harness uses (`get_rolling_token_windows` and
    `make_disjoint_window` in its `lm_eval/utils.py`).

    >>> rolling_windows([1, 2, 3, 4, 5, 6], prefix=0, max_length=4)
    [([0], [1, 2, 3, 4]), ([2, 3, 4], [5, 6])]
    """
    if max_length < 1:
        raise InputError(f"`max_length` is {max_length}; it must be at least 1")
    if not 1 <= context <= max_length:
        raise InputError(f"`context` is {context}; allowed are 1 to `max_length`, {max_length}")
    if not tokens:
        return []
    windows = [([prefix], list(tokens[:max_length]))]
    step = max_length - context + 1
    for begin in range(max_length, len(tokens), step):
        end = min(begin + step, len(tokens))
        # Inputs end at end - 1 and are max_length long.
        windows.append((list(tokens[end - 1 - max_length : begin]), list(tokens[begin:end])))
    return windows


def prefixed_windows(
    tokens: Sequence[int], slot: int, room: int
) -> list[tuple[list[int], list[int]]]:
    """Windows like `rolling_windows`, each of which begins with the slot of a cached prefix.

    The first window predicts `room` + 1 tokens, the first of them from the prefix alone. Each
    later one predicts the next `room` tokens after the prefix and one token of the text.

    Args:
        tokens: the text.
        slot: token in the place of the prefix.
        room: positions that the prefix leaves for text.

    Returns:
        (slot and context tokens, target tokens) of each window; empty for an empty text.

    >>> prefixed_windows([1, 2, 3, 4, 5, 6], slot=0, room=3)
    [([0], [1, 2, 3, 4]), ([0, 3, 4], [5, 6])]
    """
    if not tokens:
        return []
    windows = [([slot], list(tokens[: room + 1]))]
    for begin in range(room + 1, len(tokens), room):
        end = min(begin + room, len(tokens))
        context = list(tokens[end - 1 - room : begin])
        windows.append(([slot, *context], list(tokens[begin:end])))
    return windows
