"""The pump: the task of a run, and the ways in which the run ends.

Theory of operation. The pump is the run's own task. Whenever a slot is free, it has the feed pull an item from the
source and the engine start a job for the item, until the source is exhausted or the run is stopped. Then the pump
closes the source and waits until all jobs have finished. When a job ends, its outcome goes to the strategy, and the
pump wakes up. A caller that awaits the run waits for the pump in `join`. Everything flows in one direction:

    source -> feed -> engine -> outcome -> strategy -> report or reader

Invariants, each with a test:
- Jobs are cancelled only by `cancel`, which takes effect once: a second cancellation would interrupt a job's clean-up.
- Ending a run executes user code, such as `close`, `__getattr__` and `cancel`, which may raise any error. Each step is
  performed even if other steps fail, and running jobs are cancelled before items that were not started are closed.
- However often the caller is cancelled, `join` returns only when no job and no task of the run is left.
- The pump is the only task that pulls from the source or closes it. The run cancels the pump only to end a pull.

Whose cancellation is it? When a loop shuts down, asyncio.run cancels every task, the pump and the jobs alike. The
pump's task counts its cancellations (`cancelling()`). If the count exceeds the number of cancellations with which the
run itself has ended a pull, the loop is shutting down, and the jobs have already been cancelled.

Which error does the caller receive? Each step of the pump that runs user code (the source, the engine) is guarded, and
the engine reports errors with `fail`. The first error is kept, and its type determines what follows. After an
Exception, or a CancelledError that the step itself raised, no more items are pulled, but the running jobs finish,
because they did not cause the error. After KeyboardInterrupt or SystemExit, the jobs are cancelled, because the process
is about to end.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.tasks import named_task, wait_until_done
from aiosupervise._events.emit import EnclosingScope, Scope
from aiosupervise._events.listeners import listeners
from aiosupervise._events.outcomes import Failure, I, Outcome, Stopped, Success, Tally
from aiosupervise._events.records import JobFinished, RunFinished, RunStarted, RunStopped

from ._journal.journal import session_of
from .checked import start_engine
from .config import RunConfig
from .feeds import feed_of
from .first_error import FirstError
from .outlet import Outlet
from .protocol import EngineContext, EngineRun
from .source import End

if TYPE_CHECKING:
    from ._journal.session import Session

T = TypeVar("T")

_numbers = itertools.count(1)
# Seconds that cancelled jobs have for their clean-up before a warning names those that are still running.
_GRACE = 5.0


class Pump(Generic[T, I]):
    """One run of a batch, from its start to its end."""

    def __init__(
        self, config: RunConfig[T, I], tally: Tally, *, streamed: bool, enclosing: EnclosingScope | None = None
    ) -> None:
        """Create the pump of a run that is about to begin.

        Args:
            config: the configuration of the run.
            tally: the live counts of the run.
            streamed: True if the outcomes are read one by one.
            enclosing: the scope to which the events are passed on; None for the enclosing job, if there is one.
        """
        self.outlet = Outlet(config.strategy, tally, streamed=streamed)
        self.error = FirstError()
        self._config = config
        self._source = config.source
        self._tally = tally
        self._failures_left = config.max_failures
        self._strategy = config.strategy
        # True if an outcome may end the run early.
        self._may_end = config.strategy.may_end_run or config.max_failures is not None
        # The reason for an early end.
        self._why: Stopped | None = None
        self._cancelled = False
        self._timers: list[asyncio.TimerHandle] = []
        self._session = None if config.journal is None else session_of(config.journal, config.name)
        # True if a success may be passed to the strategy without `_deliver`.
        self._is_simple = not streamed and self._session is None
        self._feed = feed_of(config, tally, self.error, self.outlet, self._session)
        if self._session is not None:
            self._session.connect(deliver=self._deliver, fail=self._on_journal_failed, wake=self._feed.wake)
        self._is_announced = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        enclosing = current_job.get() if enclosing is None else enclosing
        self._scope = Scope(next(_numbers), config.name, tally, listener=config.listen, enclosing=enclosing)
        self._context: EngineContext[T, I] = EngineContext(
            config.for_engine,
            config.jobs,
            tally,
            self._scope,
            record=self._record,
            wake=self._feed.wake,
            stop=self.stop,
            fail=self._fail,
            is_loop_shutting_down=self._is_loop_shutting_down,
        )
        unrecorded = set[int]()
        self._engine: EngineRun = start_engine(config.engine, self._context, unrecorded)
        self._feed.connect(self._engine, unrecorded)

    def start(self) -> None:
        """Start the task of the run."""
        self._scope.open()
        if self._session is None:
            self._announce(None)
        pumping = self._pump()
        try:
            self._task = named_task(self._loop, pumping, f"{self._config.name} pump")
        except BaseException:
            # A task factory may raise any error.
            pumping.close()
            self._close_scope()
            raise
        self._task.add_done_callback(self._finalize)
        if self._config.timeout is not None:
            self._timers.append(self._loop.call_later(self._config.timeout, self.cancel, Stopped.TIMEOUT))

    # The ways to end.

    def stop(self, why: Stopped) -> None:
        """Start no further jobs, and let running jobs finish."""
        is_first = self._why is None and not self.outlet.closed
        if is_first:
            self._why = why
        self._wind_down(why)
        if is_first and why in (Stopped.PROBES, Stopped.FAILURES):
            self._scope.emit(RunStopped, why)

    def _wind_down(self, why: Stopped) -> None:  # noqa: ARG002 - used by the pump of a stage
        """Let the running jobs finish, and start no others."""
        self._stop_pulling()
        self.error.guard(self._engine.stop)

    def _stop_pulling(self) -> None:
        if self._feed.is_stopped:
            return
        self._feed.stop()
        if not self._is_loop_shutting_down():
            self.error.guard(self._source.interrupt)

    def cancel(self, why: Stopped) -> None:
        """Start no further jobs, and cancel the running jobs, unless they have already been cancelled."""
        self.stop(why)
        if self._cancelled or self.outlet.closed:
            return
        self._cancelled = True
        self.error.guard(partial(self._engine.cancel, already_cancelled=self._is_loop_shutting_down()))
        self.error.guard(self._feed.skip_rest)
        self._timers.append(self._loop.call_later(_GRACE, self._warn_of_stubborn_jobs))

    async def join(self) -> None:
        """Wait until the run has ended; if the caller is cancelled in the meantime, cancel the run and keep waiting."""
        if not self.outlet.closed:
            task = self._task
            assert task is not None  # noqa: S101 - `join` follows `start`
            try:
                await wait_until_done(task, partial(self.cancel, Stopped.CANCELLED))
            finally:
                # The callbacks of the task may not have run yet.
                if task.done():
                    self._finalize(task)

    def _fail(self, error: BaseException) -> None:
        self.error.keep(error)
        if issubclass(type(error), (Exception, asyncio.CancelledError)):
            self._stop_pulling()
            self.error.guard(self._engine.stop)
        else:
            self.cancel(Stopped.CANCELLED)

    def _is_loop_shutting_down(self) -> bool:
        return self._task is not None and self._task.cancelling() > self._source.interrupts

    def _warn_of_stubborn_jobs(self) -> None:
        names = ", ".join(self._engine.job_names()) or self._other_work()
        warnings.warn(
            f"cancelled {_GRACE:g} s ago and still running, so the run waits: {names}", RuntimeWarning, stacklevel=2
        )

    def _other_work(self) -> str:
        if self._session is None or not self._session.queue:
            return "the source"
        return f"the commit of the journal {self._session.path}"

    # Outcomes, and the visible state of the run.

    async def read(self) -> Outcome[T, I] | End:
        """Return the next outcome and free its slot; return END if there are no more outcomes."""
        outcome = await self.outlet.next()
        self._feed.wake()
        return outcome

    @property
    def is_stopping(self) -> bool:
        """True if no further jobs will start."""
        return self._feed.is_stopped

    def status(self) -> str:
        """Return the reason why no jobs are starting at the moment, or an empty string."""
        return self._engine.status() or ("stopping" if self.is_stopping and not self.outlet.closed else "")

    def _record(self, outcome: Outcome[T, I]) -> None:
        feed = self._feed
        feed.unfinished -= 1
        if self._is_simple and type(outcome) is Success and not listeners.count:
            # This has the same effect as `_deliver`, without the cost of three calls.
            self._tally.succeeded += 1
            self._strategy.add(outcome)
        elif self._session is None:
            self._deliver(outcome)
        else:
            self._session.add(outcome)
        if self._may_end:
            self._end_if_due(outcome)
        if feed.wakes:
            feed.wake()

    def _end_if_due(self, outcome: Outcome[T, I]) -> None:
        if self._strategy.ends_run(outcome):
            self.cancel(Stopped.RETURN_WHEN)
        if self._failures_left is not None and isinstance(outcome, Failure):
            self._failures_left -= 1
            if self._failures_left < 0:
                self.stop(Stopped.FAILURES)

    def _deliver(self, outcome: Outcome[T, I]) -> None:
        self.outlet.add(outcome)
        if listeners.count:
            self._scope.emit(JobFinished, outcome, self._feed.group_of(outcome.index))

    def _announce(self, known: int | None) -> None:
        if not self._is_announced:
            self._is_announced = True
            self._scope.emit(RunStarted, known)

    # The task.

    async def _pump(self) -> None:
        try:
            await self._run()
        finally:
            if self._session is not None:
                self._session.abandon()

    async def _run(self) -> None:
        if self._session is not None:
            await self._guard(partial(self._open, self._session))
        await self._guard(self._engine.open)
        await self._guard(self._feed.fill_slots)
        await self._guard(self._feed.close)
        self.error.guard(self._feed.skip_rest)
        while self._feed.unfinished or self._is_saving():
            try:
                await self._feed.wait_for_change()
            except asyncio.CancelledError:
                self.cancel(Stopped.CANCELLED)
        if self._session is not None:
            await self._guard(self._session.close)
        await self._guard(self._engine.close)

    async def _open(self, session: Session) -> None:
        try:
            await session.open()
        except Exception as error:
            self._fail(error)
        finally:
            self._announce(session.known)

    def _is_saving(self) -> bool:
        """Return whether outcomes are still uncommitted; if so, request their commit now, since no more will follow."""
        if self._session is None or not self._session.queue:
            return False
        self._session.flush()
        return True

    def _on_journal_failed(self, error: BaseException) -> None:
        self.outlet.seal()
        self._fail(error)

    async def _guard(self, step: Callable[[], Awaitable[None]]) -> None:
        """Perform a step that runs user code; see "Which error does the caller receive?" in the module docstring."""
        try:
            await step()
        except GeneratorExit:
            # The pump is being discarded.
            raise
        except BaseException as error:
            # `isinstance` would read the `__class__` of the error, which may be a property that raises.
            if issubclass(type(error), asyncio.CancelledError) and self._is_loop_shutting_down():
                self.cancel(Stopped.CANCELLED)
                return
            self.error.keep(error)
            if issubclass(type(error), (Exception, asyncio.CancelledError)):
                # `stop` is not called, because the engine still runs the jobs that it has received.
                self._stop_pulling()
            else:
                self.cancel(Stopped.CANCELLED)

    def _finalize(self, task: asyncio.Task[None]) -> None:
        """Deliver the last outcomes and release all resources, however the pump ended; later calls have no effect."""
        if self.outlet.closed:
            return
        if task.cancelled():
            # The loop, which is shutting down, cancelled the task before its first step.
            self._why = self._why or Stopped.CANCELLED
        else:
            self.error.keep(task.exception())
        self.error.guard(self._feed.skip_rest)
        if self._session is not None:
            self.error.guard(self._session.detach)
        is_complete = self._source.exhausted and not self._tally.pending
        self.outlet.close(None if is_complete else self._why)
        for timer in self._timers:
            timer.cancel()
        self._context.detach()
        self._close_scope()

    def _close_scope(self) -> None:
        self._announce(None if self._session is None else self._session.known)
        self._scope.emit(RunFinished, self.outlet.elapsed, None if self._session is None else self._tally.replayed)
        self._scope.close()
