"""How long is a child gone that is restarted without a wait?"""

import asyncio
import statistics
import time

from aiosupervise import Supervisor

from .table import Table, Target

RESTARTS = 2000
SIBLINGS = 1000


def ask() -> Table:
    """Measure a child that is alone, and one that has many siblings."""
    table = Table(
        "a child that crashes immediately, restarted without a delay",
        f"time from the error to the first step of the next run: {RESTARTS:,} restarts on a real event loop",
        ("median us", "99 % us", "longest us"),
    )
    for siblings in (0, SIBLINGS):
        us = sorted(asyncio.run(measure(siblings)))
        median = statistics.median(us)
        cells = f"{median:,.0f}", f"{us[len(us) * 99 // 100]:,.0f}", f"{us[-1]:,.0f}"
        name = f"aiosupervise, {siblings:,} idle siblings" if siblings else "aiosupervise, alone"
        table.add(name, *cells, target=Target("median < 1 ms", median < 1000))
    return table


async def measure(siblings: int) -> list[float]:
    """Microseconds that each restart took."""
    raised: list[int] = []
    taken: list[float] = []

    async def crash() -> None:
        if raised:
            taken.append((time.perf_counter_ns() - raised[-1]) / 1000)
        if len(taken) == RESTARTS:
            sup.stop()
        await asyncio.sleep(0)
        raised.append(time.perf_counter_ns())
        raise ConnectionError

    async with Supervisor(max_restarts=None, backoff=[0]) as sup:
        for _ in range(siblings):
            sup.start(asyncio.Event().wait)
        sup.start(crash)
    return taken
