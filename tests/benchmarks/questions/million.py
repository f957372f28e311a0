"""Does streaming a million jobs take the memory of a million, or of the limit?"""

import asyncio

from aiosupervise import run_all

from .fresh import in_fresh_process, resident_mb
from .runners import LIMIT, Strategy
from .table import Table, Target

JOBS = 1_000_000
STEP = 100_000
STRATEGIES: tuple[Strategy, ...] = ("as_completed", "gather")


def ask() -> Table:
    """Measure two strategies; what holds all jobs at once is no contender."""
    table = Table(
        f"streaming {JOBS:,} jobs of `asyncio.sleep(0)`, limit {LIMIT}",
        f"growth of a fresh process after the first {STEP:,} outcomes: the maximum of measurements every {STEP:,}",
        ("MB",),
    )
    for strategy in STRATEGIES:
        grown = in_fresh_process(measure, strategy)
        table.add(f"run_all {strategy}, streamed", f"{grown:.1f}", target=Target("< 10 MB", grown < 10))
    return table


def measure(strategy: Strategy) -> float:
    """Growth in MB; runs in the fresh process."""
    return asyncio.run(growth(strategy))


async def growth(strategy: Strategy) -> float:
    """Read all outcomes, and look at the process now and then."""
    looks: list[float] = []
    async with run_all((asyncio.sleep(0) for _ in range(JOBS)), strategy=strategy, limit=LIMIT) as run:
        finished = 0
        async for _ in run:
            finished += 1
            if finished % STEP == 0:
                looks.append(resident_mb())
    if finished != JOBS:
        raise RuntimeError(f"{finished} of {JOBS} jobs finished")
    return max(looks) - looks[0]
