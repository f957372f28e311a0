"""The driver's side of a run on a cluster, as the engine under the strategies knows it.

What the engine asks goes on to the chunks, which have the jobs, and to the visits, which know the workers. Here is what
both need: the way to the cluster, and the ways in which a run ends.

Laws, each with a test:
- A run that ends before it has connected does not wait for the connection.
- When `close` returns nothing of the run is left: no task here, and nothing on any worker that answers.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Protocol

from distributed import Client

from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise.integrations._remote.messages import Phase

from .chunk_scheduler import Chunks
from .poller import Visits


class Link(Protocol):
    """The way to the cluster."""

    async def connect(self) -> Client:
        """Return a client that is connected."""
        ...

    async def disconnect(self, client: Client) -> None:
        """Close it, if it was made here."""
        ...


class DaskRun(EngineRun):
    """The jobs of one run on a cluster."""

    def __init__(self, context: EngineContext[Any, Any], link: Link, largest: int) -> None:
        super().__init__(context)
        run = uuid.uuid4().hex
        self._name = context.config.name
        self._link = link
        self._chunks: Chunks[Any, Any] = Chunks(context, run, largest)
        self._visits = Visits(run, context.config.name, self._chunks)
        self._phase = Phase.RUNNING
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closing = False

    def free_slots(self, taken: int) -> int:
        """Count how many more may start."""
        return self._chunks.free_slots(taken)

    def job_names(self) -> list[str]:
        """Return the names of a few jobs, for a warning, or of what the run waits for instead."""
        return ["the workers, which are to forget the run"] if self._is_closing else self._chunks.names()

    def start_job(self, item: Any, index: int) -> None:
        """Send a job.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        self._chunks.add(item, index)

    def status(self) -> str:
        """Tell which worker pauses or has given up, and why."""
        return self._chunks.trouble or self._visits.trouble()

    async def open(self) -> None:
        """Connect, and see who is there."""
        opening = self._opening = asyncio.create_task(self._open(), name=f"{self._name} opening")
        await asyncio.wait([opening])
        self._opening = None
        try:
            if not opening.cancelled() and opening.exception() and self._phase is Phase.RUNNING:
                opening.result()
        finally:
            del opening  # it holds the error, and the error's traceback this frame

    async def _open(self) -> None:
        self._client = client = await self._link.connect()
        self._chunks.open(client)
        await self._visits.open(client)

    def stop(self) -> None:
        """Tell the workers that nothing new starts; what has not started there becomes pending."""
        self._go_to(Phase.STOPPED)

    def cancel(self, *, already_cancelled: bool) -> None:  # noqa: ARG002 - a loop that shuts down cancels the tasks that wait for chunks
        """Tell the workers to cancel what runs."""
        self._go_to(Phase.CANCELLED)

    def _go_to(self, phase: Phase) -> None:
        if phase <= self._phase:
            return
        self._phase = phase
        # Nothing was sent before the way was open. The end of the loop cancels by itself, and once is enough.
        if self._opening is not None and not self._opening.cancelling():
            self._opening.cancel()
        self._visits.tell(phase)
        self._chunks.stop(phase)

    async def close(self) -> None:
        """Let the workers forget the run, and disconnect."""
        self._is_closing = True
        try:
            if self._opening is not None:  # the end of the loop, which cancels everything, did not wait for it
                await asyncio.wait([self._opening])
            if self._client is not None:
                await self._chunks.close()
                await self._visits.close(self._client)
        finally:
            if self._client is not None:
                await self._link.disconnect(self._client)
