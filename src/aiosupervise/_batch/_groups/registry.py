"""The groups of one run: those that have jobs or waiting inputs, and recent groups with failures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from aiosupervise._batch.protocol import EngineContext
from aiosupervise._call.enclosing_job import EnclosingJob
from aiosupervise._events.listeners import listeners

from .group import Group, GroupsContext
from .schedule import Entry
from .settings import GroupSettings, invalid_group

_REMEMBERED = 1000
"""The number of idle groups with failures to keep, so that a dead host's group stops even if its inputs are rare."""


class Groups(GroupsContext):
    """The groups of one run; the key of a group is the value that `group_by` returns.

    Attributes:
        starting: the group of each input that is being handed to the engine, by index.
        ended: the group of each outcome that waits to be emitted, by index; kept only while there is a listener.
    """

    def __init__(self, settings: GroupSettings, context: EngineContext[Any, Any], parent: EnclosingJob | None) -> None:
        super().__init__(context, parent)
        self.starting: dict[int, Group] = {}
        self.ended: dict[int, Hashable] = {}
        self._limit_of = settings.limit_of
        self._group_by = settings.group_by
        self._groups: dict[Hashable, Group] = {}
        # The idle groups with failures, the longest idle first. Such a group may have a waiting input again if its
        # circuit is open.
        self._idle: dict[Group, None] = {}

    def of(self, item: object, index: int) -> Group:
        """Return the group of an input.

        Raises:
            TypeError, ValueError: for an invalid group, or an invalid limit of the group.
            Exception: any error that `group_by` raises.
        """
        key = self._group_by(item)
        try:
            group = self._groups.get(key)
        except Exception as error:
            raise invalid_group(key, index, error) from error
        if group is None:
            if hasattr(type(key), "__await__"):
                raise invalid_group(key, index, None)
            self._groups[key] = group = Group(self, key, self._limit_of(key))
        return group

    def on_busy(self, group: Group) -> None:
        """Record that a group that may have been idle has a job."""
        self._idle.pop(group, None)

    def on_idle(self, group: Group) -> None:
        """Forget an idle group; if it has failures, keep it until many other such groups have become idle."""
        breaker = group.breaker
        if breaker is None or breaker.is_clean:
            self._forget(group)
            return
        self._idle[group] = None
        if len(self._idle) > _REMEMBERED:
            longest = next(iter(self._idle))
            del self._idle[longest]
            if not longest.queue:
                self._forget(longest)

    def _forget(self, group: Group) -> None:
        """Forget a group, unless it has already been forgotten."""
        group.close()
        try:
            if self._groups.get(group.group) is group:
                del self._groups[group.group]
        except Exception as error:
            # The `__hash__` of the user's object may raise any error.
            self.context.fail(error)

    def take_stopped(self) -> list[Entry]:
        """Remove and return the inputs of the stopped groups, in input order."""
        stopped, self.stopping = self.stopping, []
        entries = self._take(stopped)
        for group in stopped:
            if not group.running:
                self.on_idle(group)
        return entries

    def take_all(self) -> list[Entry]:
        """Remove and return all waiting inputs, in input order."""
        return self._take([*self._groups.values()])

    def on_ended(self, index: int, group: Group) -> None:
        """Record the group of a job that has ended, or that will not start, for the event of its outcome."""
        if listeners.count:
            self.ended[index] = group.group

    def _take(self, groups: Sequence[Group]) -> list[Entry]:
        for group in groups:
            for index, *_ in group.queue:
                self.on_ended(index, group)
        return self.schedule.take_all(groups)

    def close(self) -> None:
        """Release all groups, because the run has ended."""
        groups, self._groups, self._idle = self._groups, {}, {}
        self.stopping.clear()
        self.schedule.close()
        for group in groups.values():
            group.close()
