"""A crawl of ten real servers of different manners, in one run of one process."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from aiosupervise import Overload, Success, map_all, supervise
from aiosupervise.integrations.aiohttp import is_transient

pytestmark = pytest.mark.slow
MANNERS = ["well"] * 6 + ["slow", "down", "busy", "flaky"]
PAGES = 20


class Host:
    """A server that counts its requests, and how many it had at a time."""

    def __init__(self, manner: str) -> None:
        self.manner = manner
        self.requests = self.running = self.most = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as the manner of the host is."""
        self.requests += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.1 if self.manner == "slow" else 0.001)
        finally:
            self.running -= 1
        if self.manner == "down" or (self.manner == "flaky" and self.requests % 5 == 0):
            return web.Response(status=503)
        if self.manner == "busy" and self.requests == 5:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(text=request.path)


@pytest.fixture
async def hosts() -> AsyncIterator[dict[URL, Host]]:
    """Ten servers on ports that the system picks, by their address."""
    async with AsyncExitStack() as stack:
        found: dict[URL, Host] = {}
        for manner in MANNERS:
            host = Host(manner)
            app = web.Application()
            app.router.add_get("/{page}", host.answer)
            server = await stack.enter_async_context(TestServer(app))
            found[server.make_url("/")] = host
        yield found


async def test_a_crawl_of_ten_hosts(hosts: dict[URL, Host], counts: "Counter[str]") -> None:
    """Each host gets what it can take, and the one that is down holds up no other."""
    urls = [address / str(page) for address, page in itertools.product(hosts, range(PAGES))]
    overload = Overload(first_pause=0.05, longest_pause=0.2)
    async with aiohttp.ClientSession() as session:

        @supervise(retry_on=is_transient, attempt_timeout=10.0)
        async def fetch(url: URL) -> str:
            async with session.get(url) as response:
                response.raise_for_status()
                return await response.text()

        report = await map_all(
            fetch, urls, limit=20, group_by=lambda url: url.origin(), limit_per_group=4, overload=overload
        )
    down = next(address for address, host in hosts.items() if host.manner == "down")
    succeeded = Counter(outcome.input.origin() for outcome in report if isinstance(outcome, Success))
    assert succeeded == {address.origin(): PAGES for address, host in hosts.items() if host.manner != "down"}
    assert report.stopped_groups == (down.origin(),)
    assert all(host.most <= 4 for host in hosts.values())
    assert hosts[down].requests < 80
    assert {host.requests for host in hosts.values() if host.manner in ("well", "slow")} == {PAGES}
    counts["ten services: requests"] += sum(host.requests for host in hosts.values())
