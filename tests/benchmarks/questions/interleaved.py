"""Time small calls in turns, so that what disturbs one contender disturbs them all."""

import math
import time
from collections.abc import Mapping

from .contenders import Func

SLICE_NS = 4_000_000
TRIAL = 50


async def cpu_ns(call: Func, number: int) -> float:
    """CPU nanoseconds of one `await call(1, key=2)`, the mean of `number` in a row."""
    start = time.process_time_ns()
    for _ in range(number):
        await call(1, key=2)
    return (time.process_time_ns() - start) / number


async def fastest(calls: Mapping[str, Func], rounds: int) -> dict[str, float]:
    """CPU nanoseconds per call of each contender: the fastest of `rounds` slices of about 4 ms.

    The fastest, because everything that disturbs a loop of pure Python makes it slower, never faster.
    """
    numbers = {name: await slice_length(call) for name, call in calls.items()}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], await cpu_ns(call, numbers[name]))
    return best


async def slice_length(call: Func) -> int:
    """How many calls make a slice; the trial also warms the call up."""
    return max(10, int(SLICE_NS / await cpu_ns(call, TRIAL)))
