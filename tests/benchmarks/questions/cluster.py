"""What does a cluster do in a second, and does a long run on it keep the driver small?"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import dask
from distributed import Client, LocalCluster

from aiosupervise import map_all
from aiosupervise.integrations.dask import DaskEngine

from .fresh import in_fresh_process, resident_mb
from .table import Table, Target

WORKERS = 2
THREADS = 2  # of each worker: so many chunks, or tasks of the peer, begin beside one another
JOBS = 100_000
FEWER = 2_000  # for one task a job, which takes its time
MANY = 1_000_000
STEP = 100_000
ROUNDS = 3


async def nap(_: int) -> None:
    """Do the job."""
    await asyncio.sleep(0.001)


@contextmanager
def cluster() -> Iterator[str]:
    """Two local worker processes; the scheduler is in this process, apart from the driver."""
    with LocalCluster(n_workers=WORKERS, threads_per_worker=THREADS, dashboard_address=":0") as cluster:
        address: str = cluster.scheduler_address
        yield address


def ask() -> Table:
    """Measure both ways in turns, then the memory."""
    table = Table(
        f"jobs of `asyncio.sleep(0.001)` on {WORKERS} local worker processes of {THREADS} threads, limit 100 for each",
        f"jobs a second, best of {ROUNDS}: ours {JOBS:,} jobs, one task a job {FEWER:,}; MB: growth of the driver over "
        f"{MANY:,} streamed jobs after the first {STEP:,}",
        ("jobs/s", "MB"),
    )
    with cluster() as address:
        rates = [in_fresh_process(measure, address) for _ in range(ROUNDS)]
        grown = in_fresh_process(memory, address)
    ours, theirs = max(rate for rate, _ in rates), max(rate for _, rate in rates)
    table.add("map_all(engine=DaskEngine(...))", f"{ours:,.0f}", "", target=Target(">= 20,000", ours >= 20_000))
    table.add("client.map, one task a job", f"{theirs:,.0f}", "")
    table.add("  ratio", f"{ours / theirs:.1f}", "", target=Target(">= 20", ours >= 20 * theirs))
    table.add("map_all, streamed", "", f"{grown:.1f}", target=Target("< 10 MB", grown < 10))
    return table


def measure(address: str) -> tuple[float, float]:
    """Jobs a second of ours and of the peer; runs in the fresh process."""
    return asyncio.run(_rates(address))


async def _rates(address: str) -> tuple[float, float]:
    async with Client(address, asynchronous=True) as client:
        run = partial(map_all, nap, limit=100, engine=DaskEngine(client))
        await run(range(1_000))  # the workers have imported everything
        begun = time.perf_counter()
        report = await run(range(JOBS))
        ours = JOBS / (time.perf_counter() - begun)
        if len(report.succeeded) != JOBS:
            raise RuntimeError(repr(report))
        begun = time.perf_counter()
        await client.gather(client.map(nap, range(FEWER), pure=False))
        return ours, FEWER / (time.perf_counter() - begun)


def memory(address: str) -> float:
    """Growth in MB; runs in the fresh process."""
    # Dask's client keeps its last thousand messages for debugging, each with a chunk: that many come to an end too.
    with dask.config.set({"distributed.admin.low-level-log-length": 10}):
        return asyncio.run(_growth(address))


async def _growth(address: str) -> float:
    looks: list[float] = []
    finished = 0
    run = map_all(nap, iter(range(MANY)), strategy="as_completed", engine=DaskEngine(address))
    async with run:
        async for _ in run:
            finished += 1
            if finished % STEP == 0:
                looks.append(resident_mb())
    if run.tally.succeeded != MANY:
        raise RuntimeError(repr(run))
    return max(looks) - looks[0]
