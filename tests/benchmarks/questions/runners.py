"""The ways to run a batch of `asyncio.sleep(0)`: each takes how many jobs, and says how many finished."""

import asyncio
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


RUNNERS: dict[str, Runner] = {
    "asyncio.gather": gather,
    "gather + Semaphore": gather_semaphore,
    "run_all gather": partial(awaited, "gather"),
    "run_all gather, overload=None": unprotected,
    "run_all as_completed": partial(awaited, "as_completed"),
    "run_all as_completed, streamed": partial(streamed, "as_completed"),
}
if find_spec("aiometer"):
    RUNNERS["aiometer.run_all"] = aiometer
