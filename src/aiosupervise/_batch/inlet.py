"""The inlet of a run: pulls an item from the source for each free slot, and hands it to the engine.

It is used by the pump, in the pump's task; `pump` says how a run works as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from .first_error import FirstError
from .outlet import Outlet
from .protocol import UNLIMITED, EngineRun
from .source import END, AsyncSource, Source, SyncSource
from .wakeup import Wakeup


class Inlet:
    """The items of one run, from the source to the engine.

    Attributes:
        unfinished: how many jobs were handed to the engine and have no outcome.
        stopped: no other job is started.

    """

    def __init__(
        self, source: Source[object], engine: EngineRun, outlet: Outlet[Any, Any], error: FirstError, wakeup: Wakeup
    ) -> None:
        self.unfinished = 0
        self.stopped = False
        self._source = source
        self._engine = engine
        self._outlet = outlet
        self._error = error
        self._wakeup = wakeup
        self._pulled = 0

    def stop(self, *, interrupt: bool) -> None:
        """Pull no other item; if asked, end a pull that is under way."""
        if self.stopped:
            return
        self.stopped = True
        if interrupt:
            self._error.try_step(self._source.interrupt)
        self._wakeup.wake()

    async def fill_slots(self) -> None:
        """Start a job whenever a slot is free, until the source is exhausted or the run is stopped."""
        source = self._source
        while not self.stopped:
            slots = self._free_slots()
            if slots == 0:
                await self._wakeup.wait()
            elif isinstance(source, SyncSource):
                if not self._pull_and_start(source, slots):
                    return
                if slots == UNLIMITED:
                    await asyncio.sleep(0)
            elif not await self._await_and_start(source):
                return

    def _pull_and_start(self, source: SyncSource[object], slots: int) -> bool:
        """Fill all the free slots at once; return whether the source has more."""
        pull, start_job, hand_over = source.pull, self._engine.start_job, self._hand_over
        for _ in range(slots):
            item = pull()
            if item is END:
                return self._on_exhausted()
            if self.stopped:  # while the source was busy with this item
                self._skip(item)
                break
            hand_over(item, start_job)
        return True

    async def _await_and_start(self, source: AsyncSource[object]) -> bool:
        """Fill one slot. It may be gone when the item comes, which then waits for another."""
        item = await source.pull()
        if item is END:
            return self._on_exhausted()
        try:
            while not self.stopped and self._free_slots() == 0:
                await self._wakeup.wait()
        except BaseException:
            self._skip(item)
            raise
        if self.stopped:
            self._skip(item)
        else:
            self._hand_over(item, self._engine.start_job)
        return True

    def _on_exhausted(self) -> bool:
        if not self.stopped:
            self._outlet.tally.total = self._pulled
        return False

    def _free_slots(self) -> int:
        """Return how many more jobs may start now; in a streamed run, an unread outcome keeps its slot."""
        taken = self._pulled - self._outlet.read if self._outlet.streamed else self.unfinished
        return min(max(self._engine.free_slots(taken), 0), UNLIMITED)

    def skip_rest(self) -> None:
        """Have the items recorded as pending that a list or the like still holds."""
        self._error.try_step(self._skip_held)

    def _skip_held(self) -> None:
        # Raises for a deque that its own jobs have changed.
        for item in self._source.rest():
            self._skip(item)

    def _skip(self, item: object) -> None:
        # Raises for a coroutine that was given twice, and whatever the `close` of one that has begun raises.
        self._error.try_step(partial(self._hand_over, item, self._engine.skip))

    def _hand_over(self, item: object, method: Callable[[object, int], None]) -> None:
        # A refused item has an index too, though no outcome: an index is a position in the input.
        index, self._pulled = self._pulled, self._pulled + 1
        self.unfinished = unfinished = self.unfinished + 1
        try:
            method(item, index)
        except BaseException:
            if self.unfinished == unfinished:  # else it has its outcome, and something after that raised
                self.unfinished -= 1
            raise
