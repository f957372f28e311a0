"""A chunk of jobs, as the driver knows it, and how large the next one is to be."""

from __future__ import annotations

from typing import Any, Generic

from distributed import Future

from aiosupervise._events.outcomes import I

_HEAVY = 1_000_000  # bytes after which a chunk is full: with ten times as many Dask warns


class Chunk(Generic[I]):
    """Some jobs on their way."""

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.lacks = size  # so many jobs that there is room for
        self.packed: list[bytes] = []
        self.jobs: dict[int, tuple[int, I]] = {}  # those without an outcome: place in the chunk, index and input
        self.worker = ""  # the one that was last seen to have it
        self.began_elsewhere = False
        self.is_alone = False
        self.taken_back = False
        self.sent: float = 0.0
        self.future: Future[Any] | None = None  # while it can be taken back
        self._bytes = 0

    def add(self, packed: bytes, index: int, item: I) -> None:
        """Add a job."""
        self.jobs[len(self.packed)] = index, item
        self.packed.append(packed)
        self._bytes += len(packed)
        self.lacks = self.lacks - 1 if self._bytes < _HEAVY else 0

    def again(self) -> Chunk[I]:
        """Make a chunk of the jobs that still have no outcome, to be tried alone."""
        chunk: Chunk[I] = Chunk(f"{self.key}-alone", len(self.jobs))
        chunk.worker, chunk.began_elsewhere, chunk.is_alone = self.worker, True, True
        for position, job in self.jobs.items():
            chunk.add(self.packed[position], *job)
        return chunk

    def drained(self) -> list[tuple[int, I]]:
        """Take out the jobs that have no outcome, in the order of their inputs."""
        jobs = [self.jobs[position] for position in sorted(self.jobs)]
        self.jobs.clear()
        return jobs


def size_of_next(given: int, total: int | None, threads: int, largest: int) -> int:
    """Decide the size of a chunk: small ones first, or last where the end is known, so that all workers get a share."""
    if total is None:
        rounds = given // (threads * largest // 4 + 1)
        size = max(largest // 16, 1) << min(rounds, 4)
    else:
        size = (total - given) // (2 * threads)
    return max(min(size, largest), 1)
