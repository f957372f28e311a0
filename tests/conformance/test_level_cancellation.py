"""Level cancellation: a caller that is cancelled on every turn of the loop, by anyio or by hand, gets control back."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import anyio
import pytest

from aiosupervise import Supervisor, run_all
from aiosupervise._call.tasks import wait_until_done

Job: TypeAlias = Callable[[], Awaitable[None]]
MANY = 1000  # turns of the loop, more than anything here takes


class Jobs:
    """Jobs that run until they are cancelled, and then need some turns of the loop to clean up."""

    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0
        self.all_begun = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        if self.begun == 2:
            self.all_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.cleaned += 1


async def awaited(job: Job) -> None:
    """An awaited run."""
    await run_all([job, job])


async def streamed(job: Job) -> None:
    """A streamed run."""
    async with run_all([job, job]) as run:
        async for _ in run:
            pass


async def fed_asynchronously(job: Job) -> None:
    """A run whose source is waited for."""

    async def source() -> AsyncIterator[Job]:
        yield job
        yield job
        await asyncio.Event().wait()

    await run_all(source())


async def nested(job: Job) -> None:
    """A run in a job of a run."""
    await run_all([lambda: run_all([job, job])])


async def supervised(job: Job) -> None:
    """A supervisor."""
    async with Supervisor() as sup:
        sup.start(job)  # type: ignore[arg-type]
        sup.start(job)  # type: ignore[arg-type]


async def run_in_a_child(job: Job) -> None:
    """A run in a child of a supervisor."""

    async def child() -> None:
        await run_all([job, job])

    async with Supervisor() as sup:
        sup.start(child)


KINDS = [awaited, streamed, fed_asynchronously, nested, supervised, run_in_a_child]
every_kind = pytest.mark.parametrize("kind", KINDS)


async def finish(task: "asyncio.Task[None]", turn: Callable[[], object]) -> None:
    """Wait for a task, and do something on each turn of the loop."""
    for _ in range(MANY):
        if task.done():
            return
        turn()
        await asyncio.sleep(0)
    pytest.fail("control does not come back")


@every_kind
async def test_cancelled_in_a_loop_until_done(kind: Callable[[Job], Awaitable[None]]) -> None:
    """`while not task.done(): task.cancel()` ends when the jobs have cleaned up, and none of that is cut short."""
    job = Jobs()
    task = asyncio.ensure_future(kind(job))
    await job.all_begun.wait()
    before = asyncio.all_tasks()
    await finish(task, task.cancel)
    assert task.cancelled()
    assert job.cleaned == 2
    assert asyncio.all_tasks() <= before - {task}


@every_kind
async def test_a_cancel_scope_of_anyio(kind: Callable[[Job], Awaitable[None]]) -> None:
    """The scope ends as soon as the jobs have cleaned up, takes its cancels back, and the caller goes on."""
    job = Jobs()

    async def caller() -> None:
        with anyio.CancelScope() as scope:
            asyncio.ensure_future(job.all_begun.wait()).add_done_callback(lambda _: scope.cancel())
            await kind(job)
        assert scope.cancelled_caught
        assert job.cleaned == 2
        await asyncio.sleep(0)

    task = asyncio.ensure_future(caller())
    await finish(task, lambda: None)
    await task
    assert task.cancelling() == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_control_comes_back_on_the_turn_after_the_end() -> None:
    """A wait whose caller is cancelled on every turn ends on the turn after its task."""
    turn = 0
    turns: list[int] = []

    async def work() -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        turns.append(turn)

    async def caller() -> None:
        try:
            await wait_until_done(task, lambda: None)
        finally:
            turns.append(turn)

    def cancel() -> None:
        nonlocal turn
        turn += 1
        waiting.cancel()

    task = asyncio.ensure_future(work())
    waiting = asyncio.ensure_future(caller())
    await asyncio.sleep(0)
    await finish(waiting, cancel)
    end, back = turns
    assert back - end <= 1
    assert waiting.cancelled()


async def test_a_kept_cancel_holds_no_frame_of_the_wait() -> None:
    """Since Python 3.14 the frame of asyncio.wait holds the waiting task, which may hold the error: a cycle."""
    caught: list[asyncio.CancelledError] = []

    async def caller() -> None:
        try:
            await run_all([asyncio.Event().wait()])
        except asyncio.CancelledError as error:
            caught.append(error)
            raise

    task = asyncio.ensure_future(caller())
    await asyncio.sleep(0)
    task.cancel("the first")
    await asyncio.wait([task])
    assert caught[0].args == ("the first",)
    frames = traceback.walk_tb(caught[0].__traceback__)
    assert asyncio.wait.__code__ not in [frame.f_code for frame, _ in frames]
