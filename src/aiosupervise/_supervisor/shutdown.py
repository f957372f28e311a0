"""The shutdown of a supervisor: one child at a time in reverse start order, or all simultaneously."""

from __future__ import annotations

from collections.abc import Iterable

from .child_state import ChildState, Purpose
from .lifecycle import Lifecycle


class Shutdown:
    """Stops all children of a supervisor, once `begin` has been called."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._to_stop: list[ChildState] = []
        self._is_at_once = False
        self._is_advancing = False
        self.has_begun = False

    def begin(self, children: Iterable[ChildState], *, at_once: bool) -> None:
        """Stop these children, given in start order; waiting ones enter the state "stopped" immediately."""
        self.has_begun = True
        self._to_stop = [*children]
        for child in self._to_stop:
            if child.state == "waiting":
                self._lifecycle.enter(child, "stopped")
                child.close_coroutine()
        self.advance(at_once=at_once)

    def advance(self, *, at_once: bool = False) -> None:
        """Stop the next child if the previous one has ended, or all remaining children simultaneously."""
        self._is_at_once = self._is_at_once or at_once
        # The loop below stops children, which may call this method again.
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._to_stop and (self._is_down(self._to_stop[-1]) or self._is_at_once):
                self._to_stop.pop()
        finally:
            self._is_advancing = False

    def _is_down(self, child: ChildState) -> bool:
        """Return whether a child has ended; if it is running, stop it."""
        self._lifecycle.catch_up(child)
        if child.task is not None:
            self._lifecycle.stop(child, Purpose.STOP)
        return child.task is None

    def cancel_all(self, children: Iterable[ChildState]) -> None:
        """Cancel all children immediately, including children that are being stopped, regardless of their grace."""
        self._to_stop = []
        for child in reversed([*children]):
            self._lifecycle.catch_up(child)
            if child.task is not None:
                self._lifecycle.cancel(child, child.task)
