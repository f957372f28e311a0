"""Retries for aiohttp's client: which errors are transient, and how long the server asks the client to wait.

Install with `pip install "aiosupervise[aiohttp]"`.
"""

import ssl
from typing import Any, Final

from aiosupervise._policy.checks import safe_str
from aiosupervise._policy.raw import cause_of

from ._http_tables import TRANSIENT_STATUSES
from .http import _read, retry_after

try:
    import aiohttp
    from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
except ImportError as _error:
    raise ImportError(
        'aiosupervise.integrations.aiohttp needs aiohttp: pip install "aiosupervise[aiohttp]"'
    ) from _error

__all__ = ["is_transient"]

# aiohttp raises a plain TimeoutError, not its own ServerTimeoutError, when the total timeout ends a request.
_TRANSIENT_ERRORS: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, ConnectionError)
_TLS_ERRORS: Final = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)


def is_transient(error: Exception) -> bool | float:
    """Return whether a failed request may succeed if it is sent again, or the seconds to wait before sending it.

    Use it as the `retry_on` of functions that call `response.raise_for_status()`:

        @supervise(retry_on=is_transient)
        async def fetch(session: ClientSession, url: str) -> str: ...

    The following are transient: lost and refused connections, failed name lookups, timeouts, truncated payloads,
    responses that are not valid HTTP, and the statuses 408, 425, 429, 500, 502, 503, 504 and 529. The following are not
    transient: TLS errors, invalid URLs, headers too long for aiohttp, all other statuses, and your own exceptions.

    Retry only requests that are idempotent: the server may have processed a POST before the connection broke.

    Args:
        error: the error that the request raised.

    Returns:
        True if the error is transient, False if it is not. If the response has a transient status and asks for a wait,
        the wait in seconds as a float, as returned by `aiosupervise.integrations.http.retry_after`.
    """
    # Types are not checked with `isinstance`, which reads an attribute that a class can override: see `raw`.
    has_response = issubclass(type(error), aiohttp.ClientResponseError)
    # aiohttp wraps the errors of its HTTP parser in a ClientResponseError with status 400, which no server has sent.
    # Errors that the pure-Python parser raises in the middle of a body are not wrapped.
    parse_error = cause_of(error) if has_response else error
    if parse_error is not None and issubclass(type(parse_error), HttpProcessingError):
        cause = cause_of(parse_error)
        return not issubclass(type(parse_error if cause is None else cause), LineTooLong)
    if has_response:
        return _classify_status(error)
    return issubclass(type(error), _TRANSIENT_ERRORS) and not _is_tls_error(error)


def _is_tls_error(error: Exception) -> bool:
    if issubclass(type(error), _TLS_ERRORS):
        return True
    # In TLS 1.3 the client finishes the handshake before the server has verified the client's certificate (RFC 8446,
    # section 2). The server's refusal is an alert in the next read, which aiohttp raises as a plain ClientOSError.
    cause = cause_of(error)
    return issubclass(type(cause), ssl.SSLError) and "_ALERT_" in safe_str(cause)


def _classify_status(error: Exception) -> bool | float:
    status = _read(error, "status")
    if not isinstance(status, int) or status not in TRANSIENT_STATUSES:
        return False
    headers: Any = _read(error, "headers")
    seconds = retry_after(headers)
    return True if seconds is None else seconds
