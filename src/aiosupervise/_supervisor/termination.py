"""Terminating a child: cancel its task, wait for its clean-up, and cancel it again when its grace is over."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

from aiosupervise._call.tasks import cancellation

from .child_state import ChildState


async def terminate(
    child: ChildState, task: asyncio.Task[object], *, is_cancelled: bool, on_cancel: Callable[[], None]
) -> BaseException | None:
    """Cancel the task of a child, wait until it has ended, and return the error that it raised, if any.

    Args:
        child: for its grace, and its name in the warning.
        task: its task.
        is_cancelled: whether the task has been cancelled by somebody else already; then it is not cancelled again
            before its grace is over.
        on_cancel: called whenever the caller is cancelled, which then continues to wait.

    """
    if not is_cancelled:
        task.cancel()
    await _wait(task, child.grace, on_cancel)
    if not task.done():
        # Issued by the loop, not here: where warnings are errors, the warning must not end the wait.
        asyncio.get_running_loop().call_soon(_warn, child)
        task.cancel()
        await _wait(task, None, on_cancel)
    if task.cancelled():
        cancellation(task)  # which the task would keep
        return None
    return task.exception()


async def _wait(task: asyncio.Task[object], seconds: float | None, on_cancel: Callable[[], None]) -> None:
    """Wait until a task has ended, for at most this many seconds, None for no limit, also when cancelled."""
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    while not task.done():
        remaining = None if deadline is None else max(deadline - loop.time(), 0)
        try:
            # With a timeout of 0, too, asyncio.wait gives the task a turn of the loop, in which it can end.
            await asyncio.wait([task], timeout=remaining)
        except asyncio.CancelledError:
            on_cancel()
        if remaining == 0:
            return


def _warn(child: ChildState) -> None:
    message = f"child {child.name} is still running {child.grace:g} s after it was cancelled, and is cancelled again"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
