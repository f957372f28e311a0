"""Intensity: how many restarts in how much time are too many, as in OTP, and at the exact edge."""

import asyncio
from typing import Any

import pytest

from aiosupervise import RestartsExceeded, Supervisor
from aiosupervise._supervisor.intensity import Clock, Intensity

from .scene import Scene, fails, nothing_left, now, reason, returns

ERROR = ValueError("broken")


# The rule by itself


def test_a_clock_stands_still_between_stand_and_go_on() -> None:
    """It shows the loop's time, less the time that it stood still; to stop it twice is to stop it once."""
    clock = Clock()
    assert clock.read(10.0) == 10.0
    clock.stand(10.0)
    clock.stand(15.0)
    assert clock.read(20.0) == 10.0
    clock.go_on(20.0)
    clock.go_on(30.0)
    assert clock.read(31.0) == 21.0
    clock.stand(31.0)
    clock.go_on(32.0)
    assert clock.read(33.0) == 22.0


def ask(most: int | None, within: float, *times: float) -> list[bool]:
    """What a rule says to restarts at these times."""
    rule, clock = Intensity(most, within), Clock()
    return [rule.allows(clock, time, ERROR) for time in times]


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
def test_more_than_most_within_the_time_are_too_many(most: int | None, times: list[float], answers: list[bool]) -> None:
    """The R-th restart passes and the next gives up; one that is exactly `within` seconds old still counts."""
    assert ask(most, 5.0, *times) == answers


def test_restarts_of_all_children_count_together() -> None:
    """The limit is that of the supervisor, and the errors that it names are those of one child."""
    rule, a, b = Intensity(2, 5.0), Clock(), Clock()
    first, second, third = ValueError(1), ValueError(2), ValueError(3)
    assert rule.allows(a, 0.0, first)
    assert rule.allows(b, 1.0, second)
    assert not rule.allows(a, 2.0, third)
    assert rule.errors(a) == [first, third]
    assert rule.errors(b) == [second]
    assert rule.errors(Clock()) == []


def test_a_restart_does_not_age_while_its_child_waits() -> None:
    """The age of a restart is the time of its own child, which stands still during the wait."""
    rule, clock, other = Intensity(1, 5.0), Clock(), Clock()
    assert rule.allows(clock, 0.0, ERROR)
    clock.stand(0.0)
    assert rule.errors(clock) == [ERROR]
    clock.go_on(100.0)
    assert not rule.allows(other, 105.0, None)
    assert rule.errors(other) == []
    assert rule.allows(other, 111.0, None)


# The same through a supervisor

looptime = pytest.mark.looptime


@looptime
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_a_supervisor_gives_up_at_the_restart_after_the_last_allowed(most: int) -> None:
    """R failures are R restarts; at the one after it the supervisor gives up, and names child and errors."""
    scene = Scene()
    errors = [ValueError(n) for n in range(most + 1)]
    with nothing_left(), pytest.raises(ExceptionGroup, match="web gave up") as caught:  # noqa: PT012 - the whole block is what raises
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
@pytest.mark.parametrize(("second", "gives_up"), [(5.0, True), (5.001, False)])
async def test_a_restart_exactly_within_ago_still_counts(second: float, gives_up: bool) -> None:  # noqa: FBT001 - a row
    """One moment later it does not."""
    scene = Scene()
    try:
        async with Supervisor(max_restarts=1, within=5.0, backoff=[0]) as sup:
            scene.start(sup, "it", fails(1), fails(second))
            await asyncio.sleep(20)
            sup.stop()
    except ExceptionGroup as group:
        assert isinstance(reason(group), RestartsExceeded)  # noqa: PT017 - one of two endings
        assert gives_up
        assert now() == 6
    else:
        assert not gives_up


@looptime
async def test_no_limit_never_gives_up() -> None:
    """With `max_restarts=None` a child is restarted for ever."""
    async with Supervisor(max_restarts=None, backoff=[0]) as sup:
        it = Scene().start(sup, "it", *[fails()] * 500)
        await asyncio.sleep(1)
        assert it.restarts == 500
        sup.stop()


@looptime
@pytest.mark.parametrize("seconds", [0, 4.9, 5, 100])
async def test_a_dead_child_escalates_however_long_the_backoff(seconds: float) -> None:
    """The time that a child waits for its restart is none in which it ran, so restarts do not age in it."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=3, within=5.0, backoff=[seconds]) as sup:
            Scene().start(sup, "it", *[fails(0.1)] * 10)
            await sup.wait()
    assert len(reason(caught.value).errors) == 4
    assert now() == pytest.approx(3 * seconds + 0.4)


@looptime
async def test_a_child_that_waits_holds_up_no_time_of_others() -> None:
    """While one child waits, the restarts of another age, and are forgotten."""
    async with Supervisor(max_restarts=1, within=5.0, backoff=[0]) as sup:
        scene = Scene()
        scene.start(sup, "a", fails(1), fails(6), fails(6), fails(6))
        await asyncio.sleep(30)
        assert sup.children()[0].restarts == 4
        sup.stop()


@looptime
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_a_group_restart_counts_once(strategy: Any) -> None:
    """However many siblings are restarted with a child, that is one restart."""
    async with Supervisor(strategy=strategy, max_restarts=1, backoff=[0]) as sup:
        scene = Scene()
        for name in "abc":
            scene.start(sup, name)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        assert sorted(scene.alive) == ["a", "b", "c", "it"]
        sup.stop()


@looptime
async def test_a_permanent_child_that_returns_too_often_has_no_error_to_name() -> None:
    """Returning is a reason to restart as well, and to give up."""
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=1, within=2, backoff=[0]) as sup:
            Scene().start(sup, "it", returns(), returns())
            await sup.wait()
    assert reason(caught.value).errors == ()
    assert reason(caught.value).__cause__ is None
    assert str(reason(caught.value)) == "more than 1 restarts within 2 s, the last one of it: it returned"


def test_the_error_says_the_rule_the_child_and_the_last_errors() -> None:
    """Its text is a sentence of its own, with the last three errors."""
    error = RestartsExceeded("it", tuple(ValueError(n) for n in range(5)), 4, 0.5)
    rule = "more than 4 restarts within 0.5 s, the last one of it: "
    assert str(error) == rule + "ValueError: 2, ValueError: 3, ValueError: 4"


@looptime
async def test_what_users_ask_for_is_no_restart_that_counts() -> None:
    """`child.restart()` and `child.stop()` never lead to giving up."""
    async with Supervisor(max_restarts=0) as sup:
        it = Scene().start(sup, "it")
        for _ in range(5):
            await it.restart()
            await asyncio.sleep(0.1)
        assert it.restarts == 0
        sup.stop()
