"""Creating tasks for user functions, and waiting for them to end."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")


def task_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[Any]]:
    """Return a function that creates tasks with the running loop's task factory, unless that factory is eager.

    An eager task runs user code before the function that creates it returns. An error raised there would hold the
    frames of that function, and with them the task itself, so an eager factory is bypassed. A factory with the old
    signature, `(loop, coroutine)`, accepts neither a name nor a context. If a factory raises, the coroutine is closed.
    """
    factory = loop.get_task_factory()
    if factory is None or factory is getattr(asyncio, "eager_task_factory", None):
        return asyncio.Task
    return partial(_create_task, loop, _takes_keywords(factory))


def _takes_keywords(factory: Callable[..., object]) -> bool:
    try:
        inspect.signature(factory).bind(None, None, name="", context=None)
    except (TypeError, ValueError):
        return False
    return True


def _create_task(
    loop: asyncio.AbstractEventLoop,
    takes_keywords: bool,  # noqa: FBT001 - of a partial
    coroutine: Coroutine[object, None, Any],
    *,
    name: str,
    context: Context,
) -> asyncio.Task[Any]:
    try:
        if takes_keywords:
            return loop.create_task(coroutine, name=name, context=context)
        # Without the keyword `context`, a task copies the current context.
        task = context.run(loop.create_task, coroutine)
        task.set_name(name)
    except BaseException:
        coroutine.close()
        raise
    return task


def named_task(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Create a task of the library itself, with the loop's own factory.

    Python 3.13.3, and Python 3.14 and later, pass the name on to the factory, but a factory with the old signature
    cannot accept it (https://github.com/python/cpython/issues/133745).
    """
    factory = loop.get_task_factory()
    if factory is None or _takes_keywords(factory):
        return loop.create_task(coroutine, name=name)
    task = loop.create_task(coroutine)
    task.set_name(name)
    return task


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return a function that reads the clock of a loop.

    For a loop with asyncio's own method `time`, the function is `time.monotonic`, which that method calls.
    """
    own = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
    return time.monotonic if own else loop.time


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop running in this thread, or None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_discarded(error: BaseException | None, loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a block is left because its coroutine is discarded outside its loop, where it cannot wait.

    A GeneratorExit alone does not show this: an async generator that is closed in its loop may wait for its clean-up.
    """
    return issubclass(type(error), GeneratorExit) and running_loop() is not loop


def cancellation(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the CancelledError that ended a task, without the frame of this function.

    The task then no longer refers to the error: see `without_traceback` for the reference cycle that this avoids.
    """
    error: BaseException | None = None
    try:
        task.result()
    except asyncio.CancelledError as raised:
        error = raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
    return error


def without_traceback(error: E) -> E:
    """Return an error that is about to be stored, without its traceback if it is a CancelledError.

    Since Python 3.14, a frame of `asyncio.wait` refers to the task that waits in it. If that task kept the
    CancelledError it received there, or an object kept both the task and that error, the task would be part of a
    reference cycle.
    """
    return error.with_traceback(None) if issubclass(type(error), asyncio.CancelledError) else error


async def wait_until_done(task: asyncio.Future[Any], end: Callable[[], None]) -> None:
    """Wait until a task or a future is done, however often the caller is cancelled; call `end` at each cancellation.

    A caller that is cancelled in every iteration of the event loop, as anyio's cancel scopes do, regains control in the
    iteration after the task has ended, possibly before the callbacks of the task. `asyncio.wait` suspends for two
    iterations even if everything is done, and would be cancelled each time, so it is called only while there is
    something to wait for.

    Raises:
        CancelledError: once the task is done, if the caller was cancelled; it is the first one that the caller
            received.
    """
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = cancellation or without_traceback(error)
            end()
        except GeneratorExit:
            # The caller's coroutine is being closed, perhaps because its loop was closed before the coroutine was done.
            if not task.get_loop().is_closed():
                end()
            raise
    try:
        if cancellation is not None:
            raise cancellation
    finally:
        del cancellation
