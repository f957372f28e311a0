"""Does a call leave reference cycles, which only the garbage collector frees?"""

import asyncio
import contextlib
import gc

from .contenders import Func, Terms, decorate, retriers
from .retries import flaky
from .table import Table, Target, count

CALLS = 300


def ask() -> Table:
    """Measure calls that give up, that succeed in the end, that succeed at once."""
    table = Table(
        "cyclic garbage",
        f"objects that `gc.collect()` finds after {CALLS} calls with the collector off, per call",
        ("gave up after 3 attempts", "succeeded at the third", "succeeded at the first"),
    )
    for name in retriers():
        found = asyncio.run(measure(name))
        promised = Target("0", not any(found)) if name == "aiosupervise" else None
        table.add(name, *map(count, found), target=promised)
    return table


async def measure(name: str) -> list[float]:
    """Objects per call for each of the three endings."""
    terms = Terms(retries=2)
    return [await cycles(decorate(name, func, terms)) for func in (failing, flaky(), succeeding)]


async def cycles(call: Func) -> float:
    """Objects per call that no reference count freed."""
    await ended(call)
    gc.collect()
    gc.disable()
    try:
        for _ in range(CALLS):
            await ended(call)
        return gc.collect() / CALLS
    finally:
        gc.enable()


async def ended(call: Func) -> None:
    """Call, and drop the error as a caller does."""
    with contextlib.suppress(ConnectionError):
        await call(1, key=2)


async def failing(number: int, *, key: int) -> int:
    """Never succeeds."""
    raise ConnectionError(number, key)


async def succeeding(number: int, *, key: int) -> int:
    """Always succeeds."""
    return number + key
