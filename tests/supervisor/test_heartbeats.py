"""Heartbeats: a child that does not call `alive()` for too long has failed."""

import asyncio
from contextvars import copy_context
from typing import Any

import pytest

from aiosupervise import ChildExited, ChildStalled, Event, Supervisor, alive, listen, ready
from aiosupervise._supervisor.loop_clock import LoopClock

from .scene import Scene, fails, nothing_left, now

pytestmark = pytest.mark.looptime


class Blocked:
    """Lets time pass during which the event loop runs nothing."""

    def __init__(self) -> None:
        self._loop: Any = asyncio.get_running_loop()
        self._time = self._loop.time
        self._seconds = 0.0
        vars(self._loop)["time"] = self._late_time

    def _late_time(self) -> float:
        return float(self._time() + self._seconds)

    def block(self, seconds: float) -> None:
        """Block the loop."""
        self._seconds += seconds


async def beats(every: float, count: int) -> None:
    """A child that is alive for a while, and then hangs."""
    for _ in range(count):
        await asyncio.sleep(every)
        alive()
    await asyncio.Event().wait()


async def test_a_child_that_hangs_is_cancelled_and_restarted() -> None:
    """An event names it; it is restarted as after an error, whose cause shows where it stood."""
    events: list[tuple[float, Event]] = []
    with nothing_left(), listen(lambda event: events.append((now(), event))):
        async with Supervisor(backoff=[1]) as sup:
            child = sup.start(beats, 2, 3, heartbeat=5.0)
            await asyncio.sleep(11.5)
            assert (child.state, child.since) == ("waiting", 11)
            await asyncio.sleep(1)
            assert (child.state, child.restarts) == ("running", 1)
            sup.stop()
    stalled, exited = [(when, event) for when, event in events if isinstance(event, (ChildStalled, ChildExited))]
    assert (stalled[0], exited[0]) == (11, 11)
    assert isinstance(stalled[1], ChildStalled)
    assert stalled[1].seconds == 5
    assert isinstance(exited[1], ChildExited)
    assert str(exited[1].error) == "child beats-0 has not called alive() for 5 s"
    assert isinstance(exited[1].error, TimeoutError)
    assert isinstance(exited[1].error.__cause__, asyncio.CancelledError)


async def test_a_child_that_hangs_is_reported_at_once() -> None:
    """The report does not wait for the end of its clean-up."""
    events: list[tuple[float, str]] = []
    with listen(lambda event: events.append((now(), type(event).__name__))):
        async with Supervisor() as sup:
            Scene().start(sup, "it", heartbeat=2.0, clean_up=3, restart="temporary")
    assert events == [(0, "ChildStarted"), (2, "ChildStalled"), (5, "ChildExited")]


async def test_a_child_that_hangs_has_failed_even_if_a_sibling_fails_during_its_clean_up() -> None:
    """The group restart waits for it; its event and its error show that it has not called `alive()`."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
            it = Scene().start(sup, "it", heartbeat=2.0, clean_up=3)
            Scene().start(sup, "sibling", fails(3))
            await asyncio.sleep(5.5)
            assert isinstance(it.last_error, TimeoutError)
            assert [(child.restarts, child.since) for child in sup.children()] == [(1, 5), (1, 5)]
            sup.stop()
    assert [event.child for event in events if isinstance(event, ChildExited)] == ["sibling", "it"]


async def test_a_child_that_is_alive_is_left_alone() -> None:
    """Also one that calls `alive()` just in time, and one without a heartbeat."""
    async with Supervisor() as sup:
        sup.start(beats, 4.999, 50, heartbeat=5.0)
        sup.start(beats, 100, 1)
        await asyncio.sleep(200)
        assert [child.restarts for child in sup.children()] == [0, 0]
        sup.stop()


async def test_children_with_different_heartbeats() -> None:
    """Each has its own, however often the clock ticks."""
    async with Supervisor(max_restarts=None, backoff=[0]) as sup:
        long = sup.start(beats, 1, 0, heartbeat=60.0)
        short = sup.start(beats, 1, 0, heartbeat=1.0)
        await asyncio.sleep(59.5)
        assert (long.restarts, short.restarts) == (0, 59)
        await short.stop()
        await asyncio.sleep(1)
        assert long.restarts == 1
        sup.stop()


async def test_a_heartbeat_begins_when_the_child_is_ready() -> None:
    """While it starts, its time to become ready is the limit."""

    async def slow() -> None:
        await asyncio.sleep(8)
        alive()
        ready()
        await asyncio.Event().wait()

    async with Supervisor(backoff=[100]) as sup:
        child = sup.start(slow, ready=10.0, heartbeat=3.0)
        await asyncio.sleep(10.5)
        states: list[str] = [child.state]
        await asyncio.sleep(1)
        states.append(child.state)
        assert states == ["running", "waiting"]
        sup.stop()


@pytest.mark.parametrize("blocked", [4, 60])
async def test_time_during_which_the_loop_was_blocked_does_not_count(blocked: float) -> None:
    """A child that could not run could not call `alive()` either."""
    clock = Blocked()
    async with Supervisor(backoff=[100]) as sup:
        child = sup.start(beats, 3, 10, heartbeat=4.0)
        await asyncio.sleep(1)
        clock.block(blocked)
        await asyncio.sleep(20)
        assert child.restarts == 0
        hanging = sup.start(beats, 1, 0, heartbeat=8.0)
        await asyncio.sleep(5)
        clock.block(blocked)
        await asyncio.sleep(2)
        states: list[str] = [hanging.state]
        await asyncio.sleep(2.5)
        states.append(hanging.state)
        assert states == ["running", "waiting"]
        sup.stop()


async def test_a_child_that_ends_before_its_late_timer_runs_has_ended() -> None:
    """The loop was blocked, and the child ends in the turn in which it is found to be too late: its own end counts."""
    clock = Blocked()

    async def ends() -> None:
        await asyncio.sleep(1)
        clock.block(4)
        await asyncio.sleep(0)
        raise ConnectionError

    async with Supervisor() as sup:
        child = sup.start(ends, ready=2.0, restart="temporary")
        await sup.wait()
        assert isinstance(child.last_error, ConnectionError)


async def test_a_child_that_ends_as_its_grace_does_is_not_cancelled_again(caplog: pytest.LogCaptureFixture) -> None:
    """The loop was blocked in its clean-up, after which it ends in time."""
    clock = Blocked()

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            clock.block(20)
            await asyncio.sleep(0)

    async with Supervisor(grace=2) as sup:
        child = sup.start(cleans_up)
        await asyncio.sleep(1)
        await child.stop()
        assert child.state == "stopped"
        sup.stop()
    assert caplog.records == []


async def test_alive_can_be_called_in_a_thread_of_the_child() -> None:
    """It acts on the nearest child, and does nothing outside of one."""
    alive()
    copy = copy_context()

    async def threaded() -> None:
        while True:
            await asyncio.sleep(2)
            await asyncio.get_running_loop().run_in_executor(None, copy.run, alive)

    async def capturing() -> None:
        nonlocal copy
        copy = copy_context()
        await threaded()

    async with Supervisor() as sup:
        child = sup.start(capturing, heartbeat=3.0)
        await asyncio.sleep(20)
        assert child.restarts == 0
        sup.stop()
    copy.run(alive)


async def test_a_child_that_ends_as_it_stalls_has_ended() -> None:
    """Its own end counts: it has not stalled, and its error is its own."""
    clock, events = Blocked(), list[Event]()

    async def ends() -> None:
        await asyncio.sleep(1.875)
        clock.block(0.125)
        await asyncio.sleep(0)
        raise ConnectionError

    with listen(events.append):
        async with Supervisor() as sup:
            child = sup.start(ends, heartbeat=2.0, restart="temporary")
            await sup.wait()
            assert (isinstance(child.last_error, ConnectionError), child.since) == (True, 2)
    assert [type(event).__name__ for event in events] == ["ChildStarted", "ChildExited"]


async def test_a_child_that_waits_for_its_restart_needs_no_heartbeat() -> None:
    """The heartbeat of a run ends with it, and the next run has one of its own."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor(backoff=[10]) as sup:
            child = Scene().start(sup, "it", fails(1), heartbeat=2.0)
            await asyncio.sleep(12.5)
            assert (child.state, child.restarts) == ("running", 1)
            sup.stop()
    assert not any(isinstance(event, ChildStalled) for event in events)


async def test_the_clock_ticks_until_its_last_user_has_gone() -> None:
    """It notices how long the loop is blocked for the last one too; then no timer is left."""
    blocked = Blocked()
    clock = LoopClock(asyncio.get_running_loop(), copy_context())
    clock.acquire(8.0)
    clock.acquire(8.0)
    clock.release()
    await asyncio.sleep(0.5)
    blocked.block(60)
    await asyncio.sleep(1)
    assert clock.time() < 3
    clock.release()
    assert clock._timer is None


async def test_the_log_says_how_long_a_child_was_silent(caplog: pytest.LogCaptureFixture) -> None:
    """With as many digits as the heartbeat was given."""
    async with Supervisor(name="web") as sup:
        for heartbeat in (0.25, 30.0):
            Scene().start(sup, f"it-{heartbeat}", heartbeat=heartbeat, restart="temporary")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "child it-0.25 of web has stalled: it has not called alive() for 0.25 s, and is cancelled",
        "child it-30.0 of web has stalled: it has not called alive() for 30 s, and is cancelled",
    ]


async def test_children_that_hang_in_different_places_are_each_reported_in_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where a child stood is in the traceback of the cause."""

    async def one() -> None:
        await asyncio.Event().wait()

    async def other() -> None:
        await asyncio.sleep(1000)

    async with Supervisor() as sup:
        for func in (one, other, other):
            sup.start(func, heartbeat=2.0, restart="temporary")
    reports = [record for record in caplog.records if record.exc_info]
    assert sorted(record.getMessage().split()[1].partition("-")[0] for record in reports) == ["one", "other"]


@pytest.mark.parametrize("way", ["stop", "restart"])
async def test_a_child_that_is_being_stopped_needs_no_heartbeat(way: str) -> None:
    """Its clean-up may take longer."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor() as sup:
            child = Scene().start(sup, "it", heartbeat=2.0, clean_up=4)
            await asyncio.sleep(1)
            await getattr(child, way)()
            assert now() == 5
            sup.stop()
    assert not any(isinstance(event, ChildStalled) for event in events)


async def test_a_stalled_child_that_does_not_stop_can_be_stopped_or_restarted() -> None:
    """The command decides what becomes of it."""
    scene = Scene()
    async with Supervisor(backoff=[100]) as sup:
        first = scene.start(sup, "first", heartbeat=2.0, clean_up=3)
        second = scene.start(sup, "second", heartbeat=2.0, clean_up=3)
        await asyncio.sleep(3)
        assert first.state == "stopping"
        first.stop()
        await second.restart()
        assert (first.state, second.state, now()) == ("stopped", "running", 5)
        sup.stop()
