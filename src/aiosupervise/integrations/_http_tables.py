"""Tables for HTTP: the statuses, the error codes of services, and the error classes of the clients by name."""

from http import HTTPStatus
from typing import Final

TRANSIENT_STATUSES: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        529,  # overloaded
    }
)

# Codes sent with the status 429 if the next request would receive the same response.
USED_UP: Final = frozenset({"contract_spend_limit_reached", "enforced_spend_limit_reached", "insufficient_quota"})

# Codes of the errors that the SDKs raise for an event in a stream that began with the status 200.
TRANSIENT_EVENTS: Final = frozenset(
    {
        "api_error",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "server_error",
        "timeout_error",
    }
)

SDKS: Final = frozenset({"anthropic", "openai"})

_HTTPX: Final = {
    "TransportError": True,
    "LocalProtocolError": False,
    "UnsupportedProtocol": False,
    "RequestError": False,
    "InvalidURL": False,
}
_HTTPCORE: Final = {"NetworkError": True, "ProxyError": True, "RemoteProtocolError": True, "TimeoutException": True}
_REQUESTS: Final = {"ChunkedEncodingError": True, "ConnectionError": True, "SSLError": False, "Timeout": True}
_URLLIB3: Final = {
    "MaxRetryError": True,
    "ProtocolError": True,
    "ProxyError": True,
    "ResponseError": False,
    "ResponseNotChunked": False,
    "SSLError": False,
    "TimeoutError": True,
}
_AIOHTTP: Final = {
    "ClientConnectionError": True,
    "ClientPayloadError": True,
    "ClientSSLError": False,
    "ServerFingerprintMismatch": False,
}

# The classes of errors that have no status, by the package that defines them. The first listed class in an error's MRO
# is decisive, so that a class overrides its bases.
CLASSES: Final[dict[str, dict[str, bool]]] = {
    "aiohttp": _AIOHTTP,
    "anthropic": {"APIConnectionError": True},
    "builtins": {"ConnectionError": True, "TimeoutError": True},
    "http": {"BadStatusLine": True, "IncompleteRead": True},
    "httpcore": _HTTPCORE,
    "httpcore2": _HTTPCORE,
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "niquests": _REQUESTS,
    "openai": {"APIConnectionError": True},
    "requests": _REQUESTS,
    "socket": {"gaierror": True},
    "urllib3": _URLLIB3,
    "urllib3_future": _URLLIB3,
}

# These classes can be raised from any error; if that error is listed too, it is decisive.
WRAPPERS: Final = frozenset({"APIConnectionError", "MaxRetryError"})

# aiohttp wraps the errors of its HTTP parser in a ClientResponseError with status 400, which no server has sent.
PARSE_ERROR: Final = ("aiohttp", "HttpProcessingError")
TOO_LONG: Final = ("aiohttp", "LineTooLong")

# httpcore's connection pool re-raises these errors `from None`, so only the context refers to the error of a TLS
# handshake. The context of other errors can be an error of another call, during whose handling they were raised.
CONNECT_ERRORS: Final = frozenset({("httpcore", "ConnectError"), ("httpcore2", "ConnectError")})

# An SSLError may also mean that the connection was lost; with one of these texts, TLS was refused. A server sends an
# alert when it rejects the client's certificate, and a server that does not support TLS appears to use a wrong version
# of it.
TLS_REASONS: Final = ("CERTIFICATE_VERIFY_FAILED", "_ALERT_", "WRONG_VERSION_NUMBER")
