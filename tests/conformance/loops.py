"""Loops on which a run can be repeated step by step, and its caller cancelled at any of them."""

import asyncio
import selectors
import sys
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import pytest

MOST_STEPS = 10_000
TICK = 0.01
"""Seconds, the unit of scripted time."""


class Steps:
    """Counts the steps of a loop while a task runs, and cancels the task at some of them, or on request."""

    def __init__(self, cancel_at: Collection[int] = ()) -> None:
        self.count = 0
        self.cancels = 0
        self.is_pressing = False  # the step before this one cancelled too
        self.first_cancel: float | None = None
        self.task: asyncio.Task[Any] | None = None
        self._cancel_at = cancel_at

    def step(self) -> bool:
        """Count a step, and return whether the task was cancelled at it."""
        self.count += 1
        self.is_pressing = self.count - 1 in self._cancel_at
        return self.count in self._cancel_at and self.cancel()

    def cancel_from_now_on(self) -> None:
        """Cancel the task at each step to come."""
        self._cancel_at = range(self.count + 1, sys.maxsize)

    def cancel(self) -> bool:
        """Cancel the task, and return whether it accepted the cancel."""
        if self.task is None or not self.task.cancel():
            return False
        self.cancels += 1
        if self.first_cancel is None:
            self.first_cancel = self.task.get_loop().time()
        return True


class Clock(selectors.DefaultSelector):
    """Virtual time: it passes when the loop waits, and only then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps: Steps | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let time pass at once. The loop calls this at each of its steps."""
        if self.steps is not None:
            assert self.steps.count < MOST_STEPS, "the run hangs"
            # Under a cancel at every step time must pass, or no clean-up would come to its end.
            if self.steps.step() and not (self.steps.is_pressing and timeout is not None):
                timeout = 0.0
        assert timeout is not None, "everybody waits, and nobody will wake them: the run hangs"
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A deterministic loop: virtual time and no I/O."""

    def __init__(self) -> None:
        self._virtual = Clock()
        super().__init__(self._virtual)

    def time(self) -> float:
        """The virtual time."""
        return self._virtual.now

    def follow(self, task: asyncio.Task[Any], steps: Steps) -> None:
        """Run a task to its end, step by step."""
        self._virtual.steps = steps
        try:
            with suppress(asyncio.CancelledError):
                self.run_until_complete(task)
        finally:
            self._virtual.steps = None


def eager_loop() -> VirtualLoop:
    """A deterministic loop that starts tasks at once."""
    loop = VirtualLoop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, which has no virtual time."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for this platform")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def on_every_loop(
    any_time: Sequence[Callable[..., object]], virtual: Sequence[Callable[..., object]]
) -> pytest.MarkDecorator:
    """Parametrize a test by the fixture `loop`, of each kind, and by `script`: those of `virtual` need virtual time."""
    young = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
    kinds: list[tuple[str, object, Sequence[Any], Any]] = [
        ("lazy tasks", VirtualLoop, [*any_time, *virtual], ()),
        ("eager tasks", eager_loop, [*any_time, *virtual], young),
        ("uvloop", uvloop_loop, any_time, ()),
    ]
    cases = [
        pytest.param(make, script, marks=marks, id=f"{kind}-{script.__name__}")
        for kind, make, scripts, marks in kinds
        for script in scripts
    ]
    return pytest.mark.parametrize(("loop", "script"), cases, indirect=["loop"])


def moments(k: int, *, thorough: bool) -> Sequence[Sequence[int]]:
    """The steps at which a sweep cancels: once at each, twice, and from each on at every step until the end.

    In an ordinary run the second and the third of these are for one step in three.
    """
    on_every_step = range(k, sys.maxsize)
    if thorough:
        return [(k,), *((k, k + later) for later in (1, 2, 3, 4, 5)), on_every_step]
    second: dict[int, Sequence[int]] = {0: (k, k + 1 + k % 5), 1: on_every_step}
    return [(k,), second[k % 3]] if k % 3 in second else [(k,)]


def perform(
    loop: asyncio.AbstractEventLoop,
    caller: Callable[[Steps], Coroutine[object, None, None]],
    cancel_at: Collection[int] = (),
) -> Steps:
    """Run a caller on a loop, and cancel it at these steps; a loop with real time is kept too busy to wait."""
    steps = Steps(cancel_at)
    steps.task = task = loop.create_task(caller(steps))
    if isinstance(loop, VirtualLoop):
        loop.follow(task, steps)
    else:
        loop.run_until_complete(_busily(task, steps))
    if not task.cancelled():
        task.result()
    assert task.cancelled() == (steps.cancels > 0), "a cancel was swallowed, or made up"
    return steps


async def _busily(task: asyncio.Task[Any], steps: Steps) -> None:
    while not task.done():
        assert steps.count < MOST_STEPS, "the run hangs"
        steps.step()
        await asyncio.sleep(0)


def has_virtual_time() -> bool:
    """Return whether the running loop's time is virtual."""
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


def seconds(ticks: int) -> float:
    """Return this many ticks in seconds of virtual time, or 0 where time is real."""
    return ticks * TICK if has_virtual_time() else 0.0


async def pause(ticks: int) -> None:
    """Wait this many ticks of virtual time, or this many steps of the loop where time is real."""
    if has_virtual_time():
        await asyncio.sleep(seconds(ticks))
    else:
        for _ in range(ticks):
            await asyncio.sleep(0)
