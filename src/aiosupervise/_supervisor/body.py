"""The body of the `async with` block: its cancellation by an escalation, and the choice of the error that is raised.

Three errors can meet at the end of the block: `error`, which the body raised; `cancellation`, a CancelledError from the
body or from the wait for the children; and `failure`, with which the supervisor escalates. The first of the following
rules that applies determines the error that is raised:

1. A cancellation from outside is raised unchanged. Whoever requested it (asyncio.timeout, an outer TaskGroup,
   asyncio.run) relies on receiving it. TaskGroup once had a bug that swallowed it
   (https://github.com/python/cpython/issues/116720). A note on the cancellation names the supervisor's error.
2. A KeyboardInterrupt or SystemExit of a child is raised without a group, as by asyncio.TaskGroup, to end the program.
3. The supervisor's error is raised in a group with the body's own error, because a body that is cancelled by an
   escalation may raise anything in its clean-up.
4. Otherwise the body's error propagates, because `__aexit__` returns None.
"""

from __future__ import annotations

import asyncio

from aiosupervise._policy.checks import error_text

from .child_state import is_exit


class Body:
    """The task that runs the body of a block, from the moment the block is entered.

    When the supervisor escalates, a body that is waiting for something else must be interrupted. The only way is to
    cancel its task, as asyncio.TaskGroup does. Every `cancel()` adds one to the task's count of cancellation requests;
    `uncancel()` withdraws one request and returns the number of requests that remain
    (https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel). Requests made before the block was
    entered are ignored, because a supervisor can be used in the clean-up of a task that has been cancelled
    (https://github.com/python/cpython/issues/102780).
    """

    __slots__ = ("_cancel_requested", "_cancelling_at_entry", "_is_running", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = asyncio.current_task()
        self._cancelling_at_entry = 0 if self._task is None else self._task.cancelling()
        self._cancel_requested = False
        self._is_running = True

    def leave(self) -> None:
        """Record that the body has ended, so that it is no longer cancelled."""
        self._is_running = False

    def cancel(self) -> None:
        """Cancel the task, if it is still running the body."""
        if self._is_running and self._task is not None and not self._task.done():
            self._cancel_requested = True
            self._task.cancel()

    def raise_errors(
        self,
        name: str,
        failure: BaseException | None,
        error: BaseException | None,
        cancellation: asyncio.CancelledError | None,
    ) -> None:
        """Raise the error with which the block of the supervisor `name` ends, unless it is the body's own."""
        # This call is not part of the condition below, because `cancel` must be undone whatever the body did with its
        # CancelledError (https://github.com/python/cpython/issues/95289).
        is_cancelled_from_outside = self._undo_cancel()
        # Break reference cycles: the task may be that of a child, whose frames hold its supervisor, and the traceback
        # of an error holds this frame.
        self._task = None
        try:
            if cancellation is not None and is_cancelled_from_outside:
                if failure is not None:
                    cancellation.add_note(f"{name} had escalated: {error_text(failure)}")
                if cancellation is not error:
                    raise cancellation
            elif is_exit(failure):
                raise failure
            elif failure is not None:
                errors = [failure] if error is None or error is cancellation else [failure, error]
                raise BaseExceptionGroup(f"{name} escalated", errors) from None
        finally:
            del failure, error, cancellation

    def _undo_cancel(self) -> bool:
        """Undo the effect of `cancel`, and return whether a CancelledError would come from other code."""
        if self._task is None or not self._cancel_requested:
            return True
        return self._task.uncancel() > self._cancelling_at_entry
