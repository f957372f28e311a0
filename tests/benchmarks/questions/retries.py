"""What do two retries cost?"""

import asyncio

from .contenders import Func, Terms, decorate, retriers
from .interleaved import fastest
from .table import Table, Target, times

ROUNDS = 150


def ask() -> Table:
    """Measure, and compare with the handwritten loop."""
    best = asyncio.run(measure())
    table = Table(
        "two failures, then success, no wait (every contender sleeps 0 s between attempts)",
        f"CPU of `await call(1, key=2)`: the fastest of {ROUNDS} interleaved slices of 4 ms",
        ("us per call", "x handwritten"),
    )
    for name, ns in best.items():
        ratio = ns / best["handwritten"]
        promised = Target("<= 1.5 x handwritten", ratio <= 1.5) if name == "aiosupervise" else None
        table.add(name, f"{ns / 1000:,.1f}", times(ratio), target=promised)
    return table


async def measure() -> dict[str, float]:
    """CPU nanoseconds per call of everyone that retries."""
    return await fastest({name: decorate(name, flaky(), Terms()) for name in retriers()}, ROUNDS)


def flaky() -> Func:
    """A function that fails twice, succeeds once, and so on."""
    calls = 0

    async def answer(number: int, *, key: int) -> int:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise ConnectionError
        return number + key

    return answer
