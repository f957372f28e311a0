"""The protocol between a run and its engine, which does the run's jobs: the names of `aiosupervise.engines`.

A run pulls items from its source and keeps the outcomes; an engine knows where and how jobs are done. The run calls
`Engine.check` before it exists, `Engine.start` when it begins, and the methods of the `EngineRun` that it gets. The
engine answers through the `EngineContext` that it was handed. All of it happens in the thread of the run's loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, Protocol, TypeVar, final

from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import I, Outcome, Pending, Stopped, Tally
from aiosupervise._policy.record import record

from .jobs import Jobs
from .overload import Adaptive, Overload

T = TypeVar("T")


@final
@record
class EngineConfig(Generic[T, I]):
    """The settings of a run that concern its engine. It can be pickled if the function can.

    Attributes:
        func: the function to call with each input.
        name: the run's name, or that of its function.
        limit: how many jobs may run at a time; None for no limit.
        overload: what to do when the service behind the calls is overloaded; None for nothing.

    """

    func: Callable[[I], Awaitable[T]]
    name: str
    limit: int | Adaptive | None
    overload: Overload | None


@final
class EngineContext(Generic[T, I]):
    """One run, as its engine sees it: what it is to do, and how it reports to the run.

    Attributes:
        config: the settings of the run.
        tally: its live counts. The engine keeps `running` and `retries`, and may set `limit`; the run counts outcomes.
        scope: emits the events of the run: `scope.emit(WorkerLost, worker, jobs)`.
        record: takes the outcome of a job, exactly once for each job that was started.
        wake: call it when there are more free slots than before, unless a job was recorded.
        stop: call it to have no further job started, with the reason that `report.stopped` shows.
        fail: call it with an error if no further job can be done: the run stops, and raises the error. After a
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
        """Return whether the loop is shutting down, and has cancelled every task itself."""
        return self._is_loop_shutting_down()

    def job_name(self, item: I, index: int) -> str:
        """Return the name of a job."""
        return self._jobs.name(item, index)

    def pending(self, item: I, index: int, *, started: bool) -> Pending[T, I]:
        """Make the outcome of a job that had not finished when the run ended.

        Args:
            item: its input.
            index: its place in the source, from 0.
            started: whether it had begun.

        """
        return self._jobs.pending(item, index, started=started)

    def detach(self) -> None:
        """Let go of the run, which has ended.

        The run holds its engine's part, which holds this: together they would be garbage that only the collector
        finds, with every error of the run.
        """
        self.record = self.fail = self.stop = _ignore
        self.wake = _ignore
        self._is_loop_shutting_down = bool


def _ignore(*_: object) -> None:
    """Do nothing: the run has ended."""


class EngineRun(ABC):
    """The part of an engine in one run: the jobs that it has started and not yet recorded.

    Two methods have to be written; the others have defaults, for an engine that has nothing to prepare or to release.
    """

    def __init__(self, context: EngineContext[Any, Any]) -> None:
        self.context: EngineContext[Any, Any] = context

    @abstractmethod
    def start_job(self, item: Any, index: int) -> None:
        """Start a job; report its outcome later, through `context.record`.

        Args:
            item: the input of the job.
            index: its place in the source, from 0.

        Raises:
            Exception: for an item that cannot be a job. Running jobs finish, then the run raises the error.

        """
        ...

    @abstractmethod
    def cancel(self, *, already_cancelled: bool) -> None:
        """Cancel the unfinished jobs, and record each when it has ended; called at most once.

        A job that has been cancelled before it could return or raise is recorded as `Pending`. A result that is there
        already is handed over all the same.

        Args:
            already_cancelled: True if the loop is shutting down and has cancelled every task itself: a second cancel
                would cut the clean-up of the jobs short.

        """
        ...

    def free_slots(self, taken: int) -> int:
        """Return how many more jobs may start now.

        Args:
            taken: how many slots are taken: the unfinished jobs, or in a streamed run those and the unread outcomes.

        """
        limit = self.context.tally.limit
        return UNLIMITED if limit is None else limit - taken

    def skip(self, item: Any, index: int) -> None:
        """Record an item that was pulled too late to be started."""
        self.context.record(self.context.pending(item, index, started=False))

    def job_names(self) -> list[str]:
        """Return the names of unfinished jobs, for a warning that they keep the run waiting; a few are enough."""
        return [f"jobs of {self.context.config.name}"]

    def status(self) -> str:
        """Return in words why no job is started at present; an empty text if nothing holds them up."""
        return ""

    def stop(self) -> None:  # noqa: B027 - a default
        """Let running jobs finish, and start no other; called again, and also before `cancel`."""

    async def open(self) -> None:  # noqa: B027 - a default
        """Get ready for the first job. An error of it is raised by the run."""

    async def close(self) -> None:  # noqa: B027 - a default
        """Release every resource; called once, when no job is unfinished."""


class Engine(Protocol):
    """Does the jobs of `map_all(engine=...)`; one engine may serve many runs, one after another or at a time."""

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Refuse a function or inputs that the engine cannot handle, before a run is made.

        Args:
            func: the function of the run.
            inputs: those that a list or another collection holds; empty for a source that is read lazily.

        Raises:
            TypeError: with the name of the function, or the number of the input, and the repair.

        """
        ...

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run, in the running loop; called when the run is awaited or entered.

        Raises:
            Exception: if the run cannot begin; it is raised by the run.

        """
        ...


UNLIMITED = 1000
"""The slots of a run without a limit: jobs that start in a row before the loop's other tasks get a turn."""
