"""Handles: the methods and attributes of `Child` and `Supervisor`, used in the body, elsewhere and inside a child."""

import asyncio
import gc
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest

from aiosupervise import Child, Supervisor, run_all
from aiosupervise._supervisor import lifecycle
from aiosupervise._supervisor.child_state import ChildSpec, ChildState
from aiosupervise._supervisor.intensity import RestartIntensity

from .scene import Scene, eager_task_factory, fails, needs_eager, nothing_left, now, reason, returns, times_out, turns

pytestmark = pytest.mark.looptime

COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


async def forever() -> None:
    """A child."""
    await asyncio.Event().wait()


async def test_the_attributes_of_a_child() -> None:
    """State in words, time of the last change, number of restarts, last error."""
    async with Supervisor(backoff=[2]) as sup:
        child = Scene().start(sup, "it", fails(1), returns(3), restart="transient", clean_up=1)
        assert (child.name, child.state, child.since) == ("it", "running", 0)
        assert repr(child) == "<Child it: running, 0 restarts>"
        await asyncio.sleep(1.5)
        assert (child.state, child.since, child.restarts) == ("waiting", 1, 0)
        await asyncio.sleep(2)
        assert (child.state, child.since, child.restarts) == ("running", 3, 1)
        assert repr(child) == "<Child it: running, 1 restarts, last error ValueError: broken>"
        await asyncio.sleep(3)
        assert (child.state, child.since) == ("ended", 6)
        assert repr(child.last_error) == "ValueError('broken')"
        await child.restart()
        child.stop()
        await turns()
        assert (child.state, child.since) == ("stopping", 6.5)
        await asyncio.sleep(2)
        assert (child.state, child.since) == ("stopped", 7.5)


def test_a_child_is_stopped_before_its_first_start() -> None:
    """A task factory can run the first step of a child before its start is complete."""
    spec = ChildSpec(forever, "permanent", 5.0, copy_context())
    child = ChildState("it", spec, RestartIntensity(None, 60.0), forever())
    child.close_coroutine()
    assert (child.state, child.is_alive, child.since, child.restarts) == ("stopped", False, 0.0, 0)
    assert child.task is None
    assert child.last_error is None


async def test_children_are_in_the_call_graph_where_asyncio_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since Python 3.14: while a child runs, its task is awaited by the task that entered the block."""
    awaited: dict[str, asyncio.Task[Any]] = {}

    def add(task: asyncio.Task[Any], awaiter: asyncio.Task[Any]) -> None:
        awaited[task.get_name()] = awaiter

    def discard(task: asyncio.Task[Any], awaiter: asyncio.Task[Any]) -> None:
        assert awaited.pop(task.get_name()) is awaiter

    monkeypatch.setattr(lifecycle, "_add_awaiter", add)
    monkeypatch.setattr(lifecycle, "_discard_awaiter", discard)
    async with Supervisor() as sup:
        children = [Scene().start(sup, name) for name in "ab"]
        assert awaited == {"a": asyncio.current_task(), "b": asyncio.current_task()}
        await children[0].restart()
        assert awaited.keys() == {"a", "b"}
        await children[0].stop()
        assert awaited.keys() == {"b"}
        sup.stop()
    assert awaited == {}


async def test_children_are_listed_in_start_order_and_live() -> None:
    """The handles of `children()` show the same children as those of `start`."""
    async with Supervisor() as sup:
        made = [Scene().start(sup, name) for name in "cab"]
        assert [child.name for child in sup.children()] == [child.name for child in made] == [*"cab"]
        await sup.children()[1].stop()
        assert [child.state for child in made] == ["running", "stopped", "running"]
        sup.stop()
    assert [child.state for child in sup.children()] == ["stopped"] * 3


async def test_names_are_those_of_the_functions_and_a_number() -> None:
    """Default names get a number; the task has the name of the child."""
    names: list[str] = []

    async def note_name() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    async with Supervisor() as sup:
        sup.start(note_name, restart="temporary")
        sup.start(partial(note_name), restart="temporary")
        sup.start(note_name, restart="temporary", name="mine")
    assert names == ["note_name-0", "note_name-1", "mine"]


async def test_a_name_from_a_function_is_not_used_twice() -> None:
    """This holds even if the first child with the name is forgotten, so a name in the log identifies a single child."""

    async def poll() -> None:
        pass

    names: list[str] = []
    async with Supervisor() as sup:
        for _ in range(4):
            names.append(sup.start(poll, restart="temporary").name)
            await sup.wait()
            assert sup.children() == ()
    assert names == ["poll-0", "poll-1", "poll-2", "poll-3"]


async def test_each_call_gets_the_arguments() -> None:
    """`start` takes positional arguments; functools.partial binds keywords."""
    calls: list[Any] = []

    async def note(*args: int, **settings: int) -> None:
        calls.append((args, settings))
        if len(calls) == 1:
            raise ValueError

    async with Supervisor(backoff=[0]) as sup:
        sup.start(partial(note, 1, key=3), 2, restart="transient")
    assert calls == [((1, 2), {"key": 3})] * 2


async def test_each_run_has_a_context_of_its_own() -> None:
    """The context is a copy of the one in `start`: a variable set by one run is not seen by the next."""
    seen: list[str] = []

    async def paint() -> None:
        seen.append(COLOUR.get())
        COLOUR.set("red")
        if len(seen) == 1:
            raise ValueError

    async with Supervisor(backoff=[0]) as sup:
        COLOUR.set("blue")
        sup.start(paint, restart="transient")
        COLOUR.set("green")
    assert seen == ["blue", "blue"]


async def test_start_raises_the_error_of_the_first_call() -> None:
    """Arguments that do not fit are an error of the caller, and no child is added."""
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match="argument"):
            sup.start(forever, 1)  # type: ignore[arg-type]  # the mistake
        assert sup.children() == ()


async def test_a_later_call_that_raises_is_a_failure_of_the_child() -> None:
    """Later calls are made in the task of the child, so their errors count as its own."""

    async def moody(number: int = 1) -> None:
        moody.__defaults__ = None
        raise ValueError(number)

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=1, backoff=[0]) as sup:
            sup.start(moody)
            await sup.wait()
    assert [type(error) for error in reason(caught.value).errors] == [ValueError, TypeError]


async def test_an_object_with_an_async_call_can_be_a_child() -> None:
    """The child is named after its class."""

    class Poller:
        async def __call__(self) -> None:
            await asyncio.Event().wait()

    async with Supervisor() as sup:
        assert sup.start(Poller()).name == "Poller-0"
        sup.stop()


@needs_eager
async def test_start_does_not_run_the_first_step() -> None:
    """Not even under asyncio's eager task factory."""
    asyncio.get_running_loop().set_task_factory(eager_task_factory)
    scene = Scene()
    async with Supervisor() as sup:
        scene.start(sup, "it")
        assert scene.words() == []
        await turns()
        assert scene.words() == ["it starts"]
        sup.stop()


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_child_is_stopped_awaited_or_not(awaited: bool) -> None:  # noqa: FBT001 - a row
    """Stopping begins without an await, which waits until it is done. Stopping again does nothing."""
    scene = Scene()
    with nothing_left():
        async with Supervisor() as sup:
            child = scene.start(sup, "it", clean_up=1)
            await asyncio.sleep(1)
            for _ in range(2):
                done = child.stop()
                if awaited:
                    await done
                    assert (child.state, now()) == ("stopped", 2)
            await asyncio.sleep(5)
            assert scene.words() == ["it starts", "it is cancelled", "it has cleaned up"]
        assert child.restarts == 0


async def test_the_result_of_stop_can_be_awaited_by_many_and_late() -> None:
    """The result is not a coroutine: nothing warns if nobody awaits it."""
    async with Supervisor() as sup:
        done = Scene().start(sup, "it", clean_up=1).stop()
        await asyncio.gather(*[asyncio.ensure_future(waiting(done)) for _ in range(3)])
        await done


async def waiting(done: Any) -> None:
    """Await something in a task of its own."""
    await done


async def test_a_cancelled_wait_for_a_stop_does_not_call_it_off() -> None:
    """Only the wait is cancelled: the child is stopped all the same."""
    scene = Scene()
    async with Supervisor() as sup:
        child = scene.start(sup, "it", clean_up=3)
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await child.stop()
        await sup.wait()
        assert scene.words()[-1] == "it has cleaned up"


@pytest.mark.parametrize("state", ["running", "stopped", "ended", "forgotten"])
async def test_a_child_can_be_restarted_in_any_state(state: str) -> None:
    """A child that runs is stopped first; another one is just started."""
    scene = Scene()
    restart: Any = {"ended": "transient", "forgotten": "temporary"}.get(state, "permanent")
    async with Supervisor(max_restarts=0) as sup:
        child = scene.start(sup, "it", *([] if restart == "permanent" else [returns(1)]), restart=restart)
        await asyncio.sleep(2)
        if state == "stopped":
            await child.stop()
        scene.words()
        await child.restart()
        await turns()
        assert scene.words() == ["it is cancelled"] * (state == "running") + ["it starts"]
        assert (child.state, child.restarts) == ("running", 0)
        assert [known.name for known in sup.children()] == ["it"]
        sup.stop()


async def test_a_restarted_child_keeps_its_position() -> None:
    """Start order is the order of the first starts, also for the shutdown."""
    scene = Scene()
    async with Supervisor() as sup:
        for name in "abc":
            scene.start(sup, name)
        await asyncio.sleep(1)
        await sup.children()[0].restart()
        assert [child.name for child in sup.children()] == [*"abc"]
        await turns()
        scene.words()
        await sup.stop()
    assert scene.words() == ["c is cancelled", "b is cancelled", "a is cancelled"]


async def test_a_forgotten_child_is_not_restarted_over_another() -> None:
    """Restarting it is an error if another child has its name."""
    async with Supervisor() as sup:
        old = Scene().start(sup, "it", returns(1), restart="temporary")
        await sup.wait()
        Scene().start(sup, "it")
        rule = "child it cannot be restarted: it has ended, and another child has its name"
        with pytest.raises(RuntimeError, match=f"^{rule}$"):
            old.restart()
        sup.stop()


@pytest.mark.parametrize("is_reused", [True, False])
async def test_stopping_a_forgotten_child_does_nothing(is_reused: bool) -> None:  # noqa: FBT001 - a row
    """A temporary child that has ended can be stopped like any other, and a new child of its name is not affected."""
    async with Supervisor() as sup:
        old = Scene().start(sup, "it", returns(1), restart="temporary")
        await sup.wait()
        if is_reused:
            Scene().start(sup, "it", restart="temporary")
        await old.stop()
        await turns()
        assert [child.state for child in sup.children()] == ["running"] * is_reused
        sup.stop()


async def test_a_restart_is_rejected_if_the_supervisor_stops_first() -> None:
    """Awaiting it raises an error at once, since the child will not be started."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", clean_up=1)
        await asyncio.sleep(1)
        restarted = child.restart()
        await asyncio.sleep(0.5)
        sup.stop()
        with pytest.raises(RuntimeError, match="child it cannot be restarted: its supervisor has stopped"):
            await restarted
        assert (child.state, now()) == ("stopping", 1.5)


async def test_a_restart_is_rejected_if_its_child_is_forgotten_as_the_supervisor_stops() -> None:
    """The shutdown finds that the temporary child has ended, and forgets it before it rejects what is under way."""
    released = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()

    async with Supervisor() as sup:
        child = sup.start(slow, restart="temporary")
        await turns()
        restarted = child.restart()
        await turns()
        released.set()
        await asyncio.sleep(0)
        sup.stop()
        assert sup.children() == ()
        async with asyncio.timeout(1000):
            with pytest.raises(RuntimeError, match="its supervisor has stopped"):
                await restarted


async def test_commands_under_way_are_completed_at_the_end() -> None:
    """Nobody waits forever: a restart that was not made is rejected, and a stop is done."""
    async with Supervisor() as sup:
        slow = Scene().start(sup, "slow", clean_up=1)
        other = Scene().start(sup, "other", clean_up=1)
        await asyncio.sleep(1)
        restarted, stopped = other.restart(), slow.stop()
        await sup.stop()
        with pytest.raises(RuntimeError, match="other cannot be restarted: its supervisor has stopped"):
            await restarted
        await stopped
    await other.stop()


async def test_a_stop_is_done_when_the_child_has_ended_even_if_the_supervisor_stops() -> None:
    """The command does not complete early; the end of a child that waits for its restart is reported at once."""
    async with Supervisor(backoff=[100]) as sup:
        slow = Scene().start(sup, "slow", clean_up=2)
        waiting = Scene().start(sup, "waiting", fails(1))
        await asyncio.sleep(2)
        ended = asyncio.create_task(waiting.wait())
        await turns()
        stopped = slow.stop()
        sup.stop()
        with pytest.raises(ValueError, match="broken"):
            await ended
        assert now() == 2
        await stopped
        assert (slow.state, now()) == ("stopped", 4)


@pytest.mark.parametrize(("first", "state"), [("restart", "stopped"), ("stop", "running")])
async def test_of_a_stop_and_a_restart_the_last_word_wins(first: str, state: str) -> None:
    """The later one of two commands decides what becomes of a child that cleans up, and it is cancelled once."""
    scene = Scene()
    async with Supervisor() as sup:
        it = scene.start(sup, "it", clean_up=1)
        await asyncio.sleep(1)
        stopped, restarted = (it.stop(), it.restart()) if first == "stop" else (it.restart(), it.stop())[::-1]
        if first == "restart":
            with pytest.raises(RuntimeError, match="child it cannot be restarted: it was stopped"):
                await restarted
        else:
            await restarted
        await stopped
        await asyncio.sleep(2)
        assert it.state == state
        assert scene.words()[:3] == ["it starts", "it is cancelled", "it has cleaned up"]
        sup.stop()


@pytest.mark.parametrize("what", ["stop itself", "restart itself", "stop all", "stop a sibling"])
@pytest.mark.parametrize("awaited", [True, False])
async def test_a_child_can_stop_and_restart(what: str, awaited: bool) -> None:  # noqa: FBT001 - a row
    """A child that stops or restarts itself is cancelled; awaited or not, nothing waits forever."""
    starts: list[float] = []

    async def child() -> None:
        starts.append(now())
        if len(starts) == 1:
            await asyncio.sleep(1)
            it: dict[str, Any] = {"stop all": sup.stop, "stop itself": sup.children()[1].stop}
            it |= {"restart itself": sup.children()[1].restart, "stop a sibling": sup.children()[0].stop}
            done = it[what]()
            if awaited:
                await done
        await asyncio.Event().wait()

    async def serve() -> list[str]:
        async with sup:
            Scene().start(sup, "sibling")
            sup.start(child)
            await asyncio.sleep(10)
            states: list[str] = [child.state for child in sup.children()]
            sup.stop()
        return states

    sup = Supervisor()
    expected = {
        "stop itself": ["running", "stopped"],
        "restart itself": ["running", "running"],
        "stop all": ["stopped", "stopped"],
        "stop a sibling": ["stopped", "running"],
    }
    with nothing_left():
        assert await serve() == expected[what]
    assert starts == ([0, 1] if what == "restart itself" else [0])


async def test_wait_returns_when_no_child_runs_or_waits() -> None:
    """Restarts that are due are waited for; a supervisor without children is idle, and can be waited for again."""
    async with Supervisor(backoff=[2]) as sup:
        await sup.wait()
        Scene().start(sup, "it", fails(1), returns(1), restart="transient")
        await sup.wait()
        assert now() == 4
        Scene().start(sup, "other", returns(1), restart="temporary")
        await sup.wait()
        assert now() == 5
        forever = Scene().start(sup, "forever")
        assert await times_out(sup.wait())
        forever.stop()
    await sup.wait()


async def test_wait_returns_when_the_supervisor_is_stopped() -> None:
    """A task that waits for the children is woken when they have been stopped."""
    async with Supervisor() as sup:
        Scene().start(sup, "it", clean_up=1)
        waiter = asyncio.create_task(sup.wait())
        await asyncio.sleep(1)
        sup.stop()
        await waiter
        assert now() == 2


async def test_a_run_inside_of_a_child() -> None:
    """A batch in a child is stopped with the child: its jobs end before the child does."""
    ended: list[int] = []

    async def job(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    async def batch() -> None:
        await run_all([partial(job, 0), partial(job, 1)])

    with nothing_left():
        async with Supervisor() as sup:
            sup.start(batch)
            await asyncio.sleep(1)
            await sup.stop()
            assert ended == [0, 1]


@pytest.mark.parametrize("way", ["left", "stopped", "escalated", "cancelled"])
async def test_a_supervisor_leaves_no_cyclic_garbage(garbage: list[Any], way: str) -> None:
    """All reference cycles are broken at the end: nothing is left for the collector."""

    async def fail() -> None:
        raise ValueError

    async def serve() -> None:
        async with Supervisor(max_restarts=0 if way == "escalated" else 100, backoff=[0]) as sup:
            child: Child = sup.start(fail, restart="temporary" if way == "left" else "permanent")
            await turns()
            if way == "stopped":
                assert child.restarts
                child.stop()
                sup.stop()

    caller = asyncio.create_task(serve())
    if way == "cancelled":
        await turns(40)
        caller.cancel()
    try:
        await caller
    except (ExceptionGroup, asyncio.CancelledError) as error:
        assert type(error).__name__ == {"escalated": "ExceptionGroup", "cancelled": "CancelledError"}[way]  # noqa: PT017 - one of two endings
    del caller
    await turns()
    gc.collect()
    ours = [item for item in garbage if type(item).__module__.startswith(("aiosupervise", "builtins", "_asyncio"))]
    assert [repr(item)[:80] for item in ours] == []


async def test_a_child_that_is_given_its_supervisor_leaves_no_cyclic_garbage(garbage: list[Any]) -> None:
    """Neither does a child whose function has the supervisor as an argument, which is how children start others."""

    async def stop(sup: Supervisor) -> None:
        sup.stop()

    async def serve() -> None:
        async with Supervisor() as sup:
            sup.start(stop, sup)

    await asyncio.create_task(serve())
    await turns()
    gc.collect()
    assert [repr(item)[:80] for item in garbage if type(item).__module__.startswith("aiosupervise")] == []
