"""How much memory does a batch take, the more jobs it has?"""

import asyncio

from .batch import cost
from .fresh import in_fresh_process
from .runners import LIMIT, RUNNERS
from .table import Table

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST = dict.fromkeys(("anyio TaskGroup", "aiostream.map"), 100_000)  # a million take gigabytes, or minutes
LEFT_OUT = {"run_all gather, overload=None"}  # which needs what `run_all gather` needs


def ask() -> Table:
    """Measure each runner with each number of jobs, once."""
    table = Table(
        f"memory of a batch of `asyncio.sleep(0)`, limit {LIMIT} (asyncio.gather and tqdm: no limit)",
        "maximum memory growth of a fresh process, in MB, by the number of jobs",
        [f"{size:,}" for size in SIZES],
    )
    for name in RUNNERS:
        if name not in LEFT_OUT:
            table.add(name, *(cell(name, size) for size in SIZES))
    return table


def cell(name: str, size: int) -> str:
    """The peak in MB, or a dash where there are too many jobs."""
    return "-" if size > MOST.get(name, size) else f"{in_fresh_process(measure, (name, size)):.1f}"


def measure(case: tuple[str, int]) -> float:
    """Peak in MB; runs in the fresh process."""
    name, size = case
    return asyncio.run(cost(RUNNERS[name], size)).peak
