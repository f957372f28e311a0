"""What the service depends on: a real aiohttp server with a price and a feed of ticks, killed and restarted."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from aiohttp import web

from aiosupervise import Supervisor

UP: Final = (6.0, 10.0)  # seconds until it is killed: from, to
DOWN: Final = 2.5  # seconds until it is restarted
BUSY: Final = 0.15  # chance of an answer 503
NONSENSE: Final = 0.05  # chance of an answer without a price
TICKS: Final = 5  # for each order


@asynccontextmanager
async def served(routes: Iterable[web.AbstractRouteDef], port: int = 0) -> AsyncIterator[str]:
    """Serve routes on 127.0.0.1, on a free port unless one is given, and give the URL, without a final slash."""
    app = web.Application()
    app.router.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def flaky_upstream(supervisors: dict[str, Supervisor], seed: int) -> AsyncIterator[str]:
    """Run the upstream, add its supervisor to `supervisors`, and give its URL, the same after each restart."""
    upstream = _Upstream(seed)
    async with Supervisor(max_restarts=None, backoff=[DOWN], name="upstream") as supervisor:
        supervisors["upstream"] = supervisor
        supervisor.start(upstream.serve, name="server")
        yield await upstream.url
        supervisor.stop()


class _Upstream:
    """The server and its luck. That of the nth answer depends on the seed and n alone, as that of the nth life does."""

    def __init__(self, seed: int) -> None:
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._lives = Random(f"{seed} lives")
        self._answers = Random(f"{seed} answers")
        self._port = 0

    async def serve(self) -> None:
        """Serve on the same port as the time before, until it is killed."""
        async with served([web.get("/price", self._price), web.get("/feed", self._feed)], self._port) as url:
            if not self.url.done():
                self.url.set_result(url)
                self._port = int(url.rpartition(":")[2])
            await asyncio.sleep(self._lives.uniform(*UP))
        raise ConnectionAbortedError("killed")

    async def _price(self, _: web.Request) -> web.Response:
        luck = self._answers.random()
        if luck < BUSY:
            return web.Response(status=503)
        if luck < BUSY + NONSENSE:
            return web.json_response({})
        return web.json_response({"price": 100.0})

    async def _feed(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            for tick in range(TICKS):
                await socket.send_json({"tick": tick})
        return socket
