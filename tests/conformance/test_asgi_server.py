"""A run behind a real web server, whose client leaves in the middle of the answer."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from aiosupervise import Success, run_all

fastapi = pytest.importorskip("fastapi", reason="the group `unit` of the lowest versions does without")
responses = pytest.importorskip("fastapi.responses", reason="as above")
uvicorn = pytest.importorskip("uvicorn", reason="as above")

pytestmark = pytest.mark.slow


class Service:
    """An application that streams the outcomes of a run, and knows what became of its jobs."""

    def __init__(self) -> None:
        self.running = 0
        self.cleaned = 0
        self.left = asyncio.Event()  # the run has given control back

    async def _job(self) -> str:
        self.running += 1
        try:
            if self.running > 1:
                await asyncio.Event().wait()
            return "first"
        finally:
            await asyncio.sleep(0.01)
            self.running -= 1
            self.cleaned += 1

    async def _stream(self) -> AsyncIterator[str]:
        try:
            async with run_all([self._job] * 3, strategy="as_completed") as run:
                async for outcome in run:
                    assert isinstance(outcome, Success)
                    yield outcome.value
        finally:
            self.left.set()

    def app(self) -> object:
        """The application."""
        app = fastapi.FastAPI()

        @app.get("/")  # type: ignore[untyped-decorator]
        async def stream() -> object:
            return responses.StreamingResponse(self._stream())

        return app


async def test_a_client_that_leaves() -> None:
    """Starlette cancels the response on every turn: the jobs clean up, the response ends, the server can shut down."""
    before = asyncio.all_tasks()
    service = Service()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(service.app(), log_level="error", lifespan="off"))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        async with asyncio.timeout(30):
            while not server.started:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"first")
            writer.close()
            await writer.wait_closed()
            await service.left.wait()
            assert (service.running, service.cleaned) == (0, 3)
            server.should_exit = True
            await serving
    assert asyncio.all_tasks() == before
