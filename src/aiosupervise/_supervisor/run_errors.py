"""The error that ended a run of a child, in three forms: from its task, as its failure, and for a backoff function."""

from __future__ import annotations

import asyncio
import sys

from aiosupervise._call.tasks import cancellation
from aiosupervise._policy.raw import context_of, set_context

from .child_state import ChildState, is_exit


def error_of(task: asyncio.Task[object]) -> BaseException | None:
    """Return the error that ended the task of a child, including a CancelledError; None if it returned."""
    if not task.cancelled():
        return task.exception()
    # Reading the error of a cancelled task raises it. If the body's error is being handled at that moment, Python makes
    # it the context of the child's error, which would be wrong and would create a reference cycle.
    handled = sys.exception()
    error = cancellation(task)
    if error is not None and context_of(error) is handled:
        set_context(error, None)
    return error


def failure_of(child: ChildState, error: BaseException | None) -> BaseException:
    """Return the failure for which a child was stopped; its cause shows the line where the child was waiting."""
    if is_exit(error):
        return error
    assert child.failure is not None  # noqa: S101 - for the type checkers
    child.failure.__cause__ = error
    return child.failure


def as_failure(child: ChildState, error: BaseException | None) -> Exception:
    """Return the end of a run as an Exception, to be passed to a user's backoff function."""
    if issubclass(type(error), Exception):
        return error  # type: ignore[return-value]  # see `raw`
    if error is None:
        return RuntimeError(f"child {child.name} returned")
    return RuntimeError(f"child {child.name} raised CancelledError by itself")
