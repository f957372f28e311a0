"""Waiting for a child to become ready, end, stop or restart, and the errors raised if that will not happen."""

from __future__ import annotations

import asyncio

from .child_state import ChildState, Purpose
from .completion import Completion

SUPERVISOR_STOPPED = "its supervisor has stopped"


async def wait_ready(child: ChildState, *, is_stopping: bool) -> None:
    """Wait until a child is ready, or raise an error that says why it will not become ready."""
    if child.state == "running":
        await asyncio.sleep(0)
        return
    if is_stopping or not child.is_alive or child.purpose is Purpose.STOP:
        raise not_ready(child)
    completion = child.ready_completion = child.ready_completion or Completion()
    await completion


async def wait_for_end(child: ChildState) -> object:
    """Wait until a child has ended and will not be restarted; return the value of its last run, or raise its error."""
    await asyncio.sleep(0)
    while child.is_alive:
        completion = child.end_completion = child.end_completion or Completion()
        await completion
    error = child.error
    try:
        if error is not None:
            raise wrapped(child, error)
    finally:
        # The traceback of the error holds this frame.
        del error
    return child.value


def not_ready(child: ChildState) -> BaseException:
    """Return the reason why a child will not become ready: the error of its last run, if that run failed."""
    if child.error is not None:
        return wrapped(child, child.error)
    if child.state == "starting":
        return RuntimeError(f"child {child.name} is not ready, and its supervisor is stopping")
    how = "returned before it was ready" if child.state in ("ended", "waiting") else f"is {child.state}"
    return RuntimeError(f"child {child.name} {how}")


def wrapped(child: ChildState, error: BaseException) -> BaseException:
    """Return the error of a child for the tasks that wait for it; wrap a CancelledError, which would cancel them."""
    if not issubclass(type(error), asyncio.CancelledError):
        return error
    failure = RuntimeError(f"child {child.name} raised CancelledError by itself")
    failure.__cause__ = error
    return failure


def complete_end(child: ChildState) -> None:
    """Wake the tasks that wait for the end of a run, and those that wait for the child if it will not be restarted."""
    if child.stop_completion is not None:
        child.stop_completion.resolve()
        child.stop_completion = None
    if child.is_alive:
        return
    if child.end_completion is not None:
        child.end_completion.resolve()
        child.end_completion = None
    reject_readiness(child)


def reject_readiness(child: ChildState) -> None:
    """Wake the tasks that wait until a child is ready, with the reason why it will not become ready."""
    if child.ready_completion is not None:
        child.ready_completion.reject(not_ready(child))
        child.ready_completion = None


def reject_restart(child: ChildState, reason: str) -> None:
    """Wake the tasks that wait for a restart of a child, with the reason why it will not be restarted."""
    if child.restart_completion is not None:
        child.restart_completion.reject(cannot_restart(child, reason))
        child.restart_completion = None


def cannot_restart(child: ChildState, reason: str) -> RuntimeError:
    """Return the error for a restart command that cannot be carried out."""
    return RuntimeError(f"child {child.name} cannot be restarted: {reason}")
