"""The source of a worker run, which yields the inputs of one chunk after another and never ends."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from aiosupervise._events.outcomes import Outcome

from .serialization import OutcomePayload, deserialize, failed_input_payload, outcome_payload, pending_payload


class WorkerChunk:
    """A chunk on its worker.

    Attributes:
        payloads: the outcomes of the jobs, in the order in which they ended.
        all_started: set when each job has started, or has an outcome.
        all_done: set when each job has an outcome.
    """

    def __init__(self, size: int) -> None:
        self.payloads: list[OutcomePayload] = []
        self.all_started = asyncio.Event()
        self.all_done = asyncio.Event()
        self._size = size
        self._started = 0
        self._reported = 0

    def on_start(self) -> None:
        """Count a job that is about to start."""
        self._started += 1
        if self._started == self._size:
            self.all_started.set()

    def add(self, payload: OutcomePayload) -> None:
        """Add the outcome of a job."""
        self.payloads.append(payload)
        if len(self.payloads) == self._size:
            self.all_started.set()
            self.all_done.set()

    def take_unreported(self) -> list[OutcomePayload]:
        """Return the outcomes that have not been returned before."""
        start, self._reported = self._reported, len(self.payloads)
        return self.payloads[start:]


class ChunkSource:
    """The inputs of all chunks, as an async iterator; it also assigns each outcome to the chunk of its input."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[WorkerChunk, int, bytes]] = deque()
        # Chunk and position of each job, by its index in the worker run.
        self._unfinished: dict[int, tuple[WorkerChunk, int]] = {}
        self._count = 0
        self._arrival = asyncio.Event()

    def add(self, chunk: WorkerChunk, inputs: list[bytes]) -> None:
        """Add the serialized inputs of a chunk."""
        self._waiting.extend((chunk, position, serialized) for position, serialized in enumerate(inputs))
        self._arrival.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        while True:
            while not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
            chunk, position, serialized = self._waiting[0]
            failed = None
            try:
                item = deserialize(serialized)
            except Exception as error:
                failed = failed_input_payload(position, error)
            # The job is removed only now: if a signal interrupts the unpickling, it becomes pending like the waiting
            # jobs.
            self._waiting.popleft()
            chunk.on_start()
            if failed is not None:
                chunk.add(failed)
                continue
            self._unfinished[self._count] = chunk, position
            self._count += 1
            return item

    def record(self, outcome: Outcome[object, object]) -> None:
        """Add an outcome to the chunk of its input."""
        chunk, position = self._unfinished[outcome.index]
        chunk.add(outcome_payload(position, outcome))
        del self._unfinished[outcome.index]

    def record_pending(self) -> None:
        """Record every job without an outcome as pending, whether it was pulled or not.

        The method is not named `close`, because a run closes its source as soon as it needs no more items, and outcomes
        may follow after that.
        """
        for chunk, position in self._unfinished.values():
            chunk.add(pending_payload(position, started=True))
        self._unfinished.clear()
        while self._waiting:
            chunk, position, _ = self._waiting.popleft()
            chunk.add(pending_payload(position))
