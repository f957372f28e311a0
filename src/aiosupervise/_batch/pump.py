"""The engine under the three strategies: a pump that starts jobs, and the ways in which a run ends.

Theory of operation. The pump is a task of the run's own. It pulls an item from the source when there is a place for
it, starts a task for it, and goes on until the source is empty or the run is stopped; then it closes the source and
waits until nothing runs. When a job's task ends, its outcome goes to the strategy, and the pump wakes up. Whoever runs
the batch waits for the pump in `join`. Everything goes in one direction:

    source -> pump -> one task for each job -> outcome -> strategy -> report or reader

Laws, each with a test:
- Every early end is `cancel`, which happens once: a job that its run cancelled twice could not clean up. When the loop
  shuts down, it cancels every task: a pump cancelled by somebody else tells that the jobs have been cancelled too.
- Whatever cancels the caller, and how often, `join` returns only when nothing of ours runs.
- The pump is the one task that pulls and closes the source. It is cancelled only to get it out of a pull.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.tasks import wait_until_done
from aiosupervise._events.emit import Scope
from aiosupervise._events.listeners import listeners
from aiosupervise._events.outcomes import I, Outcome, Tally
from aiosupervise._events.records import JobFinished, RunFinished, RunStarted

from .adaptive import AdaptiveLimit
from .breaker import Breaker
from .config import RunConfig
from .context import RunContext
from .jobs import discard, used_twice
from .local import BURST, LocalRun
from .overload import Adaptive
from .protocol import Engine, EngineContext, EngineRun
from .report import Report
from .source import END, AsyncSource, End, SyncSource

T = TypeVar("T")

_numbers = itertools.count(1)
_STUBBORN = 5.0  # seconds after which a cancelled job that still runs is named


class Pump(Generic[T, I]):
    """One run of a batch, from its start to its end."""

    def __init__(self, plan: RunConfig[T, I], tally: Tally, *, streamed: bool) -> None:
        self.ended = False  # nothing runs, and no outcome will come
        self.error: BaseException | None = None  # what the source raised
        self._plan = plan
        self._source = plan.source
        self._strategy = plan.strategy
        self._tally = tally
        self._streamed = streamed
        self._pulled = 0
        self._read = 0
        self._stopped = False
        self._cancelled = False
        self._around = current_job.get()
        fields = (next(_numbers), plan.name or "run_all", tally)
        self._scope = Scope(*fields, listener=plan.listen, around=self._around)
        self._breaker: Breaker | None = None
        self._running: EngineRun[T, I] = self._here() if plan.engine is None else self._elsewhere(plan.engine)
        self._arrival = asyncio.Event()
        self._change: asyncio.Future[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._finished: float | None = None
        self._pump: asyncio.Task[None] | None = None

    def _here(self) -> EngineRun[T, I]:
        plan, tally, scope = self._plan, self._tally, self._scope
        adaptive = AdaptiveLimit(plan.limit, tally) if isinstance(plan.limit, Adaptive) else None
        if plan.overload is not None:
            self._breaker = Breaker(plan.overload, tally, self._wake, self.stop, scope)
        shared = RunContext(tally, scope, self._breaker, adaptive, self._around)
        return LocalRun(plan.func, plan.name, shared, self._record)

    def _elsewhere(self, engine: Engine) -> EngineRun[T, I]:
        plan, name = self._plan, self._plan.name
        assert plan.func is not None  # noqa: S101 - for the type checkers
        assert name is not None  # noqa: S101 - for the type checkers
        whom = (self._tally, self._scope, self._record, self._wake, self.stop, self._fail)
        return engine.jobs(EngineContext(plan.func, name, plan.limit, plan.overload, *whom))

    def start(self) -> None:
        """Start the pump."""
        self._scope.open()
        self._scope.emit(RunStarted)
        drive = self._drive()
        try:
            self._pump = self._loop.create_task(drive, name=f"{self._plan.name or 'run_all'} pump")
        except BaseException:  # of a task factory
            drive.close()
            self._end_scope(0.0)
            raise
        self._pump.add_done_callback(self._settle)

    # The ways to end.

    def stop(self) -> None:
        """Start nothing new; what runs finishes."""
        self._pull_no_more()
        self._running.stop()

    def _pull_no_more(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if not self._shut_down():
            self._source.interrupt()
        self._wake()

    def cancel(self) -> None:
        """Start nothing new and cancel what runs, once."""
        self.stop()
        if self._cancelled or self.ended:
            return
        self._cancelled = True
        self._abandon_rest()
        self._running.cancel(reach=not self._shut_down())
        self._timers.append(self._loop.call_later(_STUBBORN, self._name_the_stubborn))

    async def join(self) -> None:
        """Wait until the run has ended; a caller that is cancelled meanwhile cancels it, and still waits."""
        if not self.ended:
            assert self._pump is not None  # noqa: S101 - nobody joins before `start`
            await wait_until_done(self._pump, self.cancel)

    def note_error(self, error: BaseException) -> None:
        """Note what the source raised on the error that the caller gets instead, and forget it."""
        if self.error is not None and self.error is not error:
            error.add_note(f"the source of the run had failed too: {self.error!r}")
        self.error = None  # its traceback has frames of this engine

    def raise_error(self) -> None:
        """Raise what the source raised, once."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

    def _shut_down(self) -> bool:
        """Tell whether somebody else has cancelled the pump, and so every task of the loop."""
        return self._pump is not None and self._pump.cancelling() > self._source.interrupts

    def _name_the_stubborn(self) -> None:
        names = ", ".join(self._running.names()) or "the source"
        warnings.warn(
            f"cancelled {_STUBBORN:g} s ago and still running, so the run waits: {names}", RuntimeWarning, stacklevel=2
        )

    # What comes of it.

    async def read(self) -> Outcome[T, I] | End:
        """Return the next outcome in the strategy's order; END when there will be no more."""
        ready = self._strategy.ready
        while not ready:
            if self.ended:
                return END
            self._arrival.clear()
            await self._arrival.wait()
        self._read += 1
        self._wake()
        return ready.popleft()

    def trouble(self) -> str:
        """Tell in words why not everybody may go, or that the run comes to its end; nothing when all is well."""
        return self._running.trouble() or ("stopping" if self._stopped and not self.ended else "")

    def report(self) -> Report[T, I]:
        """Make a report of what is known and not yet read."""
        finished = self._loop.time() if self._finished is None else self._finished
        outcomes = [*self._strategy.ready, *self._strategy.held()]
        return Report(outcomes, self._tally.copy(), finished - self._started)

    def _record(self, outcome: Outcome[T, I]) -> None:
        self._tally.count(outcome)
        self._strategy.add(outcome)
        if self._streamed:
            self._arrival.set()
        if self._strategy.ends_run(outcome):
            self.cancel()
        self._wake()
        if listeners.count:
            self._scope.emit(JobFinished, outcome)

    def _settle(self, pump: asyncio.Task[None]) -> None:
        """Close the books: the pump has ended, whatever ended it."""
        if not pump.cancelled() and self.error is None:
            self.error = pump.exception()
        try:
            self._abandon_rest()
        finally:
            self._strategy.flush()
            for timer in self._timers:
                timer.cancel()
            self._running.let_go()
            if self._breaker is not None:
                self._breaker.close()
            self._finished = self._loop.time()
            self.ended = True
            self._arrival.set()
            self._end_scope(self._finished - self._started)

    def _end_scope(self, elapsed: float) -> None:
        self._scope.emit(RunFinished, elapsed)
        self._scope.close()

    # The pump.

    async def _drive(self) -> None:
        if self._plan.timeout is not None:
            self._timers.append(self._loop.call_at(self._started + self._plan.timeout, self.cancel))
        await self._guarded(self._running.open)
        await self._guarded(self._feed)
        await self._guarded(self._source.close)
        self._abandon_rest()
        while self._running:
            try:
                await self._sleep()
            except asyncio.CancelledError:
                self.cancel()
        await self._guarded(self._running.close)

    async def _feed(self) -> None:
        source = self._source
        while not self._stopped:
            places = self._free_slots()
            if places == 0:
                await self._sleep()
            elif isinstance(source, SyncSource):
                if not self._fill(source, places):
                    return
                if places == BURST:
                    await asyncio.sleep(0)
            elif not await self._fill_one(source):
                return

    def _fill(self, source: SyncSource[object], places: int) -> bool:
        """Fill all the places at once, and tell whether the source has more."""
        for _ in range(places):
            item = source.pull()
            if item is END:
                return self._run_dry()
            self._take(item)
            if self._stopped:
                break
        return True

    async def _fill_one(self, source: AsyncSource[object]) -> bool:
        """Fill one place. It may have gone when the item comes, which then waits for another."""
        item = await source.pull()
        if item is END:
            return self._run_dry()
        try:
            while not self._stopped and self._free_slots() == 0:
                await self._sleep()
        except BaseException:
            self._abandon(item)
            raise
        self._take(item)
        return True

    def _run_dry(self) -> bool:
        if not self._stopped:
            self._tally.total = self._pulled
        return False

    def _free_slots(self) -> int:
        """Count how many more may start now; of a streamed run, an outcome that nobody has read takes a place too."""
        taken = self._pulled - self._read if self._streamed else len(self._running)
        places = min(max(self._running.free_slots(taken), 0), BURST)
        if self._breaker is None or self._breaker.is_clear:
            return places
        return min(places, self._breaker.free_slots())

    def _take(self, item: object) -> None:
        if self._stopped:  # the source was busy giving it when the run was stopped
            self._abandon(item)
            return
        index, self._pulled = self._pulled, self._pulled + 1  # also of what is refused: an index is a place
        self._running.start(item, index)

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step with the source. If it raises, what runs finishes, and then the caller gets the error."""
        try:
            await step()
        except GeneratorExit:  # the pump is thrown away
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self._shut_down():
                self.cancel()
                return
            self.error = error if self.error is None else self.error
            if isinstance(error, (Exception, asyncio.CancelledError)):
                self._pull_no_more()  # and what was pulled is done, also where it has to be sent first
            else:
                self.cancel()

    def _fail(self, error: Exception) -> None:
        self.error = error if self.error is None else self.error
        self.stop()

    def _abandon_rest(self) -> None:
        try:
            rest = self._source.rest()
        except Exception as error:  # such as that of a deque that its own jobs have changed
            self.error = error if self.error is None else self.error
            return
        for item in rest:
            self._abandon(item)

    def _abandon(self, item: object) -> None:
        """Make pending what came too late to start. A task runs by itself: it is waited for, as any other job."""
        jobs_given = self._plan.func is None
        index, self._pulled = self._pulled, self._pulled + 1
        if jobs_given and item in self._running:
            self.error = used_twice(item, index) if self.error is None else self.error
            return
        if jobs_given and isinstance(item, asyncio.Task):
            self._running.start(item, index)
            return
        self._record(self._running.pending(item, index, self._running.name_for(item, index), started=False))
        if jobs_given:
            discard(item)

    async def _sleep(self) -> None:
        """Wait for a change: a job has ended, an outcome was read, the run was stopped."""
        self._change = self._loop.create_future()
        await self._change

    def _wake(self) -> None:
        if self._change is not None:
            if not self._change.done():  # the end of the loop may have cancelled it
                self._change.set_result(None)
            self._change = None
