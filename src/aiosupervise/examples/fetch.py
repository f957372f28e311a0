"""Fetch many pages of a site that fails, under each of the three strategies. This is the file to copy from.

python -m aiosupervise.examples.fetch         # a flaky site on loopback, started in this process
python -m aiosupervise.examples.fetch URL     # a real one
python -m aiosupervise.examples.fetch --engine dask     # by two worker processes of a local cluster
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from random import Random
from signal import SIGINT, SIGTERM, Signals
from typing import TypeAlias

from aiohttp import ClientSession, ClientTimeout, ServerDisconnectedError, ServerTimeoutError

from aiosupervise import run_all, supervise
from aiosupervise.integrations.aiohttp import is_transient

from ._terminal import Options, Strategy, read_options, show
from .site import flaky_site

UNLUCKY = 0.9
SIGNALS = (SIGINT, SIGTERM)  # the first one stops a run, the second one cancels what runs
Fetcher: TypeAlias = Callable[[Strategy, ClientSession, Sequence[str], Options], Awaitable[Signals | None]]
BAD_LUCK = (ServerDisconnectedError, ServerTimeoutError, RuntimeError)


@supervise(retry_on=is_transient, irrecoverable=RuntimeError, max_retries=3)
async def fetch(session: ClientSession, url: str, random: Random, bad_luck: Sequence[type[Exception]]) -> str:
    """Do one job: what is worth a retry, and how often, is said above, not in here."""
    luck = random.random()
    if luck > UNLUCKY:
        raise random.choice(bad_luck)("bad luck")
    async with session.get(url) as response:
        response.raise_for_status()
        return f"{len(await response.read())} bytes"


async def fetch_all(
    strategy: Strategy, session: ClientSession, urls: Sequence[str], options: Options
) -> Signals | None:
    """Run all the jobs under one strategy, show what became of each, and return the signal that stopped it, if any."""
    worker = supervise(fetch.policy.replace(max_retries=options.max_retries))(fetch.__wrapped__)
    # The flaky site drops and stalls by itself; on a real one the worker has to make up all of its bad luck.
    bad_luck = BAD_LUCK if options.url else (RuntimeError,)
    lucks = [Random(f"{options.seed} {n}") for n in range(len(urls))]
    jobs = [partial(worker, session, url, luck, bad_luck) for url, luck in zip(urls, lucks, strict=True)]
    limit, timeout, progress = options.limit, options.timeout, not options.quiet

    match strategy:
        case "gather":  # outcomes in input order
            run = run_all(jobs, strategy="gather", limit=limit, timeout=timeout, progress=progress, stop_on=SIGNALS)
        case "as_completed":  # outcomes in the order in which the jobs finish
            run = run_all(
                jobs, strategy="as_completed", limit=limit, timeout=timeout, progress=progress, stop_on=SIGNALS
            )
        case _:  # the same order; `return_when` may end the run earlier, as `timeout` ends any
            run = run_all(jobs, strategy="wait", limit=limit, timeout=timeout, progress=progress, stop_on=SIGNALS)
    try:
        await run
    finally:  # a third Ctrl-C cancels this task: the report holds what is known so far
        show(run.report)
    return run.stopped_by


async def demonstrate(options: Options) -> Signals | None:
    """Run the strategies one after another, each on a site that has the same luck, until a signal stops one."""
    async with AsyncExitStack() as stack:
        fetch_them: Fetcher = fetch_all
        if options.engine == "dask":
            from ._cluster import fetcher  # noqa: PLC0415 - an extra, needed only here

            fetch_them = await stack.enter_async_context(fetcher())
        for strategy in options.strategies:
            print(f"{strategy}:", flush=True)
            site = nullcontext(options.url) if options.url else flaky_site(options.seed)
            patience = ClientTimeout(sock_read=10.0 if options.url else 0.3)
            async with site as url, ClientSession(timeout=patience) as session:
                urls = [options.url or f"{url}/page/{n}" for n in range(options.jobs)]
                stopped_by = await fetch_them(strategy, session, urls, options)
            if stopped_by:
                return stopped_by
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example from a command line and return its exit code."""
    options = read_options(arguments)
    try:
        stopped_by = asyncio.run(demonstrate(options))
    except KeyboardInterrupt:
        stopped_by = SIGINT
    return 128 + stopped_by if stopped_by else 0


if __name__ == "__main__":
    sys.exit(main())
