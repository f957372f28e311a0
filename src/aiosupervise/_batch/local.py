"""The local engine: one task and one context for each job, in the loop of the run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, ClassVar, TypeVar

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.tasks import cancellation, clock_of, task_factory
from aiosupervise._events.outcomes import Failure, I, Outcome, Success
from aiosupervise._policy.verdict import verdict

from .adaptive import AdaptiveLimit
from .breaker import Breaker
from .context import JobContext, RunContext
from .jobs import Jobs, used_twice
from .overload import Adaptive, Overload
from .protected import ProtectedRun
from .protocol import EngineContext, EngineRun

T = TypeVar("T")

# Since Python 3.14, asyncio's call graph shows the awaiter of each task. A run awaits its jobs through callbacks, so it
# has to register as the awaiter: https://docs.python.org/3/library/asyncio-graph.html
_add_awaiter: Callable[..., None] | None = getattr(asyncio, "future_add_to_awaited_by", None)
_discard_awaiter: Callable[..., None] | None = getattr(asyncio, "future_discard_from_awaited_by", None)


class LocalEngine:
    """The default engine: runs the jobs as tasks in the event loop of the run."""

    def __init__(self, jobs: Jobs[Any, Any]) -> None:
        self._jobs = jobs

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Accept any function and any inputs, because nothing leaves the process."""

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run, with its own overload protection and adaptive limit if configured."""
        tally, limit, overload = context.tally, context.config.limit, context.config.overload
        adaptive = AdaptiveLimit(limit, tally) if isinstance(limit, Adaptive) else None
        new_breaker = None if overload is None else partial(_new_breaker, context, overload)
        run = RunContext(tally, context.scope, new_breaker, adaptive, current_job.get())
        if overload is not None and overload.budget is not None:
            # The breaker is needed from the start, because each success refills a budget that other runs may share.
            run.ensure_breaker()
        return LocalRun(self._jobs, context, run)


def _new_breaker(context: EngineContext[Any, Any], overload: Overload) -> Breaker:
    """Create the breaker of a run, and record the jobs that have already succeeded.

    Results from a journal are not recorded, because their jobs did not call the service in this run.
    """
    return Breaker(overload, ProtectedRun(context), context.tally.succeeded - context.tally.replayed)


class LocalJob(JobContext):
    """A running job; its method `finish` is the callback of its task.

    Once the job has ended, this object refers to no task, coroutine or item, because timers and tasks that the job
    started may keep the object alive for a long time.

    Attributes:
        task: the task of the job.
        coroutine: the coroutine that the task runs.
        item: the item from which the job was created.
        had_begun: whether the job had begun when the run cancelled it; None if the run has not cancelled it.
    """

    task: Any = None
    had_begun: bool | None = None

    def __init__(self, engine: LocalRun, index: int, item: Any, coroutine: Coroutine[object, None, Any]) -> None:
        self.index = index
        prefix = engine.name_prefix
        self.name = f"{prefix}{index}" if prefix else engine.jobs.name(item, index)
        self.started = engine.clock()
        self.run_context = engine.run_context
        self.item = item
        self.coroutine: Any = coroutine
        self._engine = engine

    def finish(self, task: asyncio.Task[Any]) -> None:
        """Record the outcome of the job, whose task is done."""
        engine, item = self._engine, self.item
        del engine.running[self.coroutine]
        self.task = self.coroutine = self.item = None
        if _discard_awaiter is not None:
            _discard_awaiter(task, engine.pump_task)
        engine.tally.running -= 1
        outcome: Outcome[Any, Any]
        if task.cancelled() or task.exception() is not None:
            outcome = self._failure(item, task)
        else:
            elapsed = engine.clock() - self.started
            shown = item if engine.has_inputs else None
            outcome = Success(self.index, task.result(), self.retries + 1, elapsed, self.name, shown)
        if engine.adaptive is None and self.run_context.breaker is None:
            engine.context.record(outcome)
        else:
            self._report_and_record(outcome)

    def _report_and_record(self, outcome: Outcome[Any, Any]) -> None:
        breaker, adaptive = self.run_context.breaker, self._engine.adaptive
        try:
            if breaker is not None and not breaker.is_clean:
                breaker.on_end(self, outcome, has_failed=self.has_failed)
            if adaptive is not None:
                adaptive.on_end(self.generation, outcome)
        finally:
            self._engine.context.record(outcome)

    def _failure(self, item: Any, task: asyncio.Task[Any]) -> Outcome[Any, Any]:
        """Return the outcome of a job that raised or was cancelled."""
        engine, begun = self._engine, self.had_begun
        error = cancellation(task) if task.cancelled() else task.exception()
        if task.cancelled() and begun is not None:
            if not begun:
                engine.discard(item)
            return engine.jobs.pending(item, self.index, started=begun or engine.jobs.is_task(item))
        assert error is not None  # noqa: S101 - for the type checkers
        gave_up = verdict(error)
        reason = gave_up.reason if gave_up else None
        elapsed = engine.clock() - self.started
        shown = item if engine.has_inputs else None
        return Failure(self.index, error, self.retries + 1, elapsed, reason, self.name, shown)


class LocalRun(EngineRun):
    """The running jobs of one run.

    Their tasks are never awaited: a callback reads the result of each task. A job can therefore raise any error,
    including StopIteration and CancelledError, and its traceback contains no frames of this library.

    If the run ends early, results that are already available are still delivered: a job whose next step is already
    scheduled takes that step before it is cancelled. Running jobs are therefore cancelled two iterations of the loop
    later: a callback in the next iteration might run before that step. In comparison, `asyncio.wait` collects the
    results after one iteration. Jobs that have not begun are cancelled immediately: they have no result, and should not
    begin.
    """

    job_type: ClassVar[type[LocalJob]] = LocalJob
    _is_checked = False

    def __init__(self, jobs: Jobs[Any, Any], context: EngineContext[Any, Any], run: RunContext) -> None:
        super().__init__(context)
        self.jobs = jobs
        self.has_inputs = jobs.have_inputs
        self.name_prefix = jobs.name_prefix
        self.run_context = run
        self.tally = run.tally
        self.adaptive = run.adaptive
        # The running jobs by coroutine, to detect a coroutine that is passed twice.
        self.running: dict[Coroutine[object, None, Any], LocalJob] = {}
        self.loop = asyncio.get_running_loop()
        self.clock = clock_of(self.loop)
        self._is_cancelled = False
        self._new_task = task_factory(self.loop)
        self._contextvars = copy_context()
        # The task that starts the jobs.
        self.pump_task: asyncio.Task[object] | None = None

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start under the limit and the circuit breaker."""
        slots, breaker = super().free_slots(taken), self.run_context.breaker
        if breaker is None or breaker.circuit.is_closed:
            return slots
        return breaker.free_slots(slots, taken)

    def start_job(self, item: Any, index: int) -> None:
        """Start the task of a job.

        Raises:
            TypeError: if the item is not a job, or is a coroutine that was passed before.
            BaseException: the error of a task factory; the job is recorded as pending.
        """
        coroutine = self.jobs.coroutine(item, index)
        if coroutine in self.running:
            raise used_twice(item, index)
        job = self.job_type(self, index, item, coroutine)
        breaker = job.run_context.breaker
        if breaker is not None and not breaker.circuit.is_closed:
            breaker.on_start(job)
        # With an eager task factory of the user's own, the task runs its first step before it is returned.
        if self.adaptive is not None:
            job.generation = self.adaptive.generation
        contextvars = self._contextvars.copy()
        contextvars.run(current_job.set, job)
        try:
            task = self._new_task(coroutine, name=job.name, context=contextvars)
        except BaseException:
            self._refuse(job)
            raise
        job.task = task
        self.running[coroutine] = job
        if _add_awaiter is not None:
            self.pump_task = self.pump_task or asyncio.current_task()
            _add_awaiter(task, self.pump_task)
        self.tally.running += 1
        if self.adaptive is not None:
            self.adaptive.on_start()
        # asyncio's debug mode logs a slow callback with the arguments of a partial, but without the object of a bound
        # method. The item, which may be secret, is therefore not logged.
        task.add_done_callback(job.finish, context=self._contextvars)

    def skip(self, item: Any, index: int) -> None:
        """Record as pending an item that was pulled too late; if it is a task, treat it as a running job."""
        if self.jobs.is_task(item):
            self.start_job(item, index)
            if self._is_cancelled:
                # The shutdown of the loop cancels every task, but not those created afterwards.
                shutdown = self.context.is_loop_shutting_down() and item.cancelling() > 0
                self._cancel(next(reversed(self.running.values())), already_cancelled=shutdown)
        elif self.jobs.given(item) in self.running:
            raise used_twice(item, index)
        else:
            super().skip(item, index)
            self.jobs.discard(item)

    def _refuse(self, job: LocalJob) -> None:
        """Record a job as pending, because its task could not be created."""
        outcome = self.jobs.pending(job.item, job.index, started=False)
        if job.run_context.breaker is not None:
            job.run_context.breaker.on_neutral(job)
        job.coroutine = job.item = None
        self.context.record(outcome)

    def discard(self, item: Any) -> None:
        """Close an item, such as a run, that was not awaited because its task was cancelled before its first step."""
        try:
            self.jobs.discard(item)
        except Exception as error:
            # The `close` method of a user's object may raise any error.
            self.context.fail(error)

    def job_names(self) -> list[str]:
        """Return the names of the running jobs."""
        return [job.task.get_name() for job in self.running.values()]

    def status(self) -> str:
        """Return the reason why the run is paused or has stopped, or an empty string."""
        breaker = self.run_context.breaker
        return "" if breaker is None else breaker.describe()

    def cancel(self, *, already_cancelled: bool) -> None:
        """Cancel the jobs; those that end because of the cancellation are recorded as pending."""
        if already_cancelled:
            self._cancel_running()
        else:
            for job in [*self.running.values()]:
                if self._future_of(job) is None and not _has_begun(job.coroutine):
                    self._cancel(job)
            self.loop.call_soon(self.loop.call_soon, self._cancel_running)

    def _cancel_running(self) -> None:
        self._is_cancelled = True
        already_cancelled = self.context.is_loop_shutting_down()
        for job in [job for job in self.running.values() if job.had_begun is None]:
            self._cancel(job, already_cancelled=already_cancelled)

    def _cancel(self, job: LocalJob, *, already_cancelled: bool = False) -> None:
        job.had_begun = _has_begun(job.coroutine)
        future = self._future_of(job)
        try:
            if not (already_cancelled or (job.task if future is None else future).cancel()):
                job.had_begun = None
        except Exception as error:
            # A user-defined future may raise any error; the other jobs are still cancelled.
            self.context.fail(error)

    def _future_of(self, job: LocalJob) -> asyncio.Future[Any] | None:
        """Return the item of a job if it is a future of the run's loop, otherwise None.

        The future is cancelled, and not the task that awaits it, so a result that the future already has is kept even
        if the task has not yet read it.
        """
        future = self.jobs.future(job.item)
        try:
            return future if future is not None and future.get_loop() is self.loop else None
        except Exception:
            # A user-defined future may raise any error.
            return None

    async def close(self) -> None:
        """Detach calls that outlive the run, so that they continue without it."""
        self.run_context.close()


def _has_begun(coroutine: Coroutine[object, None, Any]) -> bool:
    try:
        return inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
    except Exception:
        # A proxy may raise any error.
        return True
