"""Restarts of independent children, under one_for_one and simple_one_for_one."""

from __future__ import annotations

from typing import Protocol

from .child_state import ChildState
from .lifecycle import Lifecycle


class Restarts(Protocol):
    """Starts the children of a supervisor, and restarts them when one of them has failed."""

    def add(self, child: ChildState) -> None:
        """Start a new, waiting child now, or when the children that it depends on are ready."""
        ...

    def absorbs(self, child: ChildState) -> bool:
        """Return whether a restart in progress also covers the failure of this child."""
        ...

    def restart(self, child: ChildState, delay: float) -> None:
        """Restart a failed child, and the siblings in its group, after a delay."""
        ...

    def leave(self, child: ChildState) -> None:
        """Remove a child from the restart that it waits for, because a command takes precedence."""
        ...

    def advance(self, child: ChildState) -> None:
        """Continue a restart that was waiting for this child, which has ended or is ready."""
        ...

    def close(self) -> None:
        """Cancel all restarts, and begin no others."""
        ...


class SingleRestarts:
    """Restarts each child individually."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def add(self, child: ChildState) -> None:
        """Start a new child."""
        self._lifecycle.start(child)

    def absorbs(self, child: ChildState) -> bool:  # noqa: ARG002 - the protocol's
        """Return False, because each failure causes a separate restart."""
        return False

    def restart(self, child: ChildState, delay: float) -> None:
        """Start a waiting child again, after the delay."""
        if delay:
            self._lifecycle.after(delay, child, self._start_again)
        else:
            self._start_again(child)

    def _start_again(self, child: ChildState) -> None:
        self._lifecycle.start(child, again=True)

    def leave(self, child: ChildState) -> None:
        """Do nothing, because the timer of the child is cancelled when the child leaves its state."""

    def advance(self, child: ChildState) -> None:
        """Do nothing, because no child waits for another."""

    def close(self) -> None:
        """Do nothing, because a shutdown moves waiting children to another state, which cancels their timers."""
