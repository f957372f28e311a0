"""The fetch example on a local Dask cluster of two processes. Each job opens a session of its own."""

import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from signal import Signals

from aiohttp import ClientSession, ClientTimeout
from distributed import Client, LocalCluster

from aiosupervise import map_all, policy_of, supervise
from aiosupervise.integrations.dask import DaskEngine

from ._terminal import Options, StrategyName, bar, show, stop_announced
from .fetch import SIGNALS, FetchAll, fetch, injected_errors, journal_of

__all__ = ["start_cluster"]

# A terminal sends Ctrl-C to all foreground processes. The workers must ignore it, so that they do not end before the
# run.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@dataclass(frozen=True, slots=True)
class Page:
    """The input of a job: plain data, because it is sent to a worker."""

    url: str
    seed: str
    errors: Sequence[type[Exception]]
    timeout: ClientTimeout
    max_retries: int


async def fetch_page(page: Page) -> str:
    """Fetch a page on a worker, with the same policy as on the local engine, and with a session of its own."""
    worker = supervise(policy_of(fetch).replace(max_retries=page.max_retries))(inspect.unwrap(fetch))
    async with ClientSession(timeout=page.timeout) as session:
        text: str = await worker(session, page.url, Random(page.seed), page.errors)
    return text


async def fetch_all(
    engine: DaskEngine, strategy: StrategyName, session: ClientSession, urls: Sequence[str], options: Options
) -> Signals | None:
    """Run one strategy on a cluster, show its report, and return the signal that stopped it, if any."""
    errors = injected_errors(options)
    pages = [
        Page(url, f"{options.seed} {n}", errors, session.timeout, options.max_retries) for n, url in enumerate(urls)
    ]
    run = map_all(
        fetch_page,
        pages,
        strategy=strategy,
        limit=options.limit,
        timeout=options.timeout,
        progress=bar(options),
        stop_on=SIGNALS,
        name="fetch",
        journal=journal_of(options, strategy, key=lambda page: page.seed),
        engine=engine,
    )
    try:
        async with stop_announced(run):
            await run
    finally:
        show(run.report)
    return run.stopped_by


@asynccontextmanager
async def start_cluster() -> AsyncIterator[FetchAll]:
    """Start two worker processes, which end with the block; yield the function that runs one strategy on them."""
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, asynchronous=True, dashboard_address=":0", preload=[IGNORE_CTRL_C]
    )
    async with cluster, Client(cluster, asynchronous=True) as client:
        yield partial(fetch_all, DaskEngine(client))
