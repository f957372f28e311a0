"""Cases of OTP's supervisor_SUITE that no other test holds; docs/reference/otp.md has the whole list."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from aiosupervise import Child, RestartsExceeded, Supervisor, ready

from .scene import Behaviour, Scene

pytestmark = pytest.mark.looptime

STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
each_restart_type = pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])


async def forever() -> None:
    """A child."""
    await asyncio.Event().wait()


def now() -> float:
    """The loop's time, without the rounding errors of added floats."""
    return round(asyncio.get_running_loop().time(), 6)


def states(*children: Child) -> list[str]:
    """The states of children."""
    return [child.state for child in children]


# Start


async def test_a_supervisor_without_children_runs_until_it_is_stopped() -> None:
    """It is healthy, and ends at once."""
    async with Supervisor() as sup:
        await asyncio.sleep(100)
        assert sup.is_healthy
        await sup.stop()
        assert now() == 100


@each_strategy
async def test_the_defaults_of_a_child(strategy: Any) -> None:
    """It is permanent, and has five seconds for its clean-up."""
    scene, cancels = Scene(), list[float]()

    async def stubborn() -> None:
        while len(cancels) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(now())

    async with scene.supervisor(strategy=strategy) as sup:
        it = await scene.start(sup, "it")
        await scene.leave("it")
        assert states(it) == ["running"]
        child = sup.start(stubborn)
        await scene.settle()
        await child.stop()
        first, second = cancels
        assert round(second - first, 6) == 5


@each_strategy
async def test_a_call_that_fails_adds_no_child(strategy: Any) -> None:
    """Its error is raised to the caller that starts the child."""
    async with Supervisor(strategy=strategy) as sup:
        with pytest.raises(TypeError, match="argument"):
            sup.start(forever, 1)  # type: ignore[arg-type]  # the mistake
        assert sup.children() == ()


# Shutdown


async def test_a_dynamic_child_that_does_not_stop_holds_up_no_sibling() -> None:
    """The others have ended at once; this one is cancelled again when its grace is over."""
    cancels: list[float] = []

    async def stubborn() -> None:
        while len(cancels) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(now())

    async with Supervisor(strategy="simple_one_for_one") as sup:
        polite, slow = sup.start(forever), sup.start(stubborn, grace=3)
        await asyncio.sleep(1)
        sup.stop()
        await asyncio.sleep(1)
        assert states(polite, slow) == ["stopped", "stopping"]
    assert cancels == [1, 4]


async def test_dynamic_children_without_a_grace_are_stopped() -> None:
    """They take no time."""
    async with Supervisor(strategy="simple_one_for_one", grace=0) as sup:
        children = [sup.start(forever, restart="temporary") for _ in range(10)]
        await asyncio.sleep(1)
        await sup.stop()
        assert now() == 1
        assert states(*children) == ["stopped"] * 10


ENDS = ["returns", "raises CancelledError", "fails"]


async def test_children_may_end_in_any_way_during_a_shutdown() -> None:
    """Children of each restart type end by themselves while another one cleans up: none of them is restarted."""
    scene = Scene()
    async with scene.supervisor(max_restarts=0) as sup:
        await scene.start(sup, "first")
        names = {f"{restart} {end}": end for restart in ("permanent", "transient", "temporary") for end in ENDS}
        ending = [await scene.start(sup, name, restart=name.partition(" ")[0]) for name in names]
        await scene.start(sup, "last", behaviour=Behaviour(clean_up=10))
        stopped = sup.stop()
        for name, end in names.items():
            await scene.command(name, end)
        assert states(*ending) == ["ended", "failed", "failed"] * 3
        assert states(sup.children()[0]) == ["running"]
        await stopped
        assert states(sup.children()[0]) == ["stopped"]
        assert [line for line in scene.lines if line.endswith("starts")] == [
            *(f"{name} starts" for name in ["first", *names, "last"])
        ]


@each_restart_type
async def test_dynamic_children_may_end_in_any_way_when_they_are_stopped(restart: Any) -> None:
    """All of them are stopped, and their supervisor ends without an error."""

    async def child(end: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancellation:
            if end == "fails":
                raise OSError("broken") from None
            if end == "raises CancelledError":
                raise asyncio.CancelledError from cancellation

    async with Supervisor(strategy="simple_one_for_one", max_restarts=0) as sup:
        children = [sup.start(child, end, restart=restart) for end in ENDS]
        await asyncio.sleep(1)
        await sup.stop()
        assert states(*children) == ["stopped"] * 3


# Restarts


@each_strategy
async def test_a_child_whose_restarts_fail_ends_its_supervisor(strategy: Any) -> None:
    """It fails before it is ready, each time; siblings are stopped."""
    runs = 0

    async def child() -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            raise OSError("broken")
        ready()
        await asyncio.sleep(1)
        raise OSError("broken")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(strategy=strategy, max_restarts=4, within=3600, backoff=[0]) as sup:
            children = [sup.start(forever), sup.start(child, ready=10, name="it"), sup.start(forever)]
            await asyncio.Event().wait()
    [error] = caught.value.exceptions
    assert isinstance(error, RestartsExceeded)
    assert (error.child, len(error.errors), runs) == ("it", 5, 5)
    assert states(*children) == ["stopped"] * 3


# Children that are known


@pytest.mark.parametrize("kind", ["worker", "supervisor"])
async def test_children_are_counted(kind: str) -> None:
    """Whether they are supervisors or not; those that have ended are not counted any more."""
    scene = Scene()
    child = forever if kind == "worker" else scene.tree("it")
    async with Supervisor(strategy="simple_one_for_one") as sup:
        children = [sup.start(child, restart="temporary") for _ in range(100)]
        await scene.settle()
        assert len(sup.children()) == 100
        children += [sup.start(child, restart="temporary") for _ in range(100)]
        assert len(sup.children()) == 200
        for one in children:
            one.stop()
        await sup.wait()
        assert sup.children() == ()


async def test_children_that_wait_for_their_restart_are_counted() -> None:
    """They are known, and do not run; those that are stopped meanwhile are forgotten."""
    scene = Scene()
    async with scene.supervisor(strategy="simple_one_for_one", backoff=[10]) as sup:
        await scene.start(sup, *"abc")
        await scene.fail("a")
        await scene.fail("b")
        assert states(*sup.children()) == ["waiting", "waiting", "running"]
        await asyncio.sleep(10)
        assert states(*sup.children()) == ["running"] * 3
        await scene.fail("a")
        for left in (2, 1, 0):
            await sup.children()[0].stop()
            assert len(sup.children()) == left


@each_strategy
async def test_the_arguments_of_a_forgotten_child_are_freed(strategy: Any) -> None:
    """The supervisor does not hold what a temporary child was started with when it has ended."""

    class Argument:
        """Something large."""

    async def child(argument: Argument, fails: str) -> None:
        del argument
        await asyncio.sleep(1)
        if fails:
            raise OSError("broken")

    async with Supervisor(strategy=strategy) as sup:
        for fails in ("fails", "", "fails"):
            argument = Argument()
            held = weakref.ref(argument)
            sup.start(child, argument, fails, restart="temporary")
            del argument
            await sup.wait()
            await asyncio.sleep(0)
            gc.collect()
            assert held() is None


@contextmanager
def calls_made() -> Iterator[list[int]]:
    """Count the calls of functions, and the steps of generators."""
    count = [0]

    def profile(_: FrameType, __: str, ___: object) -> None:
        count[0] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("strategy", ["one_for_one", "simple_one_for_one"])
async def test_starting_and_stopping_scale(strategy: Any) -> None:
    """Ten times as many children take ten times as much work, when they are stopped one by one."""
    work = []
    for number in (20, 200):
        async with Supervisor(strategy=strategy) as sup:
            with calls_made() as count:
                children = [sup.start(forever) for _ in range(number)]
                await asyncio.sleep(0.01)
                for child in children:
                    await child.stop()
            work.append(count[0])
    assert work[1] <= 10 * work[0]


# OTP's significant children: a child that stops its supervisor when it has ended


def significant(sup: Supervisor, run: Callable[[], Awaitable[None]]) -> Callable[[], Any]:
    """Return a child that stops its supervisor when it has returned."""

    async def child() -> None:
        await run()
        sup.stop()

    return child


@each_strategy
@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_a_significant_child_that_returns_stops_its_supervisor(strategy: Any, restart: Any) -> None:
    """Siblings are stopped as in any shutdown."""
    scene = Scene()
    async with scene.supervisor(strategy=strategy) as sup:
        siblings = [await scene.start(sup, "a"), await scene.start(sup, "b")]
        it = sup.start(significant(sup, scene.child("it")), restart=restart)
        await scene.settle()
        await scene.leave("it")
        assert states(*siblings) == ["stopped", "stopped"]
        assert it.state in ("ended", "stopped")


async def test_a_significant_child_that_is_stopped_or_restarted_does_not() -> None:
    """Neither on request, nor with its group, nor after its own failure."""
    scene = Scene()
    async with scene.supervisor(strategy="one_for_all") as sup:
        await scene.start(sup, "sibling")
        it = sup.start(significant(sup, scene.child("it")), restart="transient")
        await scene.settle()
        await scene.fail("sibling")
        await scene.fail("it")
        assert (it.state, it.restarts) == ("running", 2)
        await it.stop()
        assert sup.is_healthy


async def test_a_significant_supervisor_stops_its_parent() -> None:
    """The stop of a supervisor that is a child ends the one above it."""
    scene = Scene()
    async with scene.supervisor() as sup:

        async def branch() -> None:
            async with Supervisor() as below:
                below.start(significant(below, scene.child("it")), restart="transient")

        sibling = await scene.start(sup, "sibling")
        sup.start(significant(sup, branch), restart="transient")
        await scene.settle()
        await scene.leave("it")
        assert sibling.state == "stopped"


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("end", ["returns", "fails", "is stopped"])
async def test_other_children_do_not_stop_their_supervisor(restart: Any, end: str) -> None:
    """However they end, and though no child is left."""
    scene = Scene()
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it", restart=restart)
        if end == "is stopped":
            await it.stop()
        else:
            await scene.command("it", end)
        assert sup.is_healthy
