"""How fast and how long a server is asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jaxprotect.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast and how long the hub is asked.

    Args:
        requests_per_second: at most; the hub allows 500 in 5 minutes to who is not logged in.
        max_pages: pages to fetch now, of all counts together.
        max_seconds: time to take now, waiting included.
    """

    requests_per_second: float = 1.0
    max_pages: int = 5000
    max_seconds: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what would never ask or never stop."""
        if not 0 < self.requests_per_second <= 100:
            raise InputError(
                f"`requests_per_second` is {self.requests_per_second}; allowed: above 0, up to 100"
            )
        if self.max_pages < 1:
            raise InputError(f"`max_pages` is {self.max_pages}; allowed: from 1")
        if not 0 < self.max_seconds < float("inf"):
            raise InputError(f"`max_seconds` is {self.max_seconds}; allowed: above 0, and finite")


class LimitReachedError(Exception):
    """A limit of the `Pace` stops the listing; what was fetched stands."""


class Pacer:
    """When the next request may go out.

    Args:
        pace: the limits.
        clock: seconds that only grow.
        sleep: waits.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pace, self._clock, self._sleep = pace, clock, sleep
        self._end = clock() + pace.max_seconds
        self._next = clock()
        self._pages = pace.max_pages

    def start_page(self) -> None:
        """Count a page.

        Raises:
            LimitReachedError: there were enough.
        """
        if not self._pages:
            raise LimitReachedError(f"`max_pages` is {self._pace.max_pages}")
        self._pages -= 1

    def take_turn(self) -> None:
        """Wait until the next request is due.

        Raises:
            LimitReachedError: it would be due after the time limit.
        """
        now = self._clock()
        due = max(now, self._next)
        if due >= self._end:
            raise LimitReachedError(
                f"`max_seconds` is {self._pace.max_seconds:g}"
                + (f", and the hub asks to wait {due - now:.0f} s" if due - now > 1 else "")
            )
        if due > now:
            self._sleep(due - now)
        self._next = due + 1 / self._pace.requests_per_second

    def hold(self, seconds: float) -> None:
        """No request before these seconds are over."""
        self._next = max(self._next, self._clock() + seconds)
