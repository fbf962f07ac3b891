"""Asking a hub again: what passes (too many requests, a fault of the server, a cut line) is waited
out for as long as told."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from glam.config import HubCorpusConfig
from glam.errors import UserError, first_line
from glam.log import log
from glam.units import duration

T = TypeVar("T")
_PASSING = (408, 425, 429, 500, 502, 503, 504, 520, 522, 524)  # statuses of HTTP
_LONGEST = 60.0  # [seconds] of a wait, unless the hub names a longer one
_SAID_EVERY = 10  # waits of the longest kind: a line in ten minutes


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long the hub is waited for."""

    hours: float  # in which nothing may arrive
    first_wait: float  # [seconds]
    timeout: float  # [seconds] of silence in a request

    @classmethod
    def of(cls, corpus: HubCorpusConfig) -> "Patience":
        return cls(
            hours=corpus.retry_hours,
            first_wait=corpus.retry_seconds,
            timeout=corpus.timeout_seconds,
        )


def patiently(
    what: str,
    patience: Patience,
    attempt: Callable[[], T],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """What `attempt` returns in the end. The time is counted anew whenever `progress` has grown.
    Raises UserError when it is up, and at once whatever does not pass."""
    done, since, wait, waits = progress(), time.monotonic(), patience.first_wait, 0
    while True:
        try:
            return attempt()
        except Exception as error:
            if (passing := _passing(error)) is None:
                raise
            reason, asked = passing
        if (now := progress()) > done:
            done, since, wait, waits = now, time.monotonic(), patience.first_wait, 0
        left = patience.hours * 3600 - (time.monotonic() - since)
        if left <= 0:
            raise UserError(
                f"{what}: {reason}, and nothing came for data.corpus.retry_hours="
                f"{patience.hours:g}; the same line goes on where it stopped"
            )
        pause = min(max(wait, asked), left)
        if wait < _LONGEST or waits % _SAID_EVERY == 0:
            limit = duration(patience.hours * 3600)
            log.info(f"{what}: {reason}; waiting {duration(pause)} ({limit} at most)")
        time.sleep(pause)
        wait, waits = min(2 * wait, _LONGEST), waits + 1


def _passing(error: Exception) -> tuple[str, float] | None:
    """In a few words what went wrong and the seconds that the hub asks to wait; None where asking
    again is of no use."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        response = error.response
        if response.status_code not in _PASSING:
            return None
        return f"the hub answers {response.status_code}", _asked(response.headers)
    if isinstance(error, httpx2.TimeoutException):
        return "the hub is silent", 0.0
    if isinstance(error, httpx2.ConnectError):
        return "the hub cannot be reached", 0.0
    if isinstance(error, httpx2.NetworkError | httpx2.ProtocolError | httpx2.ProxyError):
        return f"the line was cut ({first_line(error)})", 0.0
    return None


def _asked(headers: Mapping[str, str]) -> float:
    """Seconds that the hub asks to wait; 0 where it does not say."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0
