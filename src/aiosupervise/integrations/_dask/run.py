"""The driver's part of a run on a cluster: the implementation of the engine protocol.

The chunk scheduler manages the jobs, and the poller manages the workers. This module manages the connection to the
cluster, which both need, and the ways in which a run ends.

Invariants, each with a test:
- A run that ends before it is connected does not wait for the connection.
- When `close` returns, nothing of the run is left: no task on the driver, and nothing on any worker that replies. This
  also holds if the task of the run is cancelled in every iteration of the event loop.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Protocol

from distributed import Client

from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise._call.tasks import named_task, wait_until_done
from aiosupervise.integrations._remote.messages import Phase

from .chunk_scheduler import ChunkScheduler
from .poller import Poller


class Connector(Protocol):
    """Connects to the cluster."""

    async def connect(self) -> Client:
        """Return a connected client."""
        ...

    async def disconnect(self, client: Client) -> None:
        """Close the client if `connect` created it."""
        ...


class DaskRun(EngineRun):
    """The jobs of one run on a cluster."""

    def __init__(self, context: EngineContext[Any, Any], connector: Connector, largest: int) -> None:
        super().__init__(context)
        run_id = uuid.uuid4().hex
        self._connector = connector
        self._scheduler: ChunkScheduler[Any, Any] = ChunkScheduler(context, run_id, largest)
        self._poller = Poller(run_id, self._scheduler)
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closing = False

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start."""
        return self._scheduler.free_slots(taken)

    def job_names(self) -> list[str]:
        """Return the names of a few unfinished jobs; at the end, a description of what the run is waiting for."""
        return ["the workers, which close the run"] if self._is_closing else self._scheduler.job_names()

    def start_job(self, item: Any, index: int) -> None:
        """Add a job to the chunk that is sent next.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        self._scheduler.add(item, index)

    def status(self) -> str:
        """Return the name of a worker that starts no jobs at the moment, and the reason, or an empty string."""
        return self._scheduler.status or self._poller.status()

    async def open(self) -> None:
        """Connect to the cluster, and find its workers."""
        name = f"{self.context.config.name} opening"
        opening = self._opening = named_task(asyncio.get_running_loop(), self._open(), name)
        opening.add_done_callback(_retrieve_error)
        try:
            await wait_until_done(opening, self._cancel_opening)
            if not opening.cancelled() and opening.exception() and self._scheduler.phase is Phase.RUNNING:
                opening.result()
        finally:
            # The task refers to its error, whose traceback refers to this frame, and thus to the run.
            self._opening = None
            del opening

    async def _open(self) -> None:
        self._client = client = await self._connector.connect()
        self._scheduler.open(client)
        await self._poller.open(client)

    def stop(self) -> None:
        """Let running jobs finish; the workers start no others, and record the rest as pending."""
        self._advance(Phase.STOPPED)

    def cancel(self, *, already_cancelled: bool) -> None:  # noqa: ARG002 - see below
        """Cancel the running jobs on the workers.

        A loop that shuts down cancels only the tasks that wait for results; the jobs run as tasks in other loops.
        """
        self._advance(Phase.CANCELLED)

    def _advance(self, phase: Phase) -> None:
        if phase <= self._scheduler.phase:
            return
        self._cancel_opening()
        self._scheduler.stop(phase)
        self._poller.poll_now()

    def _cancel_opening(self) -> None:
        # No chunk is sent before the run is open. The shutdown of the loop also cancels the task, and one cancellation
        # is enough.
        if self._opening is not None and not self._opening.cancelling():
            self._opening.cancel()

    async def close(self) -> None:
        """Close the run on the workers, and disconnect."""
        self._is_closing = True
        if self._client is None:
            return
        try:
            await self._scheduler.close()
            await self._poller.close(self._client)
        finally:
            await self._connector.disconnect(self._client)


def _retrieve_error(task: asyncio.Task[None]) -> None:
    """Prevent the loop from logging the error of a task that was cancelled too late."""
    if not task.cancelled():
        task.exception()
