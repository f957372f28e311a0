"""What does a plain function cost, and a block of lines, if it succeeds on the first attempt?"""

import asyncio
import functools
import math
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import aiosupervise

from .contenders import LIBRARIES, Func, Terms, decorate
from .interleaved import SLICE_NS, TRIAL, fastest
from .table import Table, Target, times

ROUNDS = 150
Plain = Callable[..., Any]


def ask_plain() -> Table:
    """Measure a plain function, and compare with the handwritten loop."""
    names = ["handwritten", "aiosupervise", *(name for name in LIBRARIES if find_spec(name))]
    calls: dict[str, Plain] = {name: decorate(name, answer, Terms(wait=0.1)) for name in names}  # type: ignore[arg-type]
    calls["handwritten"] = handwritten(answer)
    best = fastest_plain({"bare call": answer, **calls}, ROUNDS)
    table = Table(
        "a plain function that succeeds on the first attempt, with one positional and one keyword argument",
        f"CPU of `call(1, key=2)`: the fastest of {ROUNDS} interleaved slices of 4 ms",
        ("ns per call", "x handwritten"),
    )
    for name, ns in best.items():
        ratio = ns / best["handwritten"]
        promised = Target("<= 1.0 x handwritten", ratio <= 1.0) if name == "aiosupervise" else None
        table.add(name, f"{ns:,.0f}", times(ratio), target=promised)
    return table


def ask_blocks() -> Table:
    """Measure blocks in an async function and in a plain one, and compare with handwritten loops."""
    found = [name for name in _ASYNC if name not in LIBRARIES or find_spec(name)]
    of_async = asyncio.run(fastest({name: _ASYNC[name]() for name in found}, ROUNDS))
    of_plain = fastest_plain({name: _PLAIN[name]() for name in found}, ROUNDS)
    table = Table(
        "a block that succeeds on the first attempt, in an async function and in a plain one",
        f"CPU of a call of the function around it: the fastest of {ROUNDS} interleaved slices of 4 ms",
        ("ns, async", "x handwritten", "ns, plain", "x handwritten"),
    )
    for name in found:
        cells = [(ns[name], ns[name] / ns["handwritten"]) for ns in (of_async, of_plain)]
        ours = [
            ns["aiosupervise"] < min(ns[peer] for peer in found if peer in LIBRARIES) for ns in (of_async, of_plain)
        ]
        promised = Target("less than the libraries", all(ours)) if name == "aiosupervise" else None
        (one, by_one), (other, by_other) = cells
        table.add(name, f"{one:,.0f}", times(by_one), f"{other:,.0f}", times(by_other), target=promised)
    return table


def fastest_plain(calls: Mapping[str, Plain], rounds: int) -> dict[str, float]:
    """CPU nanoseconds per call of each contender, as `fastest` measures those of async functions."""
    numbers = {name: max(10, int(SLICE_NS / cpu_ns(call, TRIAL))) for name, call in calls.items()}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = min(best[name], cpu_ns(call, numbers[name]))
    return best


def cpu_ns(call: Plain, number: int) -> float:
    """CPU nanoseconds of one `call(1, key=2)`, the mean of `number` in a row."""
    start = time.process_time_ns()
    for _ in range(number):
        call(1, key=2)
    return (time.process_time_ns() - start) / number


def answer(number: int, *, key: int) -> int:
    """The function: as little as possible."""
    return number + key


def handwritten(func: Plain) -> Plain:
    """The handwritten loop."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(4):
            try:
                return func(*args, **kwargs)
            except ConnectionError:
                if attempt == 3:
                    raise
                time.sleep(0.1)
        return None

    return wrapper


# The same lines, in the loop of each contender.


def loop_by_hand() -> Func:
    async def block(number: int, *, key: int) -> int | None:
        for attempt in range(4):
            try:
                return number + key
            except ConnectionError:
                if attempt == 3:
                    raise
                await asyncio.sleep(0.1)
        return None

    return block


def plain_loop_by_hand() -> Plain:
    def block(number: int, *, key: int) -> int | None:
        for attempt in range(4):
            try:
                return number + key
            except ConnectionError:
                if attempt == 3:
                    raise
                time.sleep(0.1)
        return None

    return block


def loop_over(make: Callable[[], Any]) -> Func:
    """An async function with a block, in what `make` returns to iterate over."""

    async def block(number: int, *, key: int) -> int | None:
        async for attempt in make():
            # Those of tenacity and stamina are entered by a plain `with`.
            with attempt:
                return number + key
        return None

    return block


def plain_loop_over(make: Callable[[], Any]) -> Plain:
    """A plain function with a block."""

    def block(number: int, *, key: int) -> int | None:
        for attempt in make():
            with attempt:
                return number + key
        return None

    return block


def ours() -> Func:
    """A block of this library in an async function."""
    policy = aiosupervise.Policy(retry_on=ConnectionError, backoff=[0.1])

    async def block(number: int, *, key: int) -> int | None:
        async for attempt in policy:
            async with attempt:
                return number + key
        return None

    return block


def ours_plain() -> Plain:
    """A block of this library in a plain function."""
    policy = aiosupervise.Policy(retry_on=ConnectionError, backoff=[0.1])
    return plain_loop_over(lambda: policy)


def tenacity(kind: str) -> Callable[[], Any]:
    """A new loop of tenacity, since one that is shared mixes up its calls."""
    lib = import_module("tenacity")
    terms = {
        "retry": lib.retry_if_exception_type(ConnectionError),
        "wait": lib.wait_fixed(0.1),
        "stop": lib.stop_after_attempt(4),
        "reraise": True,
    }
    return lambda: getattr(lib, kind)(**terms)


def stamina() -> Callable[[], Any]:
    """A loop of stamina, without the log line that it would write at each retry."""
    lib = import_module("stamina")
    lib.instrumentation.set_on_retry_hooks([])
    return lambda: lib.retry_context(on=ConnectionError, attempts=4, wait_initial=0.1, wait_max=0.1, wait_jitter=0)


_ASYNC: dict[str, Callable[[], Func]] = {
    "handwritten": loop_by_hand,
    "aiosupervise": ours,
    "tenacity": lambda: loop_over(tenacity("AsyncRetrying")),
    "stamina": lambda: loop_over(stamina()),
}
_PLAIN: dict[str, Callable[[], Plain]] = {
    "handwritten": plain_loop_by_hand,
    "aiosupervise": ours_plain,
    "tenacity": lambda: plain_loop_over(tenacity("Retrying")),
    "stamina": lambda: plain_loop_over(stamina()),
}
