"""Draining, as the page on services shows it: nothing is started again, and what runs may finish for a bounded time."""

import asyncio
from contextlib import suppress

import pytest

from aiosupervise import Supervisor

from .scene import nothing_left, now

pytestmark = pytest.mark.looptime


class Work:
    """Messages that take some seconds each, and consumers that take them until they are to drain."""

    def __init__(self, *seconds: float, failing: int | None = None) -> None:
        self.is_draining = asyncio.Event()
        self.taken: list[int] = []
        self.handled: list[int] = []
        self._seconds = seconds
        self._failing = failing

    async def consume(self) -> None:
        """Handle messages, between two of which the event is looked at."""
        while not self.is_draining.is_set():
            message = len(self.taken)
            self.taken.append(message)
            await asyncio.sleep(self._seconds[message])
            if message == self._failing:
                raise LookupError(message)
            self.handled.append(message)


async def drain(work: Work, sup: Supervisor, seconds: float) -> None:
    """Let the consumers finish their messages, and stop those that have not in time."""
    work.is_draining.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await sup.wait()
    sup.stop()


async def test_consumers_finish_their_messages_and_take_no_others() -> None:
    """The drain ends with the last of them, not with its time."""
    work = Work(2, 3, 9)
    with nothing_left():
        async with Supervisor() as sup:
            for _ in range(2):
                sup.start(work.consume, restart="transient")
            await asyncio.sleep(1)
            await drain(work, sup, 10)
    assert (work.taken, work.handled) == ([0, 1], [0, 1])
    assert now() == 3


async def test_a_consumer_that_fails_during_the_drain_takes_no_other_message() -> None:
    """It is restarted, sees that it is to drain, and returns."""
    work = Work(2, 9, failing=0)
    async with Supervisor(backoff=[1]) as sup:
        child = sup.start(work.consume, restart="transient")
        await asyncio.sleep(1)
        await drain(work, sup, 10)
        assert (child.state, child.restarts) == ("ended", 1)
    assert work.taken == [0]
    assert now() == 3


async def test_a_consumer_that_is_not_done_in_time_is_stopped() -> None:
    """The others have finished theirs."""
    work = Work(2, 100)
    async with Supervisor() as sup:
        quick, slow = (sup.start(work.consume, restart="transient") for _ in range(2))
        await asyncio.sleep(1)
        await drain(work, sup, 10)
    assert (quick.state, slow.state) == ("ended", "stopped")
    assert work.handled == [0]
    assert now() == 11
