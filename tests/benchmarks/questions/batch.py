"""What does a job cost in a batch of 100,000?"""

import asyncio
import sys
import time
from statistics import median
from typing import NamedTuple

from .fresh import forget_peak, in_fresh_process, peak_mb, resident_mb
from .runners import LIMIT, RUNNERS, Runner
from .table import Table, Target, times

REPEATS = 5
JOBS = 100_000
FEWER_JOBS = dict.fromkeys(("aiometer.run_all", "aiostream.map", "anyio TaskGroup"), 20_000)
PROMISED = {
    "asyncio.gather": 0.9 if sys.version_info < (3, 12) else 1.15,  # promised for 3.11 and for 3.13
    "gather + Semaphore": 0.75,
    "aiometer.run_all": 0.25,
}


class Cost(NamedTuple):
    """What one run took."""

    us_per_job: float
    peak: float


def ask() -> Table:
    """Measure all runners in turns, and compare with gather, gather + Semaphore, and aiometer."""
    costs = measure_all()
    table = Table(
        f"a batch of {JOBS:,} jobs of `asyncio.sleep(0)`, limit {LIMIT} (asyncio.gather and tqdm: no limit)",
        f"CPU time per job: the median of {REPEATS} interleaved repeats, each in a fresh process{scaled()}",
        ("us per job", "x gather", "x semaphore", "x aiometer", "peak MB"),
    )
    for name, cost in costs.items():
        ratios = {of: cost.us_per_job / costs[of].us_per_job for of in PROMISED if of in costs}
        shown = [times(ratios[of]) if of in ratios else "-" for of in PROMISED]
        promised = target(ratios) if name.startswith("run_all") else None
        table.add(name, f"{cost.us_per_job:.1f}", *shown, f"{cost.peak:.1f}", target=promised)
    return table


def scaled() -> str:
    """Who ran fewer jobs than the others; per job that is, if anything, to its advantage."""
    fewer = [name for name in FEWER_JOBS if name in RUNNERS]
    return f"; only {FEWER_JOBS[fewer[0]]:,} jobs for {', '.join(fewer)}" if fewer else ""


def measure_all() -> dict[str, Cost]:
    """The median cost of each runner; the repeats go round all of them in turn."""
    rounds = [{name: in_fresh_process(measure, name) for name in RUNNERS} for _ in range(REPEATS)]
    return {
        name: Cost(median(one[name].us_per_job for one in rounds), median(one[name].peak for one in rounds))
        for name in RUNNERS
    }


def measure(name: str) -> Cost:
    """One run; in the fresh process."""
    return asyncio.run(cost(RUNNERS[name], FEWER_JOBS.get(name, JOBS)))


async def cost(runner: Runner, jobs: int) -> Cost:
    """CPU and memory of one run, the release of its results included."""
    await runner(LIMIT)
    forget_peak()
    before = resident_mb()
    start = time.process_time()
    finished = await runner(jobs)
    seconds = time.process_time() - start
    if finished != jobs:
        raise RuntimeError(f"{finished} of {jobs} jobs finished")
    return Cost(seconds / jobs * 1e6, peak_mb() - before)


def target(ratios: dict[str, float]) -> Target:
    """What was promised about ours, in the order of the ratios' columns; a `!` marks what was not kept."""
    kept = {of: ratio <= PROMISED[of] for of, ratio in ratios.items()}
    promise = ", ".join(f"{PROMISED[of]:g} x{'' if kept[of] else ' (!)'}" for of in kept)
    return Target(f"<= {promise}", all(kept.values()))
