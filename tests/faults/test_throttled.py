"""A real server with a rate limit, which rejects the requests beyond it with a Retry-After."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiosupervise import map_all, supervise
from aiosupervise.integrations.aiohttp import is_transient

pytestmark = pytest.mark.slow


class Bucket:
    """Requests behind a token bucket: a burst of `rate` requests, and `rate` a second after that."""

    def __init__(self, rate: float) -> None:
        self.answers = Counter[int]()
        self._rate = self._tokens = rate
        self._filled = -math.inf

    async def answer(self, request: web.Request) -> web.Response:
        """Answer, or ask to come back in a second."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._rate, self._tokens + self._rate * (now - self._filled))
        self._filled = now
        status = 200 if self._tokens >= 1 else 429
        self._tokens -= status == 200
        self.answers[status] += 1
        return web.Response(status=status, text=request.path, headers={"Retry-After": "1"} if status == 429 else None)


@pytest.fixture
async def bucket(*, thorough: bool) -> AsyncIterator[tuple[Bucket, TestServer]]:
    """A server of its own: 50 requests a second, or in an ordinary run a few more to be done sooner."""
    handler = Bucket(50 if thorough else 150)
    app = web.Application()
    app.router.add_get("/{page}", handler.answer)
    server = TestServer(app)
    async with server:
        yield handler, server


async def test_a_server_that_asks_to_wait_is_waited_for(
    bucket: tuple[Bucket, TestServer], counts: "Counter[str]", *, thorough: bool
) -> None:
    """Everything is done, with few requests that are sent away: the whole run waits when one job is asked to."""
    handler, server = bucket
    jobs = 1000 if thorough else 400
    async with aiohttp.ClientSession(server.make_url("/")) as session:

        @supervise(retry_on=is_transient, max_retries=5)
        async def fetch(page: int) -> str:
            async with session.get(f"/{page}") as response:
                response.raise_for_status()
                return await response.text()

        report = await map_all(fetch, range(jobs), limit=100)
    assert report.values() == [f"/{page}" for page in range(jobs)]
    counts["throttled: jobs"] += jobs
    counts["throttled: requests sent away"] += handler.answers[429]
    assert handler.answers.total() <= 1.4 * jobs
