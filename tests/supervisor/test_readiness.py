"""Readiness: `ready()`, `wait_ready()`, and the order in which children are started under the ordered strategies."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest

from aiosupervise import Child, ChildReady, Event, Supervisor, listen, ready
from aiosupervise._supervisor.this_run import ThisRun

from .scene import Scene, cancels, fails, nothing_left, now, returns, times_out, turns

pytestmark = pytest.mark.looptime

ORDERED = pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])


def becomes_ready(
    scene: Scene, name: str, *delays: float, then: float | None = None
) -> Callable[[], Coroutine[object, None, str]]:
    """A child that becomes ready after the next of these delays, and fails later, in its first run only, if `then`."""
    left = list(delays)

    async def child() -> str:
        scene.write(f"{name} starts")
        first = len(left) == len(delays)
        await asyncio.sleep(left.pop(0) if left else 0)
        ready()
        scene.write(f"{name} is ready")
        if first and then is not None:
            await asyncio.sleep(then)
            raise ConnectionError
        await asyncio.Event().wait()
        return name

    return child


async def test_a_child_is_starting_until_it_is_ready() -> None:
    """Its state, the health of the supervisor, an event, and those who wait for it show that."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor() as sup:
            child = sup.start(becomes_ready(Scene(), "it", 2), ready=10.0)
            assert (child.state, sup.is_healthy) == ("starting", False)
            await child.wait_ready()
            assert (now(), child.state, child.since, sup.is_healthy) == (2, "running", 2, True)
            assert [type(event).__name__ for event in events] == ["ChildStarted", "ChildReady"]
            await child.wait_ready()
            sup.stop()
    assert [type(event).__name__ for event in events] == ["ChildStarted", "ChildReady", "ChildStopped"]


@ORDERED
async def test_the_next_sibling_starts_when_the_one_before_is_ready(strategy: Any) -> None:
    """At the first start and at every restart."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[0]) as sup:
        sup.start(becomes_ready(scene, "connection", 2, 1, then=3), ready=10.0, name="connection")
        consumer = scene.start(sup, "consumer")
        last = scene.start(sup, "last")
        assert (consumer.state, last.state) == ("waiting", "waiting")
        await asyncio.sleep(1)
        assert scene.words() == ["connection starts"]
        await asyncio.sleep(9)
        assert scene.words() == [
            *("connection is ready", "consumer starts", "last starts"),
            *("last is cancelled", "consumer is cancelled"),
            *("connection starts", "connection is ready", "consumer starts", "last starts"),
        ]
        assert (consumer.restarts, last.restarts, consumer.since) == (1, 1, 6)
        sup.stop()


async def test_without_an_order_no_child_waits_for_another() -> None:
    """Under one_for_one, children do not depend on each other."""
    scene = Scene()
    async with Supervisor() as sup:
        sup.start(becomes_ready(scene, "a", 2), ready=10.0)
        assert scene.start(sup, "b").state == "running"
        await asyncio.sleep(1)
        assert scene.words() == ["a starts", "b starts"]
        sup.stop()


@ORDERED
async def test_the_next_sibling_is_reported_when_it_starts(strategy: Any) -> None:
    """Listeners receive the event immediately, not only at the next event."""
    events: list[tuple[float, str, str]] = []
    with listen(lambda event: events.append((now(), type(event).__name__, getattr(event, "child", "")))):
        async with Supervisor(strategy=strategy) as sup:
            sup.start(becomes_ready(Scene(), "first", 2), ready=10.0, name="first")
            Scene().start(sup, "next")
            await asyncio.sleep(5)
            sup.stop()
    assert events[:3] == [(0, "ChildStarted", "first"), (2, "ChildReady", "first"), (2, "ChildStarted", "next")]


@ORDERED
async def test_a_child_that_never_started_is_started_once(strategy: Any) -> None:
    """If the one before fails before it is ready, its siblings wait for their first start, which is not a restart."""
    scene = Scene()
    runs = 0

    async def connection() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(1)
        if runs == 1:
            raise ConnectionError
        ready()
        await asyncio.Event().wait()

    async with Supervisor(strategy=strategy, backoff=[1]) as sup:
        first = sup.start(connection, ready=10.0)
        consumer = scene.start(sup, "consumer")
        await asyncio.sleep(5)
        assert scene.times("consumer starts") == [3]
        assert (first.restarts, consumer.restarts) == (1, 0)
        sup.stop()


@ORDERED
async def test_a_new_child_waits_for_a_group_that_must_become_ready(strategy: Any) -> None:
    """It is started after the members that are stopped, wait or start at this moment."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[2]) as sup:
        sup.start(becomes_ready(scene, "connection", 0, 1, then=1), ready=10.0)
        scene.start(sup, "slow", clean_up=2)
        await asyncio.sleep(2)
        while_stopping = scene.start(sup, "a")
        await asyncio.sleep(2)
        while_waiting = scene.start(sup, "b")
        await asyncio.sleep(1.5)
        while_starting = scene.start(sup, "c")
        new = (while_stopping, while_waiting, while_starting)
        assert [child.state for child in new] == ["waiting"] * 3
        await asyncio.sleep(5)
        assert [(child.state, child.since, child.restarts) for child in new] == [("running", 6, 0)] * 3
        sup.stop()


@ORDERED
@pytest.mark.parametrize("end", ["returns", "fails", "is stopped"])
async def test_siblings_start_when_the_one_before_has_ended_for_good(strategy: Any, end: str) -> None:
    """A child that will not be started again holds nobody up."""
    scene = Scene()
    async with Supervisor(strategy=strategy) as sup:
        runs = {"returns": [returns(1)], "fails": [fails(1)], "is stopped": []}[end]
        first = scene.start(sup, "first", *runs, restart="temporary", ready=10.0)
        second = scene.start(sup, "second")
        await asyncio.sleep(1)
        if end == "is stopped":
            await first.stop()
        await turns()
        assert (second.state, second.since) == ("running", 1)
        sup.stop()


@ORDERED
async def test_a_child_that_is_restarted_before_it_was_ready_is_still_waited_for(strategy: Any) -> None:
    """The next sibling is started when the new run is ready."""
    scene = Scene()
    async with Supervisor(strategy=strategy) as sup:
        first = sup.start(becomes_ready(scene, "first", 5, 3), ready=10.0)
        second = scene.start(sup, "second")
        await asyncio.sleep(1)
        await first.restart()
        await asyncio.sleep(9)
        assert (second.state, second.since) == ("running", 4)
        sup.stop()


@pytest.mark.parametrize("command", ["stop", "restart", "stop the supervisor"])
async def test_a_child_that_waits_for_its_first_start_takes_commands(command: str) -> None:
    """Its coroutine is closed if it does not start."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy="rest_for_one") as sup:
            sup.start(becomes_ready(scene, "first", 3), ready=10.0)
            child = scene.start(sup, "child")
            await asyncio.sleep(1)
            await {"stop": child.stop, "restart": child.restart, "stop the supervisor": sup.stop}[command]()
            assert child.state == ("running" if command == "restart" else "stopped")
            if command != "restart":
                assert await child.wait() is None
            await asyncio.sleep(5)
            assert scene.times("child starts") == ([1] if command == "restart" else [])
            sup.stop()


@ORDERED
async def test_a_child_stopped_before_its_first_start_can_be_stopped_again_while_its_group_waits(strategy: Any) -> None:
    """The group restart would start it for the first time, although its first coroutine was closed."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[2]) as sup:
        sup.start(becomes_ready(scene, "first", 1, then=1), ready=10.0)
        child = scene.start(sup, "child")
        await child.stop()
        await asyncio.sleep(3)
        assert (child.state, child.since) == ("waiting", 2)
        await child.stop()
        await asyncio.sleep(5)
        assert (child.state, scene.times("child starts")) == ("stopped", [])
        sup.stop()


@ORDERED
async def test_new_children_do_not_wait_for_a_restart_that_was_cancelled(strategy: Any) -> None:
    """If the last child that waits for the restart delay is stopped, the delay no longer applies."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[100]) as sup:
        it = scene.start(sup, "it", fails(1))
        await asyncio.sleep(2)
        it.stop()
        sup.start(becomes_ready(scene, "connection", 1), ready=10.0)
        scene.start(sup, "consumer")
        await asyncio.sleep(5)
        assert scene.times("consumer starts") == [3]
        sup.stop()


@ORDERED
async def test_a_new_child_that_must_become_ready_does_not_hold_up_a_group(strategy: Any) -> None:
    """The members of a group that waits were started before it, so it waits for them, and later children for it."""

    async def slow() -> None:
        await asyncio.sleep(5)
        ready()
        await asyncio.Event().wait()

    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[2]) as sup:
        scene.start(sup, "first", fails(1))
        await asyncio.sleep(2)
        sup.start(slow, ready=10.0)
        scene.start(sup, "last")
        assert [child.state for child in sup.children()] == ["waiting"] * 3
        await asyncio.sleep(2)
        assert [child.state for child in sup.children()] == ["running", "starting", "waiting"]
        await asyncio.sleep(5)
        assert scene.times("first starts") == [0, 3]
        assert scene.times("last starts") == [8]
        sup.stop()


async def test_a_child_that_waits_as_its_supervisor_stops_will_not_be_ready() -> None:
    """Current and later waiters get the error at once, even if the child is not stopped yet."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", ready=100.0)
        Scene().start(sup, "slow", clean_up=2)
        await asyncio.sleep(1)
        waiting = asyncio.ensure_future(child.wait_ready())
        await turns()
        sup.stop()
        for ready in (waiting, child.wait_ready()):
            with pytest.raises(RuntimeError, match="child it is not ready, and its supervisor is stopping"):
                await ready
        assert now() == 1


async def test_a_child_that_is_not_ready_in_time_has_failed() -> None:
    """It is cancelled and restarted as after an error, and those who wait get the error at once."""
    scene, events = Scene(), list[Event]()
    with listen(events.append):
        async with Supervisor(backoff=[1], grace=3) as sup:
            child = scene.start(sup, "it", clean_up=1, ready=2.0)
            with pytest.raises(TimeoutError, match=r"child it has not called ready\(\) within 2 s of its start"):
                await child.wait_ready()
            await asyncio.sleep(1.5)
            assert (child.state, child.restarts) == ("starting", 1)
            assert isinstance(child.last_error, TimeoutError)
            assert isinstance(child.last_error.__cause__, asyncio.CancelledError)
            sup.stop()
    assert scene.times("it starts") == [0, 4]
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["ChildStarted", "ChildExited", "ChildRestarted", "ChildStopped"]


async def test_a_child_that_is_too_late_and_fails_in_its_clean_up() -> None:
    """The error of the clean-up is the cause of the failure; a program that ends comes first."""

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError

    async with Supervisor() as sup:
        child = sup.start(late, ready=2.0, restart="temporary")
        await sup.wait()
        assert child.state == "failed"
        assert child.last_error is not None
        assert isinstance(child.last_error.__cause__, LookupError)


async def test_a_child_that_returns_when_it_is_too_late_has_failed() -> None:
    """It has swallowed its cancellation."""

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async with Supervisor() as sup:
        child = sup.start(late, ready=2.0, restart="temporary")
        await sup.wait()
        assert child.state == "failed"
        assert child.last_error is not None
        assert child.last_error.__cause__ is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_program_that_ends_in_the_clean_up_of_a_child_that_is_too_late(kind: Any) -> None:
    """The error that ends the program is not taken for a failure of the child."""

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise kind

    async def serve() -> None:
        async with Supervisor() as sup:
            children.append(sup.start(late, ready=0.01))

    children: list[Child] = []
    with pytest.raises(kind):
        asyncio.run(serve())
    assert type(children[0].last_error) is kind


@pytest.mark.parametrize(
    ("run", "kind", "words"),
    [
        (fails(1), ValueError, "broken"),
        (returns(1), RuntimeError, "child it returned before it was ready"),
        (cancels(1), RuntimeError, "child it raised CancelledError by itself"),
    ],
)
@pytest.mark.parametrize("restart", ["permanent", "temporary"])
async def test_a_child_that_ends_before_it_was_ever_ready(
    run: Any, kind: type[Exception], words: str, restart: Any
) -> None:
    """Wrong configuration fails fast: waiting tasks get the error; the restart type applies all the same."""
    async with Supervisor(backoff=[1]) as sup:
        child = Scene().start(sup, "it", run, ready=10.0, restart=restart)
        with pytest.raises(kind, match=words):
            await child.wait_ready()
        assert now() == 1
        await asyncio.sleep(2)
        assert child.restarts == (restart == "permanent")
        if restart == "temporary":
            with pytest.raises(kind, match=words):
                await child.wait_ready()
        sup.stop()


@pytest.mark.parametrize(("limit", "when"), [(10.0, 5), (1.5, 6.5)], ids=["in time", "after one that is too late"])
async def test_failures_after_a_child_was_ready_are_waited_through(limit: float, when: float) -> None:
    """The child is restarted until it is ready again, even if a later run fails before it is ready."""
    async with Supervisor(backoff=[1]) as sup:
        child = sup.start(becomes_ready(Scene(), "it", 1, 2, 1, then=1), ready=limit)
        await asyncio.sleep(2.5)
        assert child.state == "waiting"
        await child.wait_ready()
        assert now() == when
        sup.stop()


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("way", ["stop", "stop the supervisor"])
async def test_a_child_that_is_stopped_will_not_be_ready(when: str, way: str) -> None:
    """Waiting tasks get an error, at once if the supervisor stops."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", clean_up=2, ready=10.0)
        await asyncio.sleep(1)
        waiting = asyncio.ensure_future(child.wait_ready()) if when == "before" else None
        await turns(2)
        (child if way == "stop" else sup).stop()
        words = "is not ready, and its supervisor is stopping|child it is stopp(ing|ed)"
        with pytest.raises(RuntimeError, match=words):
            await (waiting or child.wait_ready())
        sup.stop()
    with pytest.raises(RuntimeError, match="child it is stopped"):
        await child.wait_ready()


async def test_a_child_without_readiness_is_ready_when_it_has_started() -> None:
    """Also after its restart."""
    async with Supervisor(backoff=[2]) as sup:
        child = Scene().start(sup, "it", fails(1))
        await child.wait_ready()
        await asyncio.sleep(2)
        await child.wait_ready()
        assert now() == 3
        sup.stop()


@ORDERED
async def test_a_child_that_is_ready_and_fails_in_the_same_turn(strategy: Any) -> None:
    """`wait_ready()` succeeds, and the next sibling does not start."""
    runs = 0

    async def first() -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(1)
        ready()
        if runs == 1:
            raise ConnectionError
        await asyncio.Event().wait()

    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[1]) as sup:
        child = sup.start(first, ready=10.0)
        scene.start(sup, "next")
        await child.wait_ready()
        assert now() == 1
        await asyncio.sleep(5)
        assert scene.times("next starts") == [3]
        sup.stop()


@ORDERED
async def test_a_child_that_is_ready_after_it_has_failed_in_the_same_iteration(strategy: Any) -> None:
    """The report of one of its tasks comes too late: the next sibling starts only when the next run is ready."""
    fail = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def report() -> None:
        await fail.wait()
        ready()

    async def first() -> None:
        if not tasks:
            tasks.append(asyncio.create_task(report()))
            await fail.wait()
            raise ConnectionError
        ready()
        await asyncio.Event().wait()

    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[1]) as sup:
        sup.start(first, ready=10.0)
        sibling = scene.start(sup, "next")
        asyncio.get_running_loop().call_later(1, fail.set)
        await asyncio.sleep(5)
        assert (scene.times("next starts"), sibling.restarts) == ([2], 0)
        sup.stop()


@ORDERED
@pytest.mark.parametrize("command", ["stop", "restart"])
async def test_a_child_that_is_stopped_in_the_turn_in_which_it_is_ready_is_waited_for(
    strategy: Any, command: str
) -> None:
    """The next sibling is started when it has stopped, or is ready again."""

    async def first() -> None:
        await asyncio.sleep(1)
        ready()
        if len(scene.times("first is ready")) == 0:
            scene.write("first is ready")
            getattr(child, command)()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)

    scene = Scene()
    async with Supervisor(strategy=strategy) as sup:
        child = sup.start(first, ready=10.0)
        last = scene.start(sup, "last")
        await asyncio.sleep(2.5)
        assert (child.state, last.state) == ("stopping", "waiting")
        await asyncio.sleep(5)
        assert scene.times("last starts") == [3 if command == "stop" else 4]
        sup.stop()


async def test_ready_acts_on_the_nearest_child_and_does_nothing_outside_of_one() -> None:
    """Not on the child around its supervisor; and calling it again does nothing."""
    ready()
    states: list[str] = []

    async def inner() -> None:
        ready()
        await asyncio.Event().wait()

    async def outer() -> None:
        async with Supervisor() as nested:
            nested.start(inner)
            await asyncio.sleep(1)
            states.append(child.state)
            ready()
            ready()
            states.append(child.state)
            nested.stop()
        await asyncio.Event().wait()

    async with Supervisor() as sup:
        child: Child = sup.start(outer, ready=10.0)
        await asyncio.sleep(5)
        sup.stop()
    assert states == ["starting", "running"]


async def test_a_task_of_an_earlier_run_does_not_make_the_child_ready() -> None:
    """Tasks that a run has left behind report for that run only."""
    left: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.sleep(2)
        ready()

    async def child() -> None:
        if not left:
            left.append(asyncio.create_task(later()))
            raise ConnectionError
        await asyncio.Event().wait()

    async with Supervisor(backoff=[1]) as sup:
        it = sup.start(child, ready=10.0)
        await asyncio.sleep(3)
        assert it.state == "starting"
        sup.stop()


async def test_ready_does_nothing_when_it_is_called_again_or_too_late() -> None:
    """There is one event for each run, and a child that is being stopped does not become "running" again."""
    events: list[Event] = []

    async def twice() -> None:
        ready()
        ready()
        await asyncio.Event().wait()

    async def in_its_clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ready()
            await asyncio.sleep(1)

    with listen(events.append):
        async with Supervisor() as sup:
            sup.start(twice, ready=10.0, name="twice")
            late = sup.start(in_its_clean_up, ready=10.0, name="late")
            await turns(3)
            late.stop()
            await turns(3)
            assert late.state == "stopping"
            sup.stop()
    assert [event.child for event in events if isinstance(event, ChildReady)] == ["twice"]


def test_a_run_whose_loop_is_closed_reports_nothing() -> None:
    """A thread can outlive the loop, and the run that was abandoned with it."""
    loop = asyncio.new_event_loop()
    run = ThisRun(loop, pytest.fail, None)
    loop.close()
    run.ready()


def test_ready_can_be_called_in_a_thread_of_the_child() -> None:
    """The loop is woken; a thread that outlives the loop does no harm."""
    late, ended = threading.Event(), list[BaseException | None]()

    def work() -> None:
        ready()
        late.wait(20)
        try:
            ready()
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    async def child() -> None:
        threads.append(threading.Thread(target=copy_context().run, args=(work,)))
        threads[0].start()
        await asyncio.Event().wait()

    async def main() -> None:
        async with Supervisor() as sup:
            await sup.start(child, ready=20.0).wait_ready()
            sup.stop()

    threads: list[threading.Thread] = []
    asyncio.run(main())
    late.set()
    threads[0].join()
    assert ended == [None]


async def test_a_child_that_is_too_late_in_the_turn_in_which_it_ends() -> None:
    """Its own end counts."""

    async def ends() -> None:
        await asyncio.sleep(2)
        raise ConnectionError

    async with Supervisor() as sup:
        child = sup.start(ends, ready=2.0, restart="temporary")
        await sup.wait()
        assert isinstance(child.last_error, (ConnectionError, TimeoutError))


async def test_wait_returns_the_result_or_raises_the_error() -> None:
    """When the child has ended for good: through its restarts, and not when it is only restarted."""
    async with Supervisor(backoff=[1]) as sup:
        child = Scene().start(sup, "it", fails(1), returns(1), restart="transient")
        assert await child.wait() == "it has returned"
        assert now() == 3
        assert await child.wait() == "it has returned"
        failed = Scene().start(sup, "failed", fails(1), restart="temporary")
        with pytest.raises(ValueError, match="broken"):
            await failed.wait()
        stopped = Scene().start(sup, "stopped")
        asyncio.get_running_loop().call_later(1, stopped.stop)
        assert await stopped.wait() is None
        assert now() == 5
        running = Scene().start(sup, "running")
        assert await times_out(running.wait())
        sup.stop()
        assert await running.wait() is None


async def test_wait_wraps_a_cancelled_error_of_the_child() -> None:
    """It would look like a cancellation of the task that waits."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", cancels(1), restart="temporary")
        with pytest.raises(RuntimeError, match="child it raised CancelledError by itself") as caught:
            await child.wait()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_wait_raises_the_error_of_a_child_that_its_supervisor_gave_up_on() -> None:
    """Its last run has ended by this error."""
    child: Any = None
    with pytest.raises(ExceptionGroup):
        async with Supervisor(max_restarts=0) as sup:
            child = Scene().start(sup, "it", fails(1))
    with pytest.raises(ValueError, match="broken"):
        await child.wait()
