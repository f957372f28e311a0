"""Restart timers: when they fire, and for which children."""

import asyncio
from contextvars import copy_context

import pytest

from aiosupervise._supervisor.child_state import ChildState
from aiosupervise._supervisor.timers import RestartTimer, RestartTimers

from .scene import now

pytestmark = pytest.mark.looptime


async def nothing() -> None:
    """The function of a child."""


def children(*names: str) -> list[ChildState]:
    """Children that do not run."""
    return [ChildState(nothing, name, "permanent", 5.0, copy_context()) for name in names]


class Fired:
    """Takes the timers that fire."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, RestartTimer]] = []

    def __call__(self, timer: RestartTimer) -> None:
        self.timers.append((now(), timer))


async def test_a_timer_fires_once_for_its_group() -> None:
    """Its callback is called after the delay, and it has the children in the order given."""
    fired, timers, [a, b] = Fired(), RestartTimers(), children(*"ab")
    timers.schedule([b, a], 3.0, fired)
    await asyncio.sleep(10)
    [(when, timer)] = fired.timers
    assert when == 3
    assert timers.expire(timer) == [b, a]


async def test_a_timer_is_cancelled_with_its_last_child() -> None:
    """It does not fire, so that the event loop does not hold the supervisor for the rest of the delay."""
    fired, timers, [a, b, other] = Fired(), RestartTimers(), children("a", "b", "other")
    timers.schedule([a, b], 3.0, fired)
    timers.schedule([other], 4.0, fired)
    for child in (a, b, b):
        timers.remove(child)
    await asyncio.sleep(10)
    assert [(when, timers.expire(timer)) for when, timer in fired.timers] == [(4, [other])]


async def test_a_child_that_is_removed_after_its_timer_has_fired_is_not_restarted() -> None:
    """The control loop may have been busy when the timer fired."""
    fired, timers, [a, b] = Fired(), RestartTimers(), children(*"ab")
    timers.schedule([a, b], 3.0, fired)
    await asyncio.sleep(10)
    timers.remove(a)
    [(_, timer)] = fired.timers
    assert timers.expire(timer) == [b]


async def test_a_child_whose_timer_has_expired_can_be_scheduled_again() -> None:
    """Only the later timer restarts it."""
    fired, timers, [a, b] = Fired(), RestartTimers(), children(*"ab")
    timers.schedule([a, b], 1.0, fired)
    await asyncio.sleep(2)
    group = timers.expire(fired.timers[0][1])
    timers.remove(a)
    assert group == [a, b]
    timers.schedule([a], 1.0, fired)
    await asyncio.sleep(2)
    assert timers.expire(fired.timers[1][1]) == [a]
