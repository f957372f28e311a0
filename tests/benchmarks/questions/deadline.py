"""Does a deadline end an attempt that hangs?"""

import asyncio
import time

from .contenders import Func, Terms, decorate, retriers
from .table import Table, Target

DEADLINE = 0.3
HANGS = 1.0


def ask() -> Table:
    """Measure everyone that retries; the handwritten loop gets its deadline from asyncio.timeout."""
    table = Table(
        f"a deadline of {DEADLINE} s, and an attempt that hangs for {HANGS} s",
        "the duration and the result of one call for each contender",
        ("seconds", "ended with"),
    )
    for name in retriers():
        seconds, end = asyncio.run(measure(name))
        promised = Target(f"{DEADLINE} s", seconds < DEADLINE + 0.1) if name == "aiosupervise" else None
        label = f"{name} in asyncio.timeout" if name == "handwritten" else name
        table.add(label, f"{seconds:.2f}", end, target=promised)
    return table


async def measure(name: str) -> tuple[float, str]:
    """How long the call takes, and its end."""
    call = decorate(name, hang, Terms(deadline=DEADLINE))
    start = time.perf_counter()
    end = await ending(call, within=DEADLINE if name == "handwritten" else None)
    return time.perf_counter() - start, end


async def ending(call: Func, within: float | None) -> str:
    """The call's result or the type of its error."""
    try:
        async with asyncio.timeout(within):
            return f"its result: {await call()!r}"
    except Exception as error:
        return type(error).__name__


async def hang() -> str:
    """Succeeds, too late."""
    await asyncio.sleep(HANGS)
    return "late"
