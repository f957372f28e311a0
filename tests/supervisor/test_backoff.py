"""The wait before a restart: how long it is, when it begins anew, and that it can be cancelled."""

import asyncio
from typing import Any

import pytest

from aiosupervise import Backoff, Supervisor

from .scene import Scene, cancels, fails, nothing_left, now, returns, turns

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize(
    ("backoff", "starts"),
    [
        ([1, 2, 4], [0, 1, 3, 7, 11]),
        (Backoff(base=1, factor=3, jitter="none"), [0, 1, 4, 13, 33]),
        (lambda n, _: n, [0, 0, 1, 3, 6]),
    ],
)
async def test_waits_grow_as_the_backoff_says(backoff: Any, starts: list[float]) -> None:
    """The waits are those of a policy's backoff, counted from 0."""
    scene = Scene()
    async with Supervisor(max_restarts=None, backoff=backoff) as sup:
        scene.start(sup, "it", *[fails()] * 4)
        await asyncio.sleep(50)
        assert scene.times("it starts") == starts
        sup.stop()


async def test_a_child_waits_by_default() -> None:
    """Without a word about it, a child is not restarted at once."""
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


@pytest.mark.parametrize(("quiet", "third"), [(2.0, 1), (1.999, 5)])
async def test_the_backoff_begins_anew_after_a_quiet_time(quiet: float, third: float) -> None:
    """A child that has run for `within` seconds waits as for the first time; one moment less, and it does not."""
    scene = Scene()
    async with Supervisor(within=2, max_restarts=None, backoff=[1, 5]) as sup:
        scene.start(sup, "it", fails(0.5), fails(quiet))
        await asyncio.sleep(20)
        _, second, last = scene.times("it starts")
        assert second == 1.5
        assert last == pytest.approx(second + quiet + third)
        sup.stop()


async def test_the_time_of_the_wait_is_no_quiet_time() -> None:
    """However long a child has waited, only the time that it ran makes its backoff begin anew."""
    scene = Scene()
    async with Supervisor(within=2, max_restarts=None, backoff=[10, 50]) as sup:
        scene.start(sup, "it", fails(), fails())
        await asyncio.sleep(100)
        assert scene.times("it starts") == [0, 10, 60]
        sup.stop()


async def test_each_child_has_a_backoff_of_its_own() -> None:
    """The failures of one child do not make another wait longer."""
    scene = Scene()
    async with Supervisor(max_restarts=None, backoff=[1, 5]) as sup:
        scene.start(sup, "a", fails(), fails())
        scene.start(sup, "b", fails(3))
        await asyncio.sleep(10)
        assert scene.times("a starts") == [0, 1, 6]
        assert scene.times("b starts") == [0, 4]
        sup.stop()


@pytest.mark.parametrize("way", ["stop", "restart", "stop the supervisor"])
async def test_a_wait_can_be_left(way: str) -> None:
    """Whoever stops or restarts a child that waits need not wait with it."""
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


async def test_a_wait_can_be_cancelled() -> None:
    """A supervisor whose caller is cancelled waits for no restart."""
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(2), Supervisor(backoff=[100]) as sup:
            it = Scene().start(sup, "it", fails(1))
    assert (it.state, now()) == ("stopped", 2)


@pytest.mark.parametrize(
    ("life", "told"),
    [
        (fails(1), "ValueError('broken')"),
        (returns(1), "RuntimeError('it returned')"),
        (cancels(1), "RuntimeError('it was cancelled from inside')"),
    ],
)
async def test_a_function_is_asked_with_what_happened(life: Any, told: str) -> None:
    """A backoff of the user's gets the number of the restart and an error, also where there was none to give."""
    asked: list[tuple[int, str]] = []

    def ask(n: int, error: Exception) -> float:
        asked.append((n, repr(error)))
        return 0

    async with Supervisor(backoff=ask) as sup:
        Scene().start(sup, "it", life, life)
        await asyncio.sleep(5)
        assert asked == [(0, told), (1, told)]
        sup.stop()


@pytest.mark.parametrize(
    ("answer", "kind"), [(LookupError("no delay"), LookupError), (-1, ValueError), ("soon", TypeError)]
)
async def test_a_backoff_that_fails_ends_the_supervisor(answer: Any, kind: type[Exception]) -> None:
    """Nobody knows when to restart: all children are stopped, and the error comes out, also of a blocked body."""

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


async def test_a_backoff_that_raises_cancelled_error_releases_the_body() -> None:
    """That is an error too, and not the silent end of all children."""

    def backoff(n: int, error: Exception) -> float:
        raise asyncio.CancelledError(n, error)

    with pytest.raises(BaseExceptionGroup):  # noqa: PT012 - the whole block is what raises
        async with asyncio.timeout(100), Supervisor(backoff=backoff) as sup:
            Scene().start(sup, "it", fails(1))
            await asyncio.Event().wait()
