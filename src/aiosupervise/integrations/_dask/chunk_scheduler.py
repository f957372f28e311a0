"""Sends the jobs of a run to a cluster in chunks, each of which is one Dask task, and receives their outcomes.

Theory of operation. The pump hands over inputs one at a time, and a builder gathers them into chunks. At any moment,
only a few chunks per worker thread are unfinished. For each chunk, a task in the driver's event loop waits for the
result. Outcomes usually arrive earlier, through the poller. Only the first report of an outcome is recorded.

    add -> ChunkBuilder -> sent -> payloads, from polls and from the result -> OutcomeRecorder

Invariants, each with a test:
- Every job that was added has exactly one outcome, whatever happens to its worker.
- A chunk that Dask abandons because its workers died is retried once, and alone: another chunk on the same workers may
  have been the cause. When a worker dies, Dask counts this against every task that was assigned to the worker, whether
  running or queued: https://github.com/dask/distributed/issues/5234
- An outcome that a worker has produced is never withdrawn.
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
from aiosupervise._call.tasks import named_task
from aiosupervise._events.outcomes import I, Stopped
from aiosupervise._policy.checks import error_text
from aiosupervise.integrations._remote.chunk import Chunk
from aiosupervise.integrations._remote.chunk_builder import ChunkBuilder
from aiosupervise.integrations._remote.messages import ChunkResult, Phase
from aiosupervise.integrations._remote.outcome_recorder import OutcomeRecorder
from aiosupervise.integrations._remote.serialization import OutcomePayload, serialize

from .shielded import wait_shielded
from .worker import run_chunk

T = TypeVar("T")

# For each thread of a worker: one chunk that starts jobs, one whose slowest jobs remain, and one in the queue.
CHUNKS_PER_THREAD = 3

_CLOSE_TIMEOUT = 5.0  # seconds


class ChunkScheduler(Generic[T, I]):
    """The chunks of one run.

    Attributes:
        context: the engine context of the run.
        config: the serialized settings of the run, which are sent with every chunk.
        builder: gathers inputs into chunks.
        phase: the phase of the run.
        status: the name of a worker that has stopped of its own accord, and the reason; empty if none has.
    """

    def __init__(self, context: EngineContext[T, I], run_id: str, largest: int) -> None:
        self.context = context
        self.config = serialize(context.config)
        self.builder: ChunkBuilder[I] = ChunkBuilder(
            f"{context.config.name}-{run_id}", context.tally.total, largest, self._schedule
        )
        self.phase = Phase.RUNNING
        self.status = ""
        self._run_id = run_id
        self._largest = largest
        self._outcomes = OutcomeRecorder(context)
        self._loop = asyncio.get_running_loop()
        # Set by `open`; no chunk is sent before that.
        self._client: Client
        self._sent: dict[str, Chunk[I]] = {}
        # The futures of the sent chunks that can still be withdrawn.
        self._futures: dict[str, Future[Any]] = {}
        # Chunks to be sent one at a time, while no other chunk is on the cluster.
        self._quarantine: deque[Chunk[I]] = deque()
        # The tasks that wait for results, or withdraw chunks.
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def unfinished(self) -> int:
        """The number of jobs that have no outcome yet."""
        return self._outcomes.unfinished

    def open(self, client: Client) -> None:
        """Set the connected client through which chunks are sent."""
        self._client = client

    def job_names(self) -> list[str]:
        """Return the names of a few unfinished jobs, and how many more there are."""
        filling = self.builder.filling
        chunks = [*self._sent.values(), *self._quarantine, *([] if filling is None else [filling])]
        jobs = itertools.chain.from_iterable(chunk.jobs.values() for chunk in chunks)
        names = [self.context.job_name(item, index) for index, item in itertools.islice(jobs, 10)]
        return names if self.unfinished <= len(names) else [*names, f"and {self.unfinished - len(names)} more"]

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may be added: enough to complete the chunk being filled, or to fill a new chunk.

        There are slots for a few chunks per thread, or for twice the limit if that is more, so that each worker can
        reach its limit even with small chunks.
        """
        if self._is_isolating():
            return 0
        ahead, limit = CHUNKS_PER_THREAD * self.builder.threads, self.context.tally.limit
        free = max(ahead * self._largest, 2 * (limit or 0)) - taken
        if self.builder.filling is not None:
            return min(free, self.builder.filling.room)
        # A slow source does not fill its chunks, so a limit on jobs alone would allow too many chunks to be sent.
        if limit is not None and len(self._sent) >= max(ahead, 2 * limit):
            return 0
        size = self.builder.next_size()
        return size if free >= size else 0

    # Sending.

    def add(self, item: Any, index: int) -> None:
        """Put a job into a chunk.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        self.builder.add(item, index)
        self._outcomes.unfinished += 1

    def _schedule(self, chunk: Chunk[I]) -> None:
        if self._is_isolating():
            self._quarantine.append(chunk)
        else:
            self._send(chunk)

    def _is_isolating(self) -> bool:
        """Return whether chunks are sent one at a time, because a chunk is being, or will be, retried alone."""
        # No other chunk is sent while an isolated chunk is unfinished, so it is enough to check the first chunk.
        first = next(iter(self._sent.values()), None)
        return bool(self._quarantine) or (first is not None and first.is_isolated)

    def _send(self, chunk: Chunk[I]) -> None:
        self._sent[chunk.key] = chunk
        chunk.is_sent, chunk.sent = True, self._loop.time()
        task = self._create_task(self._run_chunk(chunk), f"{chunk.key} result")
        task.add_done_callback(partial(self._on_done, chunk))

    def _create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = named_task(self._loop, coroutine, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_chunk(self, chunk: Chunk[I]) -> None:
        future = self._futures[chunk.key] = self._submit(chunk)
        try:
            result: ChunkResult = await future
        finally:
            future.release()
            self._futures.pop(chunk.key, None)
            # The future refers to its error, whose traceback refers to this frame.
            del future
        self.receive(chunk.key, result.worker, result.payloads)
        self._check_worker(result)

    def _submit(self, chunk: Chunk[I]) -> Future[Any]:
        # The inputs are sent as one object, because Dask would search a list for futures.
        inputs = pickle.dumps(chunk.inputs)
        key = chunk.key
        return self._client.submit(run_chunk, key, self._run_id, self.config, inputs, key=key, pure=False, retries=0)

    # Receiving.

    def receive(self, key: str, worker: str, payloads: list[OutcomePayload]) -> None:
        """Record outcomes that a worker has sent, unless their chunk is done."""
        chunk = self._sent.get(key)
        if chunk is not None:
            self._outcomes.receive(chunk, worker, payloads)

    def _check_worker(self, result: ChunkResult) -> None:
        """End the run if the worker has ended its part of the run."""
        if result.expired and self.phase is not Phase.CANCELLED:
            why = f"worker {result.worker} {result.expired}, and has cancelled its jobs: is the driver's loop blocked?"
            self.context.fail(RuntimeError(why))
        if result.stopped and self.phase is Phase.RUNNING:
            self.status = f"worker {result.worker} {result.stopped}"
            self.context.stop(Stopped.PROBES)

    def _on_done(self, chunk: Chunk[I], task: asyncio.Task[None]) -> None:
        """Handle the end of a chunk, with or without a result."""
        del self._sent[chunk.key]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # The frames of the error's traceback refer to the chunk.
            error.__traceback__ = None
        # An event loop that shuts down cancels the task. Withdrawing the chunk, or losing the connection, cancels the
        # future.
        self._resolve(chunk, error, is_cancelled=task.cancelled() or isinstance(error, CancelledError))
        if error is not None:
            self._check_cluster(chunk, error)
        if self._quarantine and not self._sent:
            self._send(self._quarantine.popleft())
        if not self.unfinished:
            self.context.tally.running = 0
        self.context.wake()

    def _resolve(self, chunk: Chunk[I], error: BaseException | None, *, is_cancelled: bool) -> None:
        """Record an outcome for each unfinished job of a chunk, or have the chunk retried."""
        if is_cancelled or (self.phase is not Phase.RUNNING and isinstance(error, KilledWorker)):
            self._outcomes.record_pending(chunk)
        elif isinstance(error, KilledWorker) and chunk.jobs and not chunk.is_isolated:
            chunk.worker = error.last_worker.address
            self._quarantine.append(chunk.isolate())
        elif chunk.jobs:
            error = error or RuntimeError(f"the worker {chunk.worker} returned no outcome for this job")
            self._outcomes.record_failed(chunk, error, self._loop.time() - chunk.sent)

    def _check_cluster(self, chunk: Chunk[I], error: BaseException) -> None:
        """Make the run fail if the connection is lost, the chunk was cancelled by others, or a signal was received."""
        if not isinstance(error, Exception):
            self.context.fail(error)
        elif self._client.status != "running":
            self.on_disconnect(error)
        elif isinstance(error, CancelledError) and not chunk.is_withdrawn and self.phase is not Phase.CANCELLED:
            self._fail(f"{chunk.key} was cancelled on the cluster, but not by its run: {error_text(error)}", error)

    def on_disconnect(self, error: BaseException) -> None:
        """Make the run fail, because the scheduler cannot be reached."""
        self._fail(f"the connection to the cluster is lost: {error_text(error)}", error)

    def _fail(self, message: str, cause: BaseException) -> None:
        error = RuntimeError(message)
        error.__cause__ = cause
        self.context.fail(error)

    # Ending.

    def stop(self, phase: Phase) -> None:
        """Send no further chunks; record the unsent jobs as pending."""
        self.phase = phase
        filling = self.builder.take()
        unsent = [*([] if filling is None else [filling]), *self._quarantine]
        self._quarantine.clear()
        for chunk in unsent:
            self._outcomes.record_pending(chunk)

    def withdraw(self, held: Collection[str]) -> None:
        """Cancel the sent chunks on the cluster, except those that a worker holds.

        Call this method only when every worker has acknowledged that no further job may start: then no worker will
        begin a withdrawn chunk.
        """
        for key, chunk in self._sent.items():
            if key not in held and (future := self._futures.pop(key, None)) is not None:
                # The future is cancelled, not the task that awaits it, because Dask would otherwise log the
                # error of the future as never retrieved.
                self._create_task(_cancel(future), f"{key} withdrawn")
                chunk.is_withdrawn = True

    async def close(self) -> None:
        """Withdraw the chunks whose outcomes are all known from polls, and wait until every task has ended.

        A result that is being fetched cannot be withdrawn, and connecting to its worker may take a long time. The
        result is no longer needed, so the fetch is abandoned after a while. Its task is not cancelled, because Dask may
        have merged the fetch with others of the same client, which would be cancelled too.
        """
        self.withdraw(())
        await wait_shielded(list(self._tasks), _CLOSE_TIMEOUT)


async def _cancel(future: Future[Any]) -> None:
    # If the connection is lost, this raises an error, but the loss has cancelled the future anyway.
    with suppress(Exception):
        await future.cancel()
