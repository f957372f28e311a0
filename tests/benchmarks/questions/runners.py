"""The ways to run a batch of `asyncio.sleep(0)`: each takes how many jobs, and says how many finished."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from aiosupervise import run_all

LIMIT = 100

Runner = Callable[[int], Awaitable[int]]
Strategy = Literal["gather", "as_completed"]


async def gather(jobs: int) -> int:
    """Everything at once, which needs all coroutines in hand."""
    return len(await asyncio.gather(*[asyncio.sleep(0) for _ in range(jobs)]))


async def gather_semaphore(jobs: int) -> int:
    """What people write to have a limit."""
    semaphore = asyncio.Semaphore(LIMIT)

    async def limited(job: Coroutine[Any, Any, None]) -> None:
        async with semaphore:
            await job

    return len(await asyncio.gather(*[limited(asyncio.sleep(0)) for _ in range(jobs)]))


async def awaited(strategy: Strategy, jobs: int) -> int:
    """Ours, with a report at the end that holds every outcome."""
    return len(await run_all((asyncio.sleep(0) for _ in range(jobs)), strategy=strategy, limit=LIMIT))


async def unprotected(jobs: int) -> int:
    """Ours without a retry budget and its pauses, to see what those cost a healthy run."""
    return len(await run_all((asyncio.sleep(0) for _ in range(jobs)), limit=LIMIT, overload=None))


async def streamed(strategy: Strategy, jobs: int) -> int:
    """Ours, each outcome handed over as it comes."""
    finished = 0
    async with run_all((asyncio.sleep(0) for _ in range(jobs)), strategy=strategy, limit=LIMIT) as run:
        async for _ in run:
            finished += 1
    return finished


async def aiometer(jobs: int) -> int:
    """The library aiometer, which needs all callables in hand."""
    lib = import_module("aiometer")
    return len(await lib.run_all([partial(asyncio.sleep, 0) for _ in range(jobs)], max_at_once=LIMIT))


async def tqdm(jobs: int) -> int:
    """The progress bar tqdm, which hands everything to asyncio.gather; it draws into a string."""
    lib = import_module("tqdm.asyncio").tqdm
    return len(await lib.gather(*[asyncio.sleep(0) for _ in range(jobs)], file=io.StringIO()))


async def streamable(jobs: int) -> int:
    """The library streamable."""
    lib = import_module("streamable")
    finished = 0
    async for _ in lib.stream(range(jobs)).map(none, concurrency=LIMIT):
        finished += 1
    return finished


async def aiostream(jobs: int) -> int:
    """The library aiostream."""
    lib = import_module("aiostream")
    finished = 0
    async with lib.stream.map(lib.stream.range(jobs), none, task_limit=LIMIT).stream() as results:
        async for _ in results:
            finished += 1
    return finished


async def anyio(jobs: int) -> int:
    """The library anyio, as its documentation shows limits: a task group and a CapacityLimiter."""
    lib = import_module("anyio")
    limiter = lib.CapacityLimiter(LIMIT)
    finished = 0

    async def limited() -> None:
        nonlocal finished
        async with limiter:
            await asyncio.sleep(0)
        finished += 1

    async with lib.create_task_group() as group:
        for _ in range(jobs):
            group.start_soon(limited)
    return finished


async def none(_: object) -> None:
    """The job, for those who call a function with an input."""
    await asyncio.sleep(0)


RUNNERS: dict[str, Runner] = {
    "asyncio.gather": gather,
    "gather + Semaphore": gather_semaphore,
    "run_all gather": partial(awaited, "gather"),
    "run_all gather, overload=None": unprotected,
    "run_all as_completed": partial(awaited, "as_completed"),
    "run_all as_completed, streamed": partial(streamed, "as_completed"),
}
_PEERS: dict[str, tuple[str, Runner]] = {
    "tqdm.asyncio.gather": ("tqdm", tqdm),
    "streamable.map": ("streamable", streamable),
    "aiometer.run_all": ("aiometer", aiometer),
    "aiostream.map": ("aiostream", aiostream),
    "anyio TaskGroup": ("anyio", anyio),
}
RUNNERS |= {name: runner for name, (library, runner) in _PEERS.items() if find_spec(library)}
