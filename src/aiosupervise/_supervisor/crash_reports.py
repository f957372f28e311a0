"""Crash reports: the first failure of a kind is logged in full, and repetitions are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextvars import Context

from aiosupervise._events.log import FAILED_AGAIN, RETURNED
from aiosupervise._policy.checks import error_text
from aiosupervise._policy.raw import cause_of, traceback_of

# The maximum number of kinds that are remembered.
_MOST_KINDS = 100
_FIRST_WAIT = 1.0  # seconds


class _FailureKind:
    """Failures of one kind: the time of the full report, and the number of failures since the last log message."""

    __slots__ = ("child", "count", "error", "reported_at", "timer", "wait")

    def __init__(self, reported_at: float) -> None:
        self.reported_at = reported_at
        self.count = 0
        # The child and the error of the first failure that is counted.
        self.child: str
        self.error: str
        self.wait = _FIRST_WAIT
        self.timer: asyncio.TimerHandle | None = None


class CrashReports:
    """Decides which failures of the children of one supervisor are logged in full.

    A report with its traceback takes about 0.3 ms, and ten thousand children may fail for the same reason if a
    dependency is down. Therefore only the first failure of a kind is logged in full. Further failures within `within`
    seconds are counted, and the count is logged after one second, two seconds, four seconds and so on. Failures are of
    the same kind if their errors have the same type and were raised at the same line. The error of a stalled child was
    not raised, so the line at which its cause was raised is used instead.

    Args:
        name: the name of the supervisor.
        within: seconds after a full report during which the same failure is only counted.
        loop: provides the time and the timers.
        context: the context of the timers.
    """

    def __init__(self, name: str, within: float, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._name = name
        self._within = within
        self._loop = loop
        self._context = context
        self._kinds: dict[Hashable, _FailureKind] = {}

    def is_new(self, child: str, error: BaseException) -> bool:
        """Return whether a failure is to be logged in full; if not, count it."""
        key, now = _key_of(error), self._loop.time()
        kind = self._kinds.get(key)
        if kind is None or now - kind.reported_at > self._within:
            self._forget(key)
            self._kinds[key] = _FailureKind(now)
            if len(self._kinds) > _MOST_KINDS:
                self._forget(next(iter(self._kinds)))
            return True
        if not kind.count:
            kind.child, kind.error = child, error_text(error)
        kind.count += 1
        if kind.timer is None:
            kind.timer = self._loop.call_later(kind.wait, self._log_count, kind, context=self._context)
            kind.wait = min(2 * kind.wait, self._within)
        return False

    def log_return(self, child: str) -> None:
        """Log that a child has returned and will be restarted, because the line about the restart states no reason."""
        if RETURNED.is_read():
            RETURNED.log({"child": child, "supervisor": self._name})

    def close(self) -> None:
        """Log the outstanding counts."""
        for key in [*self._kinds]:
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        kind = self._kinds.pop(key, None)
        if kind is not None and kind.timer is not None:
            kind.timer.cancel()
            self._log_count(kind)

    def _log_count(self, kind: _FailureKind) -> None:
        kind.timer = None
        if FAILED_AGAIN.is_read():
            values = {"child": kind.child, "supervisor": self._name, "error": kind.error, "count": kind.count}
            FAILED_AGAIN.log(values)
        kind.count = 0


def _key_of(error: BaseException) -> Hashable:
    cause = cause_of(error)
    traceback = traceback_of(error) or (None if cause is None else traceback_of(cause))
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return (type(error), *(() if traceback is None else (traceback.tb_frame.f_code, traceback.tb_lineno)))
