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
from .protocol import EngineContext, EngineRun

T = TypeVar("T")


class LocalEngine:
    """Runs the jobs as tasks of the run's own loop: the engine of every run that was given no other."""

    def __init__(self, jobs: Jobs[Any, Any]) -> None:
        self._jobs = jobs

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Accept any function and any inputs: nothing leaves the process."""

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run, with overload protection and an adaptive limit of its own where it asks for them."""
        config, tally = context.config, context.tally
        adaptive = AdaptiveLimit(config.limit, tally) if isinstance(config.limit, Adaptive) else None
        breaker = None if config.overload is None else Breaker(config.overload, context)
        run = RunContext(tally, context.scope, breaker, adaptive, current_job.get())
        return LocalRun(self._jobs, context, run)


class LocalRun(EngineRun):
    """The running jobs of one run.

    Their tasks are never awaited: a callback reads the result of each. So a job can raise anything, StopIteration and
    CancelledError included, and the traceback of its error has no frame of ours.
    """

    def __init__(self, jobs: Jobs[Any, Any], context: EngineContext[Any, Any], run: RunContext) -> None:
        super().__init__(context)
        self._jobs = jobs
        self._run = run
        self._tally = run.tally
        self._breaker = run.breaker
        self._adaptive = run.adaptive
        # By coroutine, to find one that is given twice; a task that was given as a job stands for itself.
        self._tasks: dict[Coroutine[object, None, Any], asyncio.Task[Any]] = {}
        self._cancelled: dict[object, bool] = {}  # jobs cancelled by the end of the run: had they begun?
        self._loop = asyncio.get_running_loop()
        self._new_task = task_factory(self._loop)
        self._contextvars = copy_context()

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs the limit and the circuit breaker let start."""
        slots = super().free_slots(taken)
        if self._breaker is None or self._breaker.circuit.is_closed:
            return slots
        return self._breaker.free_slots(slots, taken)

    def start_job(self, item: Any, index: int) -> None:
        """Start the task of a job.

        Raises:
            TypeError: if the item is not a job.

        """
        coroutine = self._jobs.coroutine(item, index)
        if coroutine in self._tasks:
            raise used_twice(item, index)
        job = JobContext(index, self._jobs.name(item, index), self._loop.time(), self._run)
        if self._breaker is not None and not self._breaker.circuit.is_closed:
            self._breaker.started(job)
        contextvars = self._contextvars.copy()
        contextvars.run(current_job.set, job)
        task = self._new_task(coroutine, name=job.name, context=contextvars)
        self._tasks[coroutine] = item if coroutine is not item and isinstance(item, asyncio.Task) else task
        self._tally.running += 1
        if self._adaptive is not None:
            self._adaptive.started()
        task.add_done_callback(partial(self._finish, job, item, coroutine), context=self._contextvars)

    def skip(self, item: Any, index: int) -> None:
        """Record an item that was pulled too late; a task runs by itself, and is waited for as any other job."""
        if self._jobs.is_task(item):
            self.start_job(item, index)
        elif inspect.iscoroutine(item) and item in self._tasks:
            raise used_twice(item, index)
        else:
            super().skip(item, index)
            self._jobs.discard(item)

    def job_names(self) -> list[str]:
        """Return the names of the running jobs."""
        return [task.get_name() for task in self._tasks.values()]

    def status(self) -> str:
        """Return in words why the run pauses or has stopped."""
        return "" if self._breaker is None else self._breaker.describe()

    def cancel(self, *, already_cancelled: bool) -> None:
        """Cancel the running jobs; those that end by it are pending."""
        for coroutine, task in self._tasks.items():
            begun = inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
            if already_cancelled or task.cancel():
                self._cancelled[coroutine] = begun

    async def close(self) -> None:
        """Let calls that outlive the run go on without it."""
        if self._breaker is not None:
            self._breaker.close()

    def _finish(
        self, job: JobContext, item: Any, coroutine: Coroutine[object, None, Any], task: asyncio.Task[Any]
    ) -> None:
        del self._tasks[coroutine]
        self._tally.running -= 1
        outcome = self._outcome(job, item, task, begun=self._cancelled.pop(coroutine, None))
        breaker = self._breaker
        if breaker is not None and not breaker.is_at_rest:
            breaker.ended(job, outcome, has_failed=job.has_failed)
        if self._adaptive is not None:
            self._adaptive.ended(job.generation, outcome)
        self.context.record(outcome)

    def _outcome(self, job: JobContext, item: Any, task: asyncio.Task[Any], *, begun: bool | None) -> Outcome[Any, Any]:
        index, name = job.index, job.name
        if task.cancelled():
            if begun is not None:
                return self._jobs.pending(item, index, started=begun or isinstance(item, asyncio.Task))
            error: BaseException | None = cancellation(task)
        else:
            error = task.exception()
        attempts = job.retries + 1
        elapsed = self._loop.time() - job.started
        if error is None:
            return Success(index, task.result(), attempts, elapsed, name, self._jobs.input(item))
        gave_up = verdict(error)
        reason = gave_up.reason if gave_up else None
        return Failure(index, error, attempts, elapsed, reason, name, self._jobs.input(item))
