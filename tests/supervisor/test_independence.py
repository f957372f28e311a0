"""One child cannot hold up the others: while it is stopped, its siblings are supervised, and all states are true."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiosupervise import Child, ChildExited, Escalated, Event, Supervisor, listen

from .scene import Scene, fails, nothing_left, now, reason, returns, turns

pytestmark = pytest.mark.looptime


class Stubborn:
    """A child that swallows cancellations until it is released, and not in later runs."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.cancels: list[float] = []

    async def __call__(self) -> None:
        if self.released.is_set():
            await asyncio.Event().wait()
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancels.append(now())


async def test_a_sibling_is_restarted_while_a_child_does_not_stop() -> None:
    """It crashes during the stop of another child, and is restarted after its own delay only."""
    scene, stubborn = Scene(), Stubborn()
    with nothing_left():
        async with Supervisor(backoff=[1], grace=3) as sup:
            child = sup.start(stubborn, name="stubborn")
            sibling = scene.start(sup, "sibling", fails(2))
            await turns()
            stopped = child.stop()
            await asyncio.sleep(2.5)
            assert (child.state, sibling.state) == ("stopping", "waiting")
            await asyncio.sleep(1)
            assert (sibling.state, sibling.since, sibling.restarts) == ("running", 3, 1)
            assert not sup.is_healthy
            await asyncio.sleep(6)
            assert stubborn.cancels == [0, 3, 6, 9]
            stubborn.released.set()
            await stopped
            assert child.state == "stopped"
            assert sup.is_healthy
            sup.stop()


async def test_giving_up_is_announced_at_once() -> None:
    """By event, `is_healthy` and the release of the body; the error is raised when the last child has ended."""
    stubborn, events = Stubborn(), list[tuple[float, Event]]()
    released: list[float] = []
    with pytest.raises(ExceptionGroup) as caught, listen(lambda event: events.append((now(), event))):  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0, grace=3) as sup:
            child = sup.start(stubborn, name="stubborn")
            Scene().start(sup, "it", fails(2))
            await turns()
            child.stop()
            try:
                await asyncio.Event().wait()
            finally:
                released.append(now())
                assert not sup.is_healthy
                asyncio.get_running_loop().call_later(8, stubborn.released.set)
    assert reason(caught.value).child == "it"
    assert released == [2]
    assert [when for when, event in events if isinstance(event, Escalated)] == [2]
    assert now() == 10


async def test_a_group_waits_for_its_stubborn_member() -> None:
    """Members before it run on, others too, and a failure of a member meanwhile is part of the same restart."""
    scene, stubborn = Scene(), Stubborn()
    async with Supervisor(strategy="one_for_all", max_restarts=1, backoff=[0], grace=3) as sup:
        first = scene.start(sup, "first", fails(3))
        second = scene.start(sup, "second")
        sup.start(stubborn, name="stubborn")
        it = scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        assert [child.state for child in sup.children()] == ["running", "running", "stopping", "waiting"]
        assert not sup.is_healthy
        await asyncio.sleep(2)
        assert (first.state, first.since, second.state) == ("waiting", 3, "running")
        stubborn.released.set()
        await turns()
        assert [child.state for child in (first, second, it)] == ["running"] * 3
        assert [child.restarts for child in sup.children()] == [1] * 4
        assert scene.times("second is cancelled") == [4]
        sup.stop()


async def test_a_failure_while_a_group_starts_makes_it_begin_anew() -> None:
    """All of its members are stopped and started once more, in order."""
    scene = Scene()
    async with Supervisor(strategy="rest_for_one", backoff=[0, 1]) as sup:
        for name in "ab":
            scene.start(sup, name)
        it = scene.start(sup, "it", fails(1), fails(0))
        last = scene.start(sup, "last")
        await asyncio.sleep(1.5)
        assert (it.state, last.state) == ("waiting", "waiting")
        await asyncio.sleep(5)
        assert scene.times("last starts") == [0, 1, 2]
        assert scene.times("a starts") == [0]
        assert sup.is_healthy
        sup.stop()


async def test_a_failure_before_a_group_extends_it() -> None:
    """The group of the later failure includes the one that stops already, and both delays are kept."""
    scene = Scene()
    async with Supervisor(strategy="rest_for_one", backoff=[2]) as sup:
        scene.start(sup, "a", fails(1.5))
        scene.start(sup, "b", fails(1))
        scene.start(sup, "slow", clean_up=1)
        await asyncio.sleep(10)
        assert [scene.times(f"{name} starts") for name in ("a", "b", "slow")] == [[0, 4], [0, 4], [0, 4]]
        assert [child.restarts for child in sup.children()] == [1, 1, 1]
        sup.stop()


async def test_a_failure_of_a_member_while_its_group_stops_is_absorbed() -> None:
    """It is part of the restart that is under way: it has no delay of its own, and does not count."""
    scene, failures = Scene(), list[str]()

    def backoff(_: int, error: Exception) -> float:
        failures.append(str(error))
        return 0

    async with Supervisor(strategy="one_for_all", backoff=backoff) as sup:
        scene.start(sup, "a", fails(1.5, ConnectionError("a")))
        scene.start(sup, "b", fails(1, ConnectionError("b")))
        scene.start(sup, "slow", clean_up=1)
        await asyncio.sleep(10)
        assert failures == ["b"]
        assert [scene.times(f"{name} starts") for name in ("a", "b", "slow")] == [[0, 2], [0, 2], [0, 2]]
        sup.stop()


async def test_a_failure_before_a_group_that_waits_does_not_shorten_its_delay() -> None:
    """The members wait as long as the longer of the two delays."""
    scene = Scene()

    def backoff(_: int, error: Exception) -> float:
        return 8 if str(error) == "long" else 1

    async with Supervisor(strategy="rest_for_one", backoff=backoff) as sup:
        scene.start(sup, "a", fails(2, ConnectionError("short")))
        scene.start(sup, "b", fails(1, ConnectionError("long")))
        await asyncio.sleep(20)
        assert [scene.times(f"{name} starts") for name in ("a", "b")] == [[0, 10], [0, 10]]
        sup.stop()


async def test_a_new_child_that_fails_while_a_group_stops_joins_it() -> None:
    """It was not a member, and is restarted with the others."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        scene.start(sup, "slow", clean_up=2)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(1.5)
        scene.start(sup, "new", fails(1))
        await asyncio.sleep(5)
        assert scene.times("new starts") == [1.5, 3]
        assert scene.times("slow starts") == [0, 3]
        sup.stop()


@pytest.mark.parametrize("command", ["stop", "restart"])
async def test_a_member_can_be_stopped_or_restarted_while_its_group_stops(command: str) -> None:
    """It leaves the group, which waits for its end all the same; a restart does not wait for the group."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[5]) as sup:
        first = scene.start(sup, "first", clean_up=1)
        slow = scene.start(sup, "slow", clean_up=2)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        assert (first.state, slow.state) == ("running", "stopping")
        await getattr(slow, command)()
        assert (slow.state, slow.since) == ({"stop": "stopped", "restart": "running"}[command], 3)
        await asyncio.sleep(10)
        assert scene.times("first starts") == [0, 9]
        assert scene.times("slow starts") == ([0] if command == "stop" else [0, 3])
        assert slow.restarts == 0
        sup.stop()


@pytest.mark.parametrize("command", ["stop", "restart"])
async def test_a_child_that_a_command_stops_and_that_ends_as_a_sibling_fails(command: str) -> None:
    """The command decides, although the failure of the sibling is handled before the end of the child."""
    starts, turn = list[str](), asyncio.Event()

    async def sibling() -> None:
        starts.append("sibling")
        if starts.count("sibling") == 1:
            await turn.wait()
            raise ConnectionError
        await asyncio.Event().wait()

    async def child() -> None:
        starts.append("child")
        try:
            await asyncio.Event().wait()
        finally:
            await turn.wait()

    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        sup.start(sibling)
        it = sup.start(child)
        await turns()
        done = getattr(it, command)()
        await turns()
        turn.set()
        await done
        await asyncio.sleep(1)
        assert starts == ["sibling", "child", *(["child"] if command == "restart" else []), "sibling"]
        assert (it.state, it.restarts) == ({"stop": "stopped", "restart": "running"}[command], 0)
        sup.stop()


@pytest.mark.parametrize("command", ["stop", "restart"])
async def test_a_group_waits_for_a_member_that_a_command_stops(command: str) -> None:
    """The command came before the failure of the sibling: it decides, and the order of the others is kept."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        scene.start(sup, "first")
        slow = scene.start(sup, "slow", clean_up=3)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(0.5)
        done = getattr(slow, command)()
        await asyncio.sleep(1)
        assert [child.state for child in sup.children()] == ["running", "stopping", "waiting"]
        await done
        await asyncio.sleep(1)
        assert scene.times("first is cancelled") == [3.5]
        assert slow.state == {"stop": "stopped", "restart": "running"}[command]
        assert scene.alive == (["first", "it"] if command == "stop" else ["slow", "first", "it"])
        sup.stop()


async def test_the_last_member_of_a_group_that_waits_can_be_stopped() -> None:
    """Nothing is left to restart."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy="one_for_all", backoff=[100]) as sup:
            it = scene.start(sup, "it", fails(1))
            await asyncio.sleep(2)
            await it.stop()
            await sup.wait()
    assert now() == 2


async def test_a_group_whose_members_all_leave_while_it_stops_restarts_nothing() -> None:
    """Each of them was stopped by a command, the one that had failed too."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
            slow = scene.start(sup, "slow", clean_up=2)
            it = scene.start(sup, "it", fails(1))
            await asyncio.sleep(2)
            await it.stop()
            await slow.stop()
            await turns()
            assert (it.state, slow.state) == ("stopped", "stopped")
            assert scene.times("it starts") == scene.times("slow starts") == [0]


async def test_ends_are_handled_during_a_shutdown() -> None:
    """A child that ends by itself while another one cleans up is not stopped, and not restarted."""
    scene, events = Scene(), list[Event]()
    with listen(events.append):
        async with Supervisor() as sup:
            failing, ending = scene.start(sup, "failing", fails(2)), scene.start(sup, "ending", returns(2))
            scene.start(sup, "slow", clean_up=4)
            await asyncio.sleep(1)
            sup.stop()
            await asyncio.sleep(2)
            assert (failing.state, ending.state) == ("failed", "ended")
    assert [event.child for event in events if isinstance(event, ChildExited)] == ["failing", "ending"]
    assert now() == 5


@pytest.mark.parametrize(("strategy", "first_slice"), [("one_for_one", 64), ("one_for_all", 1000)])
@pytest.mark.usefixtures("untraced")
async def test_many_children_that_end_in_the_same_turn_are_handled_in_slices(strategy: Any, first_slice: int) -> None:
    """The states are true at once; the restarts follow, a part of them in each turn, and none is lost.

    A group restart handles the ends of its members at once.
    """
    crash = asyncio.Event()
    starts = 0

    async def child() -> None:
        nonlocal starts
        starts += 1
        if starts <= 1000:
            await crash.wait()
            raise ConnectionError
        await asyncio.Event().wait()

    exits = list[Event]()
    async with Supervisor(strategy=strategy, backoff=[0], max_restarts=1) as sup:
        children = [sup.start(child) for _ in range(1000)]
        await turns(2)
        crash.set()
        await turns(2)
        assert {one.state for one in children} == {"waiting"}
        with listen(lambda event: exits.append(event) if isinstance(event, ChildExited) else None):
            await turns(1)
        assert len(exits) == first_slice
        assert {one.state for one in children} <= {"waiting", "running"}
        await asyncio.sleep(1)
        assert starts == 2000
        assert sup.is_healthy
        assert {one.restarts for one in children} == {1}
        await sup.stop()


async def test_many_children_that_end_as_the_supervisor_stops() -> None:
    """Each end is handled once, however many there are."""
    crash, events = asyncio.Event(), list[Event]()

    async def child() -> None:
        await crash.wait()
        raise ConnectionError

    with listen(events.append):
        async with Supervisor() as sup:
            for _ in range(2000):
                sup.start(child)
            await turns(2)
            crash.set()
            await turns(2)
            await sup.stop()
    assert len([event for event in events if isinstance(event, ChildExited)]) == 2000


async def test_a_command_after_the_end_of_a_child_finds_it_ended() -> None:
    """A child can be stopped or restarted in the turn in which it ends; its end has happened before."""
    events: list[Event] = []
    end = asyncio.Event()

    async def child() -> None:
        await end.wait()
        raise ConnectionError

    with listen(events.append):
        async with Supervisor(backoff=[5]) as sup:
            first, second = sup.start(child, name="first"), sup.start(child, name="second")
            await turns()
            end.set()
            await asyncio.sleep(0)
            first.stop()
            second.restart()
            assert (first.state, second.state) == ("stopped", "running")
            await turns()
            sup.stop()
    assert [(type(event).__name__, getattr(event, "child", "")) for event in events][2:] == [
        ("ChildExited", "first"),
        ("ChildExited", "second"),
        ("ChildStarted", "second"),
        ("ChildExited", "second"),
    ]


async def test_a_child_that_is_stopped_as_it_ends_for_good_has_ended() -> None:
    """Its end has happened before, and the command is done."""
    end = asyncio.Event()

    async def child() -> str:
        await end.wait()
        return "its result"

    async with Supervisor() as sup:
        it = sup.start(child, restart="transient")
        await turns()
        end.set()
        await asyncio.sleep(0)
        await it.stop()
        assert it.state == "ended"
        assert await it.wait() == "its result"


async def test_a_child_is_not_restarted_on_request_if_its_end_is_found_to_be_one_too_many() -> None:
    """The end has happened before the command: the supervisor gives up, and the restart is rejected."""
    end = asyncio.Event()

    async def child() -> None:
        await end.wait()
        raise ConnectionError

    with nothing_left(), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            it = sup.start(child)
            await turns()
            end.set()
            await asyncio.sleep(0)
            restarted = it.restart()
            with pytest.raises(RuntimeError, match="cannot be restarted: its supervisor has stopped"):
                await restarted
    assert reason(caught.value).child == "child-0"


async def test_commands_inside_of_a_step_follow_it() -> None:
    """A task factory can run code of the user's while a child is started, such as the first step of an eager task."""
    scene = Scene()
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **settings)
        if "play" in coroutine.__qualname__ and not late:
            sup.stop()
            late.append(scene.start(sup, "late"))
            assert late[0].state == "waiting"
        return task

    late: list[Child] = []
    sup = Supervisor()
    with nothing_left():
        loop.set_task_factory(factory)
        async with sup:
            it = scene.start(sup, "it")
            assert (it.state, late[0].state) == ("stopping", "stopped")
        loop.set_task_factory(None)
    assert scene.words() == []
    assert [child.state for child in sup.children()] == ["stopped", "stopped"]


def calls_at_starts(*calls: Callable[[], object]) -> Any:
    """Return a task factory that makes the next of these calls whenever a scripted child starts for the first time."""
    left = [*calls]

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **settings)
        if "play" in coroutine.__qualname__ and left:
            left.pop(0)()
        return task

    return factory


async def test_commands_inside_a_deferred_step() -> None:
    """The commands are executed after it: the start of a child is complete before that of the next one begins."""
    scene, states = Scene(), list[str]()

    def start(name: str) -> None:
        states.append(scene.start(sup, name).state)

    asyncio.get_running_loop().set_task_factory(calls_at_starts(lambda: start("b"), lambda: start("c")))
    async with Supervisor() as sup:
        scene.start(sup, "a")
        assert states == ["waiting", "waiting"]
        assert [child.state for child in sup.children()] == ["running"] * 3
        sup.stop()


async def test_a_child_that_is_restarted_and_stopped_inside_a_step_is_stopped() -> None:
    """The last command wins, although the first one is carried out after both have been given."""

    def restart_and_stop() -> None:
        it.restart()
        it.stop()

    asyncio.get_running_loop().set_task_factory(calls_at_starts(lambda: None, restart_and_stop))
    async with Supervisor() as sup:
        it = Scene().start(sup, "it")
        await it.stop()
        other = Scene().start(sup, "other")
        await turns()
        assert (it.state, other.state) == ("stopped", "running")
        sup.stop()


async def test_a_restart_inside_a_step_is_rejected_if_the_supervisor_stops_first() -> None:
    """This includes the restart of a forgotten child, which is not part of the shutdown."""

    def stop_and_restart() -> None:
        sup.stop()
        restarts.append(old.restart())

    restarts: list[Awaitable[None]] = []
    asyncio.get_running_loop().set_task_factory(calls_at_starts(lambda: None, stop_and_restart))
    async with Supervisor() as sup:
        old = Scene().start(sup, "old", returns(1), restart="temporary")
        await sup.wait()
        Scene().start(sup, "it")
        with pytest.raises(RuntimeError, match="child old cannot be restarted: its supervisor has stopped"):
            await restarts[0]


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
async def test_a_task_factory_that_raises_is_a_failure_of_the_child(restart: Any) -> None:
    """The child is restarted like any other, or has failed, and the supervisor can end."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        if "play" in coroutine.__qualname__ and not errors:
            errors.append(MemoryError())
            raise errors[0]
        return asyncio.Task(coroutine, loop=loop, **settings)

    errors: list[Exception] = []
    with nothing_left():
        asyncio.get_running_loop().set_task_factory(factory)
        async with Supervisor(backoff=[1]) as sup:
            it = Scene().start(sup, "it", restart=restart)
            await asyncio.sleep(2)
            assert (it.state, it.restarts) == (("running", 1) if restart == "permanent" else ("failed", 0))
            assert it.last_error is errors[0]
            sup.stop()
        asyncio.get_running_loop().set_task_factory(None)


async def test_a_task_factory_that_ends_the_program_leaves_no_child_behind() -> None:
    """Its KeyboardInterrupt passes through, and the block can be left."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        if "play" in coroutine.__qualname__:
            raise KeyboardInterrupt
        return asyncio.Task(coroutine, loop=loop, **settings)

    async def serve() -> None:
        async with Supervisor() as sup:
            Scene().start(sup, "it")

    with nothing_left():
        asyncio.get_running_loop().set_task_factory(factory)
        with pytest.raises(KeyboardInterrupt):
            await serve()
        asyncio.get_running_loop().set_task_factory(None)


@pytest.mark.parametrize("command", ["stop", "restart", "stop the supervisor", "start"])
async def test_a_listener_may_give_commands(command: str) -> None:
    """It is called between two steps, and its command is the next one."""
    scene = Scene()

    def listener(event: Event) -> None:
        if isinstance(event, ChildExited) and event.child == "it" and not done:
            done.append(command)
            if command == "start":
                scene.start(sup, "new")
            elif command == "stop the supervisor":
                sup.stop()
            else:
                getattr(other, command)()

    done: list[str] = []
    async with Supervisor(backoff=[0]) as sup:
        scene.start(sup, "it", fails(1))
        other = scene.start(sup, "other")
        with listen(listener):
            await asyncio.sleep(2)
        states = {child.name: child.state for child in sup.children()}
        expected = {"it": "running", "other": "running"}
        expected |= {"stop": {"other": "stopped"}, "start": {"new": "running"}}.get(command, {})
        if command == "stop the supervisor":
            expected = dict.fromkeys(expected, "stopped")
        assert states == expected
        sup.stop()


async def test_a_listener_that_ends_the_program() -> None:
    """Its KeyboardInterrupt passes through, and the supervisor expects the loop to cancel all tasks."""
    scene = Scene()

    def listener(event: Event) -> None:
        raise KeyboardInterrupt(event)

    async with Supervisor() as sup:
        it = scene.start(sup, "it", clean_up=1)
        await asyncio.sleep(1)
        with listen(listener), pytest.raises(KeyboardInterrupt):
            scene.start(sup, "new")
        with pytest.raises(RuntimeError, match="cannot start a child"):
            scene.start(sup, "other")
        assert it.state == "stopping"
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_name() in ("it", "new"):
                task.cancel()
    assert scene.words() == ["it starts", "it is cancelled", "it has cleaned up"]
