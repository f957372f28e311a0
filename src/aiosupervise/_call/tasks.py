"""How tasks of users' functions are made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any


def task_maker(loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.Task[Any]]:
    """Return what makes the tasks: the loop's own factory, unless it starts them eagerly.

    The error of a function that fails while its task is being made would hold the frames that make it, task included.
    """
    factory = loop.get_task_factory()
    if factory is None or factory is getattr(asyncio, "eager_task_factory", None):
        return partial(asyncio.Task, loop=loop)
    return loop.create_task


def cancellation(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the CancelledError that ended a task, without the frame of this function."""
    error: BaseException | None = None
    try:
        task.result()
    except asyncio.CancelledError as raised:
        error = raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
    return error


async def wait_until_done(task: asyncio.Task[Any], end: Callable[[], None]) -> None:
    """Wait until a task has ended, however often the caller is cancelled; `end` is called each time, to hurry it.

    Raises:
        CancelledError: when the task has ended, if the caller was cancelled: the first one.

    """
    cancellation: asyncio.CancelledError | None = None
    while True:
        try:
            await asyncio.wait([task])
            break
        except asyncio.CancelledError as error:
            cancellation = cancellation or error
            end()
        except GeneratorExit:  # the caller is thrown away, and with it maybe the loop
            if not task.get_loop().is_closed():
                end()
            raise
    try:
        if cancellation is not None:
            raise cancellation
    finally:
        del cancellation
