"""`Run`: the object that `run_all` and `map_all` return, to be awaited or iterated over."""

from __future__ import annotations

import asyncio
import enum
import signal
import warnings
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar, final

from aiosupervise._call.signals import SignalWatcher
from aiosupervise._call.tasks import is_discarded, running_loop
from aiosupervise._events.emit import EnclosingScope
from aiosupervise._events.outcomes import I, Outcome, Stopped, Tally

from ._stages.pump import pump_of
from ._stages.source import stages_before
from .config import RunConfig
from .overload import Adaptive
from .progress import Progress, ProgressUpdater
from .pump import Pump
from .report import Report
from .source import END
from .strategies import Strategy

T = TypeVar("T")


class RunState(enum.Enum):
    """How a run has been used so far."""

    NEW = "not started"
    OWNED = "owned"
    AWAITED = "running"
    ENTERED = "streaming"
    LEFT = "ended"


@final
class Run(Coroutine[object, None, Report[T, I]], Generic[T, I]):
    """A batch of jobs, created by `run_all` or `map_all`.

    Use it once, in one of two ways:

    `report = await run` runs all jobs and returns a `Report` of their outcomes.

    `async with run: async for outcome in run: ...` delivers each outcome as it becomes available, without keeping it.
    Leaving the block early cancels the running jobs. In both cases, all jobs have ended when control returns.

    A run can also be passed to `map_all` as the inputs of the next stage, which starts and reads it.

    asyncio treats a run as a coroutine: `asyncio.run(run)`, `asyncio.create_task(run)` and
    `task_group.create_task(run)` work.

    Attributes:
        tally: the live counts of the run.
    """

    def __init__(self, config: RunConfig[T, I], progress: Progress | None, stop_on: tuple[signal.Signals, ...]) -> None:
        """Create a run; use `run_all` or `map_all` instead."""
        limit = config.for_engine.limit
        limit = limit.start if isinstance(limit, Adaptive) else limit
        self.tally: Tally = Tally(config.source.total, limit)
        self._config = config
        self._progress = progress
        self._stop_on = stop_on
        self._state = RunState.NEW
        # The coroutine that `_task` runs.
        self._finishing: Coroutine[object, None, Report[T, I]] | None = None
        self._task: asyncio.Task[object] | None = None
        self._pump: Pump[T, I] | None = None
        # The name of the run that reads this one as its inputs.
        self._owner = ""
        self._updaters: list[ProgressUpdater] = []
        self._watcher: SignalWatcher | None = None

    @property
    def report(self) -> Report[T, I]:
        """The outcomes so far; for a streamed run, only those that have not been read."""
        if self._pump is None:
            return Report((), self.tally.copy(), 0.0)
        return self._pump.outlet.report()

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The first signal in `stop_on` that was received during the run; None if there was none."""
        return None if self._watcher is None else self._watcher.stopped_by

    def stop(self) -> None:
        """Stop gracefully: start no further jobs, and let running jobs finish. May be called repeatedly.

        Raises:
            RuntimeError: if the run has not started.
        """
        if self._pump is None:
            if self._state is RunState.OWNED:
                raise RuntimeError(self._not_new())
            raise RuntimeError(f"{self!r} has nothing to stop: await it or enter it first")
        self._pump.stop(Stopped.STOP)

    def __await__(self) -> Generator[object, None, Report[T, I]]:
        return self._finish().__await__()

    # A task treats the run as a coroutine. The methods below delegate to a coroutine that in turn refers to the run;
    # `_forget` breaks this reference cycle when the coroutine ends.

    @property
    def __name__(self) -> str:
        """The name of the run, as shown in tasks."""
        return self._config.name

    def send(self, value: None, /) -> object:
        """Resume the run; called by asyncio in the task that runs it."""
        coroutine = self._resumed()
        try:
            return coroutine.send(value)
        except BaseException:
            self._forget(coroutine)
            raise

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> object:
        """Raise an error in the run; called by asyncio in the task that runs it."""
        coroutine = self._resumed()
        try:
            if value is None and traceback is None:
                return coroutine.throw(kind)
            return coroutine.throw(kind, value, traceback)  # type: ignore[arg-type]
        except BaseException:
            self._forget(coroutine)
            raise

    def close(self) -> None:
        """Discard the run: no job starts, and Python does not warn that the run was never awaited."""
        task = self._task
        if not (task is None or task.done() or running_loop() is None or task is asyncio.current_task()):
            # Closing the coroutine would make the other task, which runs it, wait forever.
            return
        coroutine, self._finishing, self._task = self._finishing, None, None
        if coroutine is not None:
            coroutine.close()
        if self._state is RunState.NEW:
            self._state = RunState.LEFT
            self._config.discard()

    def _resumed(self) -> Coroutine[object, None, Report[T, I]]:
        """Return the coroutine that the current task runs; for a second task, a coroutine that raises an error."""
        task = asyncio.current_task()
        if self._finishing is None:
            self._finishing, self._task = self._finish(), task
        return self._finishing if task is self._task else self._finish()

    def _forget(self, coroutine: Coroutine[object, None, object]) -> None:
        if coroutine is self._finishing:
            # This also closes a run whose task was cancelled before its first step.
            self.close()

    async def _finish(self) -> Report[T, I]:
        if self._state is RunState.ENTERED:
            raise RuntimeError("the run was entered, so it cannot be awaited: read it with `async for outcome in run`")
        pump = self._begin(RunState.AWAITED)
        await self._end(pump)
        pump.error.raise_once()
        return pump.outlet.report()

    async def __aenter__(self) -> Self:
        self._begin(RunState.ENTERED)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pump = self._entered()
        if is_discarded(error, self._loop):
            self._discard(pump)
            return
        pump.cancel(Stopped.CANCELLED if issubclass(type(error), asyncio.CancelledError) else Stopped.LEFT)
        await self._end(pump)
        if error is None:
            pump.error.raise_once()
        else:
            pump.error.note_on(error)

    def __aiter__(self) -> Self:
        self._entered()
        return self

    async def __anext__(self) -> Outcome[T, I]:
        pump = self._entered()
        outcome = await pump.read()
        if outcome is END:
            pump.error.raise_once()
            raise StopAsyncIteration
        return outcome

    def _entered(self) -> Pump[T, I]:
        if self._state is not RunState.ENTERED or self._pump is None:
            right = "async with run_all(...) as run:\n    async for outcome in run: ..."
            raise RuntimeError(f"{self!r} can be read only inside its own block:\n{right}")
        return self._pump

    def _begin(self, state: RunState) -> Pump[T, I]:
        if self._state is not RunState.NEW:
            raise RuntimeError(self._not_new())
        self._state = state
        try:
            self._loop = asyncio.get_running_loop()
            self._pump = pump = pump_of(self._config, self.tally, streamed=state is RunState.ENTERED)
            if self._stop_on:
                self._watcher = SignalWatcher(
                    self._stop_on, partial(pump.stop, Stopped.SIGNAL), partial(pump.cancel, Stopped.SIGNAL)
                )
            self._show_progress(pump)
            pump.start()
        except BaseException:
            self._leave()
            self._config.discard()
            raise
        return pump

    def _not_new(self) -> str:
        if self._state is RunState.OWNED:
            return f"{self!r} is started and read by the run {self._owner}: await or enter that one"
        return f"{self!r} was used before, and a run is used once: call run_all or map_all again"

    def _show_progress(self, pump: Pump[T, I]) -> None:
        """Show the bars of the stages, the first one above the others."""
        for stage in stages_before(self._config.source):
            if stage.progress is not None:
                self._updaters.append(ProgressUpdater(stage.progress, stage.tally, stage.status))
        if self._progress is not None:
            self._updaters.append(ProgressUpdater(self._progress, self.tally, pump.status))

    def _begin_as_stage(self, order: Strategy[T, I], enclosing: EnclosingScope) -> Pump[T, I]:
        config = self._config.ordered(order)
        self._pump = pump = pump_of(config, self.tally, streamed=True, enclosing=enclosing)
        pump.start()
        return pump

    async def _end(self, pump: Pump[T, I]) -> None:
        try:
            await pump.join()
        except asyncio.CancelledError as error:
            pump.error.note_on(error)
            raise
        finally:
            self._leave()

    def _discard(self, pump: Pump[T, I]) -> None:
        """End a run whose block is discarded: nothing can wait for its jobs, which a loop that is open still ends."""
        if not self._loop.is_closed():
            pump.cancel(Stopped.LEFT)
        self._leave()

    def _leave(self) -> None:
        self._state = RunState.LEFT
        try:
            for updater in self._updaters:
                updater.stop()
            for updater in self._updaters:
                updater.close()
        finally:
            if self._watcher is not None:
                self._watcher.close()

    def __repr__(self) -> str:
        t = self.tally
        name = self._config.name
        state = f"a stage of {self._owner}" if self._state is RunState.OWNED else self._state.value
        counts = f"{t.running} running, {t.succeeded} succeeded, {t.failed} failed, {t.pending} pending"
        return f"<Run {name}: {status_of(self) or state}; {counts}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._state is RunState.NEW:
            self._config.discard()
            _warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)


def status_of(run: Run[T, I]) -> str:
    """Return the reason why a run starts no jobs at the moment, or an empty string."""
    pump = run._pump  # noqa: SLF001 - a function and not a method, to keep it out of the public class
    return "" if pump is None else pump.status()
