"""The local engine: one task and one context for each job, in the loop of the run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.tasks import cancellation, task_factory
from aiosupervise._events.outcomes import Failure, I, Outcome, Success
from aiosupervise._policy.verdict import verdict

from .adaptive import AdaptiveLimit
from .breaker import Breaker
from .context import JobContext, RunContext
from .jobs import Jobs, used_twice
from .overload import Adaptive
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
        config, tally = context.config, context.tally
        adaptive = AdaptiveLimit(config.limit, tally) if isinstance(config.limit, Adaptive) else None
        breaker = None if config.overload is None else Breaker(config.overload, ProtectedRun(context))
        run = RunContext(tally, context.scope, breaker, adaptive, current_job.get())
        return LocalRun(self._jobs, context, run)


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

    def __init__(self, jobs: Jobs[Any, Any], context: EngineContext[Any, Any], run: RunContext) -> None:
        super().__init__(context)
        self._jobs = jobs
        self._run = run
        self._tally = run.tally
        self._breaker = run.breaker
        self._adaptive = run.adaptive
        # The task and the item of each running job, by coroutine, to detect a coroutine that is passed twice. The
        # callback of a task does not refer to the item: in asyncio's debug mode, the task's repr would show it.
        self._tasks: dict[Coroutine[object, None, Any], tuple[asyncio.Task[Any], Any]] = {}
        # The futures that were passed as jobs, by the coroutine that awaits each. The future is cancelled, and not the
        # task that awaits it, so a result that the future already has is kept even if the task has not yet read it.
        self._futures: dict[Coroutine[object, None, Any], asyncio.Future[Any]] = {}
        self._is_cancelled = False
        self._cancelled: dict[object, bool] = {}  # for each job that the run has cancelled: whether it had begun
        self._loop = asyncio.get_running_loop()
        self._new_task = task_factory(self._loop)
        self._contextvars = copy_context()
        self._pump: asyncio.Task[object] | None = None  # the task that starts the jobs

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start under the limit and the circuit breaker."""
        slots = super().free_slots(taken)
        if self._breaker is None or self._breaker.circuit.is_closed:
            return slots
        return self._breaker.free_slots(slots, taken)

    def start_job(self, item: Any, index: int) -> None:
        """Start the task of a job.

        Raises:
            TypeError: if the item is not a job.
            BaseException: the error of a task factory; the job is recorded as pending.
        """
        self._start(item, JobContext(index, self._jobs.name(item, index), self._loop.time(), self._run))

    def _start(self, item: Any, job: JobContext) -> asyncio.Task[Any]:
        coroutine = self._jobs.coroutine(item, job.index)
        if coroutine in self._tasks:
            raise used_twice(item, job.index)
        breaker = job.run_context.breaker
        if breaker is not None and not breaker.circuit.is_closed:
            breaker.started(job)
        contextvars = self._contextvars.copy()
        contextvars.run(current_job.set, job)
        try:
            task = self._new_task(coroutine, loop=self._loop, name=job.name, context=contextvars)
        except BaseException:
            self._refuse(job, item)
            raise
        self._tasks[coroutine] = task, item
        if coroutine is not item and (future := self._jobs.future(item)) and future.get_loop() is self._loop:
            self._futures[coroutine] = future
        if _add_awaiter is not None:
            self._pump = self._pump or asyncio.current_task()
            _add_awaiter(task, self._pump)
        self._tally.running += 1
        if self._adaptive is not None:
            self._adaptive.started()
        task.add_done_callback(partial(self._finish, job, coroutine), context=self._contextvars)
        return task

    def skip(self, item: Any, index: int) -> None:
        """Record as pending an item that was pulled too late; if it is a task, treat it as a running job."""
        if self._jobs.is_task(item):
            self.start_job(item, index)
            if self._is_cancelled:
                # The shutdown of the loop cancels every task, but not those created afterwards.
                shutdown = self.context.is_loop_shutting_down() and item.cancelling() > 0
                self._cancel(next(reversed(self._tasks)), already_cancelled=shutdown)
        elif self._jobs.given(item) in self._tasks:
            raise used_twice(item, index)
        else:
            super().skip(item, index)
            self._jobs.discard(item)

    def _refuse(self, job: JobContext, item: Any) -> None:
        """Record a job as pending, because its task could not be created."""
        outcome = self._jobs.pending(item, job.index, started=False)
        if job.run_context.breaker is not None:
            job.run_context.breaker.on_neutral(job)
        self.context.record(outcome)

    def _discard(self, item: Any) -> None:
        """Close an item, such as a run, that was not awaited because its task was cancelled before its first step."""
        try:
            self._jobs.discard(item)
        except Exception as error:  # raised by a user's `close`
            self.context.fail(error)

    def job_names(self) -> list[str]:
        """Return the names of the running jobs."""
        return [task.get_name() for task, _ in self._tasks.values()]

    def status(self) -> str:
        """Return the reason why the run is paused or has stopped, or an empty string."""
        return "" if self._breaker is None else self._breaker.describe()

    def cancel(self, *, already_cancelled: bool) -> None:
        """Cancel the jobs; those that end because of the cancellation are recorded as pending."""
        if already_cancelled:
            self._cancel_running()
        else:
            for coroutine in [*self._tasks]:
                if coroutine not in self._futures and not _has_begun(coroutine):
                    self._cancel(coroutine)
            self._loop.call_soon(self._loop.call_soon, self._cancel_running)

    def _cancel_running(self) -> None:
        self._is_cancelled = True
        already_cancelled = self.context.is_loop_shutting_down()
        for coroutine in [running for running in self._tasks if running not in self._cancelled]:
            self._cancel(coroutine, already_cancelled=already_cancelled)

    def _cancel(self, coroutine: Coroutine[object, None, Any], *, already_cancelled: bool = False) -> None:
        task = self._futures.get(coroutine, self._tasks[coroutine][0])
        self._cancelled[coroutine] = _has_begun(coroutine)
        try:
            if not (already_cancelled or task.cancel()):
                del self._cancelled[coroutine]
        except Exception as error:  # raised by a user-defined future; the other jobs are still cancelled
            self.context.fail(error)

    async def close(self) -> None:
        """Detach calls that outlive the run, so that they continue without it."""
        if self._breaker is not None:
            self._breaker.close()

    def _finish(self, job: JobContext, coroutine: Coroutine[object, None, Any], task: asyncio.Task[Any]) -> None:
        _, item = self._tasks.pop(coroutine)
        if self._futures:
            self._futures.pop(coroutine, None)
        if _discard_awaiter is not None:
            _discard_awaiter(task, self._pump)
        self._tally.running -= 1
        if task.cancelled() or task.exception() is not None:
            outcome = self._failure(job, item, task, begun=self._cancelled.pop(coroutine, None))
        else:
            elapsed = self._loop.time() - job.started
            outcome = Success(job.index, task.result(), job.retries + 1, elapsed, job.name, self._jobs.input(item))
        breaker = job.run_context.breaker
        try:
            if breaker is not None and not breaker.is_at_rest:
                breaker.ended(job, outcome, has_failed=job.has_failed)
            if self._adaptive is not None:
                self._adaptive.ended(job.generation, outcome)
        finally:
            self.context.record(outcome)

    def _failure(self, job: JobContext, item: Any, task: asyncio.Task[Any], *, begun: bool | None) -> Outcome[Any, Any]:
        """Return the outcome of a job that raised or was cancelled; `begun` is None if the run did not cancel it."""
        error = cancellation(task) if task.cancelled() else task.exception()
        if task.cancelled() and begun is not None:
            if not begun:
                self._discard(item)
            return self._jobs.pending(item, job.index, started=begun or self._jobs.is_task(item))
        assert error is not None  # noqa: S101 - for the type checkers
        gave_up = verdict(error)
        reason = gave_up.reason if gave_up else None
        elapsed = self._loop.time() - job.started
        return Failure(job.index, error, job.retries + 1, elapsed, reason, job.name, self._jobs.input(item))


def _has_begun(coroutine: Coroutine[object, None, Any]) -> bool:
    try:
        return inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
    except Exception:  # raised by a proxy
        return True
