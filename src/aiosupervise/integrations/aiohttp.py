"""Retries for aiohttp's client: what is worth another try, and how long the server asks to wait."""

import math
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

try:
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
except ImportError as _error:
    raise ImportError(
        'aiosupervise.integrations.aiohttp needs aiohttp: pip install "aiosupervise[aiohttp]"'
    ) from _error

__all__ = ["is_transient"]

_TRANSIENT_STATUSES: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_TRANSIENT_ERRORS: Final = (
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    TimeoutError,  # aiohttp raises the plain one when its total timeout ends a request
    ConnectionError,
)
_TLS_ERRORS: Final = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)
_SECONDS: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)


def is_transient(error: Exception) -> bool | float:
    """Tell whether a request that failed with `error` may succeed when it is sent again.

    Meant as a policy's `retry_on`, for functions that call `response.raise_for_status()`:

        @supervise(retry_on=is_transient)
        async def fetch(session: ClientSession, url: str) -> str: ...

    Transient are lost and refused connections, failed name look-ups, timeouts, truncated payloads, answers that are
    not HTTP, and the statuses 408, 425, 429, 500, 502, 503 and 504.
    Not transient are TLS errors, invalid URLs, headers too long for aiohttp, every other status, and errors of your
    own.

    Only you know whether a request may be sent twice: a POST whose connection broke may have been served.

    Args:
        error: What the request raised.

    Returns:
        False when it is not transient, True when it is, and when the server sent a Retry-After with
        one of the statuses, the seconds that it asks to wait, as a float; 0.0 when that moment is past.
        A date in Retry-After is measured against the response's own Date, so that two clocks need not agree.
    """
    # An answer that aiohttp's parser cannot read comes as a ClientResponseError of status 400, which no server sent;
    # from the middle of a body, where the parser is the one in pure Python, as what the parser raised.
    unread = error.__cause__ if isinstance(error, aiohttp.ClientResponseError) else error
    if isinstance(unread, HttpProcessingError):
        return not isinstance(unread.__cause__ or unread, LineTooLong)
    if isinstance(error, aiohttp.ClientResponseError):
        return _is_transient_response(error)
    return isinstance(error, _TRANSIENT_ERRORS) and not _is_tls(error)


def _is_tls(error: Exception) -> bool:
    if isinstance(error, _TLS_ERRORS):
        return True
    # Under TLS 1.3 a server refuses a client's certificate after the handshake, with an alert,
    # and aiohttp reports that as a plain ClientOSError.
    return isinstance(error.__cause__, ssl.SSLError) and "_ALERT_" in str(error.__cause__)


def _is_transient_response(error: aiohttp.ClientResponseError) -> bool | float:
    if error.status not in _TRANSIENT_STATUSES:
        return False
    wait = _retry_after(error.headers or {})
    return True if wait is None else wait


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds from the response's date, or else from now, to its Retry-After; None if unreadable."""
    value = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    moment = _http_date(value)
    if moment is None:
        return None
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    # The asctime form of RFC 9110 names no zone: HTTP dates are in UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
