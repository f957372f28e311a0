"""The protocol between a run and the engine that executes its jobs; published as `aiosupervise.engines`.

A run pulls items from its source and keeps the outcomes; an engine determines where and how jobs run. `Engine.check` is
called before a run is created, `Engine.start` when the run begins, and then the methods of the `EngineRun` that
`Engine.start` has returned. The engine reports through the `EngineContext` that it received. All of this happens in the
thread that runs the event loop of the run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ClassVar, Generic, Protocol, TypeVar, final

from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import I, Outcome, Pending, Stopped, Tally
from aiosupervise._policy.checks import is_async_callable
from aiosupervise._policy.record import record

from .jobs import Jobs
from .overload import Adaptive, Overload

T = TypeVar("T")


@final
@record
class EngineConfig(Generic[T, I]):
    """The settings of a run that concern its engine. They can be pickled if the function can.

    Attributes:
        func: the function to call with each input.
        name: the name of the run, by default that of its function, or `run_all`.
        limit: the number of jobs that may run concurrently, or an `Adaptive`; None for no limit.
        overload: the overload protection; None for no protection.
    """

    func: Callable[[I], Awaitable[T]]
    name: str
    limit: int | Adaptive | None
    overload: Overload | None


@final
class EngineContext(Generic[T, I]):
    """A run as its engine sees it: its settings, and the functions through which the engine reports.

    Attributes:
        config: the settings of the run.
        tally: the live counts. The engine updates `running` and `retries`, and may set `limit`; the run counts
            outcomes.
        scope: emits the events of the run: `scope.emit(WorkerLost, worker, jobs)`.
        record: records the outcome of a job; call it exactly once for each job that was started. It raises a
            RuntimeError for a job that was not started or already has its outcome, and in any thread other than that of
            the loop.
        wake: call it when slots have become free although no job was recorded.
        stop: call it to make the run start no further jobs; its argument becomes `report.stopped`.
        fail: call it with an error if no further job can run: the run stops, and raises the error. After a
            KeyboardInterrupt or SystemExit it also cancels the running jobs.

    After the run has ended, `record`, `wake`, `stop` and `fail` do nothing.
    """

    __slots__ = ("_is_loop_shutting_down", "_jobs", "config", "fail", "record", "scope", "stop", "tally", "wake")

    def __init__(
        self,
        config: EngineConfig[T, I],
        jobs: Jobs[T, I],
        tally: Tally,
        scope: Scope,
        *,
        record: Callable[[Outcome[T, I]], None],
        wake: Callable[[], None],
        stop: Callable[[Stopped], None],
        fail: Callable[[BaseException], None],
        is_loop_shutting_down: Callable[[], bool],
    ) -> None:
        self.config: EngineConfig[T, I] = config
        self.tally: Tally = tally
        self.scope: Scope = scope
        self.record: Callable[[Outcome[T, I]], None] = record
        self.wake: Callable[[], None] = wake
        self.stop: Callable[[Stopped], None] = stop
        self.fail: Callable[[BaseException], None] = fail
        self._jobs = jobs
        self._is_loop_shutting_down = is_loop_shutting_down

    def is_loop_shutting_down(self) -> bool:
        """Return whether the loop is shutting down, and therefore has cancelled every task."""
        return self._is_loop_shutting_down()

    def job_name(self, item: I, index: int) -> str:
        """Return the name of a job."""
        return self._jobs.name(item, index)

    def pending(self, item: I, index: int, *, started: bool) -> Pending[T, I]:
        """Create the outcome of a job that was unfinished when the run ended.

        Args:
            item: the input of the job.
            index: the position of the input in the source, from 0.
            started: True if the job had begun.
        """
        return self._jobs.pending(item, index, started=started)

    def detach(self) -> None:
        """Drop the references to the run after it has ended.

        The run refers to the `EngineRun`, which refers to this object. Without this step, the three would form a
        reference cycle, and only the garbage collector would free them and the errors of the run.
        """
        self.record = self.fail = self.stop = _ignore
        self.wake = _ignore
        self._is_loop_shutting_down = bool


def _ignore(*_: object) -> None:
    """Ignore a report, because the run has ended."""


class EngineRun(ABC):
    """An engine's part of one run: the jobs that it has started and not yet recorded.

    Two methods are required; the defaults of the others suit an engine that has nothing to prepare or release.
    """

    # Whether the run checks that each outcome is the first one of a job that was started.
    _is_checked: ClassVar[bool] = True

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check which methods are async: the run would wait forever for the jobs of an async `start_job`.

        Raises:
            TypeError: if a method that the run calls is async, or one that it awaits is not.
        """
        # The keywords belong to other base classes of the user's own.
        super().__init_subclass__(**keywords)
        for name in ("start_job", "cancel", "free_slots", "skip", "job_names", "status", "stop", "open", "close"):
            is_awaited = name in ("open", "close")
            if is_async_callable(getattr(cls, name)) is not is_awaited:
                rule = "must be async, because the run awaits it" if is_awaited else "must not be async"
                repair = "write `async def`" if is_awaited else "write `def`, and create a task for the part that waits"
                raise TypeError(f"{cls.__name__}.{name} {rule}: {repair}")

    def __init__(self, context: EngineContext[Any, Any]) -> None:
        self.context: EngineContext[Any, Any] = context

    @abstractmethod
    def start_job(self, item: Any, index: int) -> None:
        """Start a job; report its outcome through `context.record` when the job ends.

        Args:
            item: the input of the job.
            index: the position of the input in the source, from 0.

        Raises:
            Exception: if the item cannot be a job. The running jobs finish, and then the run raises the error.
        """
        ...

    @abstractmethod
    def cancel(self, *, already_cancelled: bool) -> None:
        """Cancel the unfinished jobs, and record each when it has ended; called at most once.

        A job that was cancelled before it could return or raise is recorded as `Pending`. A result that is already
        available is still delivered. If the run ends while it is awaiting `open`, this method is called in the
        meantime, and `open` should then return soon.

        Args:
            already_cancelled: True if the loop is shutting down and has already cancelled every task. In this case, do
                not cancel tasks of the loop again, because that would interrupt the clean-up of the jobs.
        """
        ...

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start now.

        Args:
            taken: the number of occupied slots: the unfinished jobs and, in a streamed run, the unread outcomes.
        """
        limit = self.context.tally.limit
        return UNLIMITED if limit is None else limit - taken

    def skip(self, item: Any, index: int) -> None:
        """Record as pending an item that was pulled too late to be started."""
        self.context.record(self.context.pending(item, index, started=False))

    def job_names(self) -> list[str]:
        """Return the names of a few unfinished jobs, for the warning that the run is still waiting for them."""
        return [f"jobs of {self.context.config.name}"]

    def status(self) -> str:
        """Return the reason why no jobs are starting at the moment, or an empty string."""
        return ""

    def stop(self) -> None:  # noqa: B027 - a default
        """Let running jobs finish, and start no others; may be called repeatedly, and before `cancel`."""

    async def open(self) -> None:  # noqa: B027 - a default
        """Prepare for the first job. If this method raises an error, no job starts, and the run raises the error.

        The run does not interrupt this method: if `stop` or `cancel` is called in the meantime, for example because the
        time limit of the run has expired, the run ends only when this method has returned.
        """

    async def close(self) -> None:  # noqa: B027 - a default
        """Release all resources; called once, when no job is unfinished, even if `open` has raised an error."""


class Engine(Protocol):
    """Runs the jobs of `map_all(engine=...)`; one engine may serve many runs, one after another or concurrently."""

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Raise an error for a function or inputs that the engine cannot handle; called before a run is created.

        Args:
            func: the function of the run.
            inputs: the inputs if they are in a list or another collection; empty for a source that is read lazily.

        Raises:
            TypeError: the message names the function, or the index of the input, and suggests a fix.
        """
        ...

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run in the running loop; called when the run is awaited or entered.

        Raises:
            Exception: if the run cannot begin; the run then raises this exception.
        """
        ...


UNLIMITED = 1000
"""The number of free slots of a run without a limit: this many jobs start in a row before other tasks may run."""
