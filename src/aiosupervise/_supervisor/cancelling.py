"""Repeated cancellation of a child that does not stop, each time its grace has passed."""

from __future__ import annotations

from aiosupervise._events.log import CANCELLED_AGAIN

from .child_state import ChildState
from .stack import stack_of

LEAST_GRACE = 1.0  # seconds


def interval_of(child: ChildState) -> float:
    """Return the seconds between two cancellations of a child; a shorter interval would only interrupt its clean-up."""
    return max(child.spec.grace, LEAST_GRACE)


def cancel_again(child: ChildState, supervisor: str, seconds: float) -> None:
    """Cancel a child that has not ended, and log its name and its stack, which shows what it is waiting for.

    One cancellation may not be enough: asyncio's own server with an open connection needs three
    (https://github.com/python/cpython/issues/123720).
    """
    if child.task is None or child.task.done():
        return
    if CANCELLED_AGAIN.is_read():
        stack = stack_of(child.task)
        values = {"child": child.name, "supervisor": supervisor, "seconds": seconds, "stack": stack}
        CANCELLED_AGAIN.log(values)
    child.task.cancel()
