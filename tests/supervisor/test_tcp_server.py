"""A TCP server as a child: with its connections as children, and as asyncio's documentation writes it."""

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aiosupervise import Supervisor, ready

from .scene import nothing_left, now

PAGE = Path(__file__).parents[2] / "docs/how-to/shut-down.md"
pytestmark = pytest.mark.looptime

Serve = Callable[[dict[str, int]], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each line."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    finally:
        writer.close()


async def serve_children(listening: dict[str, int]) -> None:
    """Serve with a child for each connection."""
    async with Supervisor(strategy="simple_one_for_one", name="connections") as connections:

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                connections.start(echo, reader, writer, restart="temporary")
            except RuntimeError:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        listening["port"] = server.sockets[0].getsockname()[1]
        try:
            ready()
            await asyncio.Event().wait()
        finally:
            server.close()


@asynccontextmanager
async def client(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """Connect, make sure that the server knows, and stay connected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    try:
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings and errors in the log."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_server_whose_connections_are_children_ends_at_the_first_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It needs no grace, its clients are disconnected, and nothing is logged; a client that left is forgotten."""
    listening: dict[str, int] = {}
    with nothing_left():
        async with Supervisor() as sup:
            child = sup.start(serve_children, listening, ready=5.0)
            await child.wait_ready()
            async with client(listening["port"]):
                pass
            async with client(listening["port"]) as first, client(listening["port"]) as second:
                started = now()
                await sup.stop()
                assert now() == started
                assert child.state == "stopped"
                assert (await first.read(), await second.read()) == (b"", b"")
    assert messages(caplog) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12, servers do not wait for their connections")
async def test_a_server_that_waits_for_its_clients_is_named_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """It ends at the third cancellation; the log is what the page on shutting down shows."""
    writers: list[asyncio.StreamWriter] = []
    served = asyncio.Event()

    async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(await reader.readline())
        await served.wait()

    async def serve(listening: dict[str, int]) -> None:
        server = await asyncio.start_server(echo_once, "127.0.0.1", 0)
        listening["port"] = server.sockets[0].getsockname()[1]
        async with server:
            ready()
            await server.serve_forever()

    listening: dict[str, int] = {}
    async with Supervisor(grace=1.0, name="service") as sup:
        child = sup.start(serve, listening, name="server", ready=5.0)
        await child.wait_ready()
        async with client(listening["port"]):
            started = now()
            await sup.stop()
            assert now() == started + 2
            assert child.state == "stopped"
            served.set()
        for writer in writers:
            writer.close()
            await writer.wait_closed()
    assert [without_lines(message) for message in messages(caplog)] == shown_messages()


def shown_messages() -> list[str]:
    """What the page on shutting down shows of the log."""
    section = PAGE.read_text("utf-8").partition("## A TCP server with open connections\n")[2].partition("\n## ")[0]
    [log] = re.findall(r"^```text\n(child .*?\n)```$", section, re.MULTILINE | re.DOTALL)
    return [without_lines(message).rstrip() for message in re.split(r"^(?=child )", log, flags=re.MULTILINE)[1:]]


def without_lines(message: str) -> str:
    """A message without the files and lines of its stack, which differ, and without the marks of some Pythons."""
    return re.sub(r'File ".*", line \d+', "File", re.sub(r"\n\s*[~^]+$", "", message, flags=re.MULTILINE))
