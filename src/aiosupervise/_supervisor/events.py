"""Tells what happens to the children of one supervisor."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

from aiosupervise._events.emit import emit
from aiosupervise._events.listeners import Scope, listeners
from aiosupervise._events.log import is_logged
from aiosupervise._events.records import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated, Event
from aiosupervise._policy.errors import RestartsExceeded

from .child_state import ChildState

_numbers = itertools.count(1)


class SupervisorEvents:
    """Tells what happens to the children of one supervisor: to all who listen, and to the job that it is in."""

    __slots__ = ("_around", "_name", "_supervisor")

    def __init__(self, name: str, around: Scope | None) -> None:
        self._supervisor = next(_numbers)
        self._name = name
        self._around = around

    def started(self, child: ChildState, *, again: bool) -> None:
        """Tell that a child was started: again after an end, or because somebody asked for it."""
        if again:
            self._tell(WARNING, ChildRestarted, child, child.restarts)
        else:
            self._tell(INFO, ChildStarted, child)

    def exited(self, child: ChildState, error: BaseException | None) -> None:
        """Tell that a child has ended by itself."""
        self._tell(INFO if error is None else WARNING, ChildExited, child, error)

    def stopped(self, child: ChildState, error: BaseException | None) -> None:
        """Tell that a child was stopped, and what it raised meanwhile."""
        self._tell(INFO if error is None else WARNING, ChildStopped, child, error)

    def escalated(self, child: ChildState, error: RestartsExceeded) -> None:
        """Tell that the supervisor gives up because of a child."""
        self._tell(ERROR, Escalated, child, error)

    def _tell(self, level: int, kind: Callable[..., Event], child: ChildState, *values: object) -> None:
        if listeners.count or is_logged(level):
            emit(kind(self._supervisor, self._name, child.name, *values), self._around)
