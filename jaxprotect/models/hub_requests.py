"""How long the hub is waited for, and what is said where it refuses or does not answer."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from huggingface_hub import constants, errors, get_session
from huggingface_hub.utils import httpx

from jaxprotect.errors import InputError, first_line_of, listed
from jaxprotect.models.hub_cache import whole_commits

PATIENCE = 3
"""Times HF_HUB_ETAG_TIMEOUT: the time for all questions before a download."""

RESUMES = 5
"""Times that a file is asked for from the same byte on, after it was cut short there.

huggingface_hub would ask forever, where a server ignores from where on."""

BUSY = 429
"""The status of a hub that was asked too much."""

_KINDS = ("connect", "read", "write", "pool")


@dataclass(kw_only=True)
class Asked:
    """The requests so far, for the message where they were in vain."""

    began: float = field(default_factory=time.monotonic)
    requests: int = 0
    last: str = ""
    resumed: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def seconds(self) -> float:
        """Since the first question."""
        return time.monotonic() - self.began

    @property
    def is_over(self) -> bool:
        """Whether the time for questions is spent."""
        return self.seconds >= PATIENCE * constants.HF_HUB_ETAG_TIMEOUT

    @contextmanager
    def limited(self, *, in_all: bool) -> Iterator[None]:
        """Count the requests and limit their time: huggingface_hub waits forever for some.

        An answer may take HF_HUB_ETAG_TIMEOUT seconds to begin and to go on. A file may pause for
        HF_HUB_DOWNLOAD_TIMEOUT, which huggingface_hub sees to.

        Args:
            in_all: end with the time for questions, too.
        """

        def limit(request: httpx.Request) -> None:
            self.requests += 1
            self.last = str(request.url.copy_with(query=None))  # the query can be a signature
            place = (self.last, request.headers.get("range", ""))
            self.resumed[place] += bool(place[1])
            if self.resumed[place] > RESUMES:
                raise httpx.TransportError("it ends too early, again and again")
            left = PATIENCE * constants.HF_HUB_ETAG_TIMEOUT - self.seconds if in_all else None
            if left is not None and left <= 0:
                raise httpx.TransportError(f"{self.seconds:.0f} s are over")
            given = request.extensions.get("timeout", {})
            own = given.get("read") if request.method == "GET" else None
            most = min(own or constants.HF_HUB_ETAG_TIMEOUT, left or float("inf"))
            request.extensions["timeout"] = dict.fromkeys(_KINDS, most)

        hooks = get_session().event_hooks["request"]
        hooks.append(limit)
        try:
            yield
        finally:
            hooks.remove(limit)


def is_unreachable(error: Exception) -> bool:
    """Whether the hub did not answer, or only that it cannot."""
    error = _cause(error)
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == BUSY
    missing = (errors.LocalEntryNotFoundError, errors.RevisionResolutionError)
    return isinstance(error, (errors.OfflineModeIsEnabled, httpx.TransportError, *missing))


@contextmanager
def explained(repo: str, revision: str | None, asked: Asked) -> Iterator[None]:
    """Every way the hub can refuse, as one line that says what to do.

    Args:
        repo: hub id.
        revision: as it was given.
        asked: counts the requests.

    Raises:
        InputError: instead of the errors of huggingface_hub.
    """
    page = f"{constants.ENDPOINT}/{repo}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        with _no_warnings():
            yield
    except errors.HFValidationError:
        raise InputError(
            f"`{repo}` is neither a folder nor a hub id; a hub id is `name` or `owner/name`"
        ) from None
    except errors.GatedRepoError as error:
        raise InputError(f"`{repo}` is gated: ask for access at {page}, then {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"`revision` {revision!r} does not exist in `{repo}`; see {page}/commits/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"`{repo}` is neither a folder nor a model on the hub; check the name, or {log_in} "
            "if it is private"
        ) from error
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError, errors.RevisionResolutionError) as e:
        reason = _cause(e)
        if is_unreachable(reason):
            raise InputError(_no_answer(repo, asked, reason)) from e
        if isinstance(reason, errors.HfHubHTTPError) and reason.response.status_code in (401, 403):
            raise InputError(f"`{repo}`: the hub refuses access; {log_in}") from e
        raise InputError(f"`{repo}` cannot be fetched: {_first_line(reason)}") from e
    except ValueError as error:  # a page to log in to the network, say
        raise InputError(
            f"`{repo}` cannot be fetched: {asked.last} does not answer as a hub does "
            f"({_first_line(error)}); check the network and HF_ENDPOINT"
        ) from error


def _no_answer(repo: str, asked: Asked, reason: Exception) -> str:
    """What was tried, what is in the cache, what to do."""
    do = "check the network and HF_ENDPOINT, or give a folder"
    if constants.HF_HUB_OFFLINE:
        tried = "HF_HUB_OFFLINE says not to ask the hub"
        do = "unset HF_HUB_OFFLINE, or give a folder"
    else:
        plural = "" if asked.requests == 1 else "s"
        tried = (
            f"the hub cannot be reached ({asked.requests} request{plural} in {asked.seconds:.0f} "
            f"s, the last to {asked.last}: {_first_line(reason)})"
        )
    if isinstance(reason, httpx.TimeoutException):
        do = (
            "check the network, or give a slow hub more than HF_HUB_ETAG_TIMEOUT="
            f"{constants.HF_HUB_ETAG_TIMEOUT} and HF_HUB_DOWNLOAD_TIMEOUT="
            f"{constants.HF_HUB_DOWNLOAD_TIMEOUT} seconds"
        )
    whole = whole_commits(repo)
    cached = "no revision of it is there whole"
    if whole:
        cached = f"whole there, to be given as `revision`: {listed(whole)}"
    return f"`{repo}` is not in the cache and {tried}; {cached}; {do}"


def _cause(error: Exception) -> Exception:
    """A failed request comes wrapped as a file that is missing from the cache."""
    cause = error.__cause__
    wrapped = isinstance(error, (errors.LocalEntryNotFoundError, errors.RevisionResolutionError))
    return cause if wrapped and isinstance(cause, Exception) else error


def _first_line(error: Exception) -> str:
    if isinstance(error, errors.HfHubHTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    return first_line_of(error)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Without huggingface_hub's lines on each try: what matters is in the error."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if level == logging.WARNING:  # unless somebody asked for more
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
