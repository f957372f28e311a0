"""The children that a supervisor remembers, and which of them are restarted together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from .child_state import Record

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Roster:
    """The records of a supervisor's children, in start order. A name belongs to one of them at a time."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def __contains__(self, record: Record) -> bool:
        return self._records.get(record.name) is record

    def has_name(self, name: str) -> bool:
        """Tell whether a child has this name."""
        return name in self._records

    def has_another(self, record: Record) -> bool:
        """Tell whether a temporary child was forgotten, and its name given to another one since."""
        return self._records.get(record.name, record) is not record

    def add(self, record: Record) -> None:
        """Remember a child, at its old place if it has one."""
        self._records[record.name] = record

    def let_go(self, record: Record) -> None:
        """Forget a temporary child that has ended, as OTP does: there may be very many of them."""
        if record.type == "temporary" and not record.is_alive and record in self:
            del self._records[record.name]

    def restarted_with(self, record: Record, strategy: Strategy) -> list[Record]:
        """Return who is restarted with a child, itself among them, in start order."""
        records = [*self]
        if strategy == "one_for_all":
            return records
        first = records.index(record)
        return records[first:] if strategy == "rest_for_one" else [record]
