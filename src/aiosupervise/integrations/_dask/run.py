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
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from distributed import Client

from aiosupervise._batch.protocol import EngineContext
from aiosupervise._events.outcomes import I, Pending
from aiosupervise.integrations._remote.messages import Phase

from .chunk_scheduler import Chunks
from .poller import Visits

T = TypeVar("T")


class Link(Protocol):
    """The way to the cluster."""

    async def connect(self) -> Client:
        """Return a client that is connected."""
        ...

    async def disconnect(self, client: Client) -> None:
        """Close it, if it was made here."""
        ...


class RemoteJobs(Generic[T, I]):
    """The jobs of one run on a cluster."""

    def __init__(self, order: EngineContext[T, I], link: Link, largest: int) -> None:
        run = uuid.uuid4().hex
        self._name = order.name
        self._link = link
        self._chunks: Chunks[T, I] = Chunks(order, run, largest)
        self._visits = Visits(run, order.name, self._chunks)
        self._phase = Phase.RUNNING
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._chunks)

    def __contains__(self, item: object) -> bool:
        return False  # an input may come as often as it likes

    def free_slots(self, taken: int) -> int:
        """Count how many more may start."""
        return self._chunks.free_slots(taken)

    def names(self) -> list[str]:
        """Return the names of a few jobs, for a warning, or of what the run waits for instead."""
        return ["the workers, which are to forget the run"] if self._is_closing else self._chunks.names()

    def name_for(self, item: object, index: int) -> str:  # noqa: ARG002 - other engines name it by what it is
        """Return the name that a job has."""
        return self._chunks.name_for(index)

    def start(self, item: Any, index: int) -> None:
        """Send a job.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        self._chunks.add(item, index)

    def pending(self, item: Any, index: int, name: str, *, started: bool) -> Pending[T, I]:  # noqa: ARG002 - as above
        """Make the outcome of a job that the end of the run came before."""
        return self._chunks.pending(item, index, started=started)

    def trouble(self) -> str:
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

    def cancel(self, *, reach: bool) -> None:  # noqa: ARG002 - who cancels all tasks cancels those that wait for chunks
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

    def let_go(self) -> None:
        """Forget the run, which has ended."""
        nothing: Any = lambda *_: None  # noqa: E731 - for all four
        chunks = self._chunks
        chunks.order = replace(chunks.order, record=nothing, wake=nothing, stop=nothing, fail=nothing)
