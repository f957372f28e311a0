"""What becomes of long-lived tasks: one probe for all libraries that keep them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from .answers import Answer, Feature, answer, swallowed, turns, until
from .keepers import Func, Keeper

PAGE = "reference/supervisors.md"


class Child:
    """Runs until it is cancelled, or fails `failures` times first; counts its starts."""

    def __init__(
        self,
        name: str = "",
        log: list[str] | None = None,
        *,
        failures: int = 0,
        protected: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.protected = protected
        self.name = name
        self.log = [] if log is None else log
        self.failures = failures
        self.starts = 0

    async def run(self) -> None:
        """Live, and write a line at the beginning and the end of the clean-up."""
        self.starts += 1
        try:
            await asyncio.sleep(0)
            if self.starts <= self.failures:
                raise ValueError(self.name)
            await asyncio.Event().wait()
        finally:
            self.log.append(f"{self.name} begins to clean up")
            with self.protected():
                await asyncio.sleep(0.002)
                self.log.append(f"{self.name} has cleaned up")


async def stopped(task: asyncio.Future[Any]) -> None:
    """Cancel what still runs, and wait for it."""
    task.cancel()
    await swallowed(task)


async def siblings(lib: Keeper) -> Answer:
    """One child fails, the other one goes on."""
    if await _goes_on(lib, lambda run: run):
        return answer(good=True, seen="one child failed, the other continued")
    good = await _goes_on(lib, _caught)
    return Answer(
        "by hand" if good else "no", "one child failed, the other was cancelled; with a `try` in the child it continues"
    )


async def _goes_on(lib: Keeper, wrap: Callable[[Func], Func]) -> bool:
    failing, alive = Child(failures=1), Child()
    task = asyncio.ensure_future(lib.keep(wrap(failing.run), alive.run))
    await until(lambda: len(failing.log) == 2)
    await turns()
    good = not alive.log and not task.done()
    await stopped(task)
    return good


def _caught(func: Func) -> Func:
    async def child() -> None:
        try:
            await func()
        except ValueError:
            return

    return child


async def restarts(lib: Keeper) -> Answer:
    """A child fails twice."""
    child = Child(failures=2)
    task = asyncio.ensure_future(lib.keep_restarted(child.run))
    await until(lambda: child.starts == 3)
    await stopped(task)
    how = "a loop with a `try` in the child: " if hasattr(lib.keep_restarted, "by_hand") else ""
    return answer(child.starts == 3, f"{how}a child that failed twice was started 3 times", using=lib.keep_restarted)


async def together(lib: Keeper) -> Answer:
    """The second of three children fails: all are started again."""
    starts = await _group(lib.keep_together, [2, 2, 2])
    how = "a loop around a task group: " if hasattr(lib.keep_together, "by_hand") else ""
    return answer(starts == [2, 2, 2], f"{how}the second of three failed, starts: {starts}", using=lib.keep_together)


async def in_order(lib: Keeper) -> Answer:
    """The second of three children fails: the third is started again with it."""
    starts = await _group(lib.keep_in_order, [1, 2, 2])
    how = "a task group in a loop in a task group: " if hasattr(lib.keep_in_order, "by_hand") else ""
    return answer(starts == [1, 2, 2], f"{how}the second of three failed, starts: {starts}", using=lib.keep_in_order)


async def _group(keep: Any, expected: list[int]) -> list[int]:
    children = [Child(), Child(failures=1), Child()]
    task = asyncio.ensure_future(keep(*[child.run for child in children]))
    await until(lambda: task.done() or [child.starts for child in children] == expected)
    await stopped(task)
    return [child.starts for child in children]


async def too_often(lib: Keeper) -> Answer:
    """A child that always fails: its siblings are stopped, and whoever runs them gets an error."""
    child, sibling = Child(failures=1000), Child()
    task = asyncio.ensure_future(lib.keep_until(2, child.run, sibling.run))
    await until(task.done)
    good = task.done() and isinstance(task.exception(), BaseExceptionGroup) and child.starts == 3 and sibling.log
    await stopped(task)
    how = "a loop that counts, in a task group: " if hasattr(lib.keep_until, "by_hand") else ""
    seen = f"{how}after 2 restarts the siblings were stopped, and an error raised"
    return answer(good, seen if good else "the error of the child did not come out", using=lib.keep_until)


async def reverse(lib: Keeper) -> Answer:
    """Three children are stopped."""
    if await _is_reversed(lib, lib.keep):
        return answer(good=True, seen="the last one first, each awaited")
    good = await _is_reversed(lib, lib.keep_reversed)
    shielded = ", and with shielded clean-up" if lib.name == "anyio" else ""
    seen = f"all are cancelled at once; one by one with a loop that stops them in a `finally`{shielded}"
    return answer(good, seen, using=lib.keep_reversed)


async def _is_reversed(lib: Keeper, keep: Any) -> bool:
    log: list[str] = []
    children = [Child(name, log, protected=lib.protected) for name in "abc"]
    task = asyncio.ensure_future(keep(*[child.run for child in children]))
    await until(lambda: all(child.starts for child in children))
    await stopped(task)
    return log == [f"{name} {what}" for name in "cba" for what in ("begins to clean up", "has cleaned up")]


async def ready(lib: Keeper) -> Answer:
    """A child says that it is ready, and what its port is."""

    async def serve(say: Any) -> None:
        await turns()
        say(8080)
        await asyncio.Event().wait()

    return answer(await lib.ready(serve) == 8080, lib.ready_how, using=lib.ready)


async def hangs(lib: Keeper) -> Answer:
    """A child sends heartbeats, and then hangs."""
    starts, beats = 0, 0

    async def child(beat: Any) -> None:
        nonlocal starts, beats
        starts += 1
        for _ in range(5):
            await asyncio.sleep(0.02)
            beat()
            beats += 1
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lib.keep_beating(child, 0.06))
    await until(lambda: starts == 2)
    await stopped(task)
    how = "a timeout that each heartbeat postpones: " if hasattr(lib.keep_beating, "by_hand") else ""
    seen = f"{how}a child without heartbeats was restarted"
    return answer(starts == 2 and beats >= 5, seen, using=lib.keep_beating)


async def stubborn(lib: Keeper) -> Answer:
    """A child swallows a cancellation."""
    running = asyncio.Event()

    async def child() -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                running.set()
                await asyncio.Event().wait()

    task = asyncio.ensure_future(lib.keep_stubborn(child))
    await running.wait()
    task.cancel()
    await until(task.done, within=5.0)
    good = task.done()
    await stopped(task)
    how = "a loop around `cancel`: " if hasattr(lib.keep_stubborn, "by_hand") else ""
    seen = f"{how}a child that swallowed its first cancellation was cancelled again"
    return answer(good, seen, using=lib.keep_stubborn)


async def forgotten(lib: Keeper) -> Answer:
    """A hundred children end, while others may still be started."""
    kept = await lib.come_and_go([_quick() for _ in range(100)])
    return answer(not kept, "of 100 children that had ended, none was kept")


def _quick() -> Func:
    async def child() -> None:
        await asyncio.sleep(0)

    return child


async def stop_one(lib: Keeper) -> Answer:
    """One of two children is stopped, the other one ends by itself."""
    ended = []

    async def child() -> None:
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            ended.append("stopped")
            raise
        ended.append("done")

    await lib.stop_one(child)
    return answer(ended == ["stopped", "done"], "one of two was stopped, the other ran to its end")


async def reports_errors(lib: Keeper) -> Answer:
    """Whether reports the error of a child, and to whom."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    good, seen = await lib.failures(fail)
    if lib.name == "aiotools" and good:
        return Answer("partly", seen)
    return answer(good, seen)


SERVICES: tuple[Feature[Keeper], ...] = (
    Feature("a failing child does not affect the others", f"{PAGE}#children", siblings),
    Feature("restarts a failed child", f"{PAGE}#children", restarts),
    Feature("restarts all siblings with it", f"{PAGE}#children", together),
    Feature("restarts the siblings started after it", f"{PAGE}#children", in_order),
    Feature("escalates after too many restarts in a short time", f"{PAGE}#escalation", too_often),
    Feature("stops children one by one in reverse start order", f"{PAGE}#shutdown", reverse),
    Feature("stops a single child", f"{PAGE}#children", stop_one),
    Feature("reports the error of a child", "reference/seeing.md#events", reports_errors),
    Feature("waits until a child is ready", f"{PAGE}#readiness", ready),
    Feature("restarts a child that hangs", f"{PAGE}#heartbeats", hangs),
    Feature("cancels a child again that swallowed a cancellation", f"{PAGE}#shutdown", stubborn),
    Feature("forgets children that have ended", f"{PAGE}#restart-types-and-strategies", forgotten),
)
