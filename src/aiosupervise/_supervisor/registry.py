"""The children that a supervisor remembers, and which of them are restarted together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from .child_state import ChildState

RestartStrategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class ChildRegistry:
    """The children of a supervisor, in start order. A name belongs to one of them at a time."""

    def __init__(self) -> None:
        self._records: dict[str, ChildState] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ChildState]:
        return iter(self._records.values())

    def __contains__(self, child: ChildState) -> bool:
        return self._records.get(child.name) is child

    def has_name(self, name: str) -> bool:
        """Tell whether a child has this name."""
        return name in self._records

    def has_another(self, child: ChildState) -> bool:
        """Tell whether a temporary child was forgotten, and its name given to another one since."""
        return self._records.get(child.name, child) is not child

    def add(self, child: ChildState) -> None:
        """Remember a child, at its old place if it has one."""
        self._records[child.name] = child

    def forget(self, child: ChildState) -> None:
        """Forget a temporary child that has ended, as OTP does: there may be very many of them."""
        if child.type == "temporary" and not child.is_alive and child in self:
            del self._records[child.name]

    def restarted_with(self, child: ChildState, strategy: RestartStrategy) -> list[ChildState]:
        """Return who is restarted with a child, itself among them, in start order."""
        children = [*self]
        if strategy == "one_for_all":
            return children
        first = children.index(child)
        return children[first:] if strategy == "rest_for_one" else [child]
