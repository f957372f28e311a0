"""The child registry: the children of a supervisor, and which of them a strategy restarts together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from .child_state import ChildState

RestartStrategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class ChildRegistry:
    """The children of a supervisor, in start order. A name belongs to one of them at a time."""

    def __init__(self) -> None:
        self._children: dict[str, ChildState] = {}

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[ChildState]:
        return iter(self._children.values())

    def __contains__(self, child: ChildState) -> bool:
        return self._children.get(child.name) is child

    def has_name(self, name: str) -> bool:
        """Return whether a child has this name."""
        return name in self._children

    def is_replaced(self, child: ChildState) -> bool:
        """Return whether a child was forgotten and another one has been started under its name since."""
        return self._children.get(child.name, child) is not child

    def add(self, child: ChildState) -> None:
        """Add a child at the end; one that is registered keeps its position."""
        self._children[child.name] = child

    def forget(self, child: ChildState) -> None:
        """Remove a child that has ended if it is temporary, as OTP does: there may be any number of them."""
        if child.restart_type == "temporary" and child in self:
            del self._children[child.name]

    def restart_group(self, child: ChildState, strategy: RestartStrategy) -> list[ChildState]:
        """Return the children that are restarted when this one is, including itself, in start order."""
        children = [*self]
        if strategy == "one_for_all":
            return children
        first = children.index(child)
        return children[first:] if strategy == "rest_for_one" else [child]
