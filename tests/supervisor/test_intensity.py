"""Restart intensity: how many restarts in which period exceed the limit, as in OTP, and at the exact edge."""

import asyncio
from typing import Any

import pytest

from aiosupervise import RestartsExceeded, Supervisor
from aiosupervise._supervisor.intensity import Clock, RestartIntensity

from .scene import Scene, fails, nothing_left, now, reason, returns

ERROR = ValueError("broken")


# The rule on its own


def test_a_clock_leaves_out_the_time_while_it_is_paused() -> None:
    """It shows the loop's time less the paused time; pausing a paused clock and resuming a running one do nothing."""
    clock = Clock()
    assert clock.time(10.0) == 10.0
    clock.pause(10.0)
    clock.pause(15.0)
    assert clock.time(20.0) == 10.0
    clock.resume(20.0)
    clock.resume(30.0)
    assert clock.time(31.0) == 21.0
    clock.pause(31.0)
    clock.resume(32.0)
    assert clock.time(33.0) == 22.0


def answers_to(most: int | None, within: float, *times: float) -> list[bool]:
    """Whether restarts of one child at these times are within the limit."""
    rule, clock = RestartIntensity(most, within), Clock()
    return [rule.add_restart(clock, time, ERROR) for time in times]


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


def test_restarts_of_all_children_count_together() -> None:
    """The limit is the supervisor's; the errors are those of one child."""
    rule, a, b = RestartIntensity(2, 5.0), Clock(), Clock()
    first, second, third = ValueError(1), ValueError(2), ValueError(3)
    assert rule.add_restart(a, 0.0, first)
    assert rule.add_restart(b, 1.0, second)
    assert not rule.add_restart(a, 2.0, third)
    assert rule.errors(a) == [first, third]
    assert rule.errors(b) == [second]
    assert rule.errors(Clock()) == []


def test_a_restart_does_not_age_while_its_child_waits() -> None:
    """The age of a restart is measured by the clock of its own child, which is paused during the delay."""
    rule, clock, other = RestartIntensity(1, 5.0), Clock(), Clock()
    assert rule.add_restart(clock, 0.0, ERROR)
    clock.pause(0.0)
    assert rule.errors(clock) == [ERROR]
    clock.resume(100.0)
    assert not rule.add_restart(other, 105.0, None)
    assert rule.errors(other) == []
    assert rule.add_restart(other, 111.0, None)


def test_a_restart_ages_after_the_delay_of_its_child() -> None:
    """A restart after a delay expires as soon as any other: only delays during its own age are left out."""
    rule, clock, other = RestartIntensity(1, 5.0), Clock(), Clock()
    clock.pause(0.0)
    clock.resume(100.0)
    assert rule.add_restart(clock, 100.0, ERROR)
    assert rule.add_restart(other, 105.5, None)


def test_a_child_whose_restarts_have_expired_is_forgotten() -> None:
    """A restart costs no more where thousands of other children were restarted long ago."""
    rule, clock, other = RestartIntensity(1, 5.0), Clock(), Clock()
    assert rule.add_restart(clock, 0.0, ERROR)
    assert rule.add_restart(other, 100.0, ERROR)
    assert [*rule._restarts] == [other]


# The same through a supervisor

looptime = pytest.mark.looptime


@looptime
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_a_supervisor_escalates_at_the_restart_after_the_last_allowed(most: int) -> None:
    """R failures are R restarts; at the next one the supervisor escalates, and its error names child and errors."""
    scene = Scene()
    errors = [ValueError(n) for n in range(most + 1)]
    with nothing_left(), pytest.raises(ExceptionGroup, match="web escalated") as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=most, backoff=[0], name="web") as sup:
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
async def test_by_default_three_restarts_in_five_seconds_are_allowed() -> None:
    """A supervisor without arguments escalates at the fourth."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(backoff=[0]) as sup:
            it = Scene().start(sup, "it", *[fails(1)] * 9)
            await sup.wait()
    exceeded = reason(caught.value)
    assert (exceeded.max_restarts, exceeded.within, it.restarts) == (3, 5.0, 3)


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
