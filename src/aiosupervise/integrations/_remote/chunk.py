"""A chunk of jobs on the driver, and the rule for the size of the next chunk."""

from __future__ import annotations

from typing import Generic

from aiosupervise._events.outcomes import I

# A chunk is full after this number of bytes of inputs. Dask logs a warning above ten times this number.
_MAX_BYTES = 1_000_000


class Chunk(Generic[I]):
    """Jobs that are sent together.

    Attributes:
        key: the name of the chunk, also on the cluster.
        room: the number of further jobs that it can hold.
        inputs: the serialized inputs, by position.
        jobs: index and input of the jobs that have no outcome yet, by position.
        worker: the address of the worker that last reported the chunk; empty if none has.
        restarted: True if the chunk was moved to another worker, so that any of its jobs may have started before.
        is_isolated: True if the chunk is retried alone.
        is_withdrawn: True if the driver has cancelled the chunk on the cluster.
        is_sent: True if the chunk was sent.
        sent: the time at which the chunk was sent, on the loop's clock.
    """

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.room = size
        self.inputs: list[bytes] = []
        self.jobs: dict[int, tuple[int, I]] = {}
        self.worker = ""
        self.restarted = False
        self.is_isolated = False
        self.is_withdrawn = False
        self.is_sent = False
        self.sent = 0.0
        self._bytes = 0

    @property
    def may_have_started(self) -> bool:
        """True if unfinished jobs of the chunk may have started; False if no worker has received the chunk."""
        return bool(self.worker) or self.restarted or (self.is_sent and not self.is_withdrawn)

    def add(self, serialized: bytes, index: int, item: I) -> None:
        """Add a job."""
        self.jobs[len(self.inputs)] = index, item
        self.inputs.append(serialized)
        self._bytes += len(serialized)
        self.room = self.room - 1 if self._bytes < _MAX_BYTES else 0

    def isolate(self) -> Chunk[I]:
        """Return a chunk of the unfinished jobs, to be retried alone."""
        chunk: Chunk[I] = Chunk(f"{self.key}-alone", len(self.jobs))
        chunk.worker, chunk.restarted, chunk.is_isolated = self.worker, True, True
        for position, job in self.jobs.items():
            chunk.add(self.inputs[position], *job)
        return chunk

    def drain(self) -> list[tuple[int, I]]:
        """Remove and return the unfinished jobs, in the order of their inputs."""
        jobs = [self.jobs[position] for position in sorted(self.jobs)]
        self.jobs.clear()
        return jobs


def size_of_next(given: int, total: int | None, threads: int, largest: int) -> int:
    """Return the size of the next chunk.

    If the length of the source is known, the last chunks are small; otherwise the first chunks are small. In both
    cases, every worker receives some of the jobs.

    Args:
        given: the number of jobs in the previous chunks.
        total: the number of jobs in the whole source; None if unknown.
        threads: the number of threads of all workers.
        largest: the size of the largest chunk.
    """
    if total is None:
        rounds = given // (threads * largest // 4 + 1)
        size = max(largest // 16, 1) << min(rounds, 4)
    else:
        size = (total - given) // (2 * threads)
    return max(min(size, largest), 1)
