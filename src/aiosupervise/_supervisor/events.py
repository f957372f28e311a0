"""Tells what happens to the children of one supervisor."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

from aiosupervise._events.emit import announce
from aiosupervise._events.listeners import Place, audience
from aiosupervise._events.log import is_heard
from aiosupervise._events.records import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated, Event
from aiosupervise._policy.errors import RestartsExceeded

from .child_state import Record

_numbers = itertools.count(1)


class Herald:
    """Tells what happens to the children of one supervisor: to all who listen, and to the job that it is in."""

    __slots__ = ("_around", "_name", "_supervisor")

    def __init__(self, name: str, around: Place | None) -> None:
        self._supervisor = next(_numbers)
        self._name = name
        self._around = around

    def launched(self, record: Record, *, again: bool) -> None:
        """Tell that a child was started: again after an end, or because somebody asked for it."""
        if again:
            self._tell(WARNING, ChildRestarted, record, record.restarts)
        else:
            self._tell(INFO, ChildStarted, record)

    def exited(self, record: Record, error: BaseException | None) -> None:
        """Tell that a child has ended by itself."""
        self._tell(INFO if error is None else WARNING, ChildExited, record, error)

    def stopped(self, record: Record, error: BaseException | None) -> None:
        """Tell that a child was stopped, and what it raised meanwhile."""
        self._tell(INFO if error is None else WARNING, ChildStopped, record, error)

    def escalated(self, record: Record, error: RestartsExceeded) -> None:
        """Tell that the supervisor gives up because of a child."""
        self._tell(ERROR, Escalated, record, error)

    def _tell(self, level: int, kind: Callable[..., Event], record: Record, *values: object) -> None:
        if audience.listening or is_heard(level):
            announce(kind(self._supervisor, self._name, record.name, *values), self._around)
