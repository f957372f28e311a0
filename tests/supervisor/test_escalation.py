"""Escalation: stopping all children, raising from the block, trees of supervisors, and errors at the same time."""

import asyncio
import gc
import weakref
from typing import Any, Literal

import pytest

from aiosupervise import RestartsExceeded, Supervisor

from .scene import Scene, cancels, fails, me, nothing_left, now, reason, returns, turns

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("body", ["blocked", "waits for the children", "left"])
async def test_escalation_stops_all_children_and_raises_from_the_block(body: str) -> None:
    """A blocked body is released by a cancellation, which is undone with `uncancel()`."""
    scene = Scene()
    with nothing_left():
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
            async with Supervisor(max_restarts=0) as sup:
                scene.start(sup, "a", clean_up=1)
                scene.start(sup, "it", fails(1))
                scene.start(sup, "b", clean_up=1)
                if body == "blocked":
                    await asyncio.Event().wait()
                elif body == "waits for the children":
                    await sup.wait()
        assert reason(caught.value).child == "it"
        assert scene.times("b is cancelled") == [1]
        assert scene.times("a is cancelled") == [2]
        assert now() == 3
        await asyncio.sleep(1)


@pytest.mark.parametrize("body", ["blocked", "left"])
async def test_a_cancel_from_inside_escalates_as_an_error(body: str) -> None:
    """A CancelledError that a child raises by itself is not mistaken for a cancellation of the supervisor."""
    with nothing_left(), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "it", cancels(1), restart="transient")
            if body == "blocked":
                await asyncio.Event().wait()
    assert [type(error) for error in reason(caught.value).errors] == [asyncio.CancelledError]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_trees_escalate(restart: Literal["permanent", "transient"]) -> None:
    """Escalation is an ordinary failure of a child: its parent restarts it, and escalates at its own limit."""
    scene = Scene()

    async def branch() -> None:
        scene.write("branch")
        async with Supervisor(max_restarts=1, backoff=[0], name="branch") as sup:
            scene.start(sup, "other")
            scene.start(sup, "leaf", *[fails(1)] * 9)

    with nothing_left(), pytest.raises(ExceptionGroup, match="root escalated") as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=2, within=10, backoff=[0], name="root") as sup:
            scene.start(sup, "trunk")
            sup.start(branch, name="branch", restart=restart)
    assert scene.times("branch") == [0, 2, 4]
    assert len(scene.times("leaf starts")) == 6
    assert now() == 6
    exceeded = reason(caught.value)
    assert exceeded.child == "branch"
    assert [reason(error).child for error in exceeded.errors if isinstance(error, ExceptionGroup)] == ["leaf"] * 3


async def test_a_tree_is_stopped_from_its_leaves_up() -> None:
    """Stopping a supervisor that is a child stops its children before the next sibling, in reverse order."""
    scene = Scene()

    async def branch(number: int) -> None:
        async with Supervisor() as sup:
            for name in "ab":
                scene.start(sup, f"{name}{number}", clean_up=0.5)

    with nothing_left():
        async with Supervisor() as sup:
            sup.start(branch, 1)
            sup.start(branch, 2)
            await asyncio.sleep(1)
            scene.words()
            await sup.stop()
    names = [word.split()[0] for word in scene.words()]
    assert names == ["b2", "b2", "a2", "a2", "b1", "b1", "a1", "a1"]


async def test_the_error_of_the_body_is_raised_unchanged() -> None:
    """The body's error is raised unchanged, without a group around it, after the children have been stopped."""
    scene = Scene()
    error = LookupError("of the body")
    with nothing_left(), pytest.raises(LookupError) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor() as sup:
            scene.start(sup, "a", clean_up=1)
            await asyncio.sleep(1)
            raise error
    assert caught.value is error
    assert error.__cause__ is error.__context__ is None
    assert scene.words() == ["a starts", "a is cancelled", "a has cleaned up"]


async def test_an_error_of_a_body_that_was_released_is_in_the_group() -> None:
    """An error that the body raises in its clean-up is not lost."""
    error = LookupError("of the body")
    with nothing_left(), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "it", fails(1))
            try:
                await asyncio.Event().wait()
            finally:
                raise error
    exceeded, other = caught.value.exceptions
    assert isinstance(exceeded, RestartsExceeded)
    assert other is error
    assert caught.value.__suppress_context__


async def test_a_body_that_swallows_the_cancellation_changes_nothing() -> None:
    """The group is raised at the end of the block."""
    with nothing_left(), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "it", fails(1))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
    assert reason(caught.value).child == "it"
    assert now() == 2


async def test_a_timeout_around_a_supervisor_is_a_timeout() -> None:
    """The timeout's cancellation stops the children and becomes a TimeoutError."""
    scene = Scene()
    with nothing_left(), pytest.raises(TimeoutError):  # noqa: PT012 - the whole block is what raises
        async with asyncio.timeout(2), Supervisor(backoff=[0]) as sup:
            scene.start(sup, "it", fails(1))
            await asyncio.Event().wait()
    assert scene.alive == []
    assert now() == 2


async def test_a_cancel_from_outside_takes_precedence() -> None:
    """A caller cancelled during escalation gets the CancelledError, with a note that names the supervisor's error."""
    scene = Scene()

    async def serve() -> None:
        async with Supervisor(max_restarts=0) as sup:
            scene.start(sup, "slow", clean_up=2)
            scene.start(sup, "it", fails(1))
            await asyncio.Event().wait()

    caller = asyncio.create_task(serve())
    await asyncio.sleep(2)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert (
        "supervisor had escalated: RestartsExceeded: max_restarts=0 within 60 s was exceeded"
        in caught.value.__notes__[0]
    )
    assert now() == 3


async def test_escalation_in_the_clean_up_of_a_cancelled_task() -> None:
    """A cancellation from before the block is not mistaken for one from outside during the escalation."""
    seen: list[tuple[type[BaseException], int]] = []

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                async with Supervisor(max_restarts=0) as sup:
                    Scene().start(sup, "it", fails(1))
                    await asyncio.Event().wait()
            except BaseException as error:
                seen.append((type(error), me().cancelling()))

    caller = asyncio.create_task(serve())
    await asyncio.sleep(1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert seen == [(ExceptionGroup, 1)]


async def test_a_supervisor_that_is_entered_outside_of_a_task() -> None:
    """A callback of the loop can enter one: escalation has no body to release, and raises where it is left."""
    sup = Supervisor(max_restarts=0)
    asyncio.get_running_loop().call_soon(enter, sup)
    await turns()
    Scene().start(sup, "it", fails(1))
    await asyncio.sleep(2)
    with nothing_left(), pytest.raises(ExceptionGroup) as caught:
        await sup.__aexit__(None, None, None)
    assert reason(caught.value).child == "it"


def enter(sup: Supervisor) -> None:
    """Enter a supervisor, which takes no turn of the loop."""
    with pytest.raises(StopIteration):
        sup.__aenter__().send(None)


async def test_a_timeout_that_expires_during_escalation() -> None:
    """An error is raised, the task does not stay cancelled, and the next await works."""
    with nothing_left():
        with pytest.raises((ExceptionGroup, TimeoutError)):  # noqa: PT012 - the whole block is what raises
            async with asyncio.timeout(2), Supervisor(max_restarts=0) as sup:
                Scene().start(sup, "slow", clean_up=2)
                Scene().start(sup, "it", fails(1))
                await asyncio.Event().wait()
        await asyncio.sleep(1)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_of_a_child_end_the_program(kind: Any) -> None:
    """They are not errors to restart after, as everywhere in asyncio; siblings clean up."""
    scene = Scene()
    starts: list[str] = []

    async def ends() -> None:
        starts.append("ends")
        await turns(2)
        raise kind

    async def serve() -> None:
        async with Supervisor(backoff=[0]) as sup:
            scene.start(sup, "a")
            sup.start(ends)
            await asyncio.Event().wait()

    with pytest.raises(kind):
        asyncio.run(serve())
    assert starts == ["ends"]
    assert scene.words() == ["a starts", "a is cancelled"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_are_raised_from_the_block(kind: Any) -> None:
    """If the event loop is run again, the supervisor stops its children and raises the same object."""
    loop = asyncio.new_event_loop()
    scene = Scene()
    error = kind()
    states: list[str] = []

    async def serve() -> None:
        async with Supervisor(backoff=[0]) as sup:
            scene.start(sup, "a")
            child = scene.start(sup, "it", fails(0, error))
            try:
                await asyncio.Event().wait()
            finally:
                states.append(child.state)

    task = loop.create_task(serve())
    try:
        with pytest.raises(kind):
            loop.run_forever()
        with pytest.raises(kind):
            loop.run_until_complete(task)
        assert task.exception() is error
        assert states == ["failed"]
    finally:
        loop.close()
    assert scene.words() == ["a starts", "it starts", "it ends", "a is cancelled"]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_system_exit_in_the_iteration_in_which_a_sibling_fails(strategy: Any) -> None:
    """It ends the restart of the group that the failure has begun."""
    loop = asyncio.new_event_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    scene = Scene()

    async def serve() -> None:
        async with Supervisor(strategy=strategy, backoff=[0]) as sup:
            scene.start(sup, "a")
            scene.start(sup, "it", fails())
            scene.start(sup, "b", fails(error=SystemExit(3)))
            await asyncio.Event().wait()

    task = loop.create_task(serve())
    try:
        with pytest.raises(SystemExit):
            loop.run_forever()
        with pytest.raises(SystemExit):
            loop.run_until_complete(task)
    finally:
        loop.close()
    assert errors == []
    assert scene.words() == ["a starts", "it starts", "it ends", "b starts", "b ends", "a is cancelled"]


async def test_ended_failed_and_stopped_children_raise_nothing() -> None:
    """Children that have ended, failed as temporary ones or were stopped do not escalate."""
    with nothing_left():
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "ended", returns(1), restart="transient")
            Scene().start(sup, "failed", fails(1), restart="temporary")
            Scene().start(sup, "stopped").stop()


async def test_escalation_does_not_cancel_a_caller_that_has_left_the_body() -> None:
    """It waits for the children already: nothing that looks at its task sees a request to cancel it."""
    caller, seen = me(), list[int]()

    async def sibling() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            seen.append(caller.cancelling())

    with nothing_left(), pytest.raises(ExceptionGroup):  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            sup.start(sibling)
            Scene().start(sup, "it", fails(1))
    assert seen == [0]


async def test_a_supervisor_that_is_left_by_another_task_than_it_was_entered() -> None:
    """As fixtures do: a cancellation of the task that leaves it takes precedence over the escalation."""
    sup = Supervisor(max_restarts=0)
    await asyncio.create_task(sup.__aenter__())
    Scene().start(sup, "slow", clean_up=3)
    Scene().start(sup, "it", fails(1))
    await asyncio.sleep(2)
    leaving = asyncio.create_task(sup.__aexit__(None, None, None))
    await asyncio.sleep(1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await leaving
    assert (
        "supervisor had escalated: RestartsExceeded: max_restarts=0 within 60 s was exceeded"
        in caught.value.__notes__[0]
    )
    assert now() == 4


async def test_a_supervisor_does_not_keep_the_error_that_it_has_raised() -> None:
    """Once the program has dropped the error, it is freed, with all that its traceback holds."""
    sup = Supervisor(max_restarts=0)
    raised: weakref.ref[BaseException] | None = None
    try:
        async with sup:
            Scene().start(sup, "it", fails(1))
    except ExceptionGroup as group:
        raised = weakref.ref(reason(group))
    await turns()
    gc.collect()
    assert raised is not None
    assert raised() is None


def test_a_program_that_ends_after_the_supervisor_gave_up_ends() -> None:
    """The error with which it gave up first is the one of the block, and the program's end is not lost."""
    caught: list[BaseException] = []

    async def leaves() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(3)

    async def fails_soon() -> None:
        await asyncio.sleep(0)
        raise ConnectionError

    async def serve() -> None:
        try:
            async with Supervisor(max_restarts=0) as sup:
                sup.start(leaves)
                sup.start(fails_soon)
        except BaseException as error:
            caught.append(error)
            raise

    with pytest.raises(SystemExit):
        asyncio.run(serve())
    assert [type(error) for error in caught] == [asyncio.CancelledError]
    assert "RestartsExceeded" in caught[0].__notes__[0]
