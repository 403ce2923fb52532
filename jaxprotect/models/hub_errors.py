"""Every way in which the hub refuses or does not answer, as one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, errors
from huggingface_hub.utils import httpx

from jaxprotect.errors import InputError, first_line_of, listed
from jaxprotect.models.hub_cache import said_of_cache, whole_commits
from jaxprotect.models.hub_requests import Requests, cause_of, is_unreachable


@contextmanager
def explained(repo: str, revision: str | None, requests: Requests) -> Iterator[None]:
    """Turn the errors of huggingface_hub into lines of our own.

    Args:
        repo: hub id.
        revision: as it was given.
        requests: those of the block.

    Raises:
        InputError: instead of the errors of huggingface_hub.
    """
    page = f"{constants.ENDPOINT}/{repo}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError:
        raise InputError(
            f"`{repo}` is neither a folder nor a hub id; a hub id is `name` or `owner/name`"
        ) from None
    except errors.GatedRepoError as error:
        raise InputError(
            f"`{repo}` is gated: ask for access at {page}, then {log_in}{_or_cache(repo)}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"`revision` {revision!r} does not exist in `{repo}`; see {page}/commits/main"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"`{repo}` is neither a folder nor a model on the hub; check the name, or {log_in} "
            f"if it is private{_or_cache(repo)}"
        ) from error
    except (errors.HfHubHTTPError, httpx.HTTPError, OSError, errors.RevisionResolutionError) as e:
        reason = cause_of(e)
        if is_unreachable(reason):
            raise InputError(_no_answer(repo, requests, reason)) from e
        if isinstance(reason, errors.HfHubHTTPError) and reason.response.status_code in (401, 403):
            raise InputError(f"`{repo}`: the hub refuses access; {log_in}{_or_cache(repo)}") from e
        raise InputError(f"`{repo}` cannot be fetched: {_reason(reason)}") from e
    except ValueError as error:  # a page to log in to the network, say
        raise InputError(
            f"`{repo}` cannot be fetched: {requests.last} does not answer as a hub does "
            f"({_reason(error)}); check the network and HF_ENDPOINT"
        ) from error


def _or_cache(repo: str) -> str:
    """How to use what came while the hub gave access, if anything did.

    It is not used unasked: a hub that answers knows best what may be had.
    """
    if not (whole := whole_commits(repo)):
        return ""
    return f"; whole in the cache, with HF_HUB_OFFLINE=1 and as `revision`: {listed(whole)}"


def _no_answer(repo: str, requests: Requests, reason: Exception) -> str:
    """What was tried, what is in the cache, what to do."""
    do = "check the network and HF_ENDPOINT, or give a folder"
    if constants.HF_HUB_OFFLINE:
        tried = "HF_HUB_OFFLINE says not to ask the hub"
        do = "unset HF_HUB_OFFLINE, or give a folder"
    else:
        plural = "" if requests.count == 1 else "s"
        tried = (
            f"the hub cannot be reached ({requests.count} request{plural} in "
            f"{requests.seconds:.0f} s, the last to {requests.last}: {_reason(reason)})"
        )
    if isinstance(reason, httpx.TimeoutException):
        do = (
            "check the network, or give a slow hub more than HF_HUB_ETAG_TIMEOUT="
            f"{constants.HF_HUB_ETAG_TIMEOUT} and HF_HUB_DOWNLOAD_TIMEOUT="
            f"{constants.HF_HUB_DOWNLOAD_TIMEOUT} seconds"
        )
    return f"`{repo}` is not in the cache and {tried}; {said_of_cache(repo)}; {do}"


def _reason(error: Exception) -> str:
    if isinstance(error, errors.HfHubHTTPError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    return first_line_of(error)
