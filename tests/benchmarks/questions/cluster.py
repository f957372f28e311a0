"""What does a cluster do in a second, what does that cost, and how do runs end that do not end well?"""

import asyncio
import os
import re
import signal
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
THREADS = 2  # of each worker: the number of chunks, or tasks of the peer, that run at once
JOBS = 100_000
FEWER = 2_000  # for one task per job, which takes its time
MANY = 1_000_000
STEP = 100_000
CHUNK = 1_000
ROUNDS = 3
KILLED = 200  # jobs, one of which kills its worker
SMALL = 10  # jobs in each chunk of these


async def nap(_: int) -> None:
    """Do the job."""
    await asyncio.sleep(0.001)


async def never(_: int) -> None:
    """Be cancelled."""
    await asyncio.sleep(3600)


async def die_of_seven(n: int) -> None:
    """Kill the worker for one input."""
    if n == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.001)


async def left() -> int:
    """How many jobs of `never` a worker has; they are tasks with its name and a number."""
    return sum(bool(re.fullmatch(r"never-\d+", task.get_name())) for task in asyncio.all_tasks())


@contextmanager
def cluster() -> Iterator[str]:
    """Two local worker processes; the scheduler is in this process, apart from the driver."""
    with LocalCluster(n_workers=WORKERS, threads_per_worker=THREADS, dashboard_address=":0") as cluster:
        address: str = cluster.scheduler_address
        yield address


def ask() -> Table:
    """Measure each in a fresh driver."""
    table = Table(
        f"jobs of `asyncio.sleep(0.001)` on {WORKERS} local worker processes of {THREADS} threads, limit 100 for each",
        f"rates are the best of {ROUNDS} runs, with {JOBS:,} jobs for aiosupervise and {FEWER:,} for one task per job; "
        f"processor time and memory are those of one streamed run of {MANY:,} jobs, "
        f"whose memory is measured every {STEP:,}",
        ("measured",),
    )
    with cluster() as address:
        rates = [in_fresh_process(measure, address) for _ in range(ROUNDS)]
        add_rates(table, max(rate for rate, _ in rates), max(rate for _, rate in rates))
        add_costs(table, address)
        add_troubles(table, address)
    return table


def add_rates(table: Table, ours: float, theirs: float) -> None:
    """The rows of what is done in a second."""
    target = Target(">= 20,000", ours >= 20_000)
    table.add("map_all(engine=DaskEngine(...)), jobs per second", f"{ours:,.0f}", target=target)
    table.add("client.map, one task per job, jobs per second", f"{theirs:,.0f}")
    table.add("  ratio", f"{ours / theirs:.1f}", target=Target(">= 20", ours >= 20 * theirs))


def add_costs(table: Table, address: str) -> None:
    """The rows of what the driver and the scheduler spend."""
    before = time.process_time()
    grown, driver = in_fresh_process(stream, (address, 10))
    scheduler = time.process_time() - before
    table.add("driver, us of processor time per job", f"{driver / MANY * 1e6:.1f}")
    table.add(f"scheduler, ms of processor time per {CHUNK:,} jobs", f"{scheduler / (MANY / CHUNK) * 1e3:.1f}")
    target = Target("< 10 MB", grown < 10)
    table.add("driver, memory growth after the first measurement, MB", f"{grown:.1f}", target=target)
    grown, _ = in_fresh_process(stream, (address, 1_000))
    table.add("  with Dask's record of its last 1,000 messages", f"{grown:.1f}")


def add_troubles(table: Table, address: str) -> None:
    """The rows of how runs end that do not end well."""
    seconds = in_fresh_process(cancel, address)
    target = Target("<= 1 s", seconds <= 1)
    table.add(f"cancelling {WORKERS * 100} jobs, s until no worker has one", f"{seconds:.2f}", target=target)
    failed, succeeded = in_fresh_process(kill, address)
    target = Target(f"<= {SMALL}, and {KILLED} in all", failed <= SMALL and failed + succeeded == KILLED)
    table.add(f"one job in {KILLED} always kills its worker: failures", str(failed), target=target)


def measure(address: str) -> tuple[float, float]:
    """Jobs a second of ours and of the peer; runs in the fresh process."""
    return asyncio.run(_rates(address))


async def _rates(address: str) -> tuple[float, float]:
    async with Client(address, asynchronous=True) as client:
        run = partial(map_all, nap, limit=100, engine=DaskEngine(client, chunk=CHUNK))
        await run(range(1_000))  # the workers have imported everything
        begun = time.perf_counter()
        report = await run(range(JOBS))
        ours = JOBS / (time.perf_counter() - begun)
        if len(report.succeeded) != JOBS:
            raise RuntimeError(repr(report))
        begun = time.perf_counter()
        await client.gather(client.map(nap, range(FEWER), pure=False))
        return ours, FEWER / (time.perf_counter() - begun)


def stream(where: tuple[str, int]) -> tuple[float, float]:
    """Growth in MB and seconds of processor; runs in the fresh process."""
    address, remembered = where
    # Dask's client keeps its last messages for debugging, a thousand by default, each with a chunk.
    with dask.config.set({"distributed.admin.low-level-log-length": remembered}):
        return asyncio.run(_growth(address))


async def _growth(address: str) -> tuple[float, float]:
    looks: list[float] = []
    finished = 0
    before = time.process_time()
    run = map_all(nap, iter(range(MANY)), strategy="as_completed", engine=DaskEngine(address, chunk=CHUNK))
    async with run:
        async for _ in run:
            finished += 1
            if finished % STEP == 0:
                looks.append(resident_mb())
    if run.tally.succeeded != MANY:
        raise RuntimeError(repr(run))
    return max(looks) - looks[0], time.process_time() - before


def cancel(address: str) -> float:
    """Seconds from a cancel until no worker has a coroutine of the run; runs in the fresh process."""
    return asyncio.run(_cancel(address))


async def count_left(client: Client) -> int:
    """Ask all workers."""
    return sum((await client.run(left)).values())


async def _cancel(address: str) -> float:
    async with Client(address, asynchronous=True) as client:
        run = map_all(never, range(10_000), limit=100, engine=DaskEngine(client, chunk=CHUNK))
        task = asyncio.ensure_future(run)
        while await count_left(client) < WORKERS * 100:
            pass
        begun = time.perf_counter()
        task.cancel()
        while await count_left(client):
            pass
        seconds = time.perf_counter() - begun
        await asyncio.wait([task])
        return seconds


def kill(address: str) -> tuple[int, int]:
    """Failed and succeeded jobs of a run in which one kills its worker; runs in the fresh process."""
    return asyncio.run(_kill(address))


async def _kill(address: str) -> tuple[int, int]:
    report = await map_all(die_of_seven, range(KILLED), engine=DaskEngine(address, chunk=SMALL))
    return len(report.failed), len(report.succeeded)
