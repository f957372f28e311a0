"""The feed of a run with groups: looks ahead in the source for the next input whose group may start a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from aiosupervise._batch.feed import Feed
from aiosupervise._batch.first_error import FirstError
from aiosupervise._batch.outlet import Outlet
from aiosupervise._batch.protocol import UNLIMITED, EngineRun
from aiosupervise._batch.source import END, Source, SyncSource
from aiosupervise._events.outcomes import Stopped, Tally

from .engine import GroupedRun
from .group import Group
from .schedule import Entry

LOOK_AHEAD = 1000
"""The maximum number of waiting inputs from a lazy source; ten times the limit, if that is more."""


class GroupedFeed(Feed):
    """The feed of one run that has groups.

    While the pump is idle, waiting inputs are started in its task. While the pump is pulling from a slow source, they
    are started in a callback.
    """

    def __init__(self, source: Source[object], tally: Tally, error: FirstError, outlet: Outlet[Any, Any]) -> None:
        super().__init__(source, tally, error, outlet)
        # `wake` always has an effect: it also lets jobs return to free slots.
        self.wakes = True
        self._is_lazy = not source.is_collection
        # Whether a callback that starts inputs is scheduled.
        self._is_starting = False
        # The number of consecutive inputs with stopped groups.
        self._stopped_in_a_row = 0

    def connect(self, engine: EngineRun, unrecorded: set[int]) -> None:
        """Set the engine that receives the items."""
        super().connect(engine, unrecorded)
        assert isinstance(engine, GroupedRun)  # noqa: S101 - for the type checkers
        self._groups = engine.groups
        self._schedule = engine.groups.schedule
        self._outlet.stopped_groups = engine.groups.stopped_keys
        self._outlet.hold_pending(hold=False)

    def stop(self) -> None:
        """Start no more jobs; jobs that become pending from now on are delivered last."""
        self._outlet.hold_pending(hold=True)
        super().stop()

    def group_of(self, index: int) -> Hashable:
        """Return the group of a job that has ended, or that will not start."""
        return self._groups.ended.pop(index, None)

    # Pulling.

    async def fill_slots(self) -> None:
        """Start jobs until no input waits and the source is exhausted, or the run is stopped."""
        source = self._source
        self._start_waiting()
        while not self.is_stopped and (self._schedule.waiting or not self._is_exhausted):
            slots = 0 if self._is_exhausted else self.slots_to_pull()
            if slots == 0:
                await self.wait_for_change()
            elif isinstance(source, SyncSource):
                self._pull_and_start(source, slots)
                # The look-ahead may take a long time, so it lets other tasks of the loop run.
                await asyncio.sleep(0)
                self._start_waiting()
            else:
                await self._await_and_start(source)

    def slots_to_pull(self) -> int:
        """Return the number of free slots for which items may be pulled."""
        return max(min(self.free_slots(), self._room()), 0)

    def _room(self) -> int:
        """Return how many more inputs may wait: `UNLIMITED` if the source is a collection in memory."""
        if not self._is_lazy:
            return UNLIMITED
        return max(LOOK_AHEAD, 10 * (self._tally.limit or 0)) - self._schedule.waiting

    def _taken(self) -> int:
        """Return the number of occupied slots, excluding waiting inputs and jobs that have left their slots."""
        waiting = 0 if self._reader is None else self._schedule.waiting
        return super()._taken() - waiting - self._groups.slots.away

    def _pull_and_start(self, source: SyncSource[object], slots: int) -> None:
        """Pull items until the slots are occupied, no more inputs may wait, or other tasks of the loop should run."""
        start_job, room = self._start_job(), self._room()
        for _ in range(UNLIMITED):
            if slots <= 0 or room <= 0:
                return
            item = source.pull()
            if item is END:
                self._on_exhausted()
                return
            # The run may have been stopped while the source produced this item.
            if self.is_stopped:
                self.skip(item)
                return
            index, group = self._index(item)
            if group.is_stopped:
                self._skip_stopped(item, index, group)
                # In a streamed run, the unread outcome of the input keeps a slot.
                slots -= self._reader is not None
            elif not group.queue and group.may_start():
                # This is the same as `_begin`, without the cost of a call.
                self._groups.starting[index] = group
                self._submit(item, index, start_job)
                slots -= 1
            else:
                self._schedule.add(group, (index, item, start_job))
                room -= self._is_lazy
            if self.is_stopped:
                return

    async def wait_for_slot(self) -> None:
        """Do nothing: a pulled item waits in the queue of its group."""

    def start_pulled(self, item: object, start_job: Callable[[object, int], None]) -> None:
        """Queue a pulled item, and start the inputs that may start."""
        index, group = self._index(item)
        if group.is_stopped:
            self._skip_stopped(item, index, group)
        else:
            self._schedule.add(group, (index, item, start_job))
            self._schedule.enlist(group)
            self._start_waiting()

    def _index(self, item: object) -> tuple[int, Group]:
        """Return the index and the group that are assigned to an item; skip the item if it has no group."""
        index = self.number(item)
        try:
            group = self._groups.of(item, index)
        except BaseException:
            self._skip(item, index)
            raise
        if not group.is_stopped:
            self._stopped_in_a_row = 0
        return index, group

    def _on_exhausted(self) -> None:
        super()._on_exhausted()
        self._schedule.is_exhausted = True

    # Starting.

    async def wait_for_change(self) -> None:
        """Wait until something has changed, and start the inputs that may start."""
        await super().wait_for_change()
        self._start_waiting()

    def wake(self) -> None:
        """Let jobs return to free slots, and wake the pump; if it is busy, start the waiting inputs in a callback."""
        self._groups.slots.release()
        is_pump_busy = self._change is None
        super().wake()
        self.wakes = True
        if is_pump_busy and not (self._is_starting or self.is_stopped) and self._schedule.waiting:
            self._is_starting = True
            self._loop.call_soon(self._start_beside_pump)

    def _start_beside_pump(self) -> None:
        self._is_starting = False
        try:
            self._start_waiting()
        except BaseException as error:
            self._engine.context.fail(error)

    def _start_waiting(self) -> None:
        """Start as many waiting inputs as possible, and skip those of stopped groups."""
        schedule = self._schedule
        if self._groups.stopping:
            self._skip_all_of(self._groups.take_stopped())
        if not schedule.waiting:
            return
        slots = self.free_slots()
        while not self.is_stopped and (index := schedule.next_index()) is not None:
            if slots <= 0 and not self._is_needed(index):
                return
            group, entry = schedule.take()
            assert isinstance(group, Group)  # noqa: S101 - for the type checkers
            self._begin(group, entry)
            schedule.enlist(group)
            slots -= 1

    def _is_needed(self, index: int) -> bool:
        """Return whether this input must start despite unread outcomes, because the reader waits for it.

        That is true of an ordered run, in which the unread outcomes come after it. Of the inputs that the reader needs
        next, as many as the limit may start. While the reader has an outcome to take, it does not wait.
        """
        reader, limit = self._reader, self._tally.limit
        if reader is None or reader.ready or limit is None or self._groups.slots.are_full:
            return False
        awaited = reader.awaited
        return awaited is not None and index < awaited + limit

    def _begin(self, group: Group, entry: Entry) -> None:
        index, item, start_job = entry
        self._groups.starting[index] = group
        self._submit(item, index, start_job)

    # Skipping.

    def skip_rest(self) -> None:
        """Record the waiting inputs, and those remaining in a collection, as pending."""
        self._skip_all_of(self._groups.take_all())
        super().skip_rest()

    def _skip_all_of(self, entries: list[Entry]) -> None:
        for index, item, _ in entries:
            self._skip(item, index)

    def _skip_stopped(self, item: object, index: int, group: Group) -> None:
        """Skip an input of a stopped group; after many in a row, stop the run if its source may be endless."""
        self._groups.on_ended(index, group)
        self._skip(item, index)
        self._stopped_in_a_row += 1
        total = self._tally.total
        may_be_endless = self._is_lazy and (total is None or self._pulled > total)
        if may_be_endless and self._stopped_in_a_row >= LOOK_AHEAD:
            self._engine.context.stop(Stopped.PROBES)

    def _skip(self, item: object, index: int) -> None:
        self._error.guard(partial(self._submit, item, index, self._engine.skip))
