"""The rows of a journal: those to be stored, and those that existed when a run began."""

from __future__ import annotations

from typing import TypeAlias

NewRow: TypeAlias = tuple[int, int, str, str | bytes, int, float, int]
"""A result to be stored: function, hash, key, value, attempts, elapsed, saved_at."""

KnownRow: TypeAlias = tuple[int, int, str, str | bytes, int, float]
"""A stored result: hash, id, key, value, attempts, elapsed."""


class KnownResults:
    """The rows that existed when a run began; each input takes a row that no other input has taken.

    One bit per row records whether the row has been taken. Several rows with the same hash are taken in order, so only
    the last one taken has to be recorded: `last_taken` contains it for each hash that belongs to several rows.

    Attributes:
        function: the number of the function in the file.
        count: the number of rows of the function.
        others: the names of other functions that have rows, if this function has none under any version.
    """

    def __init__(self, function: int, last: int, count: int, others: list[str]) -> None:
        self.function = function
        self.last = last
        self.count = count
        self.others = others
        self.last_taken: dict[int, int] = {}
        self._taken = bytearray((last >> 3) + 1)

    def take(self, row: int) -> bool:
        """Mark a row as taken, and return whether it was available."""
        byte, bit = row >> 3, 1 << (row & 7)
        if self._taken[byte] & bit:
            return False
        self._taken[byte] |= bit
        return True
