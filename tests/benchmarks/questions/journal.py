"""What does a journal add to the cost of a job, and what does a replayed one cost?"""

import asyncio
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from aiosupervise import Success, map_all

from .fresh import in_fresh_process
from .table import Table, Target, times

JOBS = 20_000
REPEATS = 5
LIMIT = 100
VALUE = "x" * 500

Inputs = Sequence[Any]


async def step(_: object) -> str:
    """Do the job of the runs that call it: one step of the loop, for a value of 500 bytes."""
    await asyncio.sleep(0)
    return VALUE


async def at_once(_: object) -> int:
    """Do the job that a replayed one is compared with."""
    return 1


async def without(inputs: Inputs, _: Path) -> None:
    """Run without a journal."""
    await map_all(step, inputs, limit=LIMIT)


async def with_journal(inputs: Inputs, path: Path) -> None:
    """Run with a journal that is empty at first."""
    await map_all(step, inputs, limit=LIMIT, journal=path)


async def by_hand(inputs: Inputs, path: Path) -> None:
    """Commit each result by hand, with the settings that a journal has."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE result (key TEXT, value TEXT)")
        async with map_all(step, inputs, strategy="as_completed", limit=LIMIT) as run:
            async for outcome in run:
                if isinstance(outcome, Success):
                    row = json.dumps(outcome.input), json.dumps(outcome.value)
                    connection.execute("INSERT INTO result VALUES (?, ?)", row)


async def returning(inputs: Inputs, _: Path) -> None:
    """Call a function that returns at once."""
    await map_all(at_once, inputs, limit=LIMIT)


async def replayed(inputs: Inputs, path: Path) -> None:
    """Run with a journal that has the result of every input."""
    report = await map_all(at_once, inputs, limit=LIMIT, journal=path)
    if report.tally.replayed != JOBS:
        raise RuntimeError(f"{report.tally.replayed} of {JOBS} were replayed")


def numbers() -> Inputs:
    """Inputs that are ints."""
    return range(JOBS)


def urls() -> Inputs:
    """Inputs that are URLs."""
    return [f"https://example.org/articles/{number}?page=1" for number in range(JOBS)]


def shuffled(inputs: Inputs) -> Inputs:
    """The same in another order."""
    return random.Random(1).sample(inputs, len(inputs))


def same(inputs: Inputs) -> Inputs:
    """The same in the same order."""
    return inputs


Way = tuple[Callable[[Inputs, Path], Awaitable[None]], Callable[[], Inputs], Callable[[Inputs], Inputs]]
WITHOUT, AT_ONCE, AT_ONCE_URLS = "without a journal", "a job that returns immediately, ints", "the same, URLs"
WAYS: dict[str, Way] = {
    WITHOUT: (without, numbers, same),
    "with a journal": (with_journal, numbers, same),
    "a commit for each outcome, by hand": (by_hand, numbers, same),
    AT_ONCE: (returning, numbers, same),
    "replayed, ints in the same order": (replayed, numbers, same),
    "replayed, ints in another order": (replayed, numbers, shuffled),
    AT_ONCE_URLS: (returning, urls, same),
    "replayed, URLs in the same order": (replayed, urls, same),
    "replayed, URLs in another order": (replayed, urls, shuffled),
}
PROMISED = {
    "with a journal": 2.0,
    "replayed, ints in the same order": 1.3,
    "replayed, ints in another order": 1.3,
    "replayed, URLs in the same order": 1.3,
    "replayed, URLs in another order": 1.45,
}


def ask() -> Table:
    """Measure all in turns, and compare each with the run above it that has no journal."""
    table = Table(
        f"{JOBS:,} jobs with a journal, limit {LIMIT}: values of {len(VALUE)} bytes, then inputs with a stored result",
        f"CPU time per job, of all threads: the median of {REPEATS} interleaved repeats, each in a fresh process",
        ("us per job", "x without"),
    )
    rounds = [{name: in_fresh_process(measure, name) for name in WAYS} for _ in range(REPEATS)]
    base = 0.0
    for name in WAYS:
        cost = median(one[name] for one in rounds)
        if name in {WITHOUT, AT_ONCE, AT_ONCE_URLS}:
            base = cost
        ratio = cost / base
        promised = PROMISED.get(name)
        target = None if promised is None else Target(f"<= {promised:g} x", ratio <= promised)
        table.add(name, f"{cost:.1f}", times(ratio), target=target)
    return table


def measure(name: str) -> float:
    """Microseconds of CPU per job; in the fresh process."""
    return asyncio.run(cost(*WAYS[name]))


async def cost(
    run: Callable[[Inputs, Path], Awaitable[None]], make: Callable[[], Inputs], reorder: Callable[[Inputs], Inputs]
) -> float:
    """Time one run, after another one, which fills the journal if everything is to be replayed."""
    inputs = make()
    with tempfile.TemporaryDirectory() as folder:
        await (fill(inputs, folder) if run is replayed else run(inputs, Path(folder, "other.db")))
        known = reorder(inputs)
        start = time.process_time()
        await run(known, Path(folder, "run.db"))
        return (time.process_time() - start) / JOBS * 1e6


async def fill(inputs: Inputs, folder: str) -> None:
    """Fill the journal."""
    await map_all(at_once, inputs, limit=LIMIT, journal=Path(folder, "run.db"))
