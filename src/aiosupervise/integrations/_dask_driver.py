"""The driver's side of a run on a cluster: chunks that are under way, and visits to the workers.

Theory of operation. The pump of the run hands over inputs one at a time; they are packed and gathered into chunks, and
each chunk becomes a Dask task, of which there are only a few for each thread of the workers. One task of ours waits
for each chunk. Ten times a second all workers are visited: that brings the outcomes of chunks that are not done yet,
tells the workers how far the run is, and shows which are there. An outcome counts once, whatever brings it first.

    start -> chunk -> Dask task -> records, from visits and from the end of the task -> outcomes

Laws, each with a test:
- Every job that was started has exactly one outcome, whatever becomes of its worker.
- A chunk whose workers died too often is tried once more alone, for it may only have been beside the culprit.
- Stop and cancel are told to all workers, again and again, so that one that has just come hears of it too.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from distributed import Client, Future, KilledWorker

from aiosupervise._batch.outcomes import Failure, I, Outcome, Pending, Success
from aiosupervise._batch.overload import Adaptive
from aiosupervise._batch.place import Order
from aiosupervise._tasks import cancellation

from ._dask_travel import Record, error_of, pack, value_of
from ._dask_worker import Done, News, Phase, Spec, check_spec, do_chunk, end, visit

T = TypeVar("T")

AHEAD = 3  # chunks for each thread of a worker: one that runs, one whose slowest jobs remain, one that waits there
INTERVAL = 0.1  # seconds between two visits
_FOR_EACH = 0.005  # seconds more between two visits for each worker, so that the scheduler has other work too
_LINGER = 0.02  # seconds that an unfilled chunk waits for more
_FAREWELL = 5.0  # seconds for the workers to answer at the end; who does not is gone, or blocked by a job


class Link(Protocol):
    """The way to the cluster."""

    async def connect(self) -> Client:
        """Return a client that is connected."""
        ...

    async def disconnect(self, client: Client) -> None:
        """Close it, if it was made here."""
        ...


class _Chunk(Generic[I]):
    """Some jobs on their way."""

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.size = size
        self.packed: list[bytes] = []
        self.jobs: dict[int, tuple[int, I]] = {}  # those without an outcome: place in the chunk, index and input
        self.worker = ""  # the one that was last seen to have it
        self.future: Future[Any] | None = None  # while it can be taken back
        self.sent: float = 0.0
        self.is_suspect = False  # it is being tried alone

    def lacks(self) -> int:
        """Count the jobs that there is room for."""
        return self.size - len(self.packed)

    def add(self, packed: bytes, index: int, item: I) -> None:
        """Add a job."""
        self.jobs[len(self.packed)] = index, item
        self.packed.append(packed)


class RemoteJobs(Generic[T, I]):
    """The jobs of one run on a cluster."""

    def __init__(self, order: Order[T, I], link: Link, chunk: int) -> None:
        self._order = order
        self._link = link
        self._largest = chunk
        self._tally = order.tally
        self._limit = order.limit.start if isinstance(order.limit, Adaptive) else order.limit
        self._loop = asyncio.get_running_loop()
        self._id = uuid.uuid4().hex
        self._spec = pack(Spec(order.func, order.name, order.limit, order.overload))
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._phase = Phase.RUNNING
        self._numbers = itertools.count(1)
        self._count = 0  # jobs that have no outcome
        self._given = 0  # jobs that were handed over
        self._chunks: dict[str, _Chunk[I]] = {}
        self._buffer: _Chunk[I] | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._suspects: deque[_Chunk[I]] = deque()  # to be tried alone
        self._is_alone = False  # what is under way is one of them
        self._workers: dict[str, int] = {}  # threads by address
        self._news: dict[str, News | None] = {}
        self._visits: dict[str, asyncio.Task[None]] = {}
        self._taking: list[asyncio.Task[None]] = []
        self._unheard: set[str] = set()  # workers that may not know of the end
        self._visitor: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._trouble = ""

    def __len__(self) -> int:
        return self._count

    def __contains__(self, item: object) -> bool:
        return False  # an input may come as often as it likes

    def names(self) -> list[str]:
        """Return the names of a few jobs, for a warning."""
        jobs = itertools.chain.from_iterable(chunk.jobs.values() for chunk in self._all())
        names = [self.name_for(item, index) for index, item in itertools.islice(jobs, 10)]
        return names if self._count <= len(names) else [*names, f"and {self._count - len(names)} more"]

    def name_for(self, item: object, index: int) -> str:  # noqa: ARG002 - other engines name it by what it is
        """Return the name that a job has; that of its task, on a worker, has another number."""
        return f"{self._order.name}-{index}"

    def pending(self, item: Any, index: int, name: str, *, started: bool) -> Pending[T, I]:
        """Make the outcome of a job that the end of the run came before."""
        return Pending(index, partial(self._order.func, item), started, name, item)

    def trouble(self) -> str:
        """Tell which worker pauses, and why."""
        return self._trouble or next(
            (f"worker {address} {news.trouble}" for address, news in self._news.items() if news and news.trouble), ""
        )

    # How much may be under way.

    def places(self, taken: int) -> int:
        """Count how many more may start: a whole chunk, or what the one that is being filled still lacks."""
        if self._in_quarantine():
            return 0
        size = self._size()
        # A few chunks for each thread; of small chunks more, so that every worker can reach its limit.
        free = max(AHEAD * self._slots() * self._largest, 2 * (self._tally.limit or 0)) - taken
        if self._buffer is not None:
            return min(free, self._buffer.lacks())
        return size if free >= size else 0

    def _slots(self) -> int:
        return sum(self._workers.values()) or 1  # a cluster that grows with its work must see some

    def _size(self) -> int:
        """Return the size of the next chunk: small ones first, or last, so that every worker gets its share."""
        slots = self._slots()
        total = self._tally.total
        if total is None:
            rounds = self._given // (slots * self._largest // 4 + 1)
            size = max(self._largest // 16, 1) << min(rounds, 4)
        else:
            size = (total - self._given) // (2 * slots)
        return max(min(size, self._largest), 1)

    # From the pump to the workers.

    async def open(self) -> None:
        """Connect, and see that the workers can unpickle the function."""
        self._opening = self._loop.create_task(self._open(), name=f"{self._order.name} opening")
        await asyncio.wait([self._opening])
        if not self._opening.cancelled():
            self._opening.result()

    async def _open(self) -> None:
        self._client = client = await self._link.connect()
        told = await client.run(check_spec, self._spec, on_error="return")
        for error in told.values():
            if isinstance(error, Exception) and not isinstance(error, OSError):  # that is of a worker just lost
                raise RuntimeError(  # noqa: TRY004 - the worker is at fault, not a type
                    f"the workers cannot unpickle {self._order.name}: are its module and aiosupervise installed "
                    f"there, in the same versions? {error!r}"
                ) from error
        self._staff(await client.nthreads())
        self._visitor = self._loop.create_task(self._visit_all(), name=f"{self._order.name} visitor")

    def _staff(self, workers: dict[str, int]) -> None:
        """Hear which workers there are."""
        self._unheard |= workers.keys() - self._workers.keys()
        self._unheard &= workers.keys()
        self._workers = workers
        self._news = {address: self._news.get(address) for address in workers}
        self._add_up_limits()
        self._order.wake()

    def start(self, item: Any, index: int) -> None:
        """Put a job into the chunk that is being filled.

        Raises:
            TypeError: if the input cannot be pickled.

        """
        try:
            packed = pack(item)
        except Exception as error:
            raise unsendable(index, item, error) from error
        if self._buffer is None:
            self._buffer = _Chunk(f"{self._order.name}-{self._id}-{next(self._numbers)}", self._size())
            self._flushing = self._loop.call_later(_LINGER, self._flush)
        self._buffer.add(packed, index, item)
        self._count += 1
        self._given += 1
        if not self._buffer.lacks():
            self._flush()

    def _flush(self) -> None:
        for chunk in self._take_buffer():
            if self._in_quarantine():
                self._suspects.append(chunk)
            else:
                self._send(chunk)

    def _take_buffer(self) -> list[_Chunk[I]]:
        if self._flushing is not None:
            self._flushing.cancel()
        chunk, self._buffer = self._buffer, None
        return [] if chunk is None else [chunk]

    def _send(self, chunk: _Chunk[I]) -> None:
        self._chunks[chunk.key] = chunk
        chunk.sent = self._loop.time()
        task = self._loop.create_task(self._see_through(chunk), name=f"{chunk.key} on its way")
        task.add_done_callback(partial(self._came_back, chunk))

    async def _see_through(self, chunk: _Chunk[I]) -> None:
        client = self._client
        assert client is not None  # noqa: S101 - for the type checkers
        future = chunk.future = client.submit(
            do_chunk,
            chunk.key,
            self._id,
            self._spec,
            pickle.dumps(chunk.packed),  # one object: Dask looks into lists
            key=chunk.key,
            pure=False,
            retries=0,
        )
        try:
            done: Done = await future
        finally:
            future.release()
        self._take(chunk, done.worker, done.records)
        if done.stopped and self._phase is Phase.RUNNING:
            self._trouble = f"worker {done.worker} {done.stopped}"
            self._order.stop()

    # From the workers to the run.

    def _take(self, chunk: _Chunk[I], worker: str, records: list[Record]) -> None:
        for record in records:
            job = chunk.jobs.pop(record[0], None)
            if job is not None:
                self._ended(self._outcome(*job, record, worker))

    def _outcome(self, index: int, item: I, record: Record, worker: str) -> Outcome[T, I]:
        _, packed, story, attempts, elapsed, reason, started = record
        name = self.name_for(item, index)
        error: BaseException | None
        if story is not None:
            error = error_of(packed, story, worker)
        elif packed is None:
            return self.pending(item, index, name, started=started)
        else:
            value, error = value_of(packed)
            if error is None:
                return Success(index, value, attempts, elapsed, name, item)  # type: ignore[arg-type]  # a T travelled
        return Failure(index, error, attempts, elapsed, reason, name, item)

    def _ended(self, outcome: Outcome[T, I]) -> None:
        self._count -= 1
        if not isinstance(outcome, Pending):
            self._tally.retries += outcome.attempts - 1
        self._order.record(outcome)

    def _came_back(self, chunk: _Chunk[I], task: asyncio.Task[None]) -> None:
        """Hear that a chunk is done, or that it never will be."""
        del self._chunks[chunk.key]
        error = cancellation(task) if task.cancelled() else task.exception()
        if self._phase is Phase.CANCELLED:
            self._all_pending(chunk)
        elif isinstance(error, KilledWorker) and not chunk.is_suspect:
            chunk.is_suspect = True
            chunk.key += "-alone"
            self._suspects.append(chunk)
        elif chunk.jobs:
            error = error or RuntimeError(f"the worker {chunk.worker} gave no outcome for this job")
            self._all_failed(chunk, error)
        self._try_suspects()
        if not self._count:
            self._tally.running = 0
        self._order.wake()

    def _all_pending(self, chunk: _Chunk[I]) -> None:
        started = bool(chunk.worker)
        while chunk.jobs:
            index, item = chunk.jobs.pop(min(chunk.jobs))
            self._ended(self.pending(item, index, self.name_for(item, index), started=started))

    def _all_failed(self, chunk: _Chunk[I], error: BaseException) -> None:
        elapsed = self._loop.time() - chunk.sent
        while chunk.jobs:
            index, item = chunk.jobs.pop(min(chunk.jobs))
            self._ended(Failure(index, error, 1, elapsed, None, self.name_for(item, index), item))
        if self._client is not None and self._client.status != "running":
            self._lose(error)

    def _lose(self, error: BaseException) -> None:
        """Stop the run: the cluster does not answer."""
        gone = RuntimeError(f"the connection to the cluster is lost: {error!r}")
        gone.__cause__ = error
        self._order.fail(gone)

    def _try_suspects(self) -> None:
        """Try one alone, when nothing else is under way: then only the culprit dies again."""
        self._is_alone = bool(self._suspects) and not self._chunks
        if self._is_alone:
            self._send(self._suspects.popleft())

    def _in_quarantine(self) -> bool:
        return self._is_alone or bool(self._suspects)

    # The visits.

    async def _visit_all(self) -> None:
        client = self._client
        assert client is not None  # noqa: S101 - for the type checkers
        while True:
            try:
                self._staff(await client.nthreads())
            except Exception as error:
                self._lose(error)
            self._take_back()
            for address in self._workers:
                if address not in self._visits:
                    task = self._visits[address] = self._loop.create_task(self._visit(client, address))
                    task.add_done_callback(partial(self._visited, address))
            self._hurry.clear()
            pause = self._loop.call_later(INTERVAL + _FOR_EACH * len(self._workers), self._hurry.set)
            try:
                await self._hurry.wait()
            finally:
                pause.cancel()

    async def _visit(self, client: Client, address: str) -> None:
        phase = self._phase
        told = await client.run(visit, self._id, int(phase), workers=[address], on_error="return")
        news = told.get(address)
        if isinstance(news, Exception):
            return
        self._news[address] = news
        if news is not None:
            self._hear(address, news)
        if phase is self._phase:
            self._unheard.discard(address)
        self._take_back()

    def _visited(self, address: str, task: asyncio.Task[None]) -> None:
        del self._visits[address]
        if not task.cancelled():
            task.exception()  # of a lost connection, of which others tell too
        if address in self._unheard and self._phase is not Phase.RUNNING:
            self._hurry.set()

    def _hear(self, address: str, news: News) -> None:
        for key, records in news.chunks.items():
            chunk = self._chunks.get(key)
            if chunk is not None:
                if chunk.worker not in ("", address):
                    self._order.herald.started_again(len(chunk.jobs), chunk.worker)
                chunk.worker = address
                self._take(chunk, address, records)
        self._tally.running = min(sum(told.running for told in self._news.values() if told is not None), self._count)
        self._add_up_limits()

    def _add_up_limits(self) -> None:
        if self._limit is not None:
            limits = [self._limit if told is None else told.limit or 0 for told in self._news.values()]
            self._tally.limit = sum(limits) or self._limit

    # The ways to end.

    def stop(self) -> None:
        """Tell the workers that nothing new starts; what has not started there becomes pending."""
        self._go_to(Phase.STOPPED)

    def cancel(self, *, reach: bool) -> None:  # noqa: ARG002 - who cancels all tasks cancels those that wait for chunks
        """Tell the workers to cancel what runs."""
        self._go_to(Phase.CANCELLED)
        if self._opening is not None:
            self._opening.cancel()

    def _go_to(self, phase: Phase) -> None:
        if phase <= self._phase:
            return
        self._phase = phase
        self._unheard = set(self._workers)
        self._hurry.set()
        waiting = self._take_buffer()
        if phase is Phase.CANCELLED:
            waiting += self._suspects
            self._suspects.clear()
        for chunk in waiting:
            self._all_pending(chunk)

    def _take_back(self) -> None:
        """Take back the chunks that no worker has, when all have heard that the run is cancelled."""
        if self._unheard or self._phase is not Phase.CANCELLED:
            return
        there = {key for news in self._news.values() if news is not None for key in news.chunks}
        for key, chunk in self._chunks.items():
            if key not in there and chunk.future is not None:
                # The future, not the task that waits for it: Dask would leave an error behind that nobody retrieves.
                self._taking.append(self._loop.create_task(self._cancel(chunk.future)))
                chunk.worker, chunk.future = "", None

    async def _cancel(self, future: Future[Any]) -> None:
        with suppress(Exception):  # of a lost connection, which cancels it too
            await future.cancel()

    async def close(self) -> None:
        """Let the workers forget the run, and wait a while for those that do not answer."""
        tasks = [*self._visits.values(), *([] if self._visitor is None else [self._visitor])]
        for task in tasks:
            task.cancel()
        tasks += self._taking
        if self._client is not None:
            tasks += [self._loop.create_task(self._end(self._client, address)) for address in self._workers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FAREWELL)
            for task in late:
                task.cancel()
        if self._client is not None:
            await self._link.disconnect(self._client)

    async def _end(self, client: Client, address: str) -> None:
        with suppress(Exception):  # whoever is not there any more has nothing of the run
            await client.run(end, self._id, workers=[address], on_error="ignore")

    def let_go(self) -> None:
        """Forget the run, which has ended."""
        nothing: Any = lambda *_: None  # noqa: E731 - for all four
        self._order = replace(self._order, record=nothing, wake=nothing, stop=nothing, fail=nothing)

    def _all(self) -> list[_Chunk[I]]:
        return [*self._chunks.values(), *self._suspects, *([] if self._buffer is None else [self._buffer])]


def unsendable(index: int, item: object, error: Exception) -> TypeError:
    """Make the error for an input that cannot be pickled."""
    return TypeError(f"input {index} cannot be pickled, and so not be sent to a worker: {error}; it is {item!r}")
