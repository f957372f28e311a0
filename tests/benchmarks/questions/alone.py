"""What does a call cost beside the handwritten loop, in a process that runs nothing else?

The other contenders allocate much and fill the caches, which moves the ratio of two quick ones.
"""

import asyncio
import statistics
from dataclasses import dataclass

from .call import answer
from .contenders import Terms, decorate
from .fresh import in_fresh_process
from .interleaved import SLICE_NS, TRIAL, cpu_ns
from .retries import flaky
from .table import Table, Target, times

PAIRS = 30
SLICES = 5  # in each half of a pair
CYCLE = 3  # calls of `flaky` until it succeeds


@dataclass(frozen=True, slots=True)
class Pairs:
    """The medians of all pairs: CPU nanoseconds per call, and the ratio within a pair."""

    by_hand: float
    ours: float
    ratio: float


def ask_success() -> Table:
    """Measure a call that succeeds on the first attempt."""
    return ask(
        "a call that succeeds on the first attempt, compared only with the handwritten loop", fails=False, most=0.8
    )


def ask_failures() -> Table:
    """Measure a call that fails twice."""
    return ask("two failures, then success, no wait, compared only with the handwritten loop", fails=True, most=1.5)


def ask(question: str, *, fails: bool, most: float) -> Table:
    """Measure in a fresh process; the ratio may be `most`."""
    found = in_fresh_process(measured, fails)
    table = Table(
        question,
        f"CPU of `await call(1, key=2)`: the medians of {PAIRS} interleaved pairs, with alternating order",
        ("ns per call", "x handwritten"),
    )
    table.add("handwritten", f"{found.by_hand:,.0f}", times(1.0))
    promised = Target(f"<= {most:.2f} x handwritten", found.ratio <= most)
    table.add("aiosupervise", f"{found.ours:,.0f}", times(found.ratio), target=promised)
    return table


def measured(fails: bool) -> Pairs:  # noqa: FBT001 - `in_fresh_process` passes one argument
    """All pairs, in a loop of their own."""
    return asyncio.run(measure(fails=fails))


async def measure(*, fails: bool) -> Pairs:
    """Time the two in turns."""
    func, terms = (flaky(), Terms()) if fails else (answer, Terms(wait=0.1))
    by_hand, ours = decorate("handwritten", func, terms), decorate("aiosupervise", func, terms)
    number = CYCLE * max(TRIAL, int(SLICES * SLICE_NS / CYCLE / await cpu_ns(by_hand, CYCLE * TRIAL)))
    await cpu_ns(ours, CYCLE * TRIAL)
    pairs: list[tuple[float, float]] = []
    for place in range(PAIRS):
        first = await cpu_ns(ours if place % 2 else by_hand, number)
        second = await cpu_ns(by_hand if place % 2 else ours, number)
        pairs.append((second, first) if place % 2 else (first, second))
    hands, owns = zip(*pairs, strict=True)
    ratios = [own / hand for hand, own in pairs]
    return Pairs(statistics.median(hands), statistics.median(owns), statistics.median(ratios))
