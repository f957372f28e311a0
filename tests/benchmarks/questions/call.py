"""What does a supervised call cost that succeeds on the first attempt?"""

import asyncio
from typing import Any

from .contenders import Terms, decorate, everyone
from .interleaved import fastest
from .table import Table, Target, times

ROUNDS = 150


def ask() -> Table:
    """Measure, and compare with the handwritten loop."""
    best = asyncio.run(measure())
    table = Table(
        "a call that succeeds on the first attempt, with one positional and one keyword argument",
        f"CPU of `await call(1, key=2)`: the fastest of {ROUNDS} interleaved slices of 4 ms",
        ("ns per call", "x handwritten", "x aiosupervise"),
    )
    for name, ns in best.items():
        by_hand, by_us = ns / best["handwritten"], ns / best["aiosupervise"]
        table.add(name, f"{ns:,.0f}", times(by_hand), times(by_us), target=target(name, by_hand, by_us))
    return table


async def measure() -> dict[str, float]:
    """CPU nanoseconds per call of everyone."""
    return await fastest({name: decorate(name, answer, Terms(wait=0.1)) for name in everyone()}, ROUNDS)


async def answer(number: int, *, key: int) -> Any:
    """The supervised function: as little as possible."""
    return number + key


def target(name: str, by_hand: float, by_us: float) -> Target | None:
    """What was promised about the contender."""
    if name == "aiosupervise":
        return Target("<= 1.0 x handwritten", by_hand <= 1.0)
    if name in {"tenacity", "stamina"}:
        return Target(">= 40 x aiosupervise", by_us >= 40)
    return None
