"""A server that fails as networks and servers do, on real sockets; run as a script, it is a process that can be killed.

Every request names its job and which attempt of the job it is, so that what it meets depends on the seed and on these
two alone: neither concurrency nor a restart changes it.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from random import Random
from typing import TypeAlias

from aiohttp import web

from aiosupervise.examples._served import served


class Fault(Enum):
    """What a request can meet; the value is what it is counted as."""

    RESET = "reset before the answer"
    RESET_IN_BODY = "reset in the body"
    STALL = "stalled before the answer"
    STALL_IN_BODY = "stalled in the body"
    TRUNCATE = "body truncated"
    HALF_CLOSE_IN_HEADERS = "half-closed in the headers"
    HALF_CLOSE_IN_BODY = "half-closed in the body"
    GARBAGE = "garbage for an answer"
    GARBAGE_IN_BODY = "garbage in the body"
    BUSY = "503"


Draw: TypeAlias = Callable[[int, int], Fault | None]
Note: TypeAlias = Callable[[int, int, Fault], object]


def draw_from(seed: int, odds: float = 0.3) -> Draw:
    """Make the luck of a seed: which fault an attempt of a job meets, if any; `odds` is the chance that it does."""

    def draw(job: int, attempt: int) -> Fault | None:
        random = Random(f"{seed} {job} {attempt}")
        return random.choice(list(Fault)) if random.random() < odds else None

    return draw


def page(job: int) -> str:
    """The page of a job, which is nobody else's."""
    return f"This is the page of job {job}.\n" * 20


@asynccontextmanager
async def serving(draw: Draw, note: Note, port: int = 0) -> AsyncIterator[int]:
    """Serve the pages, with the faults that `draw` says and `note` gets to know before they happen; give the port."""

    async def answer(request: web.Request) -> web.Response:
        job, attempt = int(request.match_info["job"]), int(request.match_info["attempt"])
        fault = draw(job, attempt)
        if fault is None:
            return web.Response(text=page(job))
        note(job, attempt, fault)
        if fault is Fault.BUSY:
            return web.Response(status=503)
        assert isinstance(request.transport, asyncio.Transport)
        _FAULTS[fault](request.transport, page(job).encode())
        await asyncio.Event().wait()  # the end of the connection cancels this
        raise AssertionError

    # aiohttp's client sends some methods again by itself, where a connection breaks; never a POST.
    async with served([web.post("/{job}/{attempt}", answer)], port) as url:
        yield int(url.rpartition(":")[2])


def _head(header: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n{header}\r\n\r\n".encode()


def _half(body: bytes) -> bytes:
    return _head(f"Content-Length: {len(body)}") + body[: len(body) // 2]


def _reset(transport: asyncio.Transport, _: bytes) -> None:
    at_once = struct.pack("ii", 1, 0)  # close without lingering: the kernel sends RST instead of FIN
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    transport.abort()


def _reset_in_body(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_half(body))
    _reset(transport, body)


def _stall(transport: asyncio.Transport, body: bytes) -> None:
    """Leave it at the request."""


def _stall_in_body(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_half(body))


def _truncate(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_half(body))
    transport.close()


def _half_close_in_headers(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_head(f"Content-Length: {len(body)}")[:30])
    transport.write_eof()


def _half_close_in_body(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_half(body))
    transport.write_eof()


def _garbage(transport: asyncio.Transport, _: bytes) -> None:
    transport.write(b"\x15\x03\x01\x00\x02\x02\x46 this is no HTTP\r\n\r\n")
    transport.close()


def _garbage_in_body(transport: asyncio.Transport, body: bytes) -> None:
    transport.write(_head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(body), body))
    # Sent later: a client that reads it together with the headers raises another error.
    asyncio.get_running_loop().call_later(0.02, transport.write, b"this is no chunk\r\n")


_FAULTS: dict[Fault, Callable[[asyncio.Transport, bytes], None]] = {
    Fault.RESET: _reset,
    Fault.RESET_IN_BODY: _reset_in_body,
    Fault.STALL: _stall,
    Fault.STALL_IN_BODY: _stall_in_body,
    Fault.TRUNCATE: _truncate,
    Fault.HALF_CLOSE_IN_HEADERS: _half_close_in_headers,
    Fault.HALF_CLOSE_IN_BODY: _half_close_in_body,
    Fault.GARBAGE: _garbage,
    Fault.GARBAGE_IN_BODY: _garbage_in_body,
}


class ServerProcess:
    """The server as a process, which can be killed and started again on the same port."""

    def __init__(self, seed: int, log: Path) -> None:
        self.port = 0
        self._seed = seed
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it is ready when it says its port."""
        command = [sys.executable, __file__, str(self._seed), str(self.port), str(self._log)]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        """End it in the middle of what it does."""
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()

    async def stop(self) -> int:
        """End it in good order, by the end of its input, and give its exit code."""
        assert self._process is not None
        await self._process.communicate(b"")  # no input at all would leave it open before Python 3.12
        assert self._process.returncode is not None
        return self._process.returncode

    def faults(self) -> dict[tuple[int, int], Fault]:
        """What every attempt of a job met, also before the server was killed."""
        met: dict[tuple[int, int], Fault] = {}
        for line in self._log.read_text().splitlines():
            job, attempt, name = line.split()
            assert (int(job), int(attempt)) not in met, "a request was sent twice"
            met[int(job), int(attempt)] = Fault[name]
        return met


async def main(seed: int, port: int, log: Path) -> None:
    """Serve until the input ends, which it does with the process that started this one."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(job: int, attempt: int, fault: Fault) -> None:
        os.write(file, f"{job} {attempt} {fault.name}\n".encode())  # with the kernel, whom no SIGKILL reaches

    async with serving(draw_from(seed), note, port) as served:
        print(served, flush=True)  # noqa: T201 - whoever started the process waits for this line
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
