"""What runs in the worker processes: one local run for each run of the driver, which all its chunks feed.

Theory of operation. A chunk is a Dask task. It puts its inputs into the feed of the worker's run, waits until each has
an outcome, and returns their records. So `limit`, the retry budget and its pauses hold for the worker as a whole. As
soon as all inputs of a chunk have started, it gives its thread back to Dask, which lets the next chunk begin: the
slowest jobs of one chunk do not keep the worker waiting. Meanwhile the driver visits the worker, through
`Client.run`: it learns what is new, and tells whether the run goes on, stops, or is cancelled. A chunk returns all
its records in the end, those too that a visit has told: a visit may get lost.

Laws, each with a test:
- When the driver has ended a run, no coroutine of it is left in the worker, and late chunks of it do nothing.
- A driver that is not heard of for long is gone: its run is cancelled.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from distributed import Worker, get_worker
from distributed.worker_state_machine import SecedeEvent

from aiosupervise._batch.api import map_all
from aiosupervise._batch.outcomes import Outcome
from aiosupervise._batch.overload import Adaptive, Overload
from aiosupervise._batch.run import Run

from ._dask_travel import Record, record_of, refusal, stand_in, unpack

LEASE = 300.0  # seconds: a driver that has not called for so long is gone
_REMEMBERED = 1000  # ended runs, whose late chunks do nothing


class Phase(enum.IntEnum):
    """How far a run is: each includes those before."""

    RUNNING = 0
    STOPPED = 1  # nothing new starts
    CANCELLED = 2  # and what runs is cancelled


@dataclass(frozen=True, slots=True)
class Spec:
    """What the workers need to know of a run."""

    func: Callable[[Any], Awaitable[object]]
    name: str
    limit: int | Adaptive | None
    overload: Overload | None


@dataclass(frozen=True, slots=True)
class News:
    """What a worker tells when it is visited."""

    running: int
    limit: int | None
    trouble: str
    chunks: dict[str, list[Record]]  # of each chunk that it has, the records that are new


@dataclass(frozen=True, slots=True)
class Done:
    """What a chunk returns."""

    worker: str
    records: list[Record]
    stopped: str  # why the worker's run has ended by itself; nothing if it has not


def contained(func: Callable[[Any], Awaitable[object]]) -> Callable[[Any], Awaitable[object]]:
    """Keep what would end the loop of this process from doing that to the worker, and to the jobs of others."""

    async def call(item: object) -> object:
        try:
            return await func(item)
        except (KeyboardInterrupt, SystemExit) as error:
            raise stand_in(error, "a job does not end its worker") from None

    return call


class _Chunk:
    """A chunk in its worker."""

    def __init__(self, size: int) -> None:
        self.records: list[Record] = []
        self.told = 0
        self.waiting = size
        self.unfinished = size
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # all of its jobs
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pulled(self) -> None:
        """Count a job that is about to start."""
        self.waiting -= 1
        if self.waiting == 0 and not self.begun.done():
            self.begun.set_result(None)

    def add(self, record: Record) -> None:
        """Take the record of one job."""
        self.records.append(record)
        self.unfinished -= 1
        if self.unfinished == 0:
            for event in (self.begun, self.ended):
                if not event.done():
                    event.set_result(None)

    def news(self) -> list[Record]:
        """Give the records that no visit has told."""
        start, self.told = self.told, len(self.records)
        return self.records[start:]


class _Feed:
    """The inputs of all chunks, one after the other: the source of the worker's run. It has no end of its own."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[_Chunk, int, bytes]] = deque()
        self.given: dict[int, tuple[_Chunk, int]] = {}  # by the job's index in the worker's run
        self._count = 0
        self._arrival: asyncio.Future[None] | None = None

    def put(self, chunk: _Chunk, items: list[bytes]) -> None:
        """Add the inputs of a chunk."""
        self.waiting.extend((chunk, position, item) for position, item in enumerate(items))
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> object:
        while True:
            while not self.waiting:
                self._arrival = asyncio.get_running_loop().create_future()
                await self._arrival
            chunk, position, packed = self.waiting.popleft()
            chunk.pulled()
            try:
                item = unpack(packed)
            except Exception as error:
                chunk.add(refusal(position, error))
                continue
            self.given[self._count] = chunk, position
            self._count += 1
            return item


class WorkerRun:
    """The part of a run that one worker does."""

    def __init__(self, spec: Spec) -> None:
        self.chunks: dict[str, _Chunk] = {}
        self.stopped = ""
        self._phase = Phase.RUNNING
        self._feed = _Feed()
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
        self._lease = self._loop.call_later(LEASE, self._task.cancel)

    async def do(self, key: str, items: list[bytes], give_way: Callable[[], None]) -> list[Record]:
        """Do the jobs of a chunk; `give_way` is called when the next chunk may come."""
        chunk = self.chunks[key] = _Chunk(len(items))
        self._feed.put(chunk, items)
        if self._task.done():
            self._give_up()
        try:
            await chunk.begun
            if chunk.unfinished:
                give_way()
            await chunk.ended
        finally:
            del self.chunks[key]
        return chunk.records

    def visit(self, phase: Phase) -> News:
        """Take the driver's word, and tell what is new."""
        self._lease.cancel()
        if not self._task.done():
            self._lease = self._loop.call_later(LEASE, self._task.cancel)
        self._go_to(phase)
        tally = self._run.tally
        chunks = {key: chunk.news() for key, chunk in self.chunks.items()}
        return News(tally.running, tally.limit, self.stopped or self._trouble(), chunks)

    async def end(self) -> None:
        """Cancel what is left, and wait until it has ended."""
        self._lease.cancel()
        self._go_to(Phase.CANCELLED)
        await asyncio.wait([self._task])

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
        """Tell why the run pauses, in the words that its repr has."""
        said = repr(self._run).partition(": ")[2].partition(";")[0]
        return "" if said in ("not started", "streaming", "ended") else said

    async def _work(self) -> None:
        try:
            async with self._run as run:
                async for outcome in run:
                    self._ended(outcome)
        except asyncio.CancelledError:
            pass  # the one way to cancel a run; what it ended becomes pending
        finally:
            if self._phase is Phase.RUNNING:
                self.stopped = self._trouble() or "the driver was not heard of"
            self._phase = Phase.CANCELLED
            for outcome in self._run.report:
                self._ended(outcome)
            self._give_up()

    def _ended(self, outcome: Outcome[object, object]) -> None:
        chunk, position = self._feed.given.pop(outcome.index)
        chunk.add(record_of(position, outcome))

    def _give_up(self) -> None:
        """Make pending what has not started."""
        while self._feed.waiting:
            chunk, position, _ = self._feed.waiting.popleft()
            chunk.add((position, None, None, 0, 0.0, None, False))


class _Office:
    """The runs of one worker."""

    def __init__(self) -> None:
        self.runs: dict[str, WorkerRun] = {}
        self.ended: deque[str] = deque(maxlen=_REMEMBERED)


_offices: WeakKeyDictionary[Worker, _Office] = WeakKeyDictionary()


def _office(worker: Worker) -> _Office:
    office = _offices.get(worker)
    if office is None:
        office = _offices[worker] = _Office()
        logging.getLogger("distributed.worker").addFilter(_is_no_visit)
    return office


def _is_no_visit(record: logging.LogRecord) -> bool:
    """Keep visits out of the worker's log: Dask tells of every function that is run, and there are ten a second."""
    return not (isinstance(record.args, tuple) and record.args[:1] == (visit.__name__,))


async def do_chunk(key: str, run: str, spec: bytes, packed: bytes) -> Done:
    """Do the jobs of a chunk: the function of the Dask task."""
    items: list[bytes] = unpack(packed)
    worker = get_worker()
    office = _office(worker)
    if run in office.ended:
        return Done(worker.address, [(n, None, None, 0, 0.0, None, False) for n in range(len(items))], "")
    here = office.runs.get(run)
    if here is None:
        here = office.runs[run] = WorkerRun(unpack(spec))
    began = time.time()
    records = await here.do(key, items, lambda: _secede(worker, key, began))
    return Done(worker.address, records, here.stopped)


def _secede(worker: Worker, key: str, began: float) -> None:
    """Let Dask begin another task beside this one; `distributed.secede` is for threads."""
    now = time.time()
    worker.handle_stimulus(SecedeEvent(key=key, compute_duration=now - began, stimulus_id=f"secede-{now}"))


def visit(run: str, phase: int, dask_worker: Worker) -> News | None:
    """Take the driver's word for a run, and tell what is new; None if the worker has no part in it."""
    office = _office(dask_worker)
    here = office.runs.get(run)
    if here is None:
        if phase == Phase.CANCELLED and run not in office.ended:
            office.ended.append(run)  # chunks that come late find that it is over
        return None
    return here.visit(Phase(phase))


async def end(run: str, dask_worker: Worker) -> None:
    """End a run, and forget it when nothing of it is left."""
    office = _office(dask_worker)
    office.ended.append(run)
    here = office.runs.pop(run, None)
    if here is not None:
        await here.end()


def check_spec(spec: bytes) -> None:
    """Unpickle what the chunks will need, to see that the worker can."""
    unpack(spec)
