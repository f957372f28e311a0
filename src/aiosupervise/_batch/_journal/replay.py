"""The feed of a run with a journal: if an input has a stored result, the result is recorded and no job is started.

The writer looks up inputs, as many at a time as there are free slots. A lookup in the event loop would block the loop
during a commit. Once every result that existed at the start has been taken, no more lookups are made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from aiosupervise._batch.feed import Feed
from aiosupervise._batch.first_error import FirstError
from aiosupervise._batch.outlet import Outlet
from aiosupervise._batch.protocol import EngineRun
from aiosupervise._batch.source import END, AsyncSource, Source
from aiosupervise._events.outcomes import Success, Tally

from .session import Session

# The maximum number of stored results that are recorded before other tasks of the loop may run.
_LARGEST_BATCH = 200


class ReplayingFeed(Feed):
    """The feed of one run that has a journal."""

    def __init__(
        self,
        source: Source[object],
        tally: Tally,
        error: FirstError,
        outlet: Outlet[Any, Any],
        session: Session,
    ) -> None:
        super().__init__(source, tally, error, outlet)
        self._session = session
        self._keys, self._key_of = session.keys, session.key_of
        # The pulled items that have no index yet.
        self._waiting: deque[object] = deque()

    def connect(self, engine: EngineRun, unrecorded: set[int]) -> None:
        """Set the engine that receives the items once their keys are computed, because a job may change its input."""
        super().connect(engine, unrecorded)
        self._context = engine.context

    def _start_job(self) -> Callable[[Any, int], None]:
        return self._start_new

    def free_slots(self) -> int:
        """Return how many more jobs may start; an outcome that waits for its commit occupies no slot."""
        return 0 if self._session.is_full else super().free_slots()

    def _taken(self) -> int:
        return super()._taken() - (0 if self._reader is None else len(self._session.queue))

    async def fill_slots(self) -> None:
        """Record stored results and start jobs, until the source is exhausted or the run is stopped."""
        while self._session.remaining and not (self.is_stopped or self._is_exhausted):
            slots = min(self.slots_to_pull(), _LARGEST_BATCH)
            if slots == 0:
                await self.wait_for_change()
            else:
                await self._pull_and_replay(slots)
        await super().fill_slots()

    def skip_rest(self) -> None:
        """Record as pending the pulled items, and then those that remain in a collection, in input order."""
        self._skip_waiting()
        super().skip_rest()

    def _skip_waiting(self) -> None:
        while self._waiting:
            self.skip(self._waiting.popleft())

    async def _pull_and_replay(self, slots: int) -> None:
        # If the last item has no key, there is one key fewer than there are items.
        keys: list[str] = []
        try:
            has_more = await self._pull(keys, slots)
        except Exception:
            await self._replay_or_start(keys)
            raise
        await self._replay_or_start(keys)
        if not has_more:
            self._on_exhausted()

    async def _pull(self, keys: list[str], slots: int) -> bool:
        """Pull items for the free slots, and return whether the source has more; wait for at most one async item.

        Raises:
            TypeError: for an input without a key; it is the last item that was pulled.
        """
        source, key_of = self._source, self._key_of
        count = min(slots, source.available) if isinstance(source, AsyncSource) else slots
        # The source may stop the run while it produces an item.
        while len(keys) < count and not self.is_stopped:
            item = await self.pull_one(source) if isinstance(source, AsyncSource) else source.pull()
            if item is END:
                return False
            self._waiting.append(item)
            keys.append(key_of(item, self._pulled + len(keys)))
        return True

    async def _replay_or_start(self, keys: list[str]) -> None:
        """Record the stored results of items, and start jobs for the other items; skip an item without a key.

        The run can end early at each `await`; `skip_rest` then records all items that have no index yet. An item
        therefore receives its index only after the wait for its slot.
        """
        try:
            found = await self._session.look_up(keys) if keys else []
            for key, known in zip(keys, found, strict=True):
                if known is None:
                    await self.wait_for_slot()
                if self.is_stopped:
                    return
                if isinstance(known, tuple):
                    self._replay(*known)
                else:
                    self._start_or_skip(key, known)
        finally:
            self._skip_waiting()

    def _replay(self, value: object, attempts: int, elapsed: float) -> None:
        item = self._waiting.popleft()
        index = self.number(item)
        self.expect_outcome(index)
        name = self._context.job_name(item, index)
        self._context.record(Success(index, value, attempts, elapsed, name, item, True))  # noqa: FBT003 - it is replayed

    def _start_or_skip(self, key: str, error: RuntimeError | None) -> None:
        item = self._waiting.popleft()
        if error is None:
            self.start_pulled(item, partial(self._start, key=key))
        else:
            self._context.fail(error)
            self.skip(item)

    def _start_new(self, item: object, index: int) -> None:
        try:
            self._keys[index] = self._key_of(item, index)
        except TypeError:
            self._engine.skip(item, index)
            raise
        self._engine.start_job(item, index)

    def _start(self, item: object, index: int, *, key: str) -> None:
        self._keys[index] = key
        self._engine.start_job(item, index)
