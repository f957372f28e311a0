"""Retries for any HTTP client: which errors are transient, and how long the server asks the client to wait.

No client is imported. Errors are classified by their status, their headers, and the names of their classes. The
functions of this module never raise an exception, whatever the server sends and whatever the class of an error does.
"""

import math
import ssl
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import takewhile
from typing import Any, TypeAlias

from aiosupervise._policy.checks import safe_str
from aiosupervise._policy.raw import attributes_of, cause_of, context_of, module_of, mro_of, type_name_of

from ._http_tables import (
    CLASSES,
    CONNECT_ERRORS,
    PARSE_ERROR,
    SDKS,
    TLS_REASONS,
    TOO_LONG,
    TRANSIENT_EVENTS,
    TRANSIENT_STATUSES,
    USED_UP,
    WRAPPERS,
)

__all__ = ["is_transient", "retry_after"]

Headers: TypeAlias = Mapping[str, str | bytes] | Mapping[bytes, str | bytes]


def retry_after(headers: Headers | None) -> float | None:
    """Return the wait in seconds that a server asks for before the next request; None if it does not ask for a wait.

    Args:
        headers: the headers of a response from aiohttp, httpx, requests or another client, or a dict. Names are
            case-insensitive.

    Returns:
        The value of `retry-after-ms` in seconds, or the value of Retry-After if there is no valid `retry-after-ms`.
        Retry-After may be a number with a fraction, or a date. A date is compared with the Date header of the same
        response, so the clocks of client and server need not agree; without that header, it is compared with the local
        clock. The result is 0.0 if the time has passed or the number is negative, and infinity for a number too large
        for a float. A value that cannot be parsed is ignored.
    """
    return _retry_after(_fields(headers))


def is_transient(error: Exception) -> bool | float:
    """Return whether a failed request may succeed if it is sent again, or the seconds to wait before sending it.

    Use it as the `retry_on` of functions that call httpx, niquests, requests, or the SDKs openai, anthropic and
    google-genai:

        @supervise(retry_on=is_transient)
        async def fetch(client: httpx.AsyncClient, url: str) -> str: ...

    The following are transient: lost and refused connections, timeouts, and the statuses 408, 425, 429, 500, 502, 503,
    504 and 529; for openai and anthropic also 409, as in these SDKs. The header `x-should-retry` overrides the status.
    The following are not transient: an exhausted quota or spend limit, TLS certificate errors, invalid URLs, too many
    redirects, all other statuses, and your own exceptions.

    Retry only requests that are idempotent: the server may have processed a POST before the connection broke.

    Args:
        error: the error that the request raised.

    Returns:
        True if the error is transient, False if it is not. If it is transient and the server asked for a wait, the wait
        in seconds as a float, as returned by `retry_after` or contained in Google's `RetryInfo` in the body of the
        response.
    """
    fields = _fields(_read(_read(error, "response"), "headers")) or _fields(_read(error, "headers"))
    if not _is_transient(error, fields["x-should-retry"]):
        return False
    seconds = _retry_after(fields)
    if seconds is None:
        seconds = _retry_info(error)
    return True if seconds is None else seconds


def _is_transient(error: Exception, should_retry: str) -> bool:
    """Return whether an error is transient, regardless of the wait that the server asks for."""
    packages = {package for package, _ in _classes(error)}
    codes = set(_codes(error))
    if should_retry == "false" or not codes.isdisjoint(USED_UP):
        return False
    if should_retry == "true":
        return True
    classes = {each for cause in _causes(error) for each in _classes(cause)}
    if PARSE_ERROR in classes:
        return TOO_LONG not in classes
    status = _status(error, packages)
    is_of_sdk = not packages.isdisjoint(SDKS)
    if status is not None and status >= HTTPStatus.BAD_REQUEST:
        return status in TRANSIENT_STATUSES or (is_of_sdk and status == HTTPStatus.CONFLICT)
    return (is_of_sdk and not codes.isdisjoint(TRANSIENT_EVENTS)) or _is_lost(error)


def _status(error: Exception, packages: set[str]) -> int | None:
    """Return the status of the response; None if there was none."""
    response = _read(error, "response")
    values = [_read(thing, name) for thing in (error, response) for name in ("status_code", "status")]
    # In other packages, `code` can have any meaning, such as a database's error number.
    if "google" in packages:
        values.append(attributes_of(error).get("code"))
    return next((int(value) for value in values if isinstance(value, int)), None)


def _codes(error: Exception) -> Iterator[str]:
    """Yield the codes with which a service identifies an error, from the attributes and the body of the error."""
    attributes = attributes_of(error)
    body = attributes.get("body")
    parts = (body, _item(body, "error"))
    found = [attributes.get(name) for name in ("code", "type", "error_code")]
    found += [_item(part, name) for part in parts for name in ("code", "type")]
    yield from (code for code in found if isinstance(code, str))


def _is_lost(error: Exception) -> bool:
    """Return whether the connection was lost or timed out, judging by the class names of an error and its causes."""
    causes = list(_causes(error))
    if any(_is_tls_refusal(cause) for cause in causes):
        return False
    listed = list(takewhile(bool, map(_listed, causes)))
    return next((answer for name, answer in filter(None, listed) if name not in WRAPPERS), bool(listed))


def _listed(error: BaseException) -> tuple[str, bool] | None:
    """Return the name of the most derived class of an error in `CLASSES`, and whether that class is transient."""
    listed = ((name, CLASSES.get(package, {}).get(name)) for package, name in _classes(error))
    return next(((name, answer) for name, answer in listed if answer is not None), None)


def _classes(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield the package and the name of each class of an error, the most derived one first."""
    for kind in mro_of(type(error)):
        package, _, _ = str(module_of(kind)).partition(".")
        yield package, type_name_of(kind)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    visited = set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited:
        visited.add(id(cause))
        yield cause
        outer, cause = cause, cause_of(cause)
        if cause is None and not CONNECT_ERRORS.isdisjoint(_classes(outer)):
            cause = context_of(outer)


def _is_tls_refusal(error: BaseException) -> bool:
    return issubclass(type(error), ssl.SSLError) and any(reason in safe_str(error) for reason in TLS_REASONS)


def _retry_after(fields: defaultdict[str, str]) -> float | None:
    milliseconds = _number(fields["retry-after-ms"])
    if milliseconds is not None:
        return milliseconds / 1000
    value = fields["retry-after"]
    seconds = _number(value)
    return _until(value, fields["date"]) if seconds is None else seconds


def _retry_info(error: Exception) -> float | None:
    """Return the wait that Google asks for in the body of the response, which google-genai stores in `details`."""
    details = _item(_item(attributes_of(error).get("details"), "error"), "details")
    for detail in details if isinstance(details, list) else ():
        delay = _item(detail, "retryDelay")
        if _item(detail, "@type") == "type.googleapis.com/google.rpc.RetryInfo" and isinstance(delay, str):
            return _number(delay.removesuffix("s"))
    return None


def _number(value: str) -> float | None:
    """Return the number in a str, or 0.0 if it is negative; None for any other str, including "nan" and "1_000"."""
    try:
        number = float(value) if value.isascii() and "_" not in value else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else max(0.0, number)


def _until(value: str, now: str) -> float | None:
    """Return the seconds from the date `now` to the date `value`, at least 0.

    The local time replaces a `now` that cannot be parsed. The result is None if `value` cannot be parsed.
    """
    then = _date(value)
    if then is None:
        return None
    return max(0.0, (then - (_date(now) or datetime.now(UTC))).total_seconds())


def _date(value: str) -> datetime | None:
    # The errors that `parsedate_to_datetime` raises depend on the version of Python.
    try:
        date = parsedate_to_datetime(value)
    except Exception:
        return None
    # Dates in HTTP are in UTC, and the asctime format does not say so (RFC 9110, section 5.6.7).
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _fields(headers: Any) -> defaultdict[str, str]:
    """Return the readable headers by lower-case name; if a header has several values, the first one."""
    fields = defaultdict[str, str](str)
    with suppress(Exception):
        for name, value in headers.items():
            fields.setdefault(_text(name).lower(), _text(value).strip())
    return fields


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _read(thing: object, name: str) -> object:
    """Return an attribute, or None if it does not exist or reading it raises an error."""
    try:
        return getattr(thing, name)
    except Exception:
        return None


def _item(thing: object, name: str) -> object:
    return thing.get(name) if isinstance(thing, dict) else None
