"""What runs: one task and one context for each job, from its start to its outcome."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar

from aiosupervise._call.enclosing_job import current_job
from aiosupervise._call.tasks import cancellation, task_factory
from aiosupervise._events.outcomes import Failure, I, Outcome, Pending, Success
from aiosupervise._policy.checks import name_of
from aiosupervise._policy.verdict import verdict

from .context import JobContext, RunContext
from .jobs import coroutine_of, rerun, used_twice

T = TypeVar("T")
BURST = 1000  # jobs started in a row before the loop's other tasks get a turn


class LocalRun(Generic[T, I]):
    """The jobs that run now.

    Their tasks are never awaited, only asked when they are done: so a job can raise what it likes, StopIteration and
    CancelledError included, and the traceback of its error has no frame of the engine.
    """

    def __init__(
        self,
        func: Callable[[I], Awaitable[T]] | None,
        name: str | None,
        shared: RunContext,
        ended: Callable[[Outcome[T, I]], None],
    ) -> None:
        self._func = func
        self._name = name
        self._shared = shared
        self._tally = shared.tally
        self._breaker = shared.breaker
        self._adaptive = shared.adaptive
        self._report = ended
        # By coroutine, to know one that comes twice; a task that was given as a job stands for itself.
        self._tasks: dict[Coroutine[object, None, T], asyncio.Task[T]] = {}
        self._cancelled: dict[object, bool] = {}  # those that the end of the run has cancelled: had they begun?
        self._loop = asyncio.get_running_loop()
        self._new_task = task_factory(self._loop)
        self._context = copy_context()

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, item: object) -> bool:
        return inspect.iscoroutine(item) and item in self._tasks

    def free_slots(self, taken: int) -> int:
        """Count how many more may start, as the limit is now."""
        limit = self._tally.limit
        return BURST if limit is None else limit - taken

    def trouble(self) -> str:
        """Tell in words why the run pauses or has stopped."""
        return "" if self._breaker is None else self._breaker.describe()

    async def open(self) -> None:
        """Have nothing to do: jobs are done here."""

    async def close(self) -> None:
        """Have nothing to do."""

    def stop(self) -> None:
        """Have nothing to do: what was started runs, and it finishes."""

    def names(self) -> list[str]:
        """Return the names of the jobs."""
        return [task.get_name() for task in self._tasks.values()]

    def start(self, item: Any, index: int) -> None:
        """Start a job.

        Raises:
            TypeError: if the item is no job.

        """
        func = self._func
        job: Any = item if func is None else partial(func, item)
        coroutine = coroutine_of(job, index)
        if coroutine in self._tasks:
            raise used_twice(item, index)
        ticket = JobContext(index, self.name_for(item, index), self._loop.time(), self._shared)
        if self._breaker is not None and not self._breaker.is_clear:
            self._breaker.started(ticket)
        context = self._context.copy()
        context.run(current_job.set, ticket)
        task = self._new_task(coroutine, name=ticket.name, context=context)
        self._tasks[coroutine] = item if coroutine is not item and isinstance(item, asyncio.Task) else task
        self._tally.running += 1
        if self._adaptive is not None:
            self._adaptive.started()
        task.add_done_callback(partial(self._ended, ticket, item, coroutine), context=self._context)

    def cancel(self, *, reach: bool) -> None:
        """Cancel what runs, or with `reach` False know that somebody has done so; what ends by it is pending."""
        for coroutine, task in self._tasks.items():
            begun = inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED
            if not reach or task.cancel():
                self._cancelled[coroutine] = begun

    def name_for(self, item: object, index: int) -> str:
        """Return the name of a job's task."""
        return f"{self._name or getattr(item, '__name__', None) or name_of(item)}-{index}"

    def let_go(self) -> None:
        """Forget the run, which holds this: together they would be garbage that only the collector finds."""
        self._report = lambda _: None

    def pending(self, item: Any, index: int, name: str, *, started: bool) -> Pending[T, I]:
        """Make the outcome of a job that the end of the run came before."""
        again = rerun(item) if self._func is None else partial(self._func, item)
        return Pending(index, again, started, name, self._input(item))

    def _input(self, item: Any) -> Any:
        return None if self._func is None else item

    def _ended(
        self, ticket: JobContext, item: Any, coroutine: Coroutine[object, None, T], task: asyncio.Task[T]
    ) -> None:
        del self._tasks[coroutine]
        self._tally.running -= 1
        outcome = self._outcome(ticket, item, task, begun=self._cancelled.pop(coroutine, None))
        breaker = self._breaker
        if breaker is not None and not (breaker.is_clear and breaker.budget.tokens >= breaker.budget.capacity):
            breaker.ended(ticket, outcome)  # else all is well, and there is nothing to tell
        if self._adaptive is not None:
            self._adaptive.ended(ticket.generation, outcome)
        self._report(outcome)

    def _outcome(self, ticket: JobContext, item: Any, task: asyncio.Task[T], *, begun: bool | None) -> Outcome[T, I]:
        index, name = ticket.index, ticket.name
        if task.cancelled():
            if begun is not None:
                return self.pending(item, index, name, started=begun or isinstance(item, asyncio.Task))
            error: BaseException | None = cancellation(task)
        else:
            error = task.exception()
        attempts = ticket.retries + 1
        elapsed = self._loop.time() - ticket.started
        if error is None:
            return Success(index, task.result(), attempts, elapsed, name, self._input(item))
        gave_up = verdict(error)
        return Failure(index, error, attempts, elapsed, gave_up.reason if gave_up else None, name, self._input(item))
