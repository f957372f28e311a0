"""Signals that stop a supervisor: the first one stops it, the second one cancels all children at once."""

import asyncio
import logging
import os
import signal
import sys
from typing import Any

import pytest

from aiosupervise import Supervisor

from .scene import Scene, nothing_left, now, turns

pytestmark = [
    pytest.mark.looptime,
    pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there"),
]


def send(number: signal.Signals) -> None:
    """Send this process a signal, which Python handles before this function returns."""
    os.kill(os.getpid(), number)


async def test_the_first_signal_stops_the_supervisor() -> None:
    """As `stop()` does: in reverse start order; it is in `stopped_by`, and the handler is restored."""
    before = signal.getsignal(signal.SIGTERM)
    scene = Scene()
    with nothing_left():
        async with Supervisor(stop_on=(signal.SIGINT, signal.SIGTERM)) as sup:
            assert sup.stopped_by is None
            for name in "ab":
                scene.start(sup, name, clean_up=1)
            await asyncio.sleep(1)
            send(signal.SIGTERM)
    assert sup.stopped_by is signal.SIGTERM
    assert scene.words()[2:] == ["b is cancelled", "b has cleaned up", "a is cancelled", "a has cleaned up"]
    assert now() == 3
    assert signal.getsignal(signal.SIGTERM) is before


async def test_the_second_signal_cancels_all_children_at_once() -> None:
    """Also one that is being stopped, and then each second until it ends."""
    cancels: list[tuple[float, str]] = []

    async def server(name: str, count: int) -> None:
        for _ in range(count):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append((now(), name))

    with nothing_left():
        async with Supervisor(stop_on=(signal.SIGTERM,), grace=30) as sup:
            sup.start(server, "a", 2)
            sup.start(server, "b", 4)
            await asyncio.sleep(1)
            send(signal.SIGTERM)
            await asyncio.sleep(1)
            send(signal.SIGTERM)
    assert cancels == [(1, "b"), (2, "b"), (2, "a"), (3, "b"), (3, "a"), (4, "b")]
    assert [child.state for child in sup.children()] == ["stopped", "stopped"]
    assert now() == 4


async def test_the_second_signal_leaves_children_alone_that_have_ended() -> None:
    """It interrupts the clean-up of the others."""
    scene = Scene()
    async with Supervisor(stop_on=(signal.SIGTERM,)) as sup:
        child = scene.start(sup, "it", clean_up=5)
        other = scene.start(sup, "other")
        await asyncio.sleep(1)
        send(signal.SIGTERM)
        await asyncio.sleep(1)
        assert (child.state, other.state) == ("stopping", "stopped")
        send(signal.SIGTERM)
        await turns()
        assert (child.state, child.since) == ("stopped", 2)
    assert scene.words()[2:] == ["other is cancelled", "it is cancelled"]


async def test_signals_are_not_taken_before_the_block_and_after_it() -> None:
    """A supervisor that was not entered leaves the handlers alone."""
    before = signal.getsignal(signal.SIGTERM)
    sup = Supervisor(stop_on=(signal.SIGTERM,))
    assert signal.getsignal(signal.SIGTERM) is before
    assert sup.stopped_by is None
    with pytest.raises(LookupError):
        async with sup:
            raise LookupError
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_server_with_an_idle_client_can_be_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's own echo server needs three cancels on Python 3.12 and later."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        while data := await reader.readline():
            writer.write(data)

    async def serve() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        started.set_result(server.sockets[0].getsockname())
        async with server:
            await server.serve_forever()

    ends: list[asyncio.StreamWriter] = []
    started: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with Supervisor(grace=1) as sup:
        sup.start(serve)
        reader, writer = await asyncio.open_connection(*await started)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        await sup.stop()
        for end in (writer, *ends):
            end.close()
            await end.wait_closed()
    again = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(again) <= 2
