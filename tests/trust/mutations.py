"""Ways to damage a file, drawn by a seeded generator; and what must come of reading one."""

import contextlib
import json
import resource
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

from jaxprotect.errors import InputError

Generator = np.random.Generator
Read = TypeVar("Read")

SECONDS = 10
"""Most that reading one damaged file may take; a whole one takes milliseconds."""

MEMORY = 400 * 2**20
"""Bytes by which the process may grow over all cases of a kind; the files have kilobytes."""

RAW = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-0", "0", "1", "-1", "1.5", "1e-400", "null"),
    *("true", "false", "[]", "{}", '""', '"\\ud800"', '"a\\nb"', '"\\u0000"', '"../../x"'),
    *(
        '"/etc/passwd"',
        '"$x^$ {{ 1 }} </script>"',
        '"..."',
        '"' + "x" * 5000 + '"',
        "[" * 100_000,
        "[" * 200 + "]" * 200,
    ),
    *('{"a":' * 60 + "1" + "}" * 60, "9" * 5000, "9" * 30, str(2**31), str(2**63), str(2**64)),
    *(str(-(2**63)), "1e300", "[null]", '{"a": {}}', "nul", "'a'", "1_000", "0x10", "١"),
]
"""JSON, and what is nearly JSON."""


FLIPS = [
    pytest.param(5, 1, id="a bit of every fifth byte"),
    pytest.param(1, 1, id="a bit of every byte", marks=pytest.mark.slow),
]
"""Steps from byte to byte, and how many bits of each are flipped (another one in each byte)."""


class Hangs(BaseException):
    """Reading took longer than `SECONDS`."""


@contextlib.contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Interrupt a block that takes too long."""

    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def memory_limit() -> Iterator[None]:
    """Fail if the process has grown by more than `MEMORY` at any time in the block."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 1024 * grown < MEMORY, f"grew by {grown} KiB"


def read_or_refusal(read: Callable[[], Read], names: str, case: object) -> Read | None:
    """What `read` returns; None for an `InputError` of one line that has `names` in it."""
    try:
        with time_limit():
            return read()
    except InputError as error:
        message = str(error)
        assert message.isprintable(), (case, message)
        assert names in message, (case, message)
        return None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AssertionError(f"case {case}: {type(error).__name__}: {error}") from error


def damaged_bytes(data: bytes, generator: Generator) -> bytes:
    """The bytes with one damage."""
    kind = int(generator.integers(8))
    changed, size = bytearray(data), len(data)
    at = int(generator.integers(size))
    length = int(generator.integers(1, 1 + min(64, size - at)))
    if kind <= 1:  # bits
        for position in generator.integers(size, size=1 if kind else 8):
            changed[position] ^= 1 << int(generator.integers(8))
    elif kind == 2:  # truncated
        return data[:at]
    elif kind == 3:  # extended
        return data + generator.bytes(length)
    elif kind == 4:  # a run replaced
        fill = (bytes(length), b"\xff" * length, generator.bytes(length))
        changed[at : at + length] = fill[generator.integers(3)]
    elif kind == 5:  # a run taken out
        del changed[at : at + length]
    elif kind == 6:  # a run doubled
        changed[at:at] = data[at : at + length]
    else:  # a length, wherever one may be
        width = int(generator.choice([2, 4, 8]))
        value = int(generator.choice([0, 1, 2**7, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31]))
        value = (value, 2**60, 2**64 - 1)[generator.integers(3)] % 2 ** (8 * width)
        at = 0 if generator.random() < 0.3 else at
        changed[at : at + width] = value.to_bytes(width, "little")
    return bytes(changed)


def damaged_json(data: bytes, generator: Generator) -> bytes:
    """JSON text with one value or key changed; now and then with a byte changed."""
    if generator.random() < 0.2:
        return damaged_bytes(data, generator)
    tree = json.loads(data)
    places = list(_places(tree))
    if not places or generator.random() < 0.03:
        return RAW[generator.integers(len(RAW))].encode()
    # Places of every depth alike: most values lie in long lists.
    depths = sorted({len(path) for path in places})
    depth = depths[generator.integers(len(depths))]
    of_depth = [path for path in places if len(path) == depth]
    *above, key = of_depth[generator.integers(len(of_depth))]
    node = tree
    for step in above:
        node = node[step]
    kind = int(generator.integers(7))
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[f"{key}{chr(int(generator.integers(33, 1000)))}"] = node.pop(key)
    elif kind == 2 and isinstance(node, dict):  # the same key twice
        text = json.dumps(tree)
        pair = f"{json.dumps(key)}: {json.dumps(node[key])}"
        return text.replace(pair, f"{pair}, {pair}", 1).encode()
    elif kind == 3:
        node[key] = _other_type(node[key])
    elif kind == 4:  # two values change places
        *above, other = places[generator.integers(len(places))]
        if not above:
            node[key], tree[other] = tree[other], node[key]
        else:
            node[key] = [node[key]]
    elif kind == 5 and isinstance(node[key], int):
        node[key] += int(generator.integers(-3, 4))
    else:
        node[key] = "@RAW@"
        raw = RAW[generator.integers(len(RAW))]
        return _dumps(tree).replace('"@RAW@"', raw, 1).encode()
    return _dumps(tree).encode()


def _dumps(tree: Any) -> str:
    try:
        return json.dumps(tree)
    except ValueError:  # two values that changed places, one inside the other
        return "{}"


def _places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for step, value in steps:
        yield (*path, step)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*path, step))


def _other_type(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return float(value)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return {str(i): item for i, item in enumerate(value)}
    return list(value) if isinstance(value, dict) else {}


def every_flip(data: bytes, where: range, bits: int) -> Iterator[tuple[tuple[int, int], bytes]]:
    """The bytes with one bit flipped, `bits` of every position; which they are moves along."""
    for position in where:
        for number in range(bits):
            bit = (position + number) % 8
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            yield (position, bit), bytes(changed)


def seeds(few: int, many: int) -> pytest.MarkDecorator:
    """The numbers of the cases: few on every change, the rest when asked for."""
    rest = pytest.param(range(few, many), marks=pytest.mark.slow)
    return pytest.mark.parametrize("cases", [range(few), rest], ids=["few", "many"])
