"""How chunks feed a worker's part of a run: one after the other, into a source that has no end of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from aiosupervise._events.outcomes import Outcome

from .serialization import Record, record_of, refusal, unfinished, unpack


class LocalChunk:
    """A chunk in its worker."""

    def __init__(self, size: int) -> None:
        self.records: list[Record] = []
        self.begun = asyncio.Event()  # all of its jobs
        self.ended = asyncio.Event()
        self._size = size
        self._pulled = 0
        self._told = 0

    def pulled(self) -> None:
        """Count a job that is about to start."""
        self._pulled += 1
        if self._pulled == self._size:
            self.begun.set()

    def add(self, record: Record) -> None:
        """Take the record of one job."""
        self.records.append(record)
        if len(self.records) == self._size:
            self.begun.set()
            self.ended.set()

    def news(self) -> list[Record]:
        """Give the records that no visit has told."""
        start, self._told = self._told, len(self.records)
        return self.records[start:]


class Feed:
    """The inputs of all chunks, as an async source, and where the outcomes belong that come of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[LocalChunk, int, bytes]] = deque()
        self._given: dict[int, tuple[LocalChunk, int]] = {}  # by the job's index in the worker's part
        self._count = 0
        self._arrival = asyncio.Event()

    def put(self, chunk: LocalChunk, items: list[bytes]) -> None:
        """Add the inputs of a chunk."""
        self._waiting.extend((chunk, position, item) for position, item in enumerate(items))
        self._arrival.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        while True:
            while not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
            chunk, position, packed = self._waiting.popleft()
            chunk.pulled()
            try:
                item = unpack(packed)
            except Exception as error:
                chunk.add(refusal(position, error))
                continue
            self._given[self._count] = chunk, position
            self._count += 1
            return item

    def ended(self, outcome: Outcome[object, object]) -> None:
        """Give an outcome to the chunk that its input came from."""
        chunk, position = self._given[outcome.index]
        chunk.add(record_of(position, outcome))
        del self._given[outcome.index]

    def give_up(self) -> None:
        """Make pending what nobody has pulled, and what was pulled and has no outcome."""
        for chunk, position in self._given.values():
            chunk.add(unfinished(position, started=True))
        self._given.clear()
        while self._waiting:
            chunk, position, _ = self._waiting.popleft()
            chunk.add(unfinished(position))
