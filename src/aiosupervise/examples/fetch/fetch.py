"""Fetch many pages of a site that fails, under each of the three strategies. This is the file to copy from."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from random import Random
from signal import SIGINT, SIGTERM, Signals
from typing import Any, TypeAlias

from aiohttp import ClientSession, ClientTimeout

from aiosupervise import Journal, map_all, policy_of, supervise
from aiosupervise.examples.site import flaky_site
from aiosupervise.integrations.aiohttp import is_transient

from ._terminal import Options, StrategyName, bar, show, stop_announced

# The first of these signals stops a run, which then starts no further jobs; the second cancels the running jobs.
SIGNALS = (SIGINT, SIGTERM)

# On the flaky site, one attempt in ten raises an injected error.
ERROR_RATE = 0.1

FetchAll: TypeAlias = Callable[[StrategyName, ClientSession, Sequence[str], Options], Awaitable[Signals | None]]


@supervise(retry_on=is_transient, irrecoverable=RuntimeError, max_retries=3)
async def fetch(session: ClientSession, url: str, random: Random, errors: Sequence[type[Exception]]) -> str:
    """Fetch a page. The policy above states which errors are retried, and how often."""
    if errors and random.random() > 1 - ERROR_RATE:
        raise random.choice(errors)("injected error")
    async with session.get(url) as response:
        response.raise_for_status()
        return f"{len(await response.read())} bytes"


async def fetch_all(
    strategy: StrategyName, session: ClientSession, urls: Sequence[str], options: Options
) -> Signals | None:
    """Fetch all pages under one strategy, print the outcomes, and return the signal that stopped the run, if any."""
    start = partial(
        map_all,
        page_fetcher(session, urls, options),
        list(range(len(urls))),
        limit=options.limit,
        timeout=options.timeout,
        progress=bar(options),
        stop_on=SIGNALS,
        name="fetch",
        journal=journal_of(options, strategy),
    )
    match strategy:
        case "gather":
            # Outcomes in input order.
            run = start(strategy="gather")
        case "as_completed":
            # Outcomes in completion order.
            run = start(strategy="as_completed")
        case _:
            # Outcomes in completion order, too; `return_when` may end the run early.
            run = start(strategy="wait")
    try:
        async with stop_announced(run):
            await run
    finally:
        # A third Ctrl-C cancels this task; the report then holds the outcomes so far.
        show(run.report)
    return run.stopped_by


def page_fetcher(session: ClientSession, urls: Sequence[str], options: Options) -> Callable[[int], Awaitable[str]]:
    """Return the function that fetches the page with a number, as often as the command line allows."""
    worker = supervise(policy_of(fetch).replace(max_retries=options.max_retries))(inspect.unwrap(fetch))
    errors = injected_errors(options)

    async def fetch_page(page: int) -> str:
        text: str = await worker(session, urls[page], Random(f"{options.seed} {page}"), errors)
        return text

    return fetch_page


def injected_errors(options: Options) -> Sequence[type[Exception]]:
    """Return the errors to inject: an irrecoverable one for the flaky site, and none for a real site."""
    return () if options.url else (RuntimeError,)


def journal_of(options: Options, strategy: StrategyName, key: Callable[[Any], str] | None = None) -> Journal | None:
    """Return the journal, if one was requested. Each strategy and each site has its own results in it."""
    if options.journal is None:
        return None
    site = options.url or f"flaky site {options.seed}"
    return Journal(options.journal, key=key, version=f"{strategy}: {site}")


async def demonstrate(options: Options, fetch_on_engine: FetchAll) -> Signals | None:
    """Run the strategies one after another, each on a site with the same faults, until a signal stops one."""
    for strategy in options.strategies:
        print(f"{strategy}:", flush=True)
        site = nullcontext(options.url) if options.url else flaky_site(options.seed)
        timeout = ClientTimeout(sock_read=10.0 if options.url else 0.3)
        async with site as url, ClientSession(timeout=timeout) as session:
            urls = [options.url or f"{url}/page/{n}" for n in range(options.jobs)]
            stopped_by = await fetch_on_engine(strategy, session, urls, options)
        if stopped_by:
            return stopped_by
    return None
