"""Gathers the inputs of a run into chunks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic

from aiosupervise._events.outcomes import I

from .chunk import Chunk, size_of_next
from .serialization import serialize, unpicklable_input

# Seconds that an unfilled chunk waits for more inputs.
_LINGER = 0.02


class ChunkBuilder(Generic[I]):
    """Fills one chunk at a time, and delivers it when it is full or has waited long enough.

    Attributes:
        threads: the number of threads of all workers.
    """

    def __init__(self, prefix: str, total: int | None, largest: int, deliver: Callable[[Chunk[I]], None]) -> None:
        """Create a builder.

        Args:
            prefix: the beginning of each chunk's key.
            total: the number of inputs in the source; None if unknown.
            largest: the maximum number of inputs in a chunk.
            deliver: receives each chunk.
        """
        # At least 1: a cluster that is scaled by its load starts its first worker only when there is a chunk to run.
        self.threads = 1
        self._prefix = prefix
        self._total = total
        self._largest = largest
        self._deliver = deliver
        self._numbers = itertools.count(1)
        self._given = 0
        self._filling: Chunk[I] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def filling(self) -> Chunk[I] | None:
        """The chunk that is being filled; None if there is none."""
        return self._filling

    def next_size(self) -> int:
        """Return the size that the next chunk will have."""
        return size_of_next(self._given, self._total, self.threads, self._largest)

    def add(self, item: I, index: int) -> None:
        """Add an input.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        try:
            serialized = serialize(item)
        except Exception as error:
            raise unpicklable_input(index, item, error) from error
        if self._filling is None:
            self._filling = Chunk(f"{self._prefix}-{next(self._numbers)}", self.next_size())
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self.flush)
        self._filling.add(serialized, index, item)
        self._given += 1
        if not self._filling.room:
            self.flush()

    def flush(self) -> None:
        """Deliver the chunk that is being filled."""
        chunk = self.take()
        if chunk is not None:
            self._deliver(chunk)

    def take(self) -> Chunk[I] | None:
        """Remove and return the chunk that is being filled; None if there is none."""
        if self._timer is not None:
            self._timer.cancel()
        chunk, self._filling = self._filling, None
        return chunk
