"""How the library creates tasks for user functions, and waits for them to end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any


def task_factory(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[Any]]:
    """Return a function that creates tasks: `loop.create_task`, unless the loop's factory starts tasks eagerly.

    An eager task runs user code before the function that creates it returns. An error raised there would hold the
    frames of that function, and with them the task itself. So such a factory is bypassed.
    """
    factory = loop.get_task_factory()
    if factory is None or factory is getattr(asyncio, "eager_task_factory", None):
        return partial(asyncio.Task, loop=loop)
    return loop.create_task


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None if there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def cancellation(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the CancelledError that ended a task, without the frame of this function."""
    error: BaseException | None = None
    try:
        task.result()
    except asyncio.CancelledError as raised:
        error = raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
    return error


async def wait_until_done(task: asyncio.Task[Any], end: Callable[[], None]) -> None:
    """Wait until a task is done, however often the caller is cancelled; call `end` at each cancel, to hurry the task.

    Raises:
        CancelledError: when the task is done, if the caller was cancelled: the first one that it received.

    """
    cancellation: asyncio.CancelledError | None = None
    while True:
        try:
            await asyncio.wait([task])
            break
        except asyncio.CancelledError as error:
            cancellation = cancellation or error
            end()
        except GeneratorExit:
            # The caller's coroutine is being closed, perhaps because its loop was closed before it was done.
            if not task.get_loop().is_closed():
                end()
            raise
    try:
        if cancellation is not None:
            raise cancellation
    finally:
        del cancellation
