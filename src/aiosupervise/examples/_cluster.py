"""The fetches on a local Dask cluster of two processes. What changes is where a session comes from."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from signal import Signals

from aiohttp import ClientSession, ClientTimeout
from distributed import Client, LocalCluster

from aiosupervise import map_all, supervise
from aiosupervise.integrations.dask import DaskEngine

from ._terminal import Options, Strategy, show
from .fetch import BAD_LUCK, SIGNALS, Fetcher, fetch

__all__ = ["fetcher"]

# A terminal sends Ctrl-C to every process that it started: workers would die of it before the run has ended.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass(frozen=True, slots=True)
class Page:
    """What a worker needs to know to fetch a page: it travels, so it is plain. A session cannot travel."""

    url: str
    seed: str
    bad_luck: Sequence[type[Exception]]
    patience: ClientTimeout
    max_retries: int


async def fetch_page(page: Page) -> str:
    """Fetch a page on a worker, by the same policy as here, with a session of its own."""
    worker = supervise(fetch.policy.replace(max_retries=page.max_retries))(fetch.__wrapped__)
    async with ClientSession(timeout=page.patience) as session:
        return await worker(session, page.url, Random(page.seed), page.bad_luck)


@asynccontextmanager
async def fetcher() -> AsyncIterator[Fetcher]:
    """Start two worker processes, and end them with the block; in it, what runs one strategy on them."""

    async def fetch_all(
        strategy: Strategy, session: ClientSession, urls: Sequence[str], options: Options
    ) -> Signals | None:
        bad_luck = BAD_LUCK if options.url else (RuntimeError,)
        pages = [
            Page(url, f"{options.seed} {n}", bad_luck, session.timeout, options.max_retries)
            for n, url in enumerate(urls)
        ]
        run = map_all(
            fetch_page,
            pages,
            strategy=strategy,
            limit=options.limit,
            timeout=options.timeout,
            progress=not options.quiet,
            stop_on=SIGNALS,
            name="fetch",
            engine=engine,
        )
        try:
            await run
        finally:
            show(run.report)
        return run.stopped_by

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, asynchronous=True, dashboard_address=":0", preload=[IGNORE_CTRL_C]
    )
    async with cluster, Client(cluster, asynchronous=True) as client:
        engine = DaskEngine(client)
        yield fetch_all
