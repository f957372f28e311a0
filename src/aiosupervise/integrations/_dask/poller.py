"""Visits to the workers: who is there, what is new, and the word that the run has stopped or is cancelled.

Theory of operation. Ten times a second the scheduler is asked for its workers, and each of them is visited. That brings
the outcomes of chunks that are not done yet, and tells the worker how far the run is. A worker that does not answer
keeps nobody waiting: the others are visited meanwhile.

Laws, each with a test:
- Stop and cancel are told to all workers, again and again, so that one that has just come hears of it too.
- Visits are a help, and no more: if they fail, outcomes come with the ends of their chunks.
- At the end every worker is told to forget the run; one that does not answer is left alone after a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from distributed import Client

from aiosupervise.integrations._remote.messages import News, Phase

from .chunk_scheduler import Chunks
from .worker import check_spec, end_part, visit_part

INTERVAL = 0.1  # seconds between two visits
_FOR_EACH = 0.005  # seconds more between two visits for each worker, so that the scheduler has other work too
_PATIENCE = 5.0  # seconds for the workers to answer at the start and at the end; the silent are gone, or blocked


class _Worker:
    """What is known of a worker."""

    def __init__(self) -> None:
        self.heard: Phase | None = None  # the last word that it was told
        self.news: News | None = None
        self.is_asked = False  # a visit is under way


class Visits:
    """The visits of one run."""

    def __init__(self, run: str, name: str, chunks: Chunks[Any, Any]) -> None:
        self._run = run
        self._name = name
        self._chunks = chunks
        self._limit = chunks.context.tally.limit  # of each worker
        self._loop = asyncio.get_running_loop()
        self._phase = Phase.RUNNING
        self._workers: dict[str, _Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()

    async def open(self, client: Client) -> None:
        """See which workers there are, and that they can unpickle the function; begin to visit them."""
        self._staff(await client.nthreads())
        for error in await self._ask_all(client, check_spec, self._chunks.spec):
            if error and not isinstance(error, OSError):  # that is of a worker just lost
                raise RuntimeError(
                    f"the workers cannot unpickle {self._name}: are its module and aiosupervise installed there, in "
                    f"the same versions? {error}"
                )
        self._begin(self._go_round(client), "round")

    def trouble(self) -> str:
        """Tell which worker pauses, and why."""
        told = ((address, worker.news.trouble) for address, worker in self._workers.items() if worker.news)
        return next((f"worker {address} {trouble}" for address, trouble in told if trouble), "")

    def tell(self, phase: Phase) -> None:
        """Let all workers know how far the run is."""
        self._phase = phase
        self._hurry.set()

    async def close(self, client: Client) -> None:
        """Let the workers forget the run."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(Exception):  # of a lost connection, or none in time
            async with asyncio.timeout(_PATIENCE):
                self._staff(await client.nthreads())
        await self._ask_all(client, end_part, self._run)

    async def _ask_all(self, client: Client, *what: Any) -> list[Any]:
        """Call a function on all workers at once, and wait a while; return the answers, or errors in their place."""
        asked = [self._begin(_ask(client, address, *what), f"question to {address}") for address in self._workers]
        if not asked:
            return []
        try:
            await asyncio.wait(asked, timeout=_PATIENCE)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        return [task.result() for task in asked if not task.cancelled()]

    def _begin(self, visiting: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        task = self._loop.create_task(visiting, name=f"{self._name} {what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _go_round(self, client: Client) -> None:
        while True:
            self._hurry.clear()
            try:
                self._staff(await client.nthreads())
            except Exception as error:
                self._chunks.lose(error)
            for address, worker in self._workers.items():
                if not worker.is_asked:
                    worker.is_asked = True
                    self._begin(self._visit(client, address, worker), f"visit to {address}")
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL + _FOR_EACH * len(self._workers)):
                    await self._hurry.wait()

    def _staff(self, threads: dict[str, int]) -> None:
        """Hear which workers there are."""
        self._workers = {address: self._workers.get(address) or _Worker() for address in threads}
        self._chunks.threads = sum(threads.values()) or 1
        self._sum_up()

    async def _visit(self, client: Client, address: str, worker: _Worker) -> None:
        phase = self._phase
        news = await _ask(client, address, visit_part, self._run, int(phase))
        worker.is_asked = False
        if isinstance(news, Exception):  # of a worker that is lost, of which others tell too
            return
        worker.heard, worker.news = phase, news
        if news is not None:
            for key, records in news.chunks.items():
                self._chunks.take(key, address, records)
        self._sum_up()
        if self._phase is not phase:
            self._hurry.set()

    def _sum_up(self) -> None:
        """Tell the run what the workers do, all in all."""
        tally = self._chunks.context.tally
        news = [worker.news for worker in self._workers.values()]
        tally.running = min(sum(told.running for told in news if told), len(self._chunks))
        if self._limit is not None:
            tally.limit = sum(self._limit if told is None else told.limit or 0 for told in news) or self._limit
        if self._phase is not Phase.RUNNING and all(w.heard is self._phase for w in self._workers.values()):
            self._chunks.take_back({key for told in news if told for key in told.chunks})
        self._chunks.context.wake()


async def _ask(client: Client, address: str, *what: Any) -> Any:
    try:
        told = await client.run(*what, workers=[address], on_error="return")
    except Exception as error:  # of a lost connection
        return error
    return told.get(address)
