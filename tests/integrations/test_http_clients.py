"""What the HTTP clients and the SDKs of language models really raise, with real sockets, and what is_transient says.

The table of docs/reference/http-errors.md has a row for each case: what it states is what is expected here.
"""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiosupervise.integrations.http import is_transient

PAGE = Path(__file__).parents[2] / "docs/reference/http-errors.md"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

pytestmark = [
    pytest.mark.slow,
    # google-genai derives a class from aiohttp's session.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]


# The server


def body(code: str | None = None) -> dict[str, object]:
    """Make the body of an error, in which each SDK finds what it looks for."""
    error = {"type": code, "code": code, "message": "a message", "details": {"error_code": code}}
    return {"type": "error", "error": error}


def says(status: int, code: str | None = None, headers: Mapping[str, str] | None = None) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body(code), status=status, headers=headers)

    return handler


async def asks_in_the_body(_: web.Request) -> web.Response:
    """Answer as Gemini does when a quota per minute is used up."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    error = {"code": 429, "message": "a message", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "-"}, info]}
    return web.json_response({"error": error}, status=429)


def streams(code: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=f"event: error\ndata: {json.dumps(body(code))}\n\n", content_type="text/event-stream")

    return handler


def cuts(content_type: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": content_type})
        await response.prepare(request)
        await response.write(b"data: ")
        return await closes(request)

    return handler


async def closes(request: web.Request) -> web.Response:
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.abort()
    return web.Response()


async def is_silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


async def is_not_http(request: web.Request) -> web.Response:
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.write(b"not HTTP at all\r\n\r\n")
    request.transport.close()
    return web.Response()


async def redirects(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect(request.path)


THEN = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:51:07 GMT"}
NO_SERVER = "a refused connection"
NO_HTTP = "an ftp address"
NO_TRUST = "an untrusted certificate"
NO_ANSWER = "a read timeout"

SITUATIONS: dict[str, Handler] = {
    "400": says(400, "invalid_request_error"),
    "400, `x-should-retry: true`": says(400, headers={"x-should-retry": "true"}),
    "401": says(401, "authentication_error"),
    "404": says(404),
    "409": says(409),
    "429, `Retry-After: 0.503`": says(429, headers={"Retry-After": "0.503"}),
    "429, Retry-After 90 s after Date": says(429, headers=THEN),
    "429, `retry-after-ms: 20`": says(429, headers={"retry-after-ms": "20"}),
    "429, `x-should-retry: false`": says(429, headers={"x-should-retry": "false"}),
    "429, `retryDelay: 34.5s` in the body": asks_in_the_body,
    "429, `insufficient_quota`": says(429, "insufficient_quota"),
    "429, `enforced_spend_limit_reached`": says(429, "enforced_spend_limit_reached"),
    "500": says(500),
    "503": says(503),
    "529": says(529, "overloaded_error"),
    "a connection closed before the response": closes,
    "a connection closed in the body": cuts("application/json"),
    "a connection closed in a stream": cuts("text/event-stream"),
    "`overloaded_error` in a stream": streams("overloaded_error"),
    "`server_error` in a stream": streams("server_error"),
    "`invalid_request_error` in a stream": streams("invalid_request_error"),
    "a response that is not HTTP": is_not_http,
    "a redirect loop": redirects,
    NO_ANSWER: is_silent,
    NO_SERVER: says(200),
    NO_HTTP: says(200),
    NO_TRUST: says(200),
}


@asynccontextmanager
async def serving(situation: str, certificate: Path | None) -> AsyncIterator[str]:
    """Serve a situation, whatever path is asked for; give the address."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", SITUATIONS[situation])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def nobodys_address() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


# The clients, none of which must be installed

QUESTION = {"role": "user", "content": "?"}


async def ask_httpx(httpx: Any, url: str, patience: float, *, stream: bool) -> None:
    assert not stream
    async with httpx.AsyncClient(timeout=patience, follow_redirects=True) as client:
        (await client.get(url)).raise_for_status()


async def ask_niquests(niquests: Any, url: str, patience: float, *, stream: bool) -> None:
    assert not stream
    async with niquests.AsyncSession() as session:
        (await session.get(url, timeout=patience)).raise_for_status()


async def ask_openai(openai: Any, url: str, patience: float, *, stream: bool) -> None:
    async with openai.AsyncOpenAI(api_key="-", base_url=url, max_retries=0, timeout=patience) as client:
        answer = await client.chat.completions.create(model="-", messages=[QUESTION], stream=stream)
        assert stream
        assert [part async for part in answer]


async def ask_anthropic(anthropic: Any, url: str, patience: float, *, stream: bool) -> None:
    async with anthropic.AsyncAnthropic(api_key="-", base_url=url, max_retries=0, timeout=patience) as client:
        answer = await client.messages.create(model="-", max_tokens=1, messages=[QUESTION], stream=stream)
        assert stream
        assert [part async for part in answer]


async def ask_genai(genai: Any, url: str, patience: float, *, stream: bool) -> None:
    assert not stream
    # Without these options it asks once more by itself, up to ten seconds after a lost connection.
    options = {"base_url": url, "timeout": int(patience * 1000), "retry_options": {"attempts": 1}}
    client = genai.Client(api_key="-", http_options=options)
    try:
        await client.aio.models.generate_content(model="-", contents="?")
    finally:
        await client.aio.aclose()


CLIENTS = {
    "httpx": ("httpx", ask_httpx),
    "niquests": ("niquests", ask_niquests),
    "openai": ("openai", ask_openai),
    "anthropic": ("anthropic", ask_anthropic),
    "google-genai": ("google.genai", ask_genai),
}


# The table


def table() -> list[tuple[str, ...]]:
    """The rows of the page: client, situation, error, answer."""
    cells = [re.split(r" *\| *", line)[1:-1] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return [tuple(row) for row in cells[1:] if set(row[0]) != {"-"}]


def words(answer: float) -> str:
    return f"{answer:g} s" if isinstance(answer, float) else "transient" if answer else "no"


def full_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


@pytest.mark.parametrize(("client", "situation", "error", "answer"), table())
async def test_each_row(client: str, situation: str, error: str, answer: str, request: pytest.FixtureRequest) -> None:
    """The installed release of the client raises this error, and the predicate has this answer to it."""
    module, ask = CLIENTS[client]
    library = pytest.importorskip(module)
    certificate = request.getfixturevalue("certificate") if situation == NO_TRUST else None
    patience = 0.05 if situation == NO_ANSWER else 10.0
    async with serving(situation, certificate) as served:
        url = {NO_SERVER: nobodys_address(), NO_HTTP: "ftp://127.0.0.1"}.get(situation, served)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its name is compared
            await ask(library, url, patience, stream=situation.endswith("in a stream"))
    assert (f"`{full_name(caught.type)}`", words(is_transient(caught.value))) == (error, answer)


def test_the_table_is_complete() -> None:
    """At least forty errors, of each client and in each situation, and none twice."""
    cases = [row[:2] for row in table()]
    assert len(cases) >= 40
    assert len(set(cases)) == len(cases)
    assert {client for client, _ in cases} == set(CLIENTS)
    assert {situation for _, situation in cases} == set(SITUATIONS)
