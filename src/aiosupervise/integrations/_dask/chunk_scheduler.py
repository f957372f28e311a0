"""The jobs that a run has on a cluster, in chunks: filled by the pump, sent as Dask tasks, answered by records.

Theory of operation. The pump hands over inputs one at a time; they are packed and gathered into a chunk, which is sent
when it is full, or when nothing was added for a moment. Only a few are under way for each thread of the workers. One
task of ours waits for each; visits bring records meanwhile. A record counts once, whatever brings it first.

    add -> the chunk that is filled -> sent -> records, from visits and from the end of its task -> outcomes

Laws, each with a test:
- Every job that was added has exactly one outcome, whatever becomes of its worker.
- A chunk whose workers died too often is tried once more, alone, for it may only have been beside the culprit.
- What succeeded on a worker is never taken back.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections import deque
from collections.abc import Collection, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from distributed import Client, Future, KilledWorker

from aiosupervise._batch.protocol import EngineContext
from aiosupervise._events.outcomes import Failure, I, Outcome, Pending, Stopped, Success
from aiosupervise._events.records import WorkerLost
from aiosupervise.integrations._remote.messages import Done, Phase
from aiosupervise.integrations._remote.serialization import Record, error_of, pack, unsendable, value_of

from .chunk import Chunk, size_of_next
from .worker import do_chunk

T = TypeVar("T")

AHEAD = 3  # chunks for each thread of a worker: one that runs, one whose slowest jobs remain, one that waits there
_LINGER = 0.02  # seconds that an unfilled chunk waits for more


class Chunks(Generic[T, I]):
    """The chunks of one run."""

    def __init__(self, context: EngineContext[T, I], run: str, largest: int) -> None:
        self.context = context
        self.threads = 1  # of all workers; where there are none, a cluster that grows with its work must see some
        self.trouble = ""  # why a worker has given up
        self._run = run
        self._largest = largest
        self._spec = pack(context.config)
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._numbers = itertools.count(1)
        self._count = 0  # jobs that have no outcome
        self._given = 0  # jobs that were added
        self._phase = Phase.RUNNING
        self._filling: Chunk[I] | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._sent: dict[str, Chunk[I]] = {}
        self._queue: deque[Chunk[I]] = deque()  # to be tried one after the other, with nothing beside them
        self._tasks: set[asyncio.Task[None]] = set()  # that wait for chunks, or take them back

    def __len__(self) -> int:
        return self._count

    @property
    def spec(self) -> bytes:
        """What is sent with each chunk."""
        return self._spec

    def open(self, client: Client) -> None:
        """Know the way to the workers."""
        self._client = client

    def names(self) -> list[str]:
        """Return the names of a few jobs, for a warning."""
        chunks = [*self._sent.values(), *self._queue, *([] if self._filling is None else [self._filling])]
        jobs = itertools.chain.from_iterable(chunk.jobs.values() for chunk in chunks)
        names = [self.context.job_name(item, index) for index, item in itertools.islice(jobs, 10)]
        return names if self._count <= len(names) else [*names, f"and {self._count - len(names)} more"]

    def free_slots(self, taken: int) -> int:
        """Count how many more may start: a whole chunk, or what the one that is being filled still lacks."""
        if self._is_careful():
            return 0
        # A few chunks for each thread; of small chunks more, so that every worker can reach its limit.
        ahead, limit = AHEAD * self.threads, self.context.tally.limit
        free = max(ahead * self._largest, 2 * (limit or 0)) - taken
        if self._filling is not None:
            return min(free, self._filling.lacks)
        if limit is not None and len(self._sent) >= max(ahead, 2 * limit):  # a slow source fills none of them
            return 0
        size = self._size()
        return size if free >= size else 0

    def _size(self) -> int:
        return size_of_next(self._given, self.context.tally.total, self.threads, self._largest)

    # To the workers.

    def add(self, item: Any, index: int) -> None:
        """Put a job into the chunk that is being filled.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        try:
            packed = pack(item)
        except Exception as error:
            raise unsendable(index, item, error) from error
        if self._filling is None:
            self._filling = Chunk(f"{self.context.config.name}-{self._run}-{next(self._numbers)}", self._size())
            self._flushing = self._loop.call_later(_LINGER, self._flush)
        self._filling.add(packed, index, item)
        self._count += 1
        self._given += 1
        if not self._filling.lacks:
            self._flush()

    def _flush(self) -> None:
        for chunk in self._take_filling():
            if self._is_careful():
                self._queue.append(chunk)
            else:
                self._send(chunk)

    def _take_filling(self) -> list[Chunk[I]]:
        if self._flushing is not None:
            self._flushing.cancel()
        chunk, self._filling = self._filling, None
        return [] if chunk is None else [chunk]

    def _send(self, chunk: Chunk[I]) -> None:
        self._sent[chunk.key] = chunk
        chunk.sent = self._loop.time()
        task = self._begin(self._see_through(chunk), f"{chunk.key} on its way")
        task.add_done_callback(partial(self._came_back, chunk))

    def _begin(self, doing: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(doing, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _see_through(self, chunk: Chunk[I]) -> None:
        client = self._client
        assert client is not None  # noqa: S101 - for the type checkers
        packed = pickle.dumps(chunk.packed)  # one object: Dask looks into lists
        future = client.submit(do_chunk, chunk.key, self._run, self._spec, packed, key=chunk.key, pure=False, retries=0)
        chunk.future = future
        try:
            done: Done = await future
        finally:
            future.release()
            chunk.future = None
            del future  # it holds the error, and the error's traceback this frame
        self.take(chunk.key, done.worker, done.records)
        if done.lost and self._phase is not Phase.CANCELLED:
            why = f"worker {done.worker} {done.lost}, and has given up its part: is the loop of the driver blocked?"
            self.context.fail(RuntimeError(why))
        if done.stopped and self._phase is Phase.RUNNING:
            self.trouble = f"worker {done.worker} {done.stopped}"
            self.context.stop(Stopped.PROBES)

    # From the workers.

    def take(self, key: str, worker: str, records: list[Record]) -> None:
        """Take what a worker tells of a chunk."""
        chunk = self._sent.get(key)
        if chunk is None:
            return
        if chunk.jobs and chunk.worker not in ("", worker):
            chunk.began_elsewhere = True
            self.context.scope.emit(WorkerLost, chunk.worker, len(chunk.jobs))
        chunk.worker = worker
        for record in records:
            job = chunk.jobs.pop(record[0], None)
            if job is not None:
                self._ended(self._outcome(chunk, *job, record))

    def _outcome(self, chunk: Chunk[I], index: int, item: I, record: Record) -> Outcome[T, I]:
        _, packed, story, attempts, elapsed, reason, started = record
        name = self.context.job_name(item, index)
        error: BaseException | None
        if story is not None:
            error = error_of(packed, story, chunk.worker)
        elif packed is None:
            return self.context.pending(item, index, started=started or chunk.began_elsewhere)
        else:
            value, error = value_of(packed)
            if error is None:
                return Success(index, value, attempts, elapsed, name, item)  # type: ignore[arg-type]  # a T travelled
        return Failure(index, error, attempts, elapsed, reason, name, item)

    def _ended(self, outcome: Outcome[T, I]) -> None:
        self._count -= 1
        if not isinstance(outcome, Pending):
            self.context.tally.retries += outcome.attempts - 1
        self.context.record(outcome)

    def _came_back(self, chunk: Chunk[I], task: asyncio.Task[None]) -> None:
        """Hear that a chunk is done, or that it never will be."""
        del self._sent[chunk.key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            error.__traceback__ = None  # its frames are ours and Dask's, and hold the chunk
        # The end of the loop cancels the task, and whoever takes the chunk back, or loses the connection, the future.
        self._settle(chunk, error, is_cancelled=task.cancelled() or isinstance(error, CancelledError))
        if error is not None:
            self._fail_if_let_down(chunk, error)
        if self._queue and not self._sent:
            self._send(self._queue.popleft())
        if not self._count:
            self.context.tally.running = 0
        self.context.wake()

    def _settle(self, chunk: Chunk[I], error: BaseException | None, *, is_cancelled: bool) -> None:
        """Have the jobs that are left tried again, or give each its outcome."""
        if is_cancelled or (self._phase is not Phase.RUNNING and isinstance(error, KilledWorker)):
            self._all_pending(chunk)
        elif isinstance(error, KilledWorker) and chunk.jobs and not chunk.is_alone:
            chunk.worker = error.last_worker.address
            self._queue.append(chunk.again())
        elif chunk.jobs:
            self._all_failed(chunk, error or RuntimeError(f"the worker {chunk.worker} gave no outcome for this job"))

    def _fail_if_let_down(self, chunk: Chunk[I], error: BaseException) -> None:
        """Fail the run if the connection is lost, or if somebody else does away with its chunks."""
        if self._client is not None and self._client.status != "running":
            self.lose(error)
        elif isinstance(error, CancelledError) and not chunk.taken_back and self._phase is not Phase.CANCELLED:
            gone = RuntimeError(f"{chunk.key} was cancelled on the cluster, and not by its run: {error}")
            gone.__cause__ = error
            self.context.fail(gone)

    def _all_pending(self, chunk: Chunk[I]) -> None:
        seen = bool(chunk.worker) or chunk.began_elsewhere
        started = seen or (chunk.sent > 0 and not chunk.taken_back)  # who was not asked may have begun
        for index, item in chunk.drained():
            self._ended(self.context.pending(item, index, started=started))

    def _all_failed(self, chunk: Chunk[I], error: BaseException) -> None:
        elapsed = self._loop.time() - chunk.sent
        for index, item in chunk.drained():
            self._ended(Failure(index, error, 1, elapsed, None, self.context.job_name(item, index), item))

    def lose(self, error: BaseException) -> None:
        """Stop the run: the cluster does not answer."""
        gone = RuntimeError(f"the connection to the cluster is lost: {error!r}")
        gone.__cause__ = error
        self.context.fail(gone)

    def _is_careful(self) -> bool:
        """Tell whether chunks go one after the other: while some wait for that, and while the last of them is tried."""
        return bool(self._queue) or any(chunk.is_alone for chunk in itertools.islice(self._sent.values(), 1))

    # The ways to end.

    def stop(self, phase: Phase) -> None:
        """Send nothing more: what waits here is pending."""
        self._phase = phase
        waiting = [*self._take_filling(), *self._queue]
        self._queue.clear()
        for chunk in waiting:
            self._all_pending(chunk)

    def take_back(self, there: Collection[str]) -> None:
        """Take back the chunks that no worker has or had, when all have heard that nothing new is to start."""
        for key, chunk in self._sent.items():
            if key not in there and chunk.future is not None:
                # The future, not the task that waits for it: Dask would leave an error behind that nobody retrieves.
                self._begin(_cancel(chunk.future), f"{key} taken back")
                chunk.future, chunk.taken_back = None, True

    async def close(self) -> None:
        """Take back the chunks that have no job left: visits told of them before Dask did."""
        self.take_back(())
        while self._tasks:
            await asyncio.wait(self._tasks)


async def _cancel(future: Future[Any]) -> None:
    with suppress(Exception):  # of a lost connection, which cancels it too
        await future.cancel()
