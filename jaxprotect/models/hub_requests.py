"""Requests to the hub: how long they are waited for, how often they are made again."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from huggingface_hub import constants, errors, get_session
from huggingface_hub.utils import httpx

WAITS = (1.0, 2.0, 4.0)
"""Seconds before the hub is asked again."""

PATIENCE = 3
"""Times HF_HUB_ETAG_TIMEOUT: the time for all questions before a download."""

RESUMES = 5
"""Times that the rest of a file is asked for from the same byte on.

huggingface_hub has this limit too, but not where a server sends the file from its start again and
cuts it again: each answer brings something."""

_KINDS = ("connect", "read", "write", "pool")

T = TypeVar("T")


class EndlessError(httpx.TransportError):
    """A file of which no try gets more than the one before."""


@dataclass(kw_only=True)
class Requests:
    """The requests for one model so far.

    Args:
        began: seconds, as `time.monotonic` counts them.
        count: how many there were.
        last: address of the last one.
    """

    began: float = field(default_factory=time.monotonic)
    count: int = 0
    last: str = ""

    @property
    def seconds(self) -> float:
        """Since the first question."""
        return time.monotonic() - self.began

    def retried(self, ask: Callable[[], T], *, again: bool = True, in_all: bool = False) -> T:
        """Ask, and again while the hub does not answer.

        An answer may take HF_HUB_ETAG_TIMEOUT seconds to begin and to go on. A file may pause for
        HF_HUB_DOWNLOAD_TIMEOUT, which huggingface_hub sees to.

        Args:
            ask: makes requests with huggingface_hub.
            again: whether there is more than one try, after the seconds of `WAITS`.
            in_all: all requests together have `PATIENCE`.

        Returns:
            What `ask` gave.

        Raises:
            Exception: what the last `ask` raised.
        """
        for wait in WAITS if again else ():
            try:
                with self._limited(in_all):
                    return ask()
            except Exception as error:
                over = in_all and self.seconds + wait >= _patience()
                over = over or isinstance(cause_of(error), EndlessError)
                if constants.HF_HUB_OFFLINE or over or not is_unreachable(error):
                    raise
            time.sleep(wait)
        with self._limited(in_all):
            return ask()

    @contextmanager
    def _limited(self, in_all: bool) -> Iterator[None]:
        """Count the requests and limit their time: huggingface_hub waits forever for some."""
        resumed: Counter[tuple[str, str]] = Counter()  # (address, from where on)

        def limit(request: httpx.Request) -> None:
            self.count += 1
            self.last = str(request.url.copy_with(query=None))  # the query can be a signature
            place = (self.last, request.headers.get("range", ""))
            resumed[place] += bool(place[1])
            if resumed[place] > RESUMES:
                raise EndlessError("all answers end at the same byte, before the end of the file")
            left = _patience() - self.seconds if in_all else float("inf")
            if left <= 0:
                raise httpx.TimeoutException(f"{self.seconds:.0f} s are over")
            given = request.extensions.get("timeout", {})
            own = given.get("read") if request.method == "GET" else None
            most = min(own or constants.HF_HUB_ETAG_TIMEOUT, left)
            request.extensions["timeout"] = dict.fromkeys(_KINDS, most)

        hooks = get_session().event_hooks["request"]
        hooks.append(limit)
        try:
            with _quiet():
                yield
        finally:
            hooks.remove(limit)


def is_unreachable(error: Exception) -> bool:
    """Whether the hub did not answer, or only that it cannot."""
    error = cause_of(error)
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    missing = (errors.LocalEntryNotFoundError, errors.RevisionResolutionError)
    return isinstance(error, (errors.OfflineModeIsEnabled, httpx.TransportError, *missing))


def cause_of(error: Exception) -> Exception:
    """A failed request comes wrapped as a file that is missing from the cache."""
    cause = error.__cause__
    wrapped = isinstance(error, (errors.LocalEntryNotFoundError, errors.RevisionResolutionError))
    return cause if wrapped and isinstance(cause, Exception) else error


def _patience() -> float:
    return PATIENCE * constants.HF_HUB_ETAG_TIMEOUT


@contextmanager
def _quiet() -> Iterator[None]:
    """Without huggingface_hub's lines on each try: what matters is in the error."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if level == logging.WARNING:  # unless somebody asked for more
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
