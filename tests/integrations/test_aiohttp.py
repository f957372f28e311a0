"""What aiohttp's client really raises, with real sockets, and what is_transient says to it."""

import asyncio
import importlib
import math
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from threading import Thread

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import LineTooLong, TransferEncodingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from aiosupervise.integrations.aiohttp import is_transient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 529)
THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@asynccontextmanager
async def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A real server on a port of its own."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def error_of(url: str, *, tls: bool | aiohttp.Fingerprint = True, patience: float = 60.0) -> Exception:
    """What the client raises when it reads a page, its status checked."""
    timeout = aiohttp.ClientTimeout(sock_read=patience)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            async with session.get(url, ssl=tls) as response:
                response.raise_for_status()
                await response.read()
        except Exception as error:
            return error
    pytest.fail(f"{url} answered well")


async def error_from(handler: Handler, patience: float = 60.0) -> Exception:
    """What the client raises at this handler's answer."""
    async with serve(handler) as url:
        return await error_of(url, patience=patience)


async def silence(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    return web.Response()


def answer(status: int, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={key.replace("_", "-"): headers[key] for key in headers})

    return handler


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


# Connections


async def test_connection_dropped_before_an_answer() -> None:
    """A server that closes the connection without a word is worth another try."""

    async def drop(request: web.Request) -> web.Response:
        request.protocol.force_close()
        return web.Response()

    error = await error_from(drop)
    assert isinstance(error, aiohttp.ServerDisconnectedError)
    assert is_transient(error) is True


async def test_connection_refused() -> None:
    """A server that is down, maybe for a restart, is worth another try."""
    error = await error_of(f"http://127.0.0.1:{free_port()}/")
    assert isinstance(error, aiohttp.ClientConnectorError)
    assert is_transient(error) is True


async def test_silent_server_and_a_read_timeout() -> None:
    """A server that stalls past the read timeout is worth another try."""
    error = await error_from(silence, patience=0.05)
    assert isinstance(error, aiohttp.ServerTimeoutError)
    assert is_transient(error) is True


async def test_silent_server_and_a_total_timeout() -> None:
    """The total timeout raises Python's own TimeoutError, which counts as well."""
    async with serve(silence) as url, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError) as caught:
            await session.get(url, timeout=aiohttp.ClientTimeout(total=0.03))
    assert not isinstance(caught.value, aiohttp.ClientError)
    assert is_transient(caught.value) is True


async def test_body_cut_short() -> None:
    """A body that ends before its Content-Length is worth another try."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half of it")
        request.protocol.force_close()
        return response

    error = await error_from(cut)
    assert isinstance(error, aiohttp.ClientPayloadError)
    assert is_transient(error) is True


def raw(answered: bytes) -> Handler:
    """A server that answers with these bytes, whatever they mean."""

    async def handler(request: web.Request) -> web.Response:
        assert isinstance(request.transport, asyncio.Transport)
        request.transport.write(answered)
        request.transport.close()
        return web.Response()

    return handler


@pytest.mark.parametrize(
    "answered",
    [
        b"\x15\x03\x01\x00\x02\x02\x46 no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x00: \x01\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
    ids=["no status line", "no header", "no chunk"],
)
async def test_an_answer_that_is_not_http(answered: bytes) -> None:
    """Garbage is worth another try: the status 400 of its error is aiohttp's own, no server said it."""
    error = await error_from(raw(answered))
    assert isinstance(error, aiohttp.ClientResponseError)
    assert error.status == 400
    assert is_transient(error) is True


def test_garbage_in_a_body_read_in_pure_python() -> None:
    """aiohttp's parser in pure Python lets its own error out of a body: that counts as well."""
    assert is_transient(TransferEncodingError("no chunk")) is True
    assert is_transient(LineTooLong(b"x", 1)) is False


async def test_a_header_that_is_too_long() -> None:
    """A header longer than aiohttp reads is HTTP, and as long the next time."""
    error = await error_from(raw(b"HTTP/1.1 200 OK\r\nName: " + 20_000 * b"x" + b"\r\n\r\n"))
    assert isinstance(error, aiohttp.ClientResponseError)
    assert is_transient(error) is False


@pytest.mark.parametrize("error", [ConnectionResetError(), BrokenPipeError(), TimeoutError()], ids=repr)
def test_errors_of_python_itself(error: Exception) -> None:
    """The connection errors and the timeout of Python itself count, whoever raises them."""
    assert is_transient(error) is True


@pytest.mark.parametrize("error", [RuntimeError(), ValueError(), OSError(), FileNotFoundError()], ids=repr)
def test_errors_of_neither_aiohttp_nor_the_network(error: Exception) -> None:
    """A bug in the worker or a missing file is not worth another try: only the network is forgiven."""
    assert is_transient(error) is False


def test_no_family_of_aiohttp_is_a_runtime_error() -> None:
    """RuntimeError can be irrecoverable beside is_transient: none of aiohttp's transient errors is one."""
    families = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.ClientResponseError)
    assert not any(issubclass(family, RuntimeError) for family in families)


@pytest.mark.parametrize("url", ["http://", "nonsense", "ftp://127.0.0.1/"])
async def test_invalid_urls(url: str) -> None:
    """A URL that is wrong stays wrong."""
    assert is_transient(await error_of(url)) is False


async def test_endless_redirects() -> None:
    """A site that redirects in circles is not worth another try."""
    error = await error_from(answer(302, Location="/"))
    assert isinstance(error, aiohttp.TooManyRedirects)
    assert is_transient(error) is False


# Statuses


@pytest.mark.parametrize("status", TRANSIENT)
async def test_transient_statuses(status: int) -> None:
    """Each status that says "not now" is worth another try; without Retry-After the policy says when."""
    assert is_transient(await error_from(answer(status))) is True


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 418, 422, 451, 501, 505, 511])
async def test_other_statuses(status: int) -> None:
    """Every other status is final, also with a Retry-After."""
    assert is_transient(await error_from(answer(status, Retry_After="1"))) is False


async def test_refused_web_socket() -> None:
    """A web socket's handshake that is answered with a status is classified by that status."""
    async with serve(answer(503, Retry_After="2")) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url)
    assert is_transient(caught.value) == 2.0


@pytest.mark.parametrize("status", TRANSIENT)
async def test_retry_after_in_seconds(status: int) -> None:
    """A Retry-After in seconds is the answer, as a float: that is how long to wait."""
    answered = is_transient(await error_from(answer(status, Retry_After="7")))
    assert answered == 7.0
    assert isinstance(answered, float)


async def test_retry_after_of_no_seconds() -> None:
    """Retry-After: 0 is transient with no wait, and not to be taken for False."""
    answered = is_transient(await error_from(answer(503, Retry_After="0")))
    assert isinstance(answered, float)
    assert answered == 0.0


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
async def test_retry_after_as_a_date_beside_a_date(form: str) -> None:
    """A date in Retry-After, in each of HTTP's three forms, is measured against the response's own Date."""
    handler = answer(503, Retry_After=(THEN + timedelta(seconds=90)).strftime(form), Date=THEN.strftime(form))
    assert is_transient(await error_from(handler)) == 90.0


async def test_retry_after_as_a_date_of_a_server_that_sends_its_date() -> None:
    """aiohttp's server sends its Date, so the seconds are whole."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    answered = is_transient(await error_from(answer(503, Retry_After=format_datetime(soon, usegmt=True))))
    assert isinstance(answered, float)
    assert 0.0 < answered <= 3600.0
    assert answered.is_integer()


async def test_retry_after_as_a_past_date() -> None:
    """A date that has passed means now: 0.0, still transient."""
    handler = answer(503, Retry_After=format_datetime(THEN, usegmt=True))
    answered = is_transient(await error_from(handler))
    assert isinstance(answered, float)
    assert answered == 0.0


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}], ids=["none", "unreadable"])
def test_retry_after_as_a_date_without_a_readable_date(date: dict[str, str]) -> None:
    """Without a Date that can be parsed, it is compared with the clock of this machine."""
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 0.0 < is_transient(response_error(503, {"Retry-After": soon, **date})) <= 3600.0


@pytest.mark.parametrize("zone", ["GMT", "", "+0000", "-0500"])
def test_retry_after_as_a_date_in_another_form_than_the_date(zone: str) -> None:
    """A date without a time zone is in UTC; one with a time zone, which HTTP does not allow, is in that."""
    then = THEN + timedelta(seconds=90, hours=-5 if zone == "-0500" else 0)
    headers = {"Retry-After": f"{then:%a, %d %b %Y %H:%M:%S} {zone}", "Date": format_datetime(THEN, usegmt=True)}
    assert is_transient(response_error(503, headers)) == 90.0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "nan",
        "\u0661",
        "Sun, 06 Nov 1994",
        f"{THEN:%a, %d %b} {10**30} 08:49:37 GMT",
    ],
)
def test_unreadable_retry_after(value: str) -> None:
    """A Retry-After that says nothing readable leaves it at: transient."""
    assert is_transient(response_error(503, {"Retry-After": value})) is True


@pytest.mark.parametrize(("value", "seconds"), [("-1", 0.0), ("1e3", 1000.0), ("9" * 400, math.inf)])
def test_unusual_numbers(value: str, seconds: float) -> None:
    """A negative number is no wait, and one that is too large for a float an infinite one: the call gives up."""
    answered = is_transient(response_error(503, {"Retry-After": value}))
    assert isinstance(answered, float)
    assert answered == seconds


def test_retry_after_in_milliseconds() -> None:
    """`retry-after-ms` is more exact than Retry-After, and so wins over it."""
    assert is_transient(response_error(429, {"Retry-After": "1", "retry-after-ms": "503"})) == 0.503


def test_fraction_of_a_second() -> None:
    """HTTP knows whole seconds only, but rate limiters send fractions: they are honoured."""
    assert is_transient(response_error(429, {"retry-after": " 0.25 "})) == 0.25


def test_no_headers() -> None:
    """An error that was made without headers is classified by its status."""
    assert is_transient(response_error(503, None)) is True


def test_a_status_by_its_name() -> None:
    """Code that raises the error itself may use the members of HTTPStatus."""
    assert is_transient(response_error(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})) == 2.0
    assert is_transient(response_error(HTTPStatus.NOT_FOUND, None)) is False


def response_error(status: int, headers: dict[str, str] | None) -> aiohttp.ClientResponseError:
    """The error that raise_for_status raises, for headers that a server cannot be made to send."""
    info = aiohttp.RequestInfo(URL("http://127.0.0.1/"), "GET", CIMultiDictProxy(CIMultiDict()))
    sent = None if headers is None else CIMultiDict(headers)
    return aiohttp.ClientResponseError(info, (), status=status, headers=sent)


# TLS


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_untrusted_certificate(certificate: Path) -> None:
    """A certificate that nobody trusts is as bad the next time."""
    async with serve(answer(200), server_context(certificate)) as url:
        error = await error_of(url)
    assert isinstance(error, aiohttp.ClientConnectorCertificateError)
    assert is_transient(error) is False


async def test_wrong_fingerprint(certificate: Path) -> None:
    """A server that is not the one whose fingerprint we know is not asked again."""
    async with serve(answer(200), server_context(certificate)) as url:
        error = await error_of(url, tls=aiohttp.Fingerprint(b"0" * 32))
    assert isinstance(error, aiohttp.ServerFingerprintMismatch)
    assert is_transient(error) is False


async def test_no_tls_on_the_other_side() -> None:
    """A server that speaks no TLS on this port will not learn it."""
    async with serve(answer(200)) as url:
        error = await error_of(url.replace("http:", "https:"))
    assert isinstance(error, aiohttp.ClientConnectorSSLError)
    assert is_transient(error) is False


async def test_server_that_wants_a_client_certificate(certificate: Path) -> None:
    """Under TLS 1.3 a client without a certificate is refused after the handshake: a plain ClientOSError."""
    context = server_context(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(f"{certificate}.crt")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusal = Thread(target=refuse, args=(listener, context))
        refusal.start()
        error = await error_of(f"https://127.0.0.1:{listener.getsockname()[1]}/", tls=False)
        await asyncio.to_thread(refusal.join)
    assert type(error) is aiohttp.ClientOSError
    assert is_transient(error) is False


def refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Serve as servers outside of asyncio do: send the alert, and wait for the client to close."""
    for _ in range(2):  # aiohttp sends a GET again by itself, once
        connection, _address = listener.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
            with pytest.raises(ssl.SSLError):
                tls.do_handshake()
            while socket.socket.recv(tls, 4096):
                pass


def test_lost_tls_connection() -> None:
    """A TLS connection that breaks in the middle is a lost connection like any other."""
    error = aiohttp.ClientOSError(1, "[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY]")
    error.__cause__ = ssl.SSLError(1, "[SSL: APPLICATION_DATA_AFTER_CLOSE_NOTIFY]")
    assert is_transient(error) is True


def test_an_alert_is_one_of_tls() -> None:
    """A lost connection is transient whatever its cause says, unless the cause is an error of TLS."""
    error = aiohttp.ClientOSError(1, "lost")
    error.__cause__ = OSError(1, "NO_ALERT_AT_ALL")
    assert is_transient(error) is True


def test_tls_errors_by_hand() -> None:
    """TLS errors are final also where openssl is missing to bring them about, as are Python's own."""
    key = ConnectionKey("127.0.0.1", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
    assert is_transient(aiohttp.ClientConnectorCertificateError(key, ssl.SSLCertVerificationError())) is False
    assert is_transient(aiohttp.ClientConnectorSSLError(key, ssl.SSLError())) is False
    assert is_transient(aiohttp.ServerFingerprintMismatch(b"0", b"1", "127.0.0.1", 443)) is False
    assert is_transient(ssl.SSLCertVerificationError()) is False
    refused = aiohttp.ClientOSError(1, "alert")
    refused.__cause__ = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    assert is_transient(refused) is False


# Errors whose attributes raise


def refuse_to_read(*_: object) -> object:
    """Raise, like a lazy proxy without its backend."""
    raise LookupError("not here")


ATTRIBUTES = ("__class__", "__cause__", "status", "headers")
METHODS = ("__str__", "__bool__", "__getattribute__")


def unreadable(base: type[Exception], name: str) -> Exception:
    """An error that raises when this attribute is read, or this method is called."""
    refuses = refuse_to_read if name in METHODS else property(refuse_to_read)
    kind = type("UnreadableError", (base,), {name: refuses, "__init__": lambda _: None})
    error: Exception = kind()
    return error


@pytest.mark.parametrize("name", [*ATTRIBUTES, *METHODS])
@pytest.mark.parametrize(
    ("base", "answer"),
    [(aiohttp.ClientOSError, True), (aiohttp.ClientSSLError, False), (TimeoutError, True), (ValueError, False)],
)
def test_an_error_that_cannot_be_read(base: type[Exception], answer: object, name: str) -> None:
    """It is classified by its type, also as the cause of another one, and no other error takes its place."""
    assert is_transient(unreadable(base, name)) is answer
    outer = aiohttp.ClientOSError(1, "lost")
    outer.__cause__ = unreadable(base, name)
    assert is_transient(outer) is True
    assert is_transient(unreadable(aiohttp.ClientResponseError, name)) is False


@pytest.mark.parametrize("name", [*ATTRIBUTES, *METHODS])
def test_a_cause_that_cannot_be_read(name: str) -> None:
    """Neither that of an error of TLS nor that of a parser's error takes its place."""
    refused = aiohttp.ClientOSError(1, "alert")
    refused.__cause__ = unreadable(ssl.SSLError, name)
    assert is_transient(refused) is True
    parse_error = TransferEncodingError("broken")
    parse_error.__cause__ = unreadable(LineTooLong, name)
    assert is_transient(parse_error) is False


# aiohttp missing


def test_import_without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where aiohttp is not installed, the import error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.aiohttp")
    with pytest.raises(ImportError, match=r'needs aiohttp: pip install "aiosupervise\[aiohttp\]"$'):
        importlib.import_module("aiosupervise.integrations.aiohttp")


@pytest.mark.parametrize("module", ["integrations.aiohttp", "examples.fetch"])
def test_without_aiohttp(module: str) -> None:
    """The same, in a process that never had aiohttp, and for who runs the example."""
    code = f"import sys; sys.modules['aiohttp'] = None; import aiosupervise.{module}"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert (
        'ImportError: aiosupervise.integrations.aiohttp needs aiohttp: pip install "aiosupervise[aiohttp]"'
        in child.stderr
    )
