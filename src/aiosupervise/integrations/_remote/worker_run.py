"""One worker's part of a run: an ordinary run of this library, whose source yields the inputs of all its chunks.

Theory of operation. A chunk adds its inputs to the source, waits until each has an outcome, and returns the outcomes.
`limit`, the retry budget and its pauses therefore apply to the worker as a whole. As soon as all jobs of a chunk have
started, the next chunk may begin, so that the slowest jobs of one chunk do not leave the worker idle. In the meantime
the driver polls for outcomes. At the end a chunk returns all its outcomes again, because a reply to a poll may be lost.

Invariants, each with a test:
- If the driver has not polled for the duration of the lease, it is considered lost: the jobs are cancelled, and the
  worker forgets the run.
- A job cannot end its worker, except by ending the process, as a signal does.
- When the run ends, a completed chunk is still reported as held: otherwise the driver would mistake it for a chunk that
  no worker has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiosupervise._batch.api import map_all
from aiosupervise._batch.protocol import EngineConfig
from aiosupervise._batch.run import Run, status_of
from aiosupervise._call.tasks import named_task, wait_until_done

from .chunk_source import ChunkSource, WorkerChunk
from .messages import Phase, PollReply
from .serialization import OutcomePayload, remote_error

LEASE = 300.0  # seconds

# The number of completed chunks whose keys a worker keeps. The result of a chunk reaches the driver long before this
# many other chunks are complete.
_MAX_DONE = 1000


def contain_exits(func: Callable[[Any], Awaitable[object]]) -> Callable[[Any], Awaitable[object]]:
    """Return a wrapper that converts an exit raised by a job to an error, which does not end the event loop."""

    async def call(item: object) -> object:
        try:
            return await func(item)
        except (KeyboardInterrupt, SystemExit) as error:
            raise remote_error(error, "a job must not end its worker") from None

    return call


class WorkerRun:
    """The jobs of one run on one worker.

    Attributes:
        stopped: why the run stopped of its own accord on this worker; empty if it has not.
        expired: why the worker cancelled the run; empty if it has not.
    """

    def __init__(self, config: EngineConfig[Any, Any], on_expired: Callable[[str], object]) -> None:
        """Start the run, in the running loop.

        Args:
            config: the settings of the run.
            on_expired: called with the reason when the driver is considered lost.

        """
        self.stopped = ""
        self.expired = ""
        self._on_expired = on_expired
        self._phase = Phase.RUNNING
        self._chunks: dict[str, WorkerChunk] = {}
        self._done: deque[str] = deque(maxlen=_MAX_DONE)
        self._source = ChunkSource()
        self._run: Run[object, object] = map_all(
            contain_exits(config.func),
            self._source,
            strategy="as_completed",
            limit=config.limit,
            overload=config.overload,
            name=config.name,
        )
        self._loop = asyncio.get_running_loop()
        self._task = named_task(self._loop, self._work(), f"{config.name} on a worker")
        self._lease = self._loop.call_later(LEASE, self._expire)

    async def run_chunk(
        self, key: str, inputs: list[bytes], on_all_started: Callable[[], None]
    ) -> list[OutcomePayload]:
        """Run the jobs of a chunk; return their outcomes in the order in which they ended."""
        chunk = self._chunks[key] = WorkerChunk(len(inputs))
        self._source.add(chunk, inputs)
        if self._task.done():
            self._source.record_pending()
        try:
            await chunk.all_started.wait()
            if not chunk.all_done.is_set():
                on_all_started()
            await chunk.all_done.wait()
        finally:
            del self._chunks[key]
            self._done.append(key)
        return chunk.payloads

    def poll(self, phase: Phase) -> PollReply:
        """Renew the lease, move the run to this phase, and return its new outcomes and its counts."""
        self._lease.cancel()
        self._lease = self._loop.call_later(LEASE, self._expire)
        self._advance(phase)
        tally = self._run.tally
        chunks = {key: chunk.take_unreported() for key, chunk in self._chunks.items()}
        if phase is not Phase.RUNNING:
            chunks |= {key: [] for key in self._done}
        return PollReply(tally.running, tally.limit, self.stopped or self._status(), chunks)

    def held_chunks(self) -> list[str]:
        """Return the keys of the chunks that have begun here, except for those that were completed long ago."""
        return [*self._chunks, *self._done]

    async def close(self) -> None:
        """Cancel the running jobs, and wait until they have ended."""
        self._lease.cancel()
        self._advance(Phase.CANCELLED)
        await wait_until_done(self._task, lambda: None)

    def _expire(self) -> None:
        self.expired = f"has not been polled by the driver for {LEASE:g} s"
        self._on_expired(self.expired)
        self._task.cancel()

    def _advance(self, phase: Phase) -> None:
        if phase > self._phase:
            self._phase = phase
            # The phase is applied in the next iteration, because a run whose task has not begun cannot be stopped.
            self._loop.call_soon(self._apply_phase)

    def _apply_phase(self) -> None:
        if self._phase is Phase.CANCELLED:
            self._task.cancel()
        else:
            self._run.stop()

    def _status(self) -> str:
        return status_of(self._run) if self._phase is Phase.RUNNING else ""

    async def _work(self) -> None:
        try:
            async with self._run as run:
                async for outcome in run:
                    self._source.record(outcome)
        except asyncio.CancelledError:
            # This is how the run is cancelled. The task has nothing else to do, and ends.
            pass
        finally:
            if self._phase is Phase.RUNNING:
                self.stopped = "" if self.expired else (self._status() or "has ended its part of the run")
            try:
                for outcome in self._run.report:
                    self._source.record(outcome)
            finally:
                self._source.record_pending()
