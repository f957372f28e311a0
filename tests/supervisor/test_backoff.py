"""The delay before a restart: how long it is, when it is reset, and how it can be cancelled."""

import asyncio
from typing import Any

import pytest

from aiosupervise import Backoff, Supervisor

from .scene import Scene, cancels, fails, nothing_left, now, reason, returns, turns

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize(
    ("backoff", "starts"),
    [
        ([1, 2, 4], [0, 1, 3, 7, 11]),
        (Backoff(base=1, factor=3, jitter="none"), [0, 1, 4, 13, 33]),
        (lambda n, _: n, [0, 0, 1, 3, 6]),
    ],
)
async def test_delays_are_those_of_the_backoff(backoff: Any, starts: list[float]) -> None:
    """Delays are computed as in a policy, with restarts counted from 0."""
    scene = Scene()
    async with Supervisor(max_restarts=None, backoff=backoff) as sup:
        scene.start(sup, "it", *[fails()] * 4)
        await asyncio.sleep(50)
        assert scene.times("it starts") == starts
        sup.stop()


async def test_restarts_are_delayed_by_default() -> None:
    """Without a `backoff` argument, a child is not restarted at once."""
    async with Supervisor() as sup:
        it = Scene().start(sup, "it", fails(1))
        states: list[str] = []
        await asyncio.sleep(1)
        await turns(5)
        states.append(it.state)
        await asyncio.sleep(1)
        states.append(it.state)
        assert states == ["waiting", "running"]
        sup.stop()


@pytest.mark.parametrize(("run", "third"), [(2.0, 1), (1.999, 5)])
async def test_the_backoff_is_reset_after_a_long_run(run: float, third: float) -> None:
    """A child that has run for exactly `reset_after` seconds gets the first delay; after a shorter run it does not."""
    scene = Scene()
    async with Supervisor(reset_after=2, max_restarts=None, backoff=[1, 5]) as sup:
        scene.start(sup, "it", fails(0.5), fails(run))
        await asyncio.sleep(20)
        _, second, last = scene.times("it starts")
        assert second == 1.5
        assert last == pytest.approx(second + run + third)
        sup.stop()


async def test_by_default_half_a_minute_resets_the_backoff() -> None:
    """A child that ran that long is restarted after the first delay; one that ran a little less, after the next."""
    scene = Scene()
    async with Supervisor(backoff=[1, 5]) as sup:
        scene.start(sup, "short", fails(29), fails(29))
        scene.start(sup, "long", fails(30), fails(30))
        await asyncio.sleep(100)
        assert scene.times("short starts") == [0, 30, 64]
        assert scene.times("long starts") == [0, 31, 62]
        sup.stop()


async def test_the_delay_itself_does_not_reset_the_backoff() -> None:
    """However long the delay, only the time for which the child has run resets its backoff."""
    scene = Scene()
    async with Supervisor(reset_after=2, max_restarts=None, backoff=[10, 50]) as sup:
        scene.start(sup, "it", fails(), fails())
        await asyncio.sleep(100)
        assert scene.times("it starts") == [0, 10, 60]
        sup.stop()


async def test_each_child_has_a_backoff_of_its_own() -> None:
    """Failures of one child do not delay another one longer."""
    scene = Scene()
    async with Supervisor(max_restarts=None, backoff=[1, 5]) as sup:
        scene.start(sup, "a", fails(), fails())
        scene.start(sup, "b", fails(3))
        await asyncio.sleep(10)
        assert scene.times("a starts") == [0, 1, 6]
        assert scene.times("b starts") == [0, 4]
        sup.stop()


@pytest.mark.parametrize("way", ["stop", "restart", "stop the supervisor"])
async def test_a_child_that_waits_can_be_stopped_or_restarted(way: str) -> None:
    """Stopping or restarting a child does not wait for its delay."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(backoff=[100]) as sup:
            it = scene.start(sup, "it", fails(1))
            await asyncio.sleep(1.5)
            assert (it.state, it.since) == ("waiting", 1)
            await {"stop": it.stop, "restart": it.restart, "stop the supervisor": sup.stop}[way]()
            assert (it.state, it.restarts) == ("running" if way == "restart" else "stopped", 0)
            sup.stop()
    assert now() == 1.5
    await asyncio.sleep(200)
    assert scene.times("it starts") == ([0, 1.5] if way == "restart" else [0])


async def test_a_child_that_is_restarted_while_it_waits_is_not_restarted_again() -> None:
    """The request takes the place of the restart for which the child has waited."""
    scene = Scene()
    async with Supervisor(backoff=[3]) as sup:
        it = scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        await it.restart()
        await asyncio.sleep(10)
        assert scene.times("it starts") == [0, 2]
        assert (it.state, it.restarts) == ("running", 0)
        sup.stop()


async def test_a_cancelled_supervisor_waits_for_no_restart() -> None:
    """A cancellation of the caller does not wait for the delay."""
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(2), Supervisor(backoff=[100]) as sup:
            it = Scene().start(sup, "it", fails(1))
    assert (it.state, now()) == ("stopped", 2)


@pytest.mark.parametrize(
    ("run", "error_repr"),
    [
        (fails(1), "ValueError('broken')"),
        (returns(1), "RuntimeError('child it returned')"),
        (cancels(1), "RuntimeError('child it raised CancelledError by itself')"),
    ],
)
async def test_a_backoff_function_gets_the_error(run: Any, error_repr: str) -> None:
    """A user's backoff gets the number of the restart and an error, even if the child raised none."""
    calls: list[tuple[int, str]] = []

    def backoff(n: int, error: Exception) -> float:
        calls.append((n, repr(error)))
        return 0

    async with Supervisor(backoff=backoff) as sup:
        Scene().start(sup, "it", run, run)
        await asyncio.sleep(5)
        assert calls == [(0, error_repr), (1, error_repr)]
        sup.stop()


async def test_a_backoff_is_not_called_for_a_restart_that_exceeds_the_limit() -> None:
    """No delay is computed for a restart that is not made."""
    calls: list[int] = []

    def backoff(n: int, error: Exception) -> float:
        calls.append(n)
        raise error

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0, backoff=backoff) as sup:
            Scene().start(sup, "it", fails(1))
            await asyncio.Event().wait()
    assert reason(caught.value).child == "it"
    assert calls == []


@pytest.mark.parametrize(
    ("answer", "kind"), [(LookupError("no delay"), LookupError), (-1, ValueError), ("soon", TypeError)]
)
async def test_a_backoff_that_fails_escalates(answer: Any, kind: type[Exception]) -> None:
    """A backoff that gives no delay stops all children, releases a blocked body, and its error is raised."""

    def backoff(n: int, error: Exception) -> float:  # noqa: ARG001 - the signature
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]  # what a user may write

    scene = Scene()
    with nothing_left(), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(backoff=backoff) as sup:
            scene.start(sup, "other")
            scene.start(sup, "it", fails(1))
            await asyncio.Event().wait()
    assert [type(error) for error in caught.value.exceptions] == [kind]
    assert scene.alive == []


async def test_a_backoff_that_raises_cancelled_error_escalates() -> None:
    """Its CancelledError is an error like any other, not a silent end of all children."""

    def backoff(n: int, error: Exception) -> float:
        raise asyncio.CancelledError(n, error)

    with pytest.raises(BaseExceptionGroup):  # noqa: PT012 - the whole block is what raises
        async with asyncio.timeout(100), Supervisor(backoff=backoff) as sup:
            Scene().start(sup, "it", fails(1))
            await asyncio.Event().wait()
