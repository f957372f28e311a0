"""The part of a run that one worker does: a run of our own runner, which all chunks that come there feed.

Theory of operation. A chunk puts its inputs into the feed, waits until each has an outcome, and returns their records.
So `limit`, the retry budget and its pauses hold for the worker as a whole. As soon as all inputs of a chunk have
started it gives way, and the next one begins: the slowest jobs of one chunk do not keep the worker waiting. Visits of
the driver learn what is new. A chunk returns all its records in the end, those too that a visit has told: a visit may
get lost.

Laws, each with a test:
- A driver that is not heard of for long is gone: its part is cancelled, and the worker forgets it.
- A job cannot end its worker, except by ending the process as a signal does.
- A chunk that was just done is told like one that is there: a driver that ends its run does not take it for one that
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

from .chunk_source import Feed, LocalChunk
from .messages import News, Phase
from .serialization import Record, remote_error

LEASE = 300.0  # seconds: a driver that has not called for so long is gone
_REMEMBERED = 1000  # chunks that were done; their results reach the driver long before so many others have come


def contained(func: Callable[[Any], Awaitable[object]]) -> Callable[[Any], Awaitable[object]]:
    """Keep what would end the loop of this process from doing that to the worker, and to the jobs of others."""

    async def call(item: object) -> object:
        try:
            return await func(item)
        except (KeyboardInterrupt, SystemExit) as error:
            raise remote_error(error, "a job does not end its worker") from None

    return call


class Part:
    """One worker's part of a run; `forget` is called with the reason if the driver is gone."""

    def __init__(self, spec: EngineConfig[Any, Any], forget: Callable[[str], object]) -> None:
        self.stopped = ""  # why it has given up
        self.lost = ""  # why it was cancelled here
        self._forget = forget
        self._phase = Phase.RUNNING
        self._chunks: dict[str, LocalChunk] = {}
        self._done: deque[str] = deque(maxlen=_REMEMBERED)
        self._feed = Feed()
        self._run: Run[object, object] = map_all(
            contained(spec.func),
            self._feed,
            strategy="as_completed",
            limit=spec.limit,
            overload=spec.overload,
            name=spec.name,
        )
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._work(), name=f"{spec.name} on a worker")
        self._lease = self._loop.call_later(LEASE, self._expire)

    async def do(self, key: str, items: list[bytes], give_way: Callable[[], None]) -> list[Record]:
        """Do the jobs of a chunk; `give_way` is called when the next chunk may come."""
        chunk = self._chunks[key] = LocalChunk(len(items))
        self._feed.put(chunk, items)
        if self._task.done():
            self._feed.give_up()
        try:
            await chunk.begun.wait()
            if not chunk.ended.is_set():
                give_way()
            await chunk.ended.wait()
        finally:
            del self._chunks[key]
            self._done.append(key)
        return chunk.records

    def visit(self, phase: Phase) -> News:
        """Take the driver's word, and tell what is new."""
        self._lease.cancel()
        self._lease = self._loop.call_later(LEASE, self._expire)
        self._go_to(phase)
        tally = self._run.tally
        chunks = {key: chunk.news() for key, chunk in self._chunks.items()}
        if phase is not Phase.RUNNING:
            chunks |= {key: [] for key in self._done}
        return News(tally.running, tally.limit, self.stopped or self._trouble(), chunks)

    async def end(self) -> None:
        """Cancel what is left, and wait until it has ended."""
        self._lease.cancel()
        self._go_to(Phase.CANCELLED)
        await asyncio.wait([self._task])

    def _expire(self) -> None:
        self.lost = f"has not heard of the driver for {LEASE:g} s"
        self._forget(self.lost)
        self._task.cancel()

    def _go_to(self, phase: Phase) -> None:
        if phase > self._phase:
            self._phase = phase
            self._loop.call_soon(self._obey)  # not now: the task may not have begun

    def _obey(self) -> None:
        if self._phase is Phase.CANCELLED:
            self._task.cancel()
        else:
            self._run.stop()

    def _trouble(self) -> str:
        return status_of(self._run) if self._phase is Phase.RUNNING else ""

    async def _work(self) -> None:
        try:
            async with self._run as run:
                async for outcome in run:
                    self._feed.ended(outcome)
        except asyncio.CancelledError:
            pass  # the one way to cancel a run; what it ended becomes pending
        finally:
            if self._phase is Phase.RUNNING:
                self.stopped = "" if self.lost else (self._trouble() or "has ended its part of the run")
            self._phase = Phase.CANCELLED
            for outcome in self._run.report:
                self._feed.ended(outcome)
            self._feed.give_up()
