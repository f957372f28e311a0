"""Restart intensity: how many restarts in which period exceed the limit, as in OTP, and at the exact edge."""

import asyncio
from typing import Any

import pytest

from aiosupervise import RestartsExceeded, Supervisor
from aiosupervise._supervisor.intensity import RestartIntensity

from .scene import Scene, fails, nothing_left, now, reason, returns

ERROR = ValueError("broken")


# The rule on its own


def test_the_clock_leaves_out_the_time_while_it_is_paused() -> None:
    """It shows the loop's time less the paused time; pausing a paused clock and resuming a running one do nothing."""
    rule = RestartIntensity(1, 5.0)
    assert rule.time(10.0) == 10.0
    rule.pause(10.0)
    rule.pause(15.0)
    assert rule.time(20.0) == 10.0
    rule.resume(20.0)
    rule.resume(30.0)
    assert rule.time(31.0) == 21.0
    rule.pause(31.0)
    rule.resume(32.0)
    assert rule.time(33.0) == 22.0


def answers_to(most: int | None, within: float, *times: float) -> list[bool]:
    """Whether restarts of one child at these times are within the limit."""
    rule = RestartIntensity(most, within)
    return [rule.add_restart(time, ERROR) for time in times]


@pytest.mark.parametrize(
    ("most", "times", "answers"),
    [
        (0, [0.0], [False]),
        (1, [0.0, 0.0], [True, False]),
        (3, [0.0, 1.0, 2.0, 3.0], [True, True, True, False]),
        (1, [0.0, 5.0], [True, False]),
        (1, [0.0, 5.001], [True, True]),
        (1, [0.0, 5.001, 10.001], [True, True, False]),
        (2, [0.0, 3.0, 5.001, 8.0], [True, True, True, False]),
        (2, [0.0, 3.0, 5.001, 8.001], [True, True, True, True]),
        (None, [0.0] * 5, [True] * 5),
    ],
)
def test_the_limit_on_restarts_in_a_period(most: int | None, times: list[float], answers: list[bool]) -> None:
    """The R-th restart is within the limit, the next is not; one exactly `within` seconds ago still counts."""
    assert answers_to(most, 5.0, *times) == answers


def test_the_errors_are_those_of_the_restarts_that_count() -> None:
    """The latest last; a return has none, and restarts that are too old are forgotten."""
    rule = RestartIntensity(2, 5.0)
    first, second = ValueError(1), ValueError(2)
    assert rule.errors() == []
    assert rule.add_restart(0.0, first)
    assert rule.add_restart(1.0, None)
    assert not rule.add_restart(2.0, second)
    assert rule.errors() == [first, second]
    assert rule.add_restart(7.0, None)
    assert rule.errors() == [second]


def test_a_restart_does_not_age_while_its_child_waits() -> None:
    """The age of a restart is measured by the clock of its child, which is paused during the delay."""
    rule = RestartIntensity(1, 5.0)
    assert rule.add_restart(0.0, ERROR)
    rule.pause(0.0)
    rule.resume(100.0)
    assert not rule.add_restart(105.0, None)
    assert rule.add_restart(110.5, None)


# The same through a supervisor

looptime = pytest.mark.looptime


@looptime
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_a_supervisor_escalates_at_the_restart_after_the_last_allowed(most: int) -> None:
    """R failures are R restarts; at the next one the supervisor escalates, and its error names child and errors."""
    scene = Scene()
    errors = [ValueError(n) for n in range(most + 1)]
    with nothing_left(), pytest.raises(ExceptionGroup, match="web escalated") as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=most, within=5.0, backoff=[0], name="web") as sup:
            scene.start(sup, "other")
            it = scene.start(sup, "it", *[fails(0.5, error) for error in errors])
            await sup.wait()
    exceeded = reason(caught.value)
    assert (exceeded.child, exceeded.errors) == ("it", tuple(errors))
    assert (exceeded.max_restarts, exceeded.within) == (most, 5.0)
    assert exceeded.__cause__ is errors[-1]
    assert (it.restarts, it.state) == (most, "stopped")
    assert now() == 0.5 * (most + 1)


@looptime
async def test_by_default_twenty_restarts_in_a_minute_are_allowed() -> None:
    """A supervisor without arguments escalates at the next one."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(backoff=[0]) as sup:
            it = Scene().start(sup, "it", *[fails(1)] * 30)
            await sup.wait()
    exceeded = reason(caught.value)
    assert (exceeded.max_restarts, exceeded.within, it.restarts) == (20, 60.0, 20)


@looptime
@pytest.mark.parametrize(("second", "escalates"), [(5.0, True), (5.001, False)])
async def test_a_restart_exactly_within_ago_still_counts(second: float, escalates: bool) -> None:  # noqa: FBT001 - a row
    """A restart that is a moment older does not count."""
    scene = Scene()
    try:
        async with Supervisor(max_restarts=1, within=5.0, backoff=[0]) as sup:
            scene.start(sup, "it", fails(1), fails(second))
            await asyncio.sleep(20)
            sup.stop()
    except ExceptionGroup as group:
        assert isinstance(reason(group), RestartsExceeded)  # noqa: PT017 - one of two endings
        assert escalates
        assert now() == 6
    else:
        assert not escalates


@looptime
async def test_no_limit_never_escalates() -> None:
    """With `max_restarts=None` a child is restarted forever."""
    async with Supervisor(max_restarts=None, backoff=[0]) as sup:
        it = Scene().start(sup, "it", *[fails()] * 500)
        await asyncio.sleep(1)
        assert it.restarts == 500
        sup.stop()


@looptime
@pytest.mark.parametrize("seconds", [0, 4.9, 5, 100])
async def test_a_dead_child_escalates_however_long_the_backoff(seconds: float) -> None:
    """Restarts do not age during the delay of their child."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=3, within=5.0, backoff=[seconds]) as sup:
            Scene().start(sup, "it", *[fails(0.1)] * 10)
            await sup.wait()
    assert len(reason(caught.value).errors) == 4
    assert now() == pytest.approx(3 * seconds + 0.4)


@looptime
async def test_restarts_age_while_the_child_runs() -> None:
    """Restarts older than the period are dropped, so that a child may be restarted any number of times."""
    async with Supervisor(max_restarts=1, within=5.0, backoff=[0]) as sup:
        scene = Scene()
        scene.start(sup, "a", fails(1), fails(6), fails(6), fails(6))
        await asyncio.sleep(30)
        assert sup.children()[0].restarts == 4
        sup.stop()


@looptime
async def test_restarts_are_counted_for_each_child() -> None:
    """Five children of one dependency survive as long as one does."""
    async with Supervisor(max_restarts=3, within=60.0, backoff=[0]) as sup:
        for name in "abcde":
            Scene().start(sup, name, *[fails(1)] * 3)
        await asyncio.sleep(10)
        assert [child.restarts for child in sup.children()] == [3] * 5
        sup.stop()


@looptime
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_group_restart_counts_once(strategy: Any) -> None:
    """Restarting a child with its siblings is one restart, however many there are."""
    async with Supervisor(strategy=strategy, max_restarts=1, backoff=[0]) as sup:
        scene = Scene()
        for name in "abc":
            scene.start(sup, name)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        assert sorted(scene.alive) == ["a", "b", "c", "it"]
        sup.stop()


@looptime
async def test_a_permanent_child_that_returns_too_often_escalates() -> None:
    """Returning counts as much as failing; there is no error to name."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=1, within=2, backoff=[0]) as sup:
            Scene().start(sup, "it", returns(), returns())
            await sup.wait()
    assert reason(caught.value).errors == ()
    assert reason(caught.value).__cause__ is None
    assert str(reason(caught.value)) == "max_restarts=1 within 2 s was exceeded when child it ended; it returned"


def test_the_error_says_the_rule_the_child_and_the_last_errors() -> None:
    """The message has the limit, the child and its last three errors."""
    error = RestartsExceeded("it", tuple(ValueError(n) for n in range(5)), 4, 0.5)
    rule = "max_restarts=4 within 0.5 s was exceeded when child it ended; its last errors: "
    assert str(error) == rule + "ValueError: 2, ValueError: 3, ValueError: 4"


@looptime
async def test_restarts_on_request_do_not_count() -> None:
    """`child.restart()` never exceeds the limit."""
    async with Supervisor(max_restarts=0) as sup:
        it = Scene().start(sup, "it")
        for _ in range(5):
            await it.restart()
            await asyncio.sleep(0.1)
        assert it.restarts == 0
        sup.stop()
