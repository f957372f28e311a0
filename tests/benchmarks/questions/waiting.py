"""Is what a failed attempt held freed while its call waits for the next one?"""

import asyncio

from .contenders import Terms, decorate, retriers
from .fresh import in_fresh_process, resident_mb
from .table import Table, Target

CALLS = 50
HELD_MB = 4
MB = 2**20


def ask() -> Table:
    """Measure everyone that retries."""
    table = Table(
        "memory kept during the backoff",
        f"growth of a fresh process while {CALLS} calls wait, each after a failed attempt that held {HELD_MB} MB",
        ("MB",),
    )
    for name in retriers():
        grown = in_fresh_process(measure, name)
        promised = Target("< 10 MB", grown < 10) if name == "aiosupervise" else None
        table.add(name, f"{grown:.1f}", target=promised)
    return table


def measure(name: str) -> float:
    """Growth in MB; runs in the fresh process."""
    return asyncio.run(growth(name))


async def growth(name: str) -> float:
    """Start the calls, look at the process once all of them wait, cancel them."""
    failed = 0
    all_failed = asyncio.Event()

    async def attempt(*, warm_up: bool = False) -> None:
        nonlocal failed
        if warm_up:
            return
        held = bytearray(b"x") * (HELD_MB * MB)
        failed += 1
        if failed == CALLS:
            all_failed.set()
        raise ConnectionError(len(held))

    call = decorate(name, attempt, Terms(wait=30.0))
    await call(warm_up=True)
    before = resident_mb()
    tasks = [asyncio.ensure_future(call()) for _ in range(CALLS)]
    await all_failed.wait()
    await asyncio.sleep(0.1)  # by now the last one waits as well
    grown = resident_mb() - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return grown
