"""Keep a small aiohttp service alive while what it depends on fails. This is the file to copy from.

python -m aiosupervise.examples.service                # until Ctrl-C
python -m aiosupervise.examples.service --seconds 10   # for a while
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

from ._feed import flaky_upstream, served
from ._tree import read_options, safe_repr

PAUSE = 0.4  # seconds between two polls, and between two orders


@dataclass
class Market:
    """What the tasks share. A task that is started anew finds it as it was."""

    url: str  # of the upstream
    price: float | None = None
    ticks: int = 0
    feed: ClientWebSocketResponse = field(init=False)  # when it is connected
    is_connected: asyncio.Event = field(default_factory=asyncio.Event)


# A call: what passes by itself is the policy's, and the task that made the call does not hear of it.


@supervise(retry_on=is_transient, max_retries=8, backoff=Backoff(base=0.2, cap=1.0))
async def fetch_price(session: ClientSession, url: str) -> float:
    """Ask once. An answer without a price is no error that the policy knows: it is the end of the poller."""
    async with session.get(f"{url}/price") as response:
        response.raise_for_status()
        return float((await response.json())["price"])


@supervise(retry_on=is_transient, max_retries=2, backoff=Backoff(base=0.4))
async def connect(session: ClientSession, url: str) -> ClientWebSocketResponse:
    """Try once to connect to the feed."""
    return await session.ws_connect(f"{url}/feed")


# A service: these never end by themselves. Whatever ends one all the same is the supervisor's.


async def serve(market: Market) -> None:
    """Serve what was collected."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"price": market.price, "ticks": market.ticks})

    async with served([web.get("/", answer)]) as url:
        print(f"serving on {url}/", flush=True)
        await asyncio.Event().wait()


async def poll(session: ClientSession, market: Market) -> None:
    """Ask for the price again and again."""
    while True:
        market.price = await fetch_price(session, market.url)
        await asyncio.sleep(PAUSE)


async def consume(session: ClientSession, market: Market, supervisors: dict[str, Supervisor]) -> None:
    """Be a child that is a supervisor: reader and writer share a connection, and none goes on without the other."""
    async with Supervisor(strategy="one_for_all", max_restarts=2, name="consumer") as consumer:
        supervisors["consumer"] = consumer
        consumer.start(read, session, market, name="reader")
        consumer.start(write, market, name="writer")


async def read(session: ClientSession, market: Market) -> None:
    """Connect, and count what comes."""
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
    """Order more ticks again and again."""
    await market.is_connected.wait()
    while True:
        await market.feed.send_str("more")
        await asyncio.sleep(PAUSE)


async def run(options: argparse.Namespace) -> int:
    """Run the service until it is told to stop, and return the exit code."""
    supervisors: dict[str, Supervisor] = {}  # those that are shown
    code = 0

    def stop(why: int) -> None:
        nonlocal code
        code = why
        service.stop()

    async with (
        safe_repr(supervisors, quiet=options.quiet),
        flaky_upstream(supervisors, options.seed) as url,
        ClientSession(timeout=ClientTimeout(sock_read=1.0)) as session,
        Supervisor(strategy="rest_for_one", max_restarts=10, within=10.0, name="service") as service,
    ):
        supervisors["service"] = service
        market = Market(url)
        service.start(serve, market, name="web")  # stopped last
        service.start(poll, session, market, name="poller")
        service.start(consume, session, market, supervisors, name="consumer")  # stopped first
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # on Windows
            loop.add_signal_handler(SIGTERM, stop, 128 + SIGTERM)
        if options.seconds:
            loop.call_later(options.seconds, stop, 0)
    return code  # when all children have ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example from a command line and return its exit code."""
    try:
        return asyncio.run(run(read_options(arguments)))
    except KeyboardInterrupt:  # asyncio.run cancelled `run`, and so the children were stopped in order
        return 128 + SIGINT


if __name__ == "__main__":
    sys.exit(main())
