"""The hub's list of models, page by page.

The list has no total: to count it is to read it to its end, up to a thousand models a page. It is
read in the order of creation, the newest first, so that what is uploaded meanwhile comes before
what was read and shifts nothing; in the hub's own order, by popularity, models change places.
Limits of the hub are obeyed: `Retry-After` (RFC 9110) and `RateLimit` (an IETF draft).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from huggingface_hub import constants, errors
from huggingface_hub.utils import build_hf_headers, get_session, httpx, parse_ratelimit_headers

from jaxprotect.errors import InputError, reason_of
from jaxprotect.models.json_files import parse_json
from jaxprotect.models.pace import Pacer

PAGE = 1000
"""Models of a page; the hub may give fewer."""

TRIES = 5
"""Requests for one page before the hub counts as down."""

TIMEOUT = 30.0
"""Seconds to wait for an answer."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A part of the hub's list of models.

    Args:
        name: of the part.
        where: filters, such as `pipeline_tag`.
        expand: what to say of each model.
    """

    name: str
    where: tuple[tuple[str, str], ...] = ()
    expand: tuple[str, ...] = ()

    @property
    def filters(self) -> str:
        """What decides which models are listed, as it stands in the address."""
        return urlencode(self.where)

    @property
    def text(self) -> str:
        """The query of the first page, as it stands in its address."""
        fields = [("expand", name) for name in self.expand]
        return urlencode([*self.where, ("sort", "createdAt"), ("limit", str(PAGE)), *fields])


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the list.

    Args:
        entries: its models, JSON objects with an `id`.
        next: query of the page after it; None at the end.
    """

    entries: list[dict[str, Any]]
    next: str | None


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT`, as huggingface_hub has it."""
    return constants.ENDPOINT


def pages(query: Query, pacer: Pacer, *, after: str | None = None) -> Iterator[Page]:
    """The pages of a query, from the first or from one in the middle.

    Args:
        query: what is listed.
        pacer: keeps the pace; share it between queries.
        after: the `next` of the last page that is known.

    Yields:
        Page after page.

    Raises:
        LimitReachedError: a limit of the pace.
        InputError: the hub is down, refuses, or answers what is no page.
    """
    wanted: str | None = query.text if after is None else after
    seen: set[str | None] = {wanted}
    while wanted is not None:
        pacer.start_page()
        page = _page(_answer(wanted, pacer))
        if page.next in seen:  # None is not: the loop ends there
            raise InputError(f"{endpoint()} names a page as its own successor: {page.next}")
        yield page
        wanted = page.next
        seen.add(wanted)


def _answer(query: str, pacer: Pacer) -> Any:
    """The hub's answer to a query, asked for again while the hub is busy or down."""
    trouble = ""
    for attempt in range(TRIES):
        pacer.take_turn()
        try:
            # The address is ours and only the query the hub's, so that no token goes elsewhere.
            answer = get_session().get(
                f"{endpoint()}/api/models",
                params=query,
                headers=build_hf_headers(),
                timeout=TIMEOUT,
            )
        except errors.OfflineModeIsEnabled:
            raise InputError("HF_HUB_OFFLINE is set; unset it, or leave out `live`") from None
        except httpx.InvalidURL as error:
            raise InputError(f"HF_ENDPOINT {endpoint()!r} is no address: {error}") from None
        except httpx.HTTPError as error:
            trouble, pause = reason_of(error), None
        else:
            pause = _asked_pause(answer.headers, answer.status_code)
            if answer.status_code == 200:
                pacer.hold(pause or 0.0)
                return answer
            trouble = f"HTTP status {answer.status_code}"
            if answer.status_code != 429 and answer.status_code < 500:
                raise InputError(f"{endpoint()} refuses /api/models?{query}: {trouble}")
        pacer.hold(2.0**attempt if pause is None else pause)
    raise InputError(f"{endpoint()} cannot be reached: {trouble}, {TRIES} tries")


def _asked_pause(headers: Mapping[str, str], status: int) -> float | None:
    """Seconds that the hub asks to wait; None if it does not say."""
    limit = parse_ratelimit_headers(headers)
    pauses = [float(limit.reset_in_seconds)] if limit and not limit.remaining else []
    said = headers.get("retry-after", "").strip()
    if status != 200 and said.isdecimal():
        pauses.append(float(said))
    elif status != 200 and said:
        try:
            due = parsedate_to_datetime(said).astimezone(UTC)
        except ValueError:
            return max(pauses, default=None)
        pauses.append((due - datetime.now(UTC)).total_seconds())
    return max(pauses, default=None)


def _page(answer: Any) -> Page:
    """What a page says, if it is one."""
    name = f"{endpoint()}/api/models"
    entries = parse_json(answer.content, name)
    if not isinstance(entries, list):
        raise InputError(f"{name} answers a {type(entries).__name__}; expected a list of models")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            raise InputError(f"{name} lists {str(entry)[:80]!r}; expected an object with an `id`")
    link = answer.links.get("next", {}).get("url")
    following = None if link is None else urlsplit(link).query
    if following == "":
        raise InputError(f"{name} names {link!r} as its next page, which has no cursor")
    return Page(entries=entries, next=following)
