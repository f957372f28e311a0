"""`Run`: what the user holds, awaits or iterates."""

from __future__ import annotations

import asyncio
import enum
import signal
import warnings
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Generic, Self, TypeVar, final

from aiosupervise._events.outcomes import I, Outcome, Tally

from .config import RunConfig
from .overload import Adaptive
from .progress import Progress, ProgressUpdater
from .pump import Pump
from .report import Report
from .signals import SignalWatcher
from .source import END

T = TypeVar("T")


class _State(enum.Enum):
    NEW = "not started"
    AWAITED = "running"
    ENTERED = "streaming"
    LEFT = "ended"


@final
class Run(Generic[T, I]):
    """A batch of jobs, made by `run_all` or `map_all`.

    Use it once, in one of two ways:

    `report = await run` runs all jobs and gives a `Report` of their outcomes;

    `async with run: async for outcome in run: ...` hands over each outcome as it comes, and keeps none. Leaving the
    block early cancels what runs. Either way nothing is left running when control returns.

    Attributes:
        tally: live counts.

    """

    def __init__(self, plan: RunConfig[T, I], progress: Progress | None, stop_on: tuple[signal.Signals, ...]) -> None:
        """Take what `run_all` or `map_all` has made ready."""
        limit = plan.limit.start if isinstance(plan.limit, Adaptive) else plan.limit
        self.tally: Tally = Tally(plan.source.total, limit)
        self._plan = plan
        self._progress = progress
        self._stop_on = stop_on
        self._state = _State.NEW
        self._engine: Pump[T, I] | None = None
        self._ticker: ProgressUpdater | None = None
        self._watch: SignalWatcher | None = None

    @property
    def report(self) -> Report[T, I]:
        """The outcomes known so far, and of a streamed run only those that nobody has read."""
        if self._engine is None:
            return Report((), self.tally.copy(), 0.0)
        return self._engine.report()

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The first of the signals in `stop_on` that came during the run; None if none did."""
        return None if self._watch is None else self._watch.stopped_by

    def stop(self) -> None:
        """Start no further job, and let what runs finish: a graceful end. It can be called again.

        Raises:
            RuntimeError: if the run has not started.

        """
        if self._engine is None:
            raise RuntimeError(f"{self!r} has nothing to stop: await it or enter it first")
        self._engine.stop()

    def __await__(self) -> Generator[object, None, Report[T, I]]:
        return self._finish().__await__()

    async def _finish(self) -> Report[T, I]:
        if self._state is _State.ENTERED:
            raise RuntimeError("the run is entered, so it is not awaited: read it with `async for outcome in run`")
        engine = self._begin(_State.AWAITED)
        await self._end(engine)
        engine.raise_error()
        return engine.report()

    async def __aenter__(self) -> Self:
        self._begin(_State.ENTERED)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        engine = self._entered()
        engine.cancel()
        await self._end(engine)
        if error is None:
            engine.raise_error()
        else:
            engine.note_error(error)

    def __aiter__(self) -> Self:
        self._entered()
        return self

    async def __anext__(self) -> Outcome[T, I]:
        engine = self._entered()
        outcome = await engine.read()
        if outcome is END:
            engine.raise_error()
            raise StopAsyncIteration
        return outcome

    def _entered(self) -> Pump[T, I]:
        if self._state is not _State.ENTERED or self._engine is None:
            right = "async with run_all(...) as run:\n    async for outcome in run: ..."
            raise RuntimeError(f"{self!r} is read only inside of its own block:\n{right}")
        return self._engine

    def _begin(self, state: _State) -> Pump[T, I]:
        if self._state is not _State.NEW:
            raise RuntimeError(f"{self!r} was used before, and a run is used once: call run_all or map_all again")
        self._state = state
        try:
            self._engine = engine = Pump(self._plan, self.tally, streamed=state is _State.ENTERED)
            if self._stop_on:
                self._watch = SignalWatcher(self._stop_on, engine.stop, engine.cancel)
            if self._progress is not None:
                self._ticker = ProgressUpdater(self._progress, self.tally, engine.trouble)
            engine.start()
        except BaseException:
            self._leave()
            self._plan.discard()
            raise
        return engine

    async def _end(self, engine: Pump[T, I]) -> None:
        try:
            await engine.join()
        except asyncio.CancelledError as error:
            engine.note_error(error)
            raise
        finally:
            self._leave()

    def _leave(self) -> None:
        self._state = _State.LEFT
        try:
            if self._ticker is not None:
                self._ticker.stop()
        finally:
            if self._watch is not None:
                self._watch.close()

    def __repr__(self) -> str:
        t = self.tally
        name = self._plan.name or "run_all"
        counts = f"{t.running} running, {t.succeeded} succeeded, {t.failed} failed, {t.pending} pending"
        return f"<Run {name}: {trouble_of(self) or self._state.value}; {counts}>"

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._state is _State.NEW:
            self._plan.discard()
            _warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)


def trouble_of(run: Run[T, I]) -> str:
    """Tell in words why a run starts nothing new; nothing when all is well."""
    engine = run._engine  # noqa: SLF001 - it is of this module, and no part of what users see
    return "" if engine is None else engine.trouble()
