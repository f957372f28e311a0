"""What `retry_after` reads, and how `is_transient` classifies errors by their shape: no client is needed here."""

import math
import ssl
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from http import HTTPStatus
from socket import gaierror

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from aiosupervise import Reason, supervise, verdict
from aiosupervise.integrations.http import is_transient, retry_after
from aiosupervise.testing import no_waiting, script

THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
DATE = format_datetime(THEN, usegmt=True)
LATER = format_datetime(THEN + timedelta(seconds=90), usegmt=True)


# Headers


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 0.503 ", 0.503),
        (".5", 0.5),
        ("+2", 2.0),
        ("1e3", 1000.0),
        ("-0.003", 0.0),
        ("-inf", 0.0),
        ("inf", math.inf),
        ("9" * 400, math.inf),
        ("9" * 10_000, math.inf),
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_seconds(name: str, value: str, seconds: float) -> None:
    """Seconds may have a fraction; negative ones are 0, and what is too large for a float is infinity."""
    answered = retry_after({name: value})
    assert isinstance(answered, float)
    assert answered == seconds


@pytest.mark.parametrize("value", ["", "soon", "nan", "1_000", "\u0661", "7 s", "5, 5", "Sun, 06 Nov 1994", "\x00"])
def test_garbage(value: str) -> None:
    """A value that cannot be parsed is ignored, as is a missing one."""
    assert retry_after({"Retry-After": value}) is None
    assert retry_after({"retry-after-ms": value}) is None
    assert retry_after({}) is None
    assert retry_after(None) is None


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_a_date_beside_a_date(form: str) -> None:
    """A date, in each of HTTP's three forms, is measured against the response's own Date, whatever the clock here."""
    later = THEN + timedelta(seconds=90)
    assert retry_after({"Retry-After": later.strftime(form), "Date": THEN.strftime(form)}) == 90.0
    assert retry_after({"Retry-After": THEN.strftime(form), "Date": later.strftime(form)}) == 0.0


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}], ids=["none", "unreadable"])
def test_a_date_without_a_readable_date(date: dict[str, str]) -> None:
    """Without a Date that can be parsed, it is measured against the clock of this machine."""
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    answered = retry_after({"Retry-After": soon, **date})
    assert answered is not None
    assert 0.0 < answered <= 3600.0


def test_milliseconds_win() -> None:
    """`retry-after-ms` is more exact, and so wins over Retry-After, unless it cannot be parsed."""
    assert retry_after({"Retry-After": "1", "Retry-After-Ms": "503"}) == 0.503
    assert retry_after({"Retry-After": "1", "Retry-After-Ms": "-1"}) == 0.0
    assert retry_after({"Retry-After": "1", "Retry-After-Ms": "soon"}) == 1.0
    assert retry_after({"retry-after-ms": "9" * 400}) == math.inf


def message() -> Message:
    sent = Message()
    sent["Retry-After"] = "7"
    return sent


@pytest.mark.parametrize(
    "headers",
    [
        CIMultiDict([("retry-AFTER", "7"), ("Retry-After", "8")]),
        {"Retry-After": b"7"},
        {b"retry-after": b"7"},
        {"Name": b"\xff", "Retry-After": "7"},
        {"Name": None, "Retry-After": 7},
        message(),
    ],
    ids=["aiohttp", "bytes", "all bytes", "not ASCII", "not text", "urllib"],
)
def test_mappings(headers: Mapping[str, str]) -> None:
    """The mappings of the clients can be given as they are; the first of several values counts."""
    assert retry_after(headers) == 7.0


class Broken(Mapping[str, str]):
    """Headers that fail when they are read."""

    def __getitem__(self, name: str) -> str:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("headers", [Broken(), {"Retry-After": None}, {1: 2}, {"Retry-After": [7]}, 7, "Retry-After"])
def test_headers_that_cannot_be_read(headers: Mapping[str, str]) -> None:
    """Headers that are none are as no headers."""
    assert retry_after(headers) is None


@pytest.mark.usefixtures("untraced")
@given(st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "Date"]), st.text() | st.binary()))
def test_nothing_that_a_server_sends_raises(headers: dict[str, str | bytes]) -> None:
    """Whatever the headers say, the answer is None or a number of seconds from 0 to infinity."""
    answered = retry_after(headers)
    assert answered is None or answered >= 0.0


NUMBER = st.integers(-(10**12), 10**12).map(str)


@given(NUMBER, NUMBER, NUMBER, st.sampled_from(["GMT", "", "-0000", "+9999", "+0000000001", "-99999999", "EST", "X"]))
def test_no_date_that_a_server_sends_raises(day: str, year: str, hour: str, zone: str) -> None:
    """The same for what looks like a date."""
    answered = retry_after({"Retry-After": f"Sun, {day} Nov {year} {hour}:49:37 {zone}", "Date": DATE})
    assert answered is None or answered >= 0.0


async def test_an_infinite_wait_makes_the_call_give_up() -> None:
    """No number of a server ends in another error than that of the caller."""
    error = StatusError(429, {"Retry-After": "9" * 400})
    with no_waiting(), pytest.raises(StatusError) as caught:
        await supervise(retry_on=is_transient)(script(error))()
    assert caught.value is error
    given_up = verdict(error)
    assert given_up is not None
    assert given_up.reason is Reason.RETRY_AFTER_TOO_LONG


# Statuses


class Response:
    def __init__(self, status_code: int, headers: object = None) -> None:
        self.status_code = status_code
        self.headers = headers


class StatusError(Exception):
    """Has a response, as the errors of httpx, requests and the SDKs."""

    def __init__(self, status_code: int, headers: object = None) -> None:
        self.response = Response(status_code, headers)


class BareError(Exception):
    """Has attributes of its own, as the errors of aiohttp."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__ |= attributes


def of(module: str, name: str, base: type[BareError] = BareError) -> type[BareError]:
    """Make a class with the name and the module of another."""
    return type(name, (base,), {"__module__": module})


TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 529)


@pytest.mark.parametrize("status", TRANSIENT)
def test_transient_statuses(status: int) -> None:
    """Each status that says "not now" is transient, wherever the error has it."""
    assert is_transient(StatusError(status)) is True
    assert is_transient(BareError(status=status)) is True
    assert is_transient(BareError(status_code=status)) is True
    assert is_transient(BareError(response=BareError(status=status))) is True


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 451, 501, 505, 511, 600])
def test_other_statuses(status: int) -> None:
    """Every other status is not, also with a Retry-After, and also where the class is that of a lost connection."""
    assert is_transient(StatusError(status, {"Retry-After": "1"})) is False
    assert is_transient(of("httpx", "ReadError", of("httpx", "TransportError"))(status=status)) is False


def test_a_status_can_be_an_enum() -> None:
    """A status of `http.HTTPStatus` is a number; a word or a method is not a status."""
    assert is_transient(BareError(status=HTTPStatus.SERVICE_UNAVAILABLE)) is True
    assert is_transient(BareError(status="503")) is False
    assert is_transient(BareError(status=lambda: 503)) is False
    assert is_transient(BareError(status="UNAVAILABLE", response=Response(503))) is True


@pytest.mark.parametrize(
    ("delay", "answer"),
    [("34s", 34.0), ("0.503s", 0.503), ("0s", 0.0), ("-3s", 0.0), ("1e999s", math.inf), ("soon", True), (34, True)],
)
def test_the_retry_info_of_google(delay: object, answer: float) -> None:
    """Gemini asks for a wait in the body of the response; the headers come first."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    other = {"@type": "type.googleapis.com/google.rpc.Help", "retryDelay": "1s"}
    body = {"error": {"code": 429, "details": ["odd", other, info]}}
    kind = of("google.genai.errors", "ClientError")
    answered = is_transient(kind(code=429, details=body))
    assert (answered, type(answered)) == (answer, type(answer))
    assert is_transient(kind(code=429, details=body, response=Response(429, {"Retry-After": "7"}))) == 7.0
    assert is_transient(kind(code=400, details=body)) is False


@pytest.mark.parametrize("details", [None, "text", {}, {"error": None}, {"error": {"details": {"retryDelay": "3s"}}}])
def test_a_body_without_a_retry_info(details: object) -> None:
    """Other bodies ask for nothing."""
    assert is_transient(of("google.genai.errors", "ClientError")(code=429, details=details)) is True


def test_a_conflict_is_transient_for_the_sdks_that_say_so() -> None:
    """openai and anthropic retry 409, which is a lock that was not free in time; for others it is a conflict."""
    assert is_transient(of("openai", "ConflictError")(status_code=409)) is True
    assert is_transient(of("anthropic._exceptions", "ConflictError")(status_code=409)) is True
    assert is_transient(of("httpx", "HTTPStatusError")(status_code=409)) is False


def test_the_code_of_google() -> None:
    """google-genai has the status in `code`; elsewhere a code can be the number of anything."""
    assert is_transient(of("google.genai.errors", "ServerError")(code=503, status="UNAVAILABLE")) is True
    assert is_transient(of("google.genai.errors", "ClientError")(code=400, status="INVALID")) is False
    assert is_transient(of("database", "Error")(code=503)) is False


def test_the_wait_is_the_answer() -> None:
    """The result is the wait that the server asks for, as a float; 0.0 is not mistaken for False."""
    assert is_transient(StatusError(429, {"Retry-After": "0.503"})) == 0.503
    assert is_transient(BareError(status=503, headers={"retry-after-ms": b"20"})) == 0.02
    assert is_transient(StatusError(503, {"Retry-After": LATER, "Date": DATE})) == 90.0
    answered = is_transient(StatusError(503, {"Retry-After": "0"}))
    assert isinstance(answered, float)
    assert answered == 0.0
    assert is_transient(StatusError(503, {"Retry-After": "soon"})) is True


def test_the_server_overrules_the_status() -> None:
    """`x-should-retry` says what the status does not."""
    assert is_transient(StatusError(503, {"X-Should-Retry": "false", "Retry-After": "1"})) is False
    assert is_transient(StatusError(400, {"X-Should-Retry": "true"})) is True
    assert is_transient(StatusError(400, {"X-Should-Retry": "true", "Retry-After": "2"})) == 2.0
    assert is_transient(StatusError(503, {"X-Should-Retry": "maybe"})) is True


@pytest.mark.parametrize(
    "attributes",
    [
        {"code": "insufficient_quota"},
        {"type": "insufficient_quota"},
        {"error_code": "enforced_spend_limit_reached"},
        {"body": {"code": "insufficient_quota"}},
        {"body": {"type": "insufficient_quota"}},
        {"body": {"error": {"code": "insufficient_quota"}}},
        {"body": {"error": {"type": "insufficient_quota"}}},
    ],
    ids=str,
)
def test_a_quota_that_is_used_up(attributes: dict[str, object]) -> None:
    """The next request would be rejected too, although the status is 429, and whatever `x-should-retry` says."""
    assert is_transient(BareError(status_code=429, headers={"x-should-retry": "true"}, **attributes)) is False


@pytest.mark.parametrize("body", [None, "text", b"bytes", [], {}, {"error": "text"}, {"error": {"code": 1}}], ids=str)
def test_other_bodies(body: object) -> None:
    """Any other body leaves it at the status."""
    assert is_transient(BareError(status_code=429, body=body, code=None, type=7)) is True


def test_an_error_in_a_stream() -> None:
    """The SDKs raise the error events of a stream whose status was 200, or without a status."""
    streamed = of("anthropic", "APIStatusError")
    assert is_transient(streamed(status_code=200, type="overloaded_error")) is True
    assert is_transient(streamed(status_code=200, type="invalid_request_error")) is False
    assert is_transient(of("openai", "APIError")(code="rate_limit_exceeded", type=None)) is True
    assert is_transient(BareError(type="overloaded_error")) is False


# Connections and timeouts


LISTED = [
    ("aiohttp.client_exceptions", "ClientConnectionError", True),
    ("aiohttp", "ClientPayloadError", True),
    ("anthropic", "APIConnectionError", True),
    ("http.client", "IncompleteRead", True),
    ("httpcore", "ReadTimeout", False),
    ("httpcore", "TimeoutException", True),
    ("httpcore2", "NetworkError", True),
    ("httpx", "TransportError", True),
    ("httpx", "TooManyRedirects", False),
    ("httpx2", "TransportError", True),
    ("niquests.exceptions", "ConnectionError", True),
    ("openai", "APIConnectionError", True),
    ("requests.exceptions", "Timeout", True),
    ("requests.exceptions", "InvalidURL", False),
    ("urllib3.exceptions", "ProtocolError", True),
    ("urllib3_future.exceptions", "TimeoutError", True),
    ("elsewhere", "TimeoutError", False),
    ("httpxtra", "TransportError", False),
]


@pytest.mark.parametrize(("module", "name", "expected"), LISTED)
def test_listed_classes(module: str, name: str, *, expected: bool) -> None:
    """A class is known by its package and its name, and so are the classes derived from it."""
    known = of(module, name)
    assert is_transient(known()) is expected
    assert is_transient(of("app", "Own", known)()) is expected


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), BrokenPipeError(), TimeoutError(), gaierror(-2, "Name or service not known")]
)
def test_errors_of_python_itself(error: Exception) -> None:
    """The connection errors and the timeout of Python itself count, whoever raises them."""
    assert is_transient(error) is True


@pytest.mark.parametrize("error", [RuntimeError(), ValueError(), OSError(), FileNotFoundError(), ssl.SSLError()])
def test_other_errors(error: Exception) -> None:
    """A bug in the worker or a missing file is not transient: only the network is forgiven."""
    assert is_transient(error) is False


def test_a_class_overrules_its_bases() -> None:
    """The most derived class that is listed decides."""
    transport = of("httpx", "TransportError", of("httpx", "RequestError"))
    assert is_transient(transport()) is True
    assert is_transient(of("httpx", "UnsupportedProtocol", transport)()) is False
    assert is_transient(of("requests", "SSLError", of("requests", "ConnectionError"))()) is False


def caused(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error


def test_an_error_that_wraps_another() -> None:
    """The SDKs raise one class from whatever went wrong: if that is listed, it decides."""
    wrapper = of("openai", "APIConnectionError")
    assert is_transient(caused(wrapper(), of("httpx2", "TransportError")())) is True
    assert is_transient(caused(wrapper(), of("httpx2", "RequestError")())) is False
    assert is_transient(caused(wrapper(), RuntimeError())) is True
    refused = caused(of("urllib3", "MaxRetryError")(), of("urllib3", "SSLError")())
    assert is_transient(refused) is False
    assert is_transient(caused(of("requests", "ConnectionError")(), of("httpx", "InvalidURL")())) is True


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), False),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]"), False),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), False),
        (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING]"), True),
        (OSError(1, "NO_ALERT_AT_ALL"), True),
    ],
    ids=str,
)
def test_tls(cause: Exception, *, expected: bool) -> None:
    """A certificate that is not accepted is as bad the next time; a TLS connection that breaks is a lost connection."""
    connect = of("httpcore", "ConnectError", of("httpcore", "NetworkError"))
    assert is_transient(caused(of("httpx", "TransportError")(), caused(connect(), cause))) is expected


def test_a_tls_error_behind_a_cause_that_was_removed() -> None:
    """httpcore raises its ConnectError `from None`; the context of other errors may be another call's error."""
    refused = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    connect = of("httpcore", "ConnectError", of("httpcore", "NetworkError"))()
    connect.__context__ = refused
    assert is_transient(caused(of("httpx", "TransportError")(), connect)) is False
    lost = ConnectionResetError()
    lost.__context__ = refused
    assert is_transient(lost) is True


def test_an_answer_that_is_not_http() -> None:
    """aiohttp's own status 400 for what it cannot parse is not the server's; what is too long for it stays too long."""
    parse_error = of("aiohttp.http_exceptions", "BadStatusLine", of("aiohttp", "HttpProcessingError"))
    wrapper = of("aiohttp", "ClientResponseError")
    assert is_transient(caused(wrapper(status=400), parse_error())) is True
    too_long = of("aiohttp.http_exceptions", "LineTooLong", parse_error)
    assert is_transient(caused(wrapper(status=400), too_long())) is False


def test_deprecated_properties_are_not_read() -> None:
    """aiohttp warns when the property `code` of an error is read."""
    assert is_transient(WarningError(status=503)) is True


def test_causes_in_a_circle() -> None:
    """Causes that lead back are visited once."""
    first, second = of("openai", "APIConnectionError")(), of("openai", "APIConnectionError")()
    assert is_transient(caused(first, caused(second, first))) is True


# Errors that cannot be read


def resisting() -> Exception:
    """Make an error that fails at every attribute; its class, at those that identify it.

    The class is not kept, since other libraries look through all subclasses of Exception.
    """

    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            if name in {"__class__", "__module__", "__mro__", "__name__"}:
                raise RuntimeError(name)
            return super().__getattribute__(name)

    class ResistingError(ConnectionError, metaclass=Meta):
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    return ResistingError()


class WarningError(BareError):
    """Has a property that warns."""

    @property
    def code(self) -> int:
        warnings.warn("use status", DeprecationWarning, stacklevel=2)
        raise AssertionError


class HalfError(Exception):
    """Has a response that cannot be read."""

    status_code = 503

    @property
    def response(self) -> object:
        raise RuntimeError


class FalseError(ConnectionError):
    """Cannot be converted to a bool."""

    def __bool__(self) -> bool:
        raise RuntimeError


def test_errors_whose_attributes_raise() -> None:
    """They are classified by the attributes that can be read."""
    assert is_transient(resisting()) is True
    assert is_transient(HalfError()) is True
    assert is_transient(BareError(status=503, headers=Broken())) is True
    outer = caused(ConnectionError(), FalseError())
    assert is_transient(outer) is True
