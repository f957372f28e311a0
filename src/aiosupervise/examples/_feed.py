"""The upstream of the service example: an aiohttp server with a price and a feed of ticks.

The server is repeatedly killed and restarted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from aiohttp import web

from aiosupervise import Supervisor

from ._served import served

# The server is killed after a random number of seconds in the range UP, and restarted after DOWN seconds.
UP: Final = (6.0, 10.0)
DOWN: Final = 2.5

# The probabilities of a 503, and of a response without a price.
BUSY: Final = 0.15
NONSENSE: Final = 0.05

# The number of ticks sent for each order.
TICKS: Final = 5


@asynccontextmanager
async def flaky_upstream(supervisors: dict[str, Supervisor], seed: int) -> AsyncIterator[str]:
    """Run the upstream, add its supervisor to `supervisors`, and yield its URL, which stays the same."""
    upstream = _Upstream(seed)
    async with Supervisor(max_restarts=None, backoff=[DOWN], name="upstream") as supervisor:
        supervisors["upstream"] = supervisor
        supervisor.start(upstream.serve, name="server")
        yield await upstream.url
        supervisor.stop()


class _Upstream:
    """The server. The nth response and the nth lifetime depend only on the seed and n."""

    def __init__(self, seed: int) -> None:
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._lifetimes = Random(f"{seed} lives")
        self._responses = Random(f"{seed} answers")
        self._port = 0

    async def serve(self) -> None:
        """Serve for a random time, on the same port as before, and then raise an error."""
        async with served([web.get("/price", self._price), web.get("/feed", self._feed)], self._port) as url:
            if not self.url.done():
                self.url.set_result(url)
                self._port = int(url.rpartition(":")[2])
            await asyncio.sleep(self._lifetimes.uniform(*UP))
        raise ConnectionAbortedError("killed")

    async def _price(self, _: web.Request) -> web.Response:
        draw = self._responses.random()
        if draw < BUSY:
            return web.Response(status=503)
        if draw < BUSY + NONSENSE:
            return web.json_response({})
        return web.json_response({"price": 100.0})

    async def _feed(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            for tick in range(TICKS):
                await socket.send_json({"tick": tick})
        return socket
