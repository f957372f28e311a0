"""The child registry: the children of a supervisor in start order, and how many of them are alive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, TypeAlias

from .child_state import ALIVE, ChildState, StateName

RestartStrategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]


class ChildRegistry:
    """The children of a supervisor, in start order. A name belongs to at most one child at a time.

    Attributes:
        alive: the number of children that are running, or will be started automatically.
        running: the number of children in the state "running".
    """

    def __init__(self, *, remembers: bool) -> None:
        self.alive = 0
        self.running = 0
        # Whether children that have ended are remembered; temporary ones never are.
        self._remembers = remembers
        self._children: dict[str, ChildState] = {}
        self._positions = itertools.count()

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[ChildState]:
        return iter(self._children.values())

    def __reversed__(self) -> Iterator[ChildState]:
        return reversed(self._children.values())

    def __contains__(self, child: ChildState) -> bool:
        return self._children.get(child.name) is child

    def has_name(self, name: str) -> bool:
        """Return whether a child has this name."""
        return name in self._children

    def is_replaced(self, child: ChildState) -> bool:
        """Return whether a child was forgotten and another one has since taken its name."""
        return self._children.get(child.name, child) is not child

    def add(self, child: ChildState) -> None:
        """Add a child at the end; one that is already registered keeps its position."""
        if child not in self:
            child.position = next(self._positions)
            self._children[child.name] = child

    def enter(self, child: ChildState, state: StateName, now: float) -> None:
        """Move a child to a state at `now`, the loop's time, and update the counts."""
        before = child.state
        self.alive += (state in ALIVE) - (before in ALIVE)
        if before == "running":
            self.running -= 1
        if state == "running":
            self.running += 1
        child.enter(state, now)

    def forget(self, child: ChildState) -> None:
        """Remove a child that is not alive, as OTP does, if it is temporary or dynamic: there may be many of them."""
        if (child.spec.restart_type == "temporary" or not self._remembers) and child in self and not child.is_alive:
            del self._children[child.name]

    def all_of(self, _: ChildState) -> list[ChildState]:
        """Return all children, in start order."""
        return [*self]

    def started_since(self, first: ChildState) -> list[ChildState]:
        """Return this child and those that were started after it, in start order."""
        children = []
        for child in reversed(self):
            if child.position < first.position:
                break
            children.append(child)
        return children[::-1]
