"""The log: which events are logged, on which logger, at which level and with which template.

Templates are constant, so that `record.msg` groups the records of one kind. The values are the record's arguments, and
also attributes of the record with names that begin with `aiosupervise_`.

Only the logger of calls has a NullHandler. Retries are routine, and a library should not print them until the program
configures logging. A run that pauses and a child that crashes are reported in any program: without handlers,
`logging.lastResort` prints warnings to stderr.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from logging import ERROR, INFO, WARNING

from aiosupervise._policy.checks import error_text, line_of
from aiosupervise._policy.raw import traceback_of
from aiosupervise._policy.verdict import Reason

from .outcomes import Stopped, Tally
from .records import (
    AttemptFailed,
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    GaveUp,
    GroupPaused,
    GroupResumed,
    GroupStopped,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStopped,
    WorkerLost,
)

CALLS = logging.getLogger("aiosupervise.call")
RUNS = logging.getLogger("aiosupervise.run")
SUPERVISORS = logging.getLogger("aiosupervise.supervisor")
_OURS: list[logging.Handler] = [logging.NullHandler()]
CALLS.addHandler(_OURS[0])
_PACKAGE = logging.getLogger("aiosupervise")

beside_bars: list[Callable[[], AbstractContextManager[None]]] = []
"""For each visible progress bar, a context manager in which a line can be printed without disrupting the bar."""


class LogLine:
    """The logger, level and template with which the events of one kind are logged.

    Args:
        logger: the logger that receives the record.
        level: the level of the record.
        template: the message, as a %-format with the names of values (see `_values_of`); `in_job`, the job in which the
            call was made; and `retry_word`, which is "retry" or "retries".
        otherwise: the line for an event in which the decisive field is None, such as the end of a child without an
            error; None if such an event is not logged.
        decisive: the position of that field, by default the last one.
        traceback: whether the record has the traceback of the event's error.
    """

    __slots__ = ("decisive", "level", "logger", "otherwise", "template", "traceback")

    def __init__(
        self,
        logger: logging.Logger,
        level: int,
        template: str,
        otherwise: LogLine | None = None,
        *,
        decisive: int = -1,
        traceback: bool = False,
    ) -> None:
        self.logger = logger
        self.level = level
        self.template = template
        self.otherwise = otherwise
        self.decisive = decisive
        self.traceback = traceback

    def is_read(self) -> bool:
        """Return whether a record of this line would be read."""
        return is_logged(self.logger, self.level)

    def write(self, event: Event) -> None:
        """Log an event, above the progress bars."""
        self.log(_values_of(event), getattr(event, "error", None) if self.traceback else None)

    def log(self, values: dict[str, object], error: BaseException | None = None) -> None:
        """Log these values, and the traceback of an error, above the progress bars."""
        extra = {f"aiosupervise_{name}": value for name, value in values.items()}
        job = values.get("job")
        in_group = f", group {values['group']}" if "group" in values else ""
        values["in_job"] = "" if job is None else f" (job {job}{in_group})"
        values["retry_word"] = "retry" if values.get("retries") == 1 else "retries"
        with ExitStack() as stack:
            for beside in beside_bars:
                stack.enter_context(beside())
            # Given only the error, `logging` would read its `__traceback__`, which its class may override.
            exc_info = None if error is None else (type(error), error, traceback_of(error))
            self.logger.log(self.level, self.template, values, exc_info=exc_info, extra=extra)


_FINISHED = (
    "run %(name)s finished in %(elapsed).2f s: %(succeeded)d succeeded, %(failed)d failed, %(pending)d pending,"
    " %(retries)d %(retry_word)s"
)

# An event that is not in this table is not logged.
LINES: dict[Callable[..., Event], LogLine] = {
    AttemptFailed: LogLine(
        CALLS,
        WARNING,
        "%(call)s%(in_job)s failed in attempt %(attempt)d and is retried in %(wait).2f s: %(error)s",
        decisive=AttemptFailed.__match_args__.index("wait"),
    ),
    GaveUp: LogLine(
        CALLS,
        ERROR,
        "%(call)s%(in_job)s gave up in attempt %(attempts)d, %(elapsed).2f s after the first failure (%(reason)s):"
        " %(error)s",
    ),
    RunPaused: LogLine(RUNS, WARNING, "run %(name)s pauses for %(seconds).1f s: %(why)s"),
    RunResumed: LogLine(RUNS, INFO, "run %(name)s resumes"),
    GroupPaused: LogLine(RUNS, WARNING, "group %(group)s of run %(name)s pauses for %(seconds).1f s: %(why)s"),
    # The last field of these events is the group, which may be None, so the first one, the number of the run, is
    # decisive.
    GroupResumed: LogLine(RUNS, INFO, "group %(group)s of run %(name)s resumes", decisive=0),
    GroupStopped: LogLine(
        RUNS,
        WARNING,
        "group %(group)s of run %(name)s starts no further jobs: too many probes failed; "
        "the other groups continue; run the pending inputs again when the cause is fixed",
        decisive=0,
    ),
    RunStopped: LogLine(
        RUNS,
        WARNING,
        "run %(name)s starts no further jobs: %(why)s; so far %(succeeded)d succeeded, %(failed)d failed; "
        "run the pending inputs again when the cause is fixed",
    ),
    WorkerLost: LogLine(
        RUNS, WARNING, "run %(name)s lost worker %(worker)s; unfinished jobs that start again elsewhere: %(jobs)d"
    ),
    RunFinished: LogLine(
        RUNS,
        INFO,
        f"{_FINISHED}; %(replayed)d of %(outcomes)d from the journal",
        otherwise=LogLine(RUNS, INFO, _FINISHED),
    ),
    ChildStarted: LogLine(SUPERVISORS, INFO, "child %(child)s of %(supervisor)s started"),
    ChildExited: LogLine(
        SUPERVISORS,
        ERROR,
        "child %(child)s of %(supervisor)s has failed: %(error)s",
        otherwise=LogLine(SUPERVISORS, INFO, "child %(child)s of %(supervisor)s returned"),
        traceback=True,
    ),
    ChildReady: LogLine(SUPERVISORS, INFO, "child %(child)s of %(supervisor)s is ready"),
    ChildStalled: LogLine(
        SUPERVISORS,
        WARNING,
        "child %(child)s of %(supervisor)s has stalled: it has not called alive() for %(seconds)g s, and is cancelled",
    ),
    ChildRestarted: LogLine(
        SUPERVISORS, WARNING, "child %(child)s of %(supervisor)s restarted; its restarts so far: %(restarts)d"
    ),
    ChildStopped: LogLine(
        SUPERVISORS,
        WARNING,
        "child %(child)s of %(supervisor)s stopped, and its clean-up failed: %(error)s",
        otherwise=LogLine(SUPERVISORS, INFO, "child %(child)s of %(supervisor)s stopped"),
        traceback=True,
    ),
    Escalated: LogLine(SUPERVISORS, ERROR, "%(supervisor)s gives up and stops its children: %(error)s"),
}


# Lines that belong to no event, or that replace the line of an event.
RETURNED = LogLine(SUPERVISORS, WARNING, "child %(child)s of %(supervisor)s returned, although it is permanent")
FAILED_AGAIN = LogLine(
    SUPERVISORS,
    ERROR,
    "child %(child)s of %(supervisor)s has failed in the same way again: %(error)s;"
    " such failures of all children since the last report: %(count)d",
)
CANCELLED_AGAIN = LogLine(
    SUPERVISORS,
    WARNING,
    "child %(child)s of %(supervisor)s is still running %(seconds).1f s after it was cancelled, and is cancelled again;"
    " it waits at\n%(stack)s",
)
NAME_WITHOUT_RESULTS = LogLine(
    RUNS,
    WARNING,
    "run %(name)s has no results in the journal %(journal)s, which has results of %(others)s: if the function was"
    " renamed, pass its previous name as name=",
)


def line_for(kind: Callable[..., Event], values: tuple[object, ...]) -> LogLine | None:
    """Return the line for an event with these values; None if it is not logged, or nobody would read the record."""
    line = LINES.get(kind)
    if line is not None and values[line.decisive] is None:
        line = line.otherwise
    return line if line is not None and is_logged(line.logger, line.level) else None


def is_logged(logger: logging.Logger, level: int) -> bool:
    """Return whether a record would reach a handler or a filter.

    A record that would not reach one is not created, which saves some microseconds. The rules are those of
    `logging.Logger.callHandlers`, except that a NullHandler does not count as a reader. As in `callHandlers`, a
    NullHandler keeps `lastResort` from printing.
    """
    # A fast path for failed attempts: usually logging is not configured, and ours is the only handler.
    is_configured = _PACKAGE.handlers or logging.root.handlers or CALLS.filters
    if logger is CALLS and CALLS.handlers == _OURS and not is_configured:
        return False
    if not logger.isEnabledFor(level):
        return False
    if logger.filters:
        return True
    has_handlers = False
    ancestor: logging.Logger | None = logger
    while ancestor is not None:
        for handler in ancestor.handlers:
            if level >= handler.level and type(handler) is not logging.NullHandler:
                return True
            has_handlers = True
        ancestor = ancestor.parent if ancestor.propagate else None
    return not has_handlers and logging.lastResort is not None and level >= logging.lastResort.level


def _values_of(event: Event) -> dict[str, object]:
    """Return the values of an event by name, formatted for the log."""
    values: dict[str, object] = {}
    scope = event.__match_args__[0]
    for name in event.__match_args__:
        value = getattr(event, name)
        if type(value) is Tally:
            values |= {count: getattr(value, count) for count in ("total", "succeeded", "failed", "pending", "retries")}
            values["outcomes"] = value.succeeded + value.failed + value.pending
        elif issubclass(type(value), BaseException):
            values[name] = error_text(value)
        elif name == "group":
            # For a call, None means that it has no group; for a run, None may be a group.
            if value is not None or scope == "run":
                values[name] = line_of(value)
        else:
            values[name] = value.value if isinstance(value, (Reason, Stopped)) else value
    # Readers of the log do not know the numbers of calls and supervisors, so the log shows their names instead. The
    # records of a run have its name, and the records of the calls in the run have its number.
    if scope != "run":
        values[scope] = values.pop("name")
    return values
