"""What does a supervisor of many children cost when they crash at once, and when they are stopped one by one?

Its children wait for an event and then crash all in the same turn of the event loop, as the clients of a server do that
goes away. Beside them, as many bare tasks wait for an event and fail, and nobody restarts them: no supervisor can have
shorter turns than asyncio itself needs to end its tasks.
"""

import asyncio
import gc
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from aiosupervise import Supervisor

from .table import Table, Target

FEW, MANY = 1_000, 10_000
ROUNDS = 5
SECONDS, TURNS, RATIO = 2.0, 1.5, 1.3


class Storm(NamedTuple):
    """The duration, and the longest iteration of the event loop meanwhile, in seconds."""

    total: float
    longest_turn: float


def ask() -> Table:
    """Measure ten thousand children beside bare tasks, and beside a tenth of them; the contenders take turns."""
    rows: dict[tuple[str, int], list[Storm]] = {}
    for _ in range(ROUNDS):
        for name, storm in STORMS.items():
            for number in (FEW, MANY):
                with quiet():
                    rows.setdefault((name, number), []).append(asyncio.run(storm(number)))
    return tabulate({key: median(storms) for key, storms in rows.items()})


def median(storms: list[Storm]) -> Storm:
    """The medians of all rounds."""
    return Storm(*(statistics.median(figures) for figures in zip(*storms, strict=True)))


def tabulate(found: dict[tuple[str, int], Storm]) -> Table:
    """The table, and what was promised for ten thousand."""
    table = Table(
        "many children that crash simultaneously with backoff=[0], and many that are stopped one by one in start order",
        f"medians of {ROUNDS} rounds; crash reports are not logged, and the cyclic garbage collector is off",
        ("seconds", "us each", "x 1,000", "longest iteration ms", "x bare tasks"),
    )
    for (name, number), storm in found.items():
        turns = storm.longest_turn / found["bare tasks fail", number].longest_turn
        per_child = storm.total / number
        ratio = per_child / (found[name, FEW].total / FEW)
        cells = f"{storm.total:.3f}", f"{per_child * 1e6:.0f}", f"{ratio:.2f}", f"{storm.longest_turn * 1e3:.1f}"
        target = None
        if number == MANY and name != "bare tasks fail":
            is_fast = storm.total <= SECONDS and ratio <= RATIO
            words = f"{SECONDS} s, {RATIO} x"
            if name == "children crash":
                is_fast, words = is_fast and turns <= TURNS, f"{words}, iteration {TURNS} x"
            target = Target(words, is_fast)
        table.add(f"{number:,} {name}", *cells, f"{turns:.2f}" if name == "children crash" else "", target=target)
    return table


@contextmanager
def quiet() -> Iterator[None]:
    """Print no crash reports, and keep the garbage collector out: a full pass takes longer than any turn."""
    logger = logging.getLogger("aiosupervise.supervisor")
    logger.setLevel(logging.CRITICAL)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logger.setLevel(logging.NOTSET)


async def measured(act: Callable[[], Awaitable[object]]) -> Storm:
    """How long it takes until `act` returns, and the longest iteration meanwhile."""
    turns: list[float] = []

    async def watch() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            turns.append(now - before)
            before = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    start = time.perf_counter()
    await act()
    total = time.perf_counter() - start
    await asyncio.sleep(0)
    watching.cancel()
    return Storm(total, max(turns))


async def bare_tasks(number: int) -> Storm:
    """Tasks that fail in the same turn; somebody looks at their errors."""
    crash = asyncio.Event()

    async def child() -> None:
        await crash.wait()
        raise ConnectionError

    tasks = [asyncio.create_task(child()) for _ in range(number)]
    for task in tasks:
        task.add_done_callback(asyncio.Task.exception)
    await asyncio.sleep(0.01)

    async def act() -> None:
        crash.set()
        await asyncio.wait(tasks)

    return await measured(act)


async def crashes(number: int) -> Storm:
    """Children that fail in the same turn, until all of them run again."""
    crash, again = asyncio.Event(), asyncio.Event()
    runs = 0

    async def child() -> None:
        nonlocal runs
        runs += 1
        if runs == 2 * number:
            again.set()
        await (crash if runs <= number else asyncio.Event()).wait()
        raise ConnectionError

    async def act() -> None:
        crash.set()
        await again.wait()

    async with Supervisor(backoff=[0]) as sup:
        for _ in range(number):
            sup.start(child)
        await asyncio.sleep(0.01)
        storm = await measured(act)
        sup.stop()
    return storm


async def stops(number: int) -> Storm:
    """Children that are stopped one by one, in start order."""
    async with Supervisor() as sup:
        children = [sup.start(asyncio.Event().wait) for _ in range(number)]
        await asyncio.sleep(0.01)

        async def act() -> None:
            for child in children:
                await child.stop()

        return await measured(act)


STORMS: dict[str, Callable[[int], Coroutine[object, None, Storm]]] = {
    "bare tasks fail": bare_tasks,
    "children crash": crashes,
    "children are stopped": stops,
}
