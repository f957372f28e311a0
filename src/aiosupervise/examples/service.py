"""Keep the tasks of a small aiohttp server running while its upstream fails. This is the file to copy from.

python -m aiosupervise.examples.service                # until Ctrl-C
python -m aiosupervise.examples.service --seconds 10   # for ten seconds
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGINT, SIGTERM

from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, web

from aiosupervise import Backoff, Supervisor, supervise
from aiosupervise.integrations.aiohttp import is_transient

from ._feed import flaky_upstream
from ._served import served
from ._tree import read_options, shown

# The seconds between two polls, and between two orders.
PAUSE = 0.4


@dataclass
class Market:
    """The state that the tasks share, which survives a restart of any of them.

    Attributes:
        url: the URL of the upstream.
        price: the latest price.
        ticks: the number of ticks received.
        feed: the connection to the feed, valid while `is_connected` is set.
        is_connected: set while the reader and the writer can use the feed.
    """

    url: str
    price: float | None = None
    ticks: int = 0
    feed: ClientWebSocketResponse = field(init=False)
    is_connected: asyncio.Event = field(default_factory=asyncio.Event)


# Calls. Their policies retry transient errors, without the calling task noticing.


@supervise(retry_on=is_transient, max_retries=8, backoff=Backoff(base=0.2, cap=1.0))
async def fetch_price(session: ClientSession, url: str) -> float:
    """Fetch the price. A response without a price raises KeyError, which is not retried, so the poller crashes."""
    async with session.get(f"{url}/price") as response:
        response.raise_for_status()
        return float((await response.json())["price"])


@supervise(retry_on=is_transient, max_retries=2, backoff=Backoff(base=0.4))
async def connect(session: ClientSession, url: str) -> ClientWebSocketResponse:
    """Connect to the feed."""
    return await session.ws_connect(f"{url}/feed")


# Children. They run until they are stopped; if one fails or returns, its supervisor restarts it.


async def serve(market: Market) -> None:
    """Serve the latest price and the number of ticks."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"price": market.price, "ticks": market.ticks})

    async with served([web.get("/", answer)]) as url:
        print(f"serving on {url}/", flush=True)
        await asyncio.Event().wait()


async def poll(session: ClientSession, market: Market) -> None:
    """Poll the price."""
    while True:
        market.price = await fetch_price(session, market.url)
        await asyncio.sleep(PAUSE)


async def consume(session: ClientSession, market: Market, supervisors: dict[str, Supervisor]) -> None:
    """Supervise the reader and the writer together: they share a connection, so if one fails, both are restarted."""
    async with Supervisor(strategy="one_for_all", max_restarts=2, name="consumer") as consumer:
        supervisors["consumer"] = consumer
        consumer.start(read, session, market, name="reader")
        consumer.start(write, market, name="writer")


async def read(session: ClientSession, market: Market) -> None:
    """Connect to the feed, and count the ticks."""
    market.feed = await connect(session, market.url)
    market.is_connected.set()
    try:
        async for _ in market.feed:
            market.ticks += 1
    finally:
        market.is_connected.clear()
        await market.feed.close()
    raise ConnectionResetError("the feed hung up")


async def write(market: Market) -> None:
    """Order ticks repeatedly."""
    await market.is_connected.wait()
    while True:
        await market.feed.send_str("more")
        await asyncio.sleep(PAUSE)


async def run(options: argparse.Namespace) -> int:
    """Run the program until it is stopped, and return the exit code."""
    supervisors: dict[str, Supervisor] = {}
    code = 0

    def stop(exit_code: int) -> None:
        nonlocal code
        code = exit_code
        supervisor.stop()

    async with (
        shown(supervisors, quiet=options.quiet),
        flaky_upstream(supervisors, options.seed) as url,
        ClientSession(timeout=ClientTimeout(sock_read=1.0)) as session,
        Supervisor(strategy="rest_for_one", max_restarts=10, within=10.0, name="service") as supervisor,
    ):
        supervisors["service"] = supervisor
        market = Market(url)
        # Children are stopped in reverse start order, so the web server is the last.
        supervisor.start(serve, market, name="web")
        supervisor.start(poll, session, market, name="poller")
        supervisor.start(consume, session, market, supervisors, name="consumer")
        loop = asyncio.get_running_loop()
        # On Windows, the event loop does not support signal handlers.
        with suppress(NotImplementedError):
            loop.add_signal_handler(SIGTERM, stop, 128 + SIGTERM)
        if options.seconds:
            loop.call_later(options.seconds, stop, 0)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example from a command line and return its exit code."""
    try:
        return asyncio.run(run(read_options(arguments)))
    except KeyboardInterrupt:
        # asyncio.run has cancelled `run`, so the children were stopped in order.
        return 128 + SIGINT


if __name__ == "__main__":
    sys.exit(main())
