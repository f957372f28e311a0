"""Children of a FastAPI application in a real uvicorn process: one that does not stop, and one that fails for good."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

import aiosupervise

pytest.importorskip("fastapi", reason="the group `unit` of the lowest versions does without")
pytest.importorskip("uvicorn", reason="as above")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there, and sockets are not inherited"),
]

WITHIN = 60.0  # seconds, which only tell a hang from a slow machine
SOURCE = Path(aiosupervise.__file__).parents[1]


class Service(NamedTuple):
    """A running uvicorn, and how to see what it does."""

    process: asyncio.subprocess.Process
    url: str
    stderr: Path
    released: Path

    def printed(self) -> str:
        """What it has printed to stderr so far."""
        return self.stderr.read_text("utf-8")

    async def health(self) -> tuple[int, dict[str, str]]:
        """The status and the body of its health endpoint."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health") as response:
            return response.status, await response.json()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(WITHIN):
        while not await condition():  # noqa: ASYNC110 - another process does not tell
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(directory: Path, *, is_configured: bool = True) -> AsyncIterator[Service]:
    """Run the application under a plain uvicorn, on a port that the system picks."""
    stderr, released = directory / "stderr.txt", directory / "released"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)} | ({"RELEASED": str(released)} if is_configured else {})
    with socket.create_server(("127.0.0.1", 0)) as listening, stderr.open("w") as file:
        port = listening.getsockname()[1]
        command = ["-m", "uvicorn", "supervised_app:app", "--app-dir", str(Path(__file__).parent)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            "--fd",
            str(listening.fileno()),
            pass_fds=[listening.fileno()],
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=file,
        )
    try:
        yield Service(process, f"http://127.0.0.1:{port}", stderr, released)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_health_crash_reports_and_sigterm(tmp_path: Path) -> None:
    """`/health` says 503 when a child has failed for good, its crash is on stderr, and SIGTERM ends the process.

    That takes until the stubborn child, which is cancelled again each second, has ended.
    """
    async with serving(tmp_path) as service:

        async def has_given_up() -> bool:
            return "background gives up" in service.printed()

        async def is_cancelled_again() -> bool:
            return "and is cancelled again; it waits at" in service.printed()

        async def waits_for_its_children() -> bool:
            return "Waiting for application shutdown." in service.printed()

        assert await service.health() == (200, {"stubborn": "running", "refresh": "running"})
        await eventually(has_given_up)
        assert await service.health() == (503, {"stubborn": "stopping", "refresh": "stopped"})
        await eventually(is_cancelled_again)
        assert await service.health() == (503, {"stubborn": "stopping", "refresh": "stopped"})

        service.process.send_signal(signal.SIGTERM)
        await eventually(waits_for_its_children)
        assert service.process.returncode is None
        service.released.touch()
        async with asyncio.timeout(WITHIN):
            assert await service.process.wait() == -signal.SIGTERM

    printed = service.printed()
    for line in (
        "child refresh of background has failed: KeyError: 'rate'\nTraceback (most recent call last):\n",
        "child refresh of background restarted; its restarts so far: 1\n",
        "background gives up and stops its children: RestartsExceeded: max_restarts=2 within 60 s was exceeded",
        "child stubborn of background is still running",
        "in stubborn\n    await asyncio.Event().wait()\n",
        "INFO:     Finished server process",
    ):
        assert line in printed


async def test_a_child_that_fails_before_it_is_ready_ends_the_start(tmp_path: Path) -> None:
    """uvicorn exits with code 3, and the child's error is on stderr."""
    async with serving(tmp_path, is_configured=False) as service, asyncio.timeout(WITHIN):
        assert await service.process.wait() == 3
    assert "child stubborn of background has failed: KeyError: 'RELEASED'" in service.printed()
    assert "ERROR:    Application startup failed. Exiting." in service.printed()
