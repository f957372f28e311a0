"""A flaky site on loopback: an aiohttp server that fails as real sites do, reproducibly for each seed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from random import Random
from types import MappingProxyType
from typing import Final

from aiohttp import web

from ._served import served

__all__ = ["ODDS", "Fault", "flaky_site"]


class Fault(Enum):
    """A fault in the response to a request."""

    DROP = "the connection is closed without a response"
    STALL = "the response takes a second, longer than the timeout of an impatient client"
    CUT = "the body ends before its Content-Length"
    BUSY = "503 with Retry-After: 1"
    BROKEN = "500"


ODDS: Final[Mapping[Fault, float]] = MappingProxyType(
    {Fault.DROP: 0.12, Fault.STALL: 0.10, Fault.CUT: 0.10, Fault.BUSY: 0.03, Fault.BROKEN: 0.10}
)

_PAGE: Final = b"All is well on this page.\n" * 40
_SLOWEST_PAGE: Final = 0.15
_STALL: Final = 1.0


@asynccontextmanager
async def flaky_site(seed: int = 0, odds: Mapping[Fault, float] = ODDS) -> AsyncIterator[str]:
    """Serve a flaky site on a free port of 127.0.0.1, and yield its URL, without a trailing slash.

    Every path is a page. The fault in the response to the nth request for a path depends only on the seed, the path and
    n, so it is the same at any concurrency and on any port.

    Args:
        seed: the seed of the faults and of the response times.
        odds: the probability of each fault; their sum is at most 1.0. All other requests are answered with a page.

    """
    faults = _FaultSource(seed, odds)

    async def answer(request: web.Request) -> web.StreamResponse:
        fault, delay = faults.draw(request.path)
        await asyncio.sleep(delay)
        return await (_FAULTS[fault](request) if fault else _page(request))

    async with served([web.get("/{path:.*}", answer)]) as url:
        yield url


class _FaultSource:
    """Draws the fault and the response time for each request."""

    def __init__(self, seed: int, odds: Mapping[Fault, float]) -> None:
        self._seed = seed
        self._faults: list[Fault | None] = [*odds, None]
        self._weights = [*odds.values(), 1.0 - sum(odds.values())]
        self._requests: Counter[str] = Counter()
        self._dropped: set[str] = set()

    def draw(self, path: str) -> tuple[Fault | None, float]:
        """Return the fault for the next request for `path`, if any, and the seconds until the response."""
        # When a connection is dropped, aiohttp's client resends a GET once without informing its caller. Two requests
        # in a row are therefore dropped.
        if path in self._dropped:
            self._dropped.remove(path)
            return Fault.DROP, 0.0
        random = Random(f"{self._seed} {path} {self._requests[path]}")
        self._requests[path] += 1
        fault = random.choices(self._faults, self._weights)[0]
        if fault is Fault.DROP:
            self._dropped.add(path)
        return fault, random.uniform(0.0, _SLOWEST_PAGE)


async def _page(_: web.Request) -> web.StreamResponse:
    return web.Response(body=_PAGE, content_type="text/plain")


async def _drop(request: web.Request) -> web.StreamResponse:
    request.protocol.force_close()
    return web.Response()


async def _stall(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(_STALL)
    return await _page(request)


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(2 * len(_PAGE))})
    await response.prepare(request)
    await response.write(_PAGE)
    request.protocol.force_close()
    return response


async def _busy(_: web.Request) -> web.StreamResponse:
    return web.Response(status=503, headers={"Retry-After": "1"})


async def _broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


_FAULTS: Final[Mapping[Fault, Callable[[web.Request], Awaitable[web.StreamResponse]]]] = {
    Fault.DROP: _drop,
    Fault.STALL: _stall,
    Fault.CUT: _cut,
    Fault.BUSY: _busy,
    Fault.BROKEN: _broken,
}
