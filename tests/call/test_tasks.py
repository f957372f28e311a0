"""The tasks that the library creates, and its behaviour when a block is left while its event loop runs, or later."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from aiosupervise import run_all
from aiosupervise._call.tasks import clock_of, without_traceback

pytestmark = pytest.mark.looptime


async def names_of_jobs(factory: Any) -> list[str]:
    """Return the names of two tasks under a task factory, as read by the jobs that run in them."""
    names: list[str] = []

    async def fetch() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        await run_all([fetch, fetch])
    finally:
        loop.set_task_factory(None)
    return names


async def test_tasks_of_a_factory_are_named() -> None:
    """A factory that accepts all keywords creates the task of a job with the name of the job."""
    names = await names_of_jobs(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
    assert names == ["fetch-0", "fetch-1"]


async def test_a_factory_that_accepts_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is passed to it, even if the loop would pass the name on, as in Python 3.14."""
    loop = asyncio.get_running_loop()

    def create_task(coroutine: Any, **options: Any) -> Any:
        factory: Any = loop.get_task_factory()
        return factory(loop, coroutine, **options)

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, *, context: Any = None) -> asyncio.Task[object]:
        return asyncio.Task(coroutine, loop=loop, context=context)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_task", create_task)
        names = await names_of_jobs(factory)
    assert names == ["fetch-0", "fetch-1"]


def test_the_clock_of_a_loop_that_is_not_written_in_python() -> None:
    """The `time` of such a loop is a builtin function, and is called."""
    loop: Any = SimpleNamespace(time=lambda: 42.0)
    assert clock_of(loop)() == 42.0


def test_a_cancellation_is_kept_without_its_traceback() -> None:
    """Its frames may refer to the task that keeps it; any other error keeps its traceback."""
    for error, is_kept in ((asyncio.CancelledError(), False), (LookupError(), True)):
        with pytest.raises(type(error)) as raised:
            raise error
        assert without_traceback(raised.value) is error
        assert (error.__traceback__ is not None) is is_kept


async def test_an_async_generator_that_is_closed_in_its_loop_waits_for_its_run() -> None:
    """As after a `break`, the jobs of a run in the generator have cleaned up when the generator is closed."""
    cleaned_up: list[float] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            cleaned_up.append(asyncio.get_running_loop().time())

    async def outcomes() -> AsyncIterator[object]:
        async with run_all([lambda: asyncio.sleep(5), hang], strategy="as_completed") as run:
            async for outcome in run:
                yield outcome

    generator: Any = outcomes()
    start = asyncio.get_running_loop().time()
    await anext(generator)
    await generator.aclose()
    assert [time - start for time in cleaned_up] == [6]
