"""What becomes of a call that fails: one probe for all libraries that retry."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from .answers import Answer, Feature, answer, described, swallowed
from .retriers import Func, Retrier

PAGE = "reference/retrying.md"


class Flaky:
    """Fails `failures` times with an error, then returns; counts its attempts, and keeps the last error."""

    def __init__(self, failures: int, error: Callable[[], BaseException] = ConnectionError) -> None:
        self.failures = failures
        self.error = error
        self.attempts = 0
        self.last: BaseException | None = None

    def call(self) -> str:
        """Fail or return."""
        self.attempts += 1
        if self.attempts <= self.failures:
            self.last = self.error()
            raise self.last
        return "ok"

    def as_async(self) -> Func:
        """The same as an async function."""

        async def flaky() -> str:
            return self.call()

        return flaky


async def error_of(call: Coroutine[Any, Any, Any]) -> BaseException | None:
    """The error that a caller gets."""
    try:
        await call
    except Exception as error:
        return error
    return None


async def async_functions(lib: Retrier) -> Answer:
    """Two failures, then a result."""
    flaky = Flaky(2)
    result = await lib.retry(flaky.as_async())()
    return answer(result == "ok" and flaky.attempts == 3, f"{flaky.attempts} attempts")


async def sync_functions(lib: Retrier) -> Answer:
    """The same for a plain function."""
    flaky = Flaky(2)

    def plain() -> str:
        return flaky.call()

    try:
        result = lib.retry(plain)()
    except TypeError as error:
        return answer(good=False, seen=f"at decoration, {described(error)}")
    return answer(result == "ok" and flaky.attempts == 3, f"{flaky.attempts} attempts")


async def blocks(lib: Retrier) -> Answer:
    """Some lines in the middle of a function."""
    flaky = Flaky(2)
    await lib.block(flaky.as_async())
    how = "an inner function" if hasattr(lib.block, "by_hand") else "`async for attempt in ...`"
    return answer(flaky.attempts == 3, f"{how}: {flaky.attempts} attempts", using=lib.block)


async def results(lib: Retrier) -> Answer:
    """A function that returns None twice."""
    answers = [None, None, "ok"]

    async def poll() -> str | None:
        return answers.pop(0)

    result = await lib.retry_result(poll, None)()
    how = "an error raised for a bad result" if hasattr(lib.retry_result, "by_hand") else "a predicate on the result"
    return answer(result == "ok", how, using=lib.retry_result)


async def cancelled_wait(lib: Retrier) -> Answer:
    """The caller is cancelled while the call waits for 30 s."""
    flaky = Flaky(9)
    task = asyncio.ensure_future(lib.retry(flaky.as_async(), wait=30.0)())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task}, timeout=0.5)
    return answer(task.cancelled() and flaky.attempts == 1, "a cancel during a wait of 30 s ends the call")


async def deadline(lib: Retrier) -> Answer:
    """An attempt hangs for longer than the deadline of the whole call."""
    interrupted = []

    async def hang() -> None:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            interrupted.append(True)
            raise

    with contextlib.suppress(Exception):
        await lib.retry(hang, deadline=0.02)()
    if interrupted:
        return answer(good=True, seen="a hanging attempt was interrupted at the deadline")
    with contextlib.suppress(Exception):
        await lib.call_within(hang, 0.02)
    seen = "its own time limit does not interrupt a hanging attempt; asyncio.timeout around the call does"
    return answer(interrupted, seen, using=lib.call_within)


async def attempt_timeout(lib: Retrier) -> Answer:
    """The first attempt hangs, the second one returns."""
    attempts = 0

    async def hang_once() -> str:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(30 if attempts == 1 else 0)
        return "ok"

    result = await lib.retry_timed(hang_once, 0.05)()
    how = "asyncio.timeout inside the function" if hasattr(lib.retry_timed, "by_hand") else "attempt_timeout"
    return answer(result == "ok" and attempts == 2, f"{how}: 2 attempts", using=lib.retry_timed)


class ThrottledError(ConnectionError):
    """The server asks to wait."""

    retry_after = 0.05


async def retry_after(lib: Retrier) -> Answer:
    """The error says how long to wait."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await lib.retry_after(Flaky(1, ThrottledError).as_async())()
    good = loop.time() - begun >= ThrottledError.retry_after * 0.98
    return answer(good, "the call waited the 0.05 s that the error asked for", using=lib.retry_after)


async def budget(lib: Retrier) -> Answer:
    """Five calls that fail share a budget of two retries."""
    flaky = Flaky(99)
    call = lib.retry_paid(flaky.as_async(), 2)
    for _ in range(5):
        await error_of(call())
    how = "a custom predicate that counts: " if hasattr(lib.retry_paid, "by_hand") else ""
    seen = f"{how}5 calls with a budget of 2 retries made {flaky.attempts} attempts"
    return answer(flaky.attempts == 7, seen, using=lib.retry_paid)


async def own_error(lib: Retrier) -> Answer:
    """Whether the caller gets the function's last error itself."""
    flaky = Flaky(9)
    error = await error_of(lib.by_default(flaky.as_async())())
    if error is flaky.last:
        return answer(good=True, seen="the same object")
    again = await error_of(lib.retry(flaky.as_async(), retries=1)())
    if again is flaky.last:
        return Answer("partly", f"by default {type(error).__name__}; the same object with reraise=True")
    return answer(good=False, seen=f"{type(error).__name__}")


async def layers(lib: Retrier) -> Answer:
    """Three retried functions call each other; each allows three attempts."""
    flaky = Flaky(99)
    await error_of(_three(flaky.as_async(), lib.retry)())
    seen = f"3 layers of 3 attempts made {flaky.attempts} calls at the bottom"
    if flaky.attempts == 3:
        return answer(good=True, seen=seen)
    again = Flaky(99)
    await error_of(_three(again.as_async(), lib.retry_outermost)())
    marked = (
        f"{seen}; {again.attempts} with a wrapper that marks the final errors, and a predicate that checks the mark"
    )
    return answer(again.attempts == 3, marked, using=lib.retry_outermost)


def _three(func: Func, decorate: Callable[[Func], Func]) -> Func:
    innermost = decorate(func)

    async def middle() -> Any:
        return await innermost()

    retried = decorate(middle)

    async def outer() -> Any:
        return await retried()

    return decorate(outer)


def _group() -> ExceptionGroup[Exception]:
    return ExceptionGroup("two requests", [ConnectionError("a"), ExceptionGroup("inner", [ConnectionError("b")])])


async def groups(lib: Retrier) -> Answer:
    """The error is an ExceptionGroup whose leaves are all transient."""
    plain = Flaky(9, _group)
    await error_of(lib.retry(plain.as_async())())
    if plain.attempts == 3:
        return answer(good=True, seen="retried, because every leaf is transient")
    by_leaves = Flaky(9, _group)
    await error_of(lib.retry_groups(by_leaves.as_async())())
    seen = f"listed types: {plain.attempts} attempt; a custom predicate: {by_leaves.attempts}"
    return answer(by_leaves.attempts == 3, seen, using=lib.retry_groups)


async def isolation(lib: Retrier) -> Answer:
    """Two calls of one function at a time."""
    decisions, reports, seen = await lib.isolation()
    if decisions and not reports:
        return Answer("partly", seen)
    return answer(decisions and reports, seen)


async def garbage(lib: Retrier) -> Answer:
    """Objects that only the cyclic collector frees."""
    call = lib.retry(Flaky(10**9).as_async())
    await error_of(call())
    gc.collect()
    gc.disable()
    try:
        for _ in range(30):
            with contextlib.suppress(ConnectionError):
                await call()
        found = gc.collect() // 30
    finally:
        gc.enable()
    return answer(
        found == 0, f"{'some' if found else 'no'} objects for the cyclic garbage collector after each failed call"
    )


class Held:
    """Stands for the large body of an answer that a failed attempt held."""


async def memory(lib: Retrier) -> Answer:
    """What a failed attempt's local variable holds, while the call waits."""
    held: list[weakref.ref[Held]] = []

    async def fail() -> None:
        local = Held()
        held.append(weakref.ref(local))
        raise ConnectionError

    task = asyncio.ensure_future(lib.retry(fail, wait=30.0)())
    await asyncio.sleep(0.01)
    kept = held[0]() is not None
    gc.collect()
    kept_for_good = held[0]() is not None
    task.cancel()
    await swallowed(task)
    if kept and not kept_for_good:
        return Answer("partly", "a local variable of the failed attempt is alive until the cyclic collector runs")
    return answer(
        not kept, f"a local variable of the failed attempt is {'still alive' if kept else 'freed'} during the wait"
    )


async def prometheus(lib: Retrier) -> Answer:
    """A counter that knows of two retries."""
    entered, decorate, name = lib.count_in_prometheus()
    with entered:
        await decorate(Flaky(2).as_async())()
    collected = import_module("prometheus_client").REGISTRY.collect()
    samples = [sample for metric in collected for sample in metric.samples if sample.name == name]
    how = "a counter in a custom hook" if hasattr(lib.count_in_prometheus, "by_hand") else f"`{name}`"
    return answer(sum(sample.value for sample in samples) >= 2, how, using=lib.count_in_prometheus)


async def test_kit(lib: Retrier) -> Answer:
    """Two waits of five minutes take no time in a test."""
    flaky = Flaky(2)
    async with asyncio.timeout(1):
        await lib.without_waiting(flaky.as_async())
    how = {
        "aiosupervise": "`no_waiting()`",
        "stamina": "`set_testing`",
        "tenacity": "`retry_with(wait=wait_none())` on each function",
        "python-backoff": "with asyncio.sleep patched",
    }[lib.name]
    return answer(flaky.attempts == 3, how, using=lib.without_waiting)


CALLS: tuple[Feature[Retrier], ...] = (
    Feature("async functions", f"{PAGE}#supported-functions", async_functions),
    Feature("synchronous functions", f"{PAGE}#supported-functions", sync_functions),
    Feature("a block of code in a function", f"{PAGE}#retrying-a-block-of-code", blocks),
    Feature("retry on a bad result", "", results),
    Feature("cancelling during a wait ends the call immediately", f"{PAGE}#cancellation-and-exit", cancelled_wait),
    Feature("a deadline interrupts a running attempt", f"{PAGE}#timeouts-and-deadlines", deadline),
    Feature("a time limit for each attempt", f"{PAGE}#timeouts-and-deadlines", attempt_timeout),
    Feature("obeys the server's Retry-After", f"{PAGE}#retry-after", retry_after),
    Feature("a retry budget that calls share", "reference/overload.md#the-retry-budget", budget),
    Feature("raises the original last error by default", f"{PAGE}#errors-notes-and-verdicts", own_error),
    Feature("nested retries do not multiply attempts", f"{PAGE}#nested-retries", layers),
    Feature("an ExceptionGroup is classified by its leaves", f"{PAGE}#exception-groups", groups),
    Feature("concurrent calls share no state", f"{PAGE}#the-policy", isolation),
    Feature("no cyclic garbage after a failed call", "explanation/how-fast-it-is.md#calls", garbage),
    Feature("a failed attempt's variables are freed before the wait", "explanation/how-fast-it-is.md#calls", memory),
    Feature("built-in Prometheus counters", "how-to/metrics-and-traces.md#prometheus", prometheus),
    Feature("tests without waiting", "how-to/test-your-policy.md#no_waiting", test_kit),
)
