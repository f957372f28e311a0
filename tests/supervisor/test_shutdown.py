"""Shutdown: the order in which children are stopped, their grace, and leaving the block."""

import asyncio
import gc
import logging
import signal
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from aiosupervise import Supervisor
from aiosupervise._supervisor.stack import stack_of

from .scene import Scene, eager_task_factory, fails, me, needs_eager, nothing_left, now, returns, stubborn, turns

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("way", ["stop", "error", "cancel"])
@pytest.mark.parametrize("eager", [False, pytest.param(True, marks=needs_eager)])
async def test_children_are_stopped_in_reverse_start_order(way: str, eager: bool) -> None:  # noqa: FBT001 - a row
    """Each child has finished its clean-up before the next is cancelled, whatever ends the supervisor."""
    asyncio.get_running_loop().set_task_factory(eager_task_factory if eager else None)
    scene = Scene()
    with nothing_left():
        try:
            async with asyncio.timeout(1 if way == "cancel" else None), Supervisor() as sup:
                for name in "abc":
                    scene.start(sup, name, clean_up=1)
                await asyncio.sleep(1)
                if way == "error":
                    raise LookupError  # noqa: TRY301 - it is the body that raises
                sup.stop()
        except (LookupError, TimeoutError) as error:
            assert type(error).__name__ == {"error": "LookupError", "cancel": "TimeoutError"}[way]  # noqa: PT017 - one of two endings
        stops = [(1 + n, 2 + n, name) for n, name in enumerate("cba")]
        for cancelled, cleaned, name in stops:
            assert scene.times(f"{name} is cancelled") == [cancelled]
            assert scene.times(f"{name} has cleaned up") == [cleaned]
        assert now() == 4


async def test_leaving_normally_waits_for_the_children() -> None:
    """As in a TaskGroup, leaving the body stops no child: children run on, and are restarted, until they end."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(backoff=[1]) as sup:
            scene.start(sup, "a", fails(1), returns(3), restart="transient")
            scene.start(sup, "b", returns(2), restart="transient")
    assert now() == 5
    assert [child.state for child in sup.children()] == ["ended", "ended"]


async def test_a_supervisor_without_children_ends_at_once() -> None:
    """The block is left without waiting."""
    with nothing_left():
        async with Supervisor() as sup:
            pass
    assert now() == 0
    assert sup.children() == ()


async def test_a_child_can_start_others_after_the_body_has_ended() -> None:
    """Children can be started as long as one is alive."""
    scene = Scene()

    async def first() -> None:
        await asyncio.sleep(1)
        scene.start(sup, "second", returns(1), restart="temporary")

    async with Supervisor() as sup:
        sup.start(first, restart="temporary")
    assert now() == 2


async def test_stop_may_be_called_twice_and_after_the_end() -> None:
    """Stopping again cancels no child a second time."""
    scene = Scene()
    async with Supervisor() as sup:
        scene.start(sup, "a", clean_up=1)
        await asyncio.sleep(1)
        sup.stop()
        await asyncio.sleep(0.5)
        await sup.stop()
        assert now() == 2
    await sup.stop()
    assert scene.words() == ["a starts", "a is cancelled", "a has cleaned up"]


async def test_a_child_that_does_not_stop_is_cancelled_again_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Each time its grace is over; a record names the child and shows where it stands, and the supervisor waits on."""
    scene = Scene()
    cancels: list[float] = []

    async def stubborn_thrice() -> None:
        while len(cancels) < 3:
            try:
                await linger()
            except asyncio.CancelledError:
                cancels.append(now())
        await asyncio.sleep(2)

    async def linger() -> None:
        await asyncio.Event().wait()

    with nothing_left():
        async with Supervisor(grace=3, name="web") as sup:
            scene.start(sup, "first")
            sup.start(stubborn_thrice, name="it")
            await asyncio.sleep(1)
            await sup.stop()
    assert cancels == [1, 4, 7]
    assert now() == scene.times("first is cancelled")[0] == 9
    again = cancelled_again(caplog)
    assert [record.levelname for record in again] == ["WARNING"] * 2
    first, second = (record.getMessage() for record in again)
    assert first.startswith(
        "child it of web is still running 3.0 s after it was cancelled, and is cancelled again; it "
    )
    assert "is still running 6.0 s after" in second
    assert "in stubborn_thrice\n    await linger()\n" in first
    assert "in linger\n" in first


def cancelled_again(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of children that were cancelled again."""
    return [record for record in caplog.records if "is cancelled again" in record.getMessage()]


@pytest.mark.parametrize("grace", [0, 0.2])
async def test_a_child_is_cancelled_again_once_a_second_at_most(grace: float) -> None:
    """A shorter grace would only interrupt its clean-up."""
    cancels: list[float] = []

    async def server() -> None:
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancels.append(now())

    async with Supervisor() as sup:
        child = sup.start(server, grace=grace)
        await asyncio.sleep(1)
        await child.stop()
    assert cancels == [1, 2, 3]


async def test_the_stack_of_a_deep_child_shows_where_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    """It has the innermost frames."""

    async def descend(depth: int) -> None:
        await (descend(depth - 1) if depth else stubborn())

    async with Supervisor(grace=1) as sup:
        sup.start(descend, 30)
        await asyncio.sleep(1)
        await sup.stop()
    [record] = cancelled_again(caplog)
    message = record.getMessage()
    assert "[Previous line repeated 15 more times]\n" in message
    assert "in stubborn\n    await asyncio.Event().wait()\n" in message


async def test_a_child_that_nobody_can_stop_is_logged_without_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """A task may wait in something that has no frames."""

    class Wall:
        def __await__(self) -> Any:
            while len(cancels) < 2:
                try:
                    yield from asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    cancels.append(now())

    async def behind() -> None:
        await Wall()

    cancels: list[float] = []
    async with Supervisor() as sup:
        child = sup.start(behind, grace=1)
        await asyncio.sleep(1)
        await child.stop()
    [record] = cancelled_again(caplog)
    assert "await Wall()" in record.getMessage()


async def test_the_stack_of_a_task_without_frames() -> None:
    """Such as one that has ended."""
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    assert stack_of(task) == "  (its coroutine has no frames)"


async def test_a_child_is_cancelled_again_when_nobody_reads_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The record is made only if it is read."""
    caplog.set_level(logging.CRITICAL, "aiosupervise.supervisor")
    async with Supervisor(grace=2) as sup:
        sup.start(stubborn)
        await asyncio.sleep(1)
        await sup.stop()
    assert now() == 3
    assert caplog.records == []


async def test_the_error_of_a_child_keeps_the_context_that_it_was_raised_in() -> None:
    """A CancelledError that replaces another error shows that error."""

    async def ends() -> None:
        try:
            [].pop()
        except IndexError:
            raise asyncio.CancelledError  # noqa: B904 - implicit chaining is the subject

    async with Supervisor() as sup:
        child = sup.start(ends, restart="temporary")
        await sup.wait()
    assert isinstance(child.last_error, asyncio.CancelledError)
    assert isinstance(child.last_error.__context__, IndexError)


async def test_the_error_of_the_body_is_not_the_context_of_that_of_a_child() -> None:
    """The supervisor takes in the end of the child while it handles the error of the body."""
    ended = asyncio.Event()

    async def ends() -> None:
        await ended.wait()
        raise asyncio.CancelledError

    children: list[Any] = []
    with pytest.raises(LookupError):  # noqa: PT012 - the whole block is what raises
        async with Supervisor() as sup:
            children.append(sup.start(ends))
            await turns()
            ended.set()
            await asyncio.sleep(0)
            raise LookupError
    [child] = children
    assert isinstance(child.last_error, asyncio.CancelledError)
    assert child.last_error.__context__ is None


async def test_a_child_that_ends_exactly_in_time_is_not_cancelled_again() -> None:
    """A clean-up that takes a little less than the grace is not interrupted."""
    scene = Scene()
    async with Supervisor(grace=3) as sup:
        scene.start(sup, "a", clean_up=2.999)
        await asyncio.sleep(1)
        await sup.stop()
    assert scene.words()[-1] == "a has cleaned up"
    assert now() == 3.999


async def test_each_child_can_have_a_grace_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """The grace of the child replaces the one of the supervisor."""
    async with Supervisor(grace=100) as sup:
        sup.start(stubborn, name="short", grace=1)
        sup.start(stubborn, name="default")
        await asyncio.sleep(1)
        await sup.stop()
    assert [record.getMessage().split()[1] for record in cancelled_again(caplog)] == ["default", "short"]
    assert now() == 102


async def test_by_default_the_grace_is_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor without arguments cancels a child again after this time."""
    async with Supervisor() as sup:
        child = sup.start(stubborn)
        await asyncio.sleep(1)
        await sup.stop()
    assert len(cancelled_again(caplog)) == 1
    assert (child.state, child.since) == ("stopped", 6)


async def test_a_child_can_have_no_grace() -> None:
    """A grace of 0 is not replaced by that of the supervisor."""
    async with Supervisor(grace=100) as sup:
        sup.start(stubborn, grace=0)
        await asyncio.sleep(1)
        await sup.stop()
    assert now() == 2


async def test_a_second_cancel_of_the_caller_does_not_cut_clean_up_short() -> None:
    """Children are cancelled once, however often the caller is, which gets its CancelledError."""
    scene = Scene()
    before = asyncio.all_tasks()

    async def serve() -> None:
        async with Supervisor() as sup:
            scene.start(sup, "a", clean_up=2)
            await asyncio.Event().wait()

    caller = asyncio.create_task(serve())
    for _ in range(3):
        await asyncio.sleep(0.5)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert scene.words() == ["a starts", "a is cancelled", "a has cleaned up"]
    assert now() == 2.5
    assert asyncio.all_tasks() == before


async def test_a_cancel_while_the_block_waits_for_the_children_stops_them() -> None:
    """The wait at the end of the block can be cancelled; children are stopped then."""
    scene = Scene()
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(2), Supervisor() as sup:
            scene.start(sup, "a", clean_up=1)
    assert scene.words() == ["a starts", "a is cancelled", "a has cleaned up"]
    assert now() == 3


async def test_start_during_shutdown_is_rejected() -> None:
    """A supervisor that is stopping or has stopped starts no child, and restarts none."""
    scene = Scene()

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with pytest.raises(RuntimeError, match="cannot start a child: it is stopping or has stopped"):
                scene.start(sup, "new")
            scene.write("rejected")

    async with Supervisor(name="web") as sup:
        child = sup.start(late)
        await asyncio.sleep(1)
        sup.stop()
        with pytest.raises(RuntimeError, match="<Supervisor web: 1 of 1 children alive, stopped> cannot start a child"):
            scene.start(sup, "new")
        with pytest.raises(RuntimeError, match="child late-0 cannot be restarted: its supervisor has stopped"):
            child.restart()
    assert scene.words() == ["rejected"]
    with pytest.raises(RuntimeError, match="cannot start a child: it is stopping or has stopped"):
        scene.start(sup, "new")


async def test_a_delay_that_is_called_off_keeps_nothing_in_memory() -> None:
    """The event loop does not hold the supervisor and its backoff until the restart would have been due."""

    class Hour:
        def __call__(self, n: int, error: Exception) -> float:  # noqa: ARG002 - the signature
            return 3600

    backoff = Hour()
    held = weakref.ref(backoff)
    async with Supervisor(backoff=backoff) as sup:
        Scene().start(sup, "it", fails(1))
        await asyncio.sleep(2)
        sup.stop()
    del backoff, sup
    await turns()
    gc.collect()
    assert held() is None


async def test_start_after_the_block_is_rejected() -> None:
    """Nobody would supervise the child, also if the supervisor was not stopped but ended with its last child."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", returns(1), restart="transient")
    with pytest.raises(RuntimeError, match="cannot start a child: it is stopping or has stopped"):
        Scene().start(sup, "new")
    with pytest.raises(RuntimeError, match="child it cannot be restarted: its supervisor has stopped"):
        child.restart()


async def test_a_child_that_raises_in_its_clean_up_is_stopped() -> None:
    """Its error is remembered as the last one, and does not restart it."""

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("clean-up")

    with nothing_left():
        async with Supervisor() as sup:
            child = sup.start(clumsy)
            await asyncio.sleep(1)
            await sup.stop()
    assert (child.state, repr(child.last_error)) == ("stopped", "LookupError('clean-up')")


async def test_a_child_that_returns_when_it_is_cancelled_is_stopped() -> None:
    """A child that swallows its cancellation and returns is stopped too, and is not restarted."""

    async def polite() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async with Supervisor() as sup:
        child = sup.start(polite)
        await asyncio.sleep(1)
        await child.stop()
        assert (child.state, child.last_error) == ("stopped", None)


async def test_a_child_that_is_stopped_before_its_first_step_never_runs() -> None:
    """A task cancelled before its first step does nothing, and no coroutine is left unawaited."""
    scene = Scene()
    with nothing_left():
        async with Supervisor() as sup:
            child = scene.start(sup, "a")
            sup.stop()
    assert scene.words() == []
    assert child.state == "stopped"


def shut_down(before: Callable[[], None]) -> Scene:
    """Let asyncio.run cancel every task, while children clean up for some turns of the loop."""
    scene = Scene()

    async def cleaner(count: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            scene.write("cancelled")
            await turns(count)
            scene.write("cleaned up")
            raise

    async def serve(ready: asyncio.Event) -> None:
        async with Supervisor() as sup:
            for count in (15, 10, 5):  # the control loop gets to the last two during their clean-up
                sup.start(cleaner, count)
            ready.set()
            await asyncio.Event().wait()

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(serve(ready))
        await ready.wait()
        await turns(3)
        before()
        assert not task.done()

    asyncio.run(main())
    return scene


def test_a_loop_that_shuts_down_cancels_each_child_once() -> None:
    """asyncio.run cancels all tasks at its end; the supervisor does not cancel its children once more."""
    assert shut_down(lambda: None).words() == ["cancelled"] * 3 + ["cleaned up"] * 3


def test_system_exit_of_the_main_function_lets_children_clean_up() -> None:
    """SystemExit ends the program after the clean-up of the children."""
    scene: Any = None

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        scene = shut_down(leave)
    assert scene is None


async def test_a_control_loop_that_is_cancelled_before_its_first_step_stops_the_children() -> None:
    """If the event loop shuts down in the turn in which the block was entered, nobody waits forever."""
    with nothing_left():
        async with asyncio.timeout(100), Supervisor() as sup:
            Scene().start(sup, "a")
            for task in asyncio.all_tasks() - {me()}:
                task.cancel()
            await turns()
            await sup.stop()


@pytest.mark.parametrize("count", range(6))
async def test_nothing_is_started_after_the_loop_began_to_shut_down(count: int) -> None:
    """A control loop that was cancelled before its first step accepts no children in any later turn."""
    scene = Scene()
    with nothing_left():
        async with Supervisor() as sup:
            for task in asyncio.all_tasks() - {me()}:
                task.cancel()
            await turns(count)
            with pytest.raises(RuntimeError, match="cannot start a child"):
                scene.start(sup, "late")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_backoff_that_ends_the_program_lets_children_clean_up(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio.run cancels the children; the supervisor waits for their clean-up and does not cancel them once more.

    asyncio does not log the error too, which the program ends with.
    """
    scene = Scene()

    def backoff(n: int, error: Exception) -> float:
        raise kind(n, error)

    async def cleaner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns()
            scene.write("cleaned up")

    async def serve() -> None:
        async with Supervisor(backoff=backoff) as sup:
            sup.start(cleaner)
            scene.start(sup, "it", fails())
            await asyncio.Event().wait()

    with pytest.raises(kind):
        asyncio.run(serve())
    assert scene.words() == ["it starts", "it ends", "cleaned up"]
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_loop_that_shuts_down_does_not_interrupt_a_clean_up() -> None:
    """A control loop that is cancelled while it stops a child waits on."""
    scene = Scene()
    async with Supervisor() as sup:
        child = scene.start(sup, "it", clean_up=2)
        await asyncio.sleep(1)
        child.stop()
        await asyncio.sleep(1)
        [control_loop] = [task for task in asyncio.all_tasks() if "control loop" in task.get_name()]
        control_loop.cancel()
        await sup.stop()
    assert scene.words() == ["it starts", "it is cancelled", "it has cleaned up"]
    assert now() == 3


async def test_a_loop_that_shuts_down_ends_the_order_of_a_shutdown() -> None:
    """All children have already been cancelled, so each is cancelled again after its own grace, not in turn."""

    async def more_stubborn() -> None:
        try:
            await stubborn()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    async with Supervisor(grace=3) as sup:
        sup.start(stubborn)
        sup.start(more_stubborn)
        await asyncio.sleep(1)
        sup.stop()
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {me()}:
            task.cancel()
    assert [(child.state, child.since) for child in sup.children()] == [("stopped", 5), ("stopped", 4)]


async def test_a_loop_that_shuts_down_waits_for_a_child_that_was_cancelled_twice() -> None:
    """A control loop that is cancelled after the grace of a child waits on, too."""

    async def slow() -> None:
        try:
            await stubborn()
        finally:
            await asyncio.sleep(3)

    async with Supervisor(grace=1) as sup:
        child = sup.start(slow)
        await asyncio.sleep(1)
        child.stop()
        await asyncio.sleep(1.5)
        [control_loop] = [task for task in asyncio.all_tasks() if "control loop" in task.get_name()]
        control_loop.cancel()
        await sup.stop()
        assert child.state == "stopped"


@pytest.mark.parametrize("waits", [False, True], ids=["for the children", "in the body"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed loop", "open loop"])
def test_a_block_that_is_closed_does_not_wait(*, closed: bool, waits: bool) -> None:
    """A coroutine that is closed cannot wait; if the loop can still run, the children are stopped."""
    loop = asyncio.new_event_loop()
    scene = Scene()
    before = signal.getsignal(signal.SIGINT)

    async def serve() -> None:
        async with Supervisor(stop_on=[signal.SIGINT]) as sup:
            scene.start(sup, "it")
            if waits:
                await asyncio.Event().wait()

    async def begin() -> Any:
        block = serve()
        waits_for = block.send(None)
        assert waits_for is not None
        await turns()
        return block

    block = loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    if closed:
        loop.close()
        block.close()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # they go with the loop
    else:
        block.close()
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
    assert scene.words() == ["it starts"] + ["it is cancelled"] * (not closed)
    assert signal.getsignal(signal.SIGINT) is before


async def test_a_loop_that_shuts_down_as_the_supervisor_ends_changes_nothing() -> None:
    """The control loop is cancelled after the last child has ended."""
    with nothing_left():
        async with Supervisor(name="web") as sup:
            child = Scene().start(sup, "it", returns(1))
            await asyncio.sleep(0.5)
            await child.stop()
            [control_loop] = tasks_named("web control loop")
            sup.stop()
            control_loop.cancel()
    assert control_loop.done()
    assert control_loop.exception() is None


async def test_a_supervisor_has_one_task_of_its_own() -> None:
    """The other tasks are those of its children, and no task is left when it has ended."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        made.append(asyncio.Task(coroutine, loop=loop, **settings))
        return made[-1]

    with nothing_left():
        asyncio.get_running_loop().set_task_factory(factory)
        async with Supervisor(name="web") as sup:
            Scene().start(sup, "it", returns(), restart="temporary")
        asyncio.get_running_loop().set_task_factory(None)
    assert [task.get_name() for task in made] == ["web control loop", "it"]


async def test_a_supervisor_that_cannot_create_its_task_is_not_entered() -> None:
    """The error of the task factory is raised, the signal handlers are restored, and the block can be entered again.

    Python does not warn of a coroutine that was never awaited, because it is closed.
    """

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
        raise MemoryError(loop, coroutine, settings)

    before = signal.getsignal(signal.SIGINT)
    sup = Supervisor(stop_on=[signal.SIGINT])
    asyncio.get_running_loop().set_task_factory(factory)
    with pytest.raises(MemoryError):
        await sup.__aenter__()
    asyncio.get_running_loop().set_task_factory(None)
    assert signal.getsignal(signal.SIGINT) is before
    assert not sup.is_healthy
    async with sup:
        assert sup.is_healthy


def test_stopping_a_supervisor_whose_loop_is_closed_does_nothing() -> None:
    """Its children went with the loop."""
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        await sup.__aenter__()
        Scene().start(sup, "it")
        await turns()

    sup = Supervisor()
    loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    sup.stop()
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # they go with the loop
        task.get_coro().close()


async def test_leaving_waits_for_the_children_of_a_control_loop_that_never_ran() -> None:
    """The same with a body that leaves at once: the block ends when its children have ended."""
    scene = Scene()
    with nothing_left():
        async with Supervisor() as sup:
            child = scene.start(sup, "a")
            for task in asyncio.all_tasks() - {me()}:
                task.cancel()
    assert child.state == "stopped"


@pytest.mark.parametrize("count", range(3))
async def test_leaving_waits_for_a_child_that_the_shutdown_has_not_cancelled(count: int) -> None:
    """If only the control loop was cancelled before its first step, another of its name waits for the children."""
    names: list[str] = []

    async def look() -> None:
        await asyncio.sleep(1)
        names.extend(task.get_name() for task in asyncio.all_tasks() - {me()})

    with nothing_left():
        async with Supervisor(name="web") as sup:
            child = sup.start(look)
            [control_loop] = tasks_named("web control loop")
            control_loop.cancel()
            await turns(count)
        assert (child.state, now()) == ("stopped", 1)
    assert "web control loop" in names


async def test_leaving_can_be_cancelled_while_a_second_control_loop_waits_for_a_child() -> None:
    """The child ends first: then the caller gets its CancelledError, which its timeout turns into a TimeoutError."""
    with nothing_left(), pytest.raises(TimeoutError):  # noqa: PT012 - the whole block is what raises
        async with asyncio.timeout(0.5), Supervisor(name="web") as sup:
            child = Scene().start(sup, "it", returns(1))
            [control_loop] = tasks_named("web control loop")
            control_loop.cancel()
    assert (child.state, now()) == ("stopped", 1)


def tasks_named(name: str) -> "set[asyncio.Task[Any]]":
    """The tasks of this name."""
    return {task for task in asyncio.all_tasks() if task.get_name() == name}


async def test_a_cancellation_of_the_body_is_raised_unchanged() -> None:
    """The same CancelledError leaves the block, and its traceback does not show the supervisor."""
    caller = asyncio.create_task(serve_forever())
    await asyncio.sleep(1)
    caller.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough") as caught:
        await caller
    assert [entry.name for entry in caught.traceback if "aiosupervise" in str(entry.path)] == []


async def serve_forever() -> None:
    """A body that waits."""
    async with Supervisor() as sup:
        Scene().start(sup, "a")
        await asyncio.Event().wait()
