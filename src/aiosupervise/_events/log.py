"""The log: the events that an operator wants to read, as records of the logger `aiosupervise`.

Messages are constant, so that they can be searched and counted; the values are attributes of the record, under names
that begin with `aiosupervise_`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from aiosupervise._policy.checks import safe_repr

from .records import (
    AttemptFailed,
    ChildExited,
    ChildRestarted,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    GaveUp,
    RunFinished,
    RunPaused,
    WorkerLost,
)

LOGGED = (
    AttemptFailed,
    GaveUp,
    RunPaused,
    WorkerLost,
    RunFinished,
    ChildStarted,
    ChildExited,
    ChildRestarted,
    ChildStopped,
    Escalated,
)
LOGGER = logging.getLogger("aiosupervise")
_OURS: list[logging.Handler] = [logging.NullHandler()]  # nothing is printed until the user configures logging
LOGGER.addHandler(_OURS[0])

beside_bars: list[Callable[[], AbstractContextManager[None]]] = []
"""How to print without tearing a progress bar apart: one for each bar that is shown."""


def is_logged(level: int) -> bool:
    """Tell whether a record would reach a handler or a filter of the user's; to make one costs some microseconds."""
    if logging.root.handlers or LOGGER.handlers != _OURS or LOGGER.filters:
        return LOGGER.isEnabledFor(level)
    return False


def write(event: Event) -> None:  # noqa: C901 - one case for each event
    """Log an event, if it is one of those that are logged."""
    match event:
        case AttemptFailed(wait=float() | int() as wait):
            values = {**_of_call(event), "attempt": event.attempt, "wait": wait, "error": safe_repr(event.error)}
            _log(logging.WARNING, "a call failed and will be retried", values)
        case GaveUp():
            values = {**_of_call(event), "attempts": event.attempts, "elapsed": event.elapsed}
            values |= {"reason": event.reason.value, "error": safe_repr(event.error)}
            _log(logging.ERROR, "a call was given up", values)
        case RunPaused():
            _log(logging.WARNING, "a run pauses", {**_of_run(event), "seconds": event.seconds, "why": event.why})
        case WorkerLost():
            _log(logging.WARNING, "a worker was lost", {**_of_run(event), "worker": event.worker, "jobs": event.jobs})
        case RunFinished(tally=tally):
            counts = {name: getattr(tally, name) for name in ("total", "succeeded", "failed", "pending", "retries")}
            _log(logging.INFO, "a run has finished", {**_of_run(event), **counts, "elapsed": event.elapsed})
        case ChildStarted():
            _log(logging.INFO, "a child was started", _of_child(event))
        case ChildExited(error=error):
            _log(_level(error), "a child has exited", {**_of_child(event), "error": error and safe_repr(error)})
        case ChildRestarted(restarts=restarts):
            _log(logging.WARNING, "a child was restarted", {**_of_child(event), "restarts": restarts})
        case ChildStopped(error=error):
            _log(_level(error), "a child was stopped", {**_of_child(event), "error": error and safe_repr(error)})
        case Escalated(error=error):
            _log(logging.ERROR, "a supervisor gives up", {**_of_child(event), "error": safe_repr(error)})
        case _:
            pass


def _of_call(event: AttemptFailed | GaveUp) -> dict[str, object]:
    return {"call": event.name, "run": event.run, "job": event.job}


def _of_run(event: RunPaused | WorkerLost | RunFinished) -> dict[str, object]:
    return {"name": event.name, "run": event.run}


def _of_child(event: ChildStarted | ChildExited | ChildRestarted | ChildStopped | Escalated) -> dict[str, object]:
    return {"supervisor": event.name, "child": event.child}


def _level(error: BaseException | None) -> int:
    return logging.INFO if error is None else logging.WARNING


def _log(level: int, message: str, values: dict[str, object]) -> None:
    if not is_logged(level):
        return
    with ExitStack() as stack:
        for beside in beside_bars:
            stack.enter_context(beside())
        LOGGER.log(level, message, extra={f"aiosupervise_{name}": value for name, value in values.items()})
