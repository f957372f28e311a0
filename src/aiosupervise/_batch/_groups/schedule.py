"""The schedule: of the waiting inputs whose groups may start a job, the input with the lowest index starts next."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

Entry: TypeAlias = tuple[int, Any, Callable[[Any, int], None]]
"""A waiting input: its index, the input, and the function that starts its job."""


EMPTY_QUEUE: deque[Entry] = deque(maxlen=0)
"""The queue shared by all groups in which no input has waited so far: most groups never need their own queue."""


class Queued(Protocol):
    """The part of a group that the schedule uses."""

    queue: deque[Entry]
    is_listed: bool

    def may_start(self) -> bool:
        """Return whether the group may start a job now."""
        ...


class Schedule:
    """The waiting inputs of a run.

    Attributes:
        waiting: the number of waiting inputs.
        is_exhausted: True if the source has no more inputs.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.is_exhausted = False
        # A heap, ordered by the index of each group's first input. A group is in it at most once; whether the group may
        # start a job is checked again when it comes first.
        self._listed: list[tuple[int, Queued]] = []

    def add(self, group: Queued, entry: Entry) -> None:
        """Add a waiting input."""
        if group.queue is EMPTY_QUEUE:
            group.queue = deque()
        group.queue.append(entry)
        self.waiting += 1

    def enlist(self, group: Queued) -> None:
        """List a group if it has a waiting input and may start a job."""
        if group.queue and not group.is_listed and group.may_start():
            group.is_listed = True
            heapq.heappush(self._listed, (group.queue[0][0], group))

    def next_index(self) -> int | None:
        """Return the index of the input that starts next; None if no input may start."""
        while self._listed:
            index, group = self._listed[0]
            if group.queue and group.may_start():
                return index
            heapq.heappop(self._listed)
            group.is_listed = False
        return None

    def take(self) -> tuple[Queued, Entry]:
        """Remove and return the input whose index `next_index` returned, and its group."""
        _, group = heapq.heappop(self._listed)
        group.is_listed = False
        self.waiting -= 1
        return group, group.queue.popleft()

    def take_all(self, groups: Sequence[Queued]) -> list[Entry]:
        """Remove and return all inputs of some groups, in input order."""
        # The indexes differ, so nothing else is compared.
        entries = sorted(entry for group in groups for entry in group.queue)
        for group in groups:
            group.queue.clear()
        self.waiting -= len(entries)
        return entries

    def close(self) -> None:
        """Release the groups, because the run has ended."""
        self._listed.clear()
