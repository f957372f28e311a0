"""Early ends: results that were there, tasks in hand, user code that raises, and task factories that do."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import CoroutineType
from typing import Any, NoReturn

import pytest

from aiosupervise import Adaptive, Failure, Overload, Pending, Stopped, Success, Supervisor, map_all, run_all
from aiosupervise._batch.strategies import ReturnWhen

Job = Callable[[], Awaitable[object]]
each_end = pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION"])


# Results that were there


@pytest.mark.looptime(start=0)
async def test_answers_that_arrived_while_the_loop_was_blocked() -> None:
    """A timeout that fires in the same turn as ten answers makes none of them pending, as asyncio.wait would not."""
    answers = [asyncio.get_running_loop().create_future() for _ in range(10)]

    async def job(index: int) -> int:
        result: int = await answers[index]
        return result

    def arrive() -> None:
        for index, answer in enumerate(answers):
            answer.set_result(index)

    asyncio.get_running_loop().call_later(1, arrive)
    report = await map_all(job, range(10), timeout=1)
    assert report.values() == list(range(10))
    assert report.stopped is None


async def test_answers_through_a_socket_while_the_loop_was_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for real answers, which wait in the kernel while something blocks the loop past the timeout."""
    pairs = [socket.socketpair() for _ in range(10)]
    streams = [await asyncio.open_connection(sock=mine) for mine, _ in pairs]
    loop = asyncio.get_running_loop()
    real_time, blocked = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real_time() + blocked)

    async def job(index: int) -> bytes:
        if index == 9:
            loop.call_soon(block)
        return await streams[index][0].read(1)

    def block() -> None:
        nonlocal blocked
        blocked = 60.0
        for index, (_, theirs) in enumerate(pairs):
            theirs.send(b"%d" % index)

    report = await map_all(job, range(10), timeout=60, strategy="wait")
    for (_, writer), (_, theirs) in zip(streams, pairs, strict=True):
        writer.close()
        await writer.wait_closed()
        theirs.close()
    assert sorted(report.values()) == [b"%d" % index for index in range(10)]


@pytest.mark.looptime
@pytest.mark.parametrize("seconds", [1, 1.5])
async def test_jobs_that_end_at_the_moment_of_the_timeout(seconds: float) -> None:
    """CPython's test_wait_concurrent_complete: a job that takes as long as the timeout is done, a longer one is not."""
    tasks = [asyncio.ensure_future(asyncio.sleep(delay)) for delay in (1, 2)]
    await asyncio.sleep(0)  # their timers come before that of the wait, or it would call the first one pending
    done, _ = await asyncio.wait(tasks, timeout=1)
    assert done == {tasks[0]}
    report = await run_all([asyncio.sleep(seconds), asyncio.sleep(2)], timeout=seconds)
    assert [type(outcome) for outcome in report] == [Success, Pending]


@each_end
@pytest.mark.parametrize("turns", [0, 1])
async def test_jobs_that_end_in_the_turn_of_the_first(when: ReturnWhen, turns: int) -> None:
    """Beside asyncio.wait: a job that ends in the same turn, or in the one in which the wait wakes, is done."""

    async def work(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
        if count == 1:
            raise OSError

    counts = [1, 1 + turns, 100]
    tasks = [asyncio.ensure_future(work(count)) for count in counts]
    done, pending = await asyncio.wait(tasks, return_when=when)
    assert done == set(tasks[:2])
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    report = await map_all(work, counts, strategy="wait", return_when=when)
    second = Failure if turns == 0 else Success
    assert [type(outcome) for outcome in report] == [Failure, second, Pending]


@pytest.mark.parametrize("kind", ["future", "task"])
async def test_a_future_that_is_done_when_the_run_ends(kind: str) -> None:
    """A future or task as a job has its result, though the task that awaits it has not seen that yet."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    job: asyncio.Future[object] = future
    if kind == "task":
        job = asyncio.ensure_future(_wait_for(future))

    run = run_all([job, asyncio.Event().wait()])
    caller = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    future.set_result("there")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert [type(outcome) for outcome in run.report] == [Success, Pending]


async def _wait_for(future: Awaitable[object]) -> object:
    return await future


async def test_a_pending_future_is_cancelled_with_the_run() -> None:
    """A future that was given as a job is cancelled as gather cancels it, begun or not."""
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
    report = await run_all(futures, timeout=0.01)
    assert [type(outcome) for outcome in report] == [Pending, Pending]
    assert all(future.cancelled() for future in futures)


async def test_a_task_that_is_an_input_is_left_alone() -> None:
    """An input of map_all belongs to the user: the end of the run cancels the call, not a task that it works on."""
    task = asyncio.ensure_future(asyncio.sleep(0.05, "mine"))

    async def watch(_: object) -> None:
        await asyncio.Event().wait()

    report = await map_all(watch, [task, task], timeout=0.01, limit=1)
    assert [(pending.started, pending.input) for pending in report.pending] == [(True, task), (False, task)]
    assert await task == "mine"


# A task in hand


@pytest.mark.looptime
async def test_a_task_that_was_pulled_before_the_end_and_started_after_it() -> None:
    """It waited for a slot of an adaptive limit that shrank; the timeout cancels it as any other job."""
    ended: list[float] = []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(loop.time())

    async def throttled() -> None:
        await asyncio.sleep(1)
        raise TimeoutError

    async def source() -> AsyncIterator[Any]:
        yield throttled
        yield asyncio.sleep(100)
        await asyncio.sleep(2)  # the limit is 1 by then, and one job runs
        yield asyncio.ensure_future(work())
        await asyncio.sleep(100)

    start = loop.time()
    report = await run_all(source(), limit=Adaptive(start=3, maximum=3), timeout=5)
    assert report.elapsed == 5
    assert [type(outcome) for outcome in report] == [Failure, Pending, Pending]
    assert ended == [start + 5]


@pytest.mark.looptime
@pytest.mark.parametrize("made", ["before", "after"])
async def test_a_task_that_a_source_yields_when_it_is_interrupted(made: str) -> None:
    """A source may answer the end of the run with one more task, which is cancelled too."""

    async def source() -> AsyncIterator[Any]:
        task = asyncio.ensure_future(asyncio.sleep(100)) if made == "before" else None
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        yield task or asyncio.ensure_future(asyncio.sleep(100))

    run = run_all(source(), timeout=5)
    report = await run
    assert report.elapsed == 6
    assert [(type(outcome), outcome.index) for outcome in report] == [(Pending, 0)]


# User code that raises


class Unbound:
    """A context-local proxy outside of its context: whatever is asked of it raises."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("working outside of the context")

    def __call__(self) -> NoReturn:
        raise AssertionError

    def __repr__(self) -> NoReturn:
        raise RuntimeError("working outside of the context")


@pytest.mark.looptime
@pytest.mark.parametrize("mapped", [False, True])
async def test_a_held_proxy_does_not_keep_jobs_running(*, mapped: bool) -> None:
    """The jobs that run are cancelled, and every item has its outcome."""
    proxy: Any = Unbound()

    async def work(_: object = None) -> None:
        await asyncio.Event().wait()

    items: list[Any] = [work, proxy, work]
    run = map_all(work, items, limit=1, timeout=0.01) if mapped else run_all(items, limit=1, timeout=0.01)
    report = await run
    assert [outcome.index for outcome in report.pending] == [0, 1, 2]
    assert [outcome.started for outcome in report.pending] == [True, False, False]


@pytest.mark.looptime
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_coroutine_that_cannot_be_closed(*, streamed: bool) -> None:
    """The jobs that run are cancelled, each item has its outcome, and the error is raised in the end."""
    cleaned: list[bool] = []

    class Awaited:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def half_run() -> None:
        try:
            await Awaited()
        finally:
            raise OSError("cannot close")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    begun = half_run()
    begun.send(None)
    run = run_all([work(), begun, work()], limit=1, timeout=0.01)
    with pytest.raises(OSError, match="cannot close"):
        await (_read(run) if streamed else run)
    assert [type(outcome) for outcome in run.report] == ([] if streamed else [Pending] * 3)
    assert run.tally.pending == 3
    assert cleaned == [True]


async def _read(run: Any) -> None:
    async with run:
        async for _ in run:
            pass


async def test_a_future_that_cannot_be_cancelled() -> None:
    """A job that awaits one goes on, all others are cancelled, and the error is raised."""

    class Stubborn(asyncio.Future[None]):
        def cancel(self, msg: object = None) -> NoReturn:  # noqa: ARG002 - as the original
            raise OSError("cannot cancel")

    stubborn = Stubborn()
    cancelled: list[int] = []

    async def work(index: int) -> None:
        if index == 0:
            await stubborn
            return
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(index)
            if len(cancelled) == 2:
                stubborn.set_result(None)

    run = map_all(work, range(3), timeout=0.01)
    with pytest.raises(OSError, match="cannot cancel"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Pending, Pending]


async def test_a_proxy_of_a_coroutine_that_is_lost_while_it_runs() -> None:
    """If it cannot be asked whether it has begun, or be thrown an error, the others are cancelled all the same."""
    lost: list[str] = []

    class Proxy:
        def __init__(self, coroutine: Coroutine[Any, Any, object]) -> None:
            self._coroutine = coroutine

        def __getattribute__(self, name: str) -> Any:
            return CoroutineType if name == "__class__" else super().__getattribute__(name)

        def __getattr__(self, name: str) -> Any:
            if lost:
                raise RuntimeError("working outside of the context")
            return getattr(self._coroutine, name)

    coroutine = asyncio.sleep(60)
    proxy: Any = Proxy(coroutine)
    asyncio.get_running_loop().call_later(0.005, lost.append, "now")
    report = await run_all([proxy, asyncio.Event().wait()], timeout=0.01)
    assert [type(outcome) for outcome in report] == [Failure, Pending]
    coroutine.close()


async def test_a_job_without_a_name_that_raises() -> None:
    """Its own error is its Failure, although the note on it cannot name the job."""

    class Nameless:
        @property
        def __name__(self) -> str:
            raise OSError("no name")

        def __call__(self) -> NoReturn:
            raise ValueError("mine")

    (failure,) = (await run_all([Nameless()])).failed
    assert isinstance(failure.error, ValueError)
    assert "raised by calling job 0, Nameless" in failure.error.__notes__[0]


@each_end
async def test_an_error_that_lies_about_its_class(when: ReturnWhen) -> None:
    """An error whose `__class__` raises is a Failure as any other, and ends the run."""

    class LiarError(Exception):
        def __getattribute__(self, name: str) -> object:
            if name == "__class__":
                raise RuntimeError("no class")
            return super().__getattribute__(name)

    async def fail() -> None:
        raise LiarError

    jobs: list[Coroutine[Any, Any, object]] = [fail(), asyncio.Event().wait()]
    report = await run_all(jobs, strategy="wait", return_when=when, limit=Adaptive(start=2), overload=None)
    assert [type(outcome) for outcome in report] == [Failure, Pending]


# Task factories


@contextmanager
def task_factory(factory: Any) -> Iterator[None]:
    """Create tasks with this factory in the meantime."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(None)


def pass_on(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loop pass the name of a task on to its factory, as Python 3.14 does."""

    def create_task(coroutine: Any, **options: Any) -> Any:
        factory: Any = loop.get_task_factory()
        return asyncio.Task(coroutine, loop=loop, **options) if factory is None else factory(loop, coroutine, **options)

    monkeypatch.setattr(loop, "create_task", create_task)


@pytest.mark.parametrize("is_passed_on", [False, True], ids=["its own way", "as Python 3.14"])
async def test_a_task_factory_of_the_old_form(monkeypatch: pytest.MonkeyPatch, *, is_passed_on: bool) -> None:
    """`(loop, coroutine)` makes tasks with a name and a context of their own, too."""
    names: list[str] = []
    if is_passed_on:
        pass_on(asyncio.get_running_loop(), monkeypatch)

    async def work(index: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        names.append(task.get_name())
        names.extend({task.get_name() for task in asyncio.all_tasks()} & {"work pump", "web control loop"})
        return index

    with task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop)):
        report = await map_all(work, range(2), limit=1)
        assert report.values() == [0, 1]
        async with Supervisor(name="web") as sup:
            sup.start(work, 2, restart="temporary")
    assert names == ["work-0", "work pump", "work-1", "work pump", "work-0", "web control loop"]


async def test_a_task_factory_that_accepts_no_context() -> None:
    """It is called like one of the old form."""

    async def work(index: int) -> int:
        return index

    with task_factory(lambda loop, coroutine, name=None: asyncio.Task(coroutine, loop=loop, name=name)):
        report = await map_all(work, range(2))
    assert report.values() == [0, 1]


@pytest.mark.parametrize("held", [True, False])
async def test_a_task_factory_that_raises(*, held: bool) -> None:
    """Its error is raised when the running jobs have finished, and the job that it was for is pending."""

    async def work() -> None:
        await asyncio.sleep(0)

    made = 0

    def counted(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[object]":
        nonlocal made
        made += coroutine.__name__ == "work"
        if made == 2:
            raise OSError("no task")
        return asyncio.Task(coroutine, loop=loop, **options)

    jobs = [work() for _ in range(3)]
    run = run_all(jobs if held else iter(jobs), overload=Overload() if held else None)
    with task_factory(counted), pytest.raises(OSError, match="no task"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Pending] + [Pending] * held
    assert run.report.stopped is None
    jobs[2].close()


async def test_a_timeout_before_all_has_begun_is_told() -> None:
    """A run that its timeout has cut says so, also when every job that was started has ended."""

    async def source() -> AsyncIterator[Job]:
        yield lambda: asyncio.sleep(0)
        await asyncio.Event().wait()

    report = await run_all(source(), timeout=0.01)
    assert [type(outcome) for outcome in report] == [Success]
    assert report.stopped is Stopped.TIMEOUT


async def test_a_pump_that_is_cancelled_before_its_first_step() -> None:
    """A loop that shuts down cancels every task: the run ends, and its jobs are pending."""
    run = run_all([asyncio.Event().wait for _ in range(2)])
    caller = asyncio.ensure_future(_await(run))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert [type(outcome) for outcome in run.report] == [Pending] * 2


async def _await(run: Any) -> None:
    await run


async def test_a_job_that_cannot_be_closed_when_its_task_was_cancelled_before_its_first_step() -> None:
    """It is pending, and its error is raised in the end."""

    class Stuck(Coroutine[Any, Any, None]):
        def send(self, _: object) -> None:
            raise StopIteration

        def throw(self, *_: object) -> None:
            raise StopIteration

        def close(self) -> None:
            raise OSError("cannot close")

        def __await__(self) -> Generator[None, None, None]:
            yield

    run = run_all([Stuck()])
    with pytest.raises(OSError, match="cannot close"):
        async with run:
            await asyncio.sleep(0)
    assert run.tally.pending == 1
