"""The feed of a run: pulls items from the source into free slots, and has the engine start a job for each.

It runs in the task of the pump, the only task that pulls. An item is assigned its index when it is handed over to the
engine. Every item with an index has exactly one outcome, unless the engine refuses the item.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Protocol

from aiosupervise._events.outcomes import Tally

from .checked import CheckedStarter
from .first_error import FirstError
from .outlet import Outlet
from .protocol import UNLIMITED, EngineContext, EngineRun
from .source import END, AsyncSource, Source, SyncSource


class JobStarter(Protocol):
    """The part of an `EngineRun` that the feed uses."""

    context: EngineContext[Any, Any]

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start now."""
        ...

    def start_job(self, item: Any, index: int) -> None:
        """Start the job of an item."""

    def skip(self, item: Any, index: int) -> None:
        """Record an item that was pulled too late to be started."""


class Feed:
    """Pulls the items of one run, and has the engine start their jobs.

    Attributes:
        is_stopped: True if no more jobs will be started.
        unfinished: the number of jobs handed to the engine that have no outcome yet.
        wakes: True if calling `wake` may have an effect; otherwise the call can be omitted.
    """

    def __init__(self, source: Source[object], tally: Tally, error: FirstError, outlet: Outlet[Any, Any]) -> None:
        """Create the feed of a run.

        Args:
            source: the source of the items.
            tally: the counts of the run; its total is set when the source is exhausted.
            error: receives the errors of skipped items.
            outlet: receives the outcomes; in a streamed run, an unread outcome keeps its slot.
        """
        self.is_stopped = False
        self.unfinished = 0
        self.wakes = False
        self._source = source
        self._tally = tally
        self._error = error
        self._outlet = outlet
        self._reader = outlet if outlet.streamed else None
        # Whether the feed has pulled END.
        self._is_exhausted = False
        self._pulled = 0
        # The indexes of the jobs without an outcome; None if the engine is not checked.
        self._unrecorded: set[int] | None = None
        self._change: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    def connect(self, engine: EngineRun, unrecorded: set[int]) -> None:
        """Set the engine that receives the items, and the set of jobs without an outcome if it is checked."""
        self._engine: JobStarter = engine
        if engine._is_checked:  # noqa: SLF001 - not part of the protocol
            self._unrecorded = unrecorded
            self._engine = CheckedStarter(engine, unrecorded)

    def _start_job(self) -> Callable[[Any, int], None]:
        """Return the function that starts the job of an item."""
        # A bound method of this object, stored as an attribute, would create a reference cycle.
        return self._engine.start_job

    async def fill_slots(self) -> None:
        """Start jobs until the source is exhausted or the run is stopped."""
        source = self._source
        while not (self.is_stopped or self._is_exhausted):
            slots = self.free_slots()
            if slots == 0:
                await self.wait_for_change()
            elif isinstance(source, SyncSource):
                self._pull_and_start(source, slots)
                if slots == UNLIMITED:
                    await asyncio.sleep(0)
            else:
                await self._await_and_start(source)

    def free_slots(self) -> int:
        """Return how many more jobs may start now; in a streamed run, an unread outcome keeps its slot."""
        return min(max(self._engine.free_slots(self._taken()), 0), UNLIMITED)

    def slots_to_pull(self) -> int:
        """Return the number of free slots for which items may be pulled."""
        return self.free_slots()

    def group_of(self, index: int) -> Hashable:  # noqa: ARG002 - used in a run with groups
        """Return the group of a job that has ended: None, because this run has no groups."""
        return None

    def _taken(self) -> int:
        return self.unfinished if self._reader is None else self._pulled - self._reader.read

    def _pull_and_start(self, source: SyncSource[object], slots: int) -> None:
        """Start jobs in all free slots."""
        pull, start_job = source.puller(), self._start_job()
        # The loop does the same as `hand_over` for each item, without the cost of three calls per item.
        for index in range(self._pulled, self._pulled + slots):
            item = pull()
            if item is END:
                source.exhausted = True
                self._on_exhausted()
                return
            # The run may have been stopped while the source produced this item.
            if self.is_stopped:
                self.skip(item)
                return
            self._pulled = index + 1
            self.unfinished = unfinished = self.unfinished + 1
            try:
                start_job(item, index)
            except BaseException:
                self._on_refused(unfinished)
                raise

    async def _await_and_start(self, source: AsyncSource[object]) -> None:
        """Fill one slot. If the slot is no longer free when the item arrives, the item waits for another slot."""
        item = await self.pull_one(source)
        if item is END:
            self._on_exhausted()
        else:
            await self.start_when_free(item, self._start_job())

    def pull_one(self, source: AsyncSource[object]) -> Awaitable[object]:
        """Return the next item, or END."""
        return source.pull()

    async def start_when_free(self, item: object, start_job: Callable[[object, int], None]) -> None:
        """Start the job of a pulled item, or skip the item if the run is stopped before a slot is free."""
        try:
            await self.wait_for_slot()
        except BaseException:
            self.skip(item)
            raise
        if self.is_stopped:
            self.skip(item)
        else:
            self.start_pulled(item, start_job)

    async def wait_for_slot(self) -> None:
        """Wait until a slot is free for an item that was pulled, or the run is stopped."""
        while not self.is_stopped and self.free_slots() == 0:
            await self.wait_for_change()

    def start_pulled(self, item: object, start_job: Callable[[object, int], None]) -> None:
        """Start the job of an item that `pull_one` has returned, and for which a slot is free."""
        self.hand_over(item, start_job)

    def _on_exhausted(self) -> None:
        self._is_exhausted = True
        if not self.is_stopped:
            self._tally.total = self._pulled

    def stop(self) -> None:
        """Start no further jobs."""
        self.is_stopped = True
        self.wake()

    async def close(self) -> None:
        """Close the source."""
        await self._source.close()

    def skip_rest(self) -> None:
        """Record the items left in a collection as pending; raise an error if a job has changed the collection."""
        for item in self._source.rest():
            self.skip(item)

    def skip(self, item: object) -> None:
        """Record an item that was pulled too late to be started."""
        # Skipping raises an error for a coroutine that was passed twice, and may raise any error while closing one that
        # has begun.
        self._error.guard(partial(self.hand_over, item, self._engine.skip))

    def hand_over(self, item: object, method: Callable[[object, int], None]) -> None:
        """Assign an item its index, and pass both to a method of the engine: `start_job` or `skip`."""
        self._submit(item, self.number(item), method)

    def number(self, item: object) -> int:  # noqa: ARG002 - used in a stage, whose items have an index
        """Return the index that is assigned to an item."""
        # A refused item also has an index, although it has no outcome: an index is a position in the source.
        index, self._pulled = self._pulled, self._pulled + 1
        return index

    def _submit(self, item: object, index: int, method: Callable[[object, int], None]) -> None:
        self.unfinished = unfinished = self.unfinished + 1
        try:
            method(item, index)
        except BaseException:
            self._on_refused(unfinished)
            raise

    def expect_outcome(self, index: int) -> None:
        """Count an outcome that is about to be recorded although the engine has not received its item."""
        self.unfinished += 1
        if self._unrecorded is not None:
            self._unrecorded.add(index)

    def _on_refused(self, unfinished: int) -> None:
        """Stop counting an item for which the engine raised an error, unless the item already has its outcome."""
        if self.unfinished == unfinished:
            self.unfinished -= 1

    async def wait_for_change(self) -> None:
        """Wait until a job has ended, an outcome has been read, or the run has been stopped."""
        self._change = self._loop.create_future()
        self.wakes = True
        await self._change

    def wake(self) -> None:
        """End the wait for a change."""
        if self._change is not None:
            # The shutdown of the loop may have cancelled the future.
            if not self._change.done():
                self._change.set_result(None)
            self._change = None
            self.wakes = False
