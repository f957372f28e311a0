"""An engine of one's own: what a run asks of it, and what it may report to the run."""

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from aiosupervise import Adaptive, Event, Failure, Overload, Pending, Stopped, Success, WorkerLost, map_all
from aiosupervise._batch.jobs import run_job
from aiosupervise._policy.checks import safe_repr
from aiosupervise.engines import EngineContext, EngineRun


@pytest.mark.parametrize("given", ["class", "check", "start", None, "dask"])
def test_what_is_not_an_engine_is_refused(given: str | None) -> None:
    """A class, or an object without one of the two methods, gets an error at once that says what was given."""
    engine: Any = {"class": Mock, "check": Mock(spec=["check"]), "start": Mock(spec=["start"])}.get(given or "", given)
    if engine is None:
        assert map_all(run_job, [], engine=engine).close() is None  # type: ignore[func-returns-value]
        return
    with pytest.raises(TypeError) as caught:
        map_all(run_job, [], engine=engine)
    assert str(caught.value) == (
        f"engine must be None, or an engine such as DaskEngine(client); got {safe_repr(engine)}"
    )


Act = Callable[[EngineContext[Any, Any]], None]


class Inline(EngineRun):
    """The jobs of a run as plain tasks: the least that an engine has to do."""

    def __init__(self, context: EngineContext[Any, Any]) -> None:
        super().__init__(context)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.calls: list[object] = []

    def start_job(self, item: Any, index: int) -> None:
        task = asyncio.ensure_future(self._call(item, index))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _call(self, item: Any, index: int) -> None:
        started = time.monotonic()
        name = self.context.job_name(item, index)
        try:
            value = await self.context.config.func(item)
        except asyncio.CancelledError:
            self.context.record(self.context.pending(item, index, started=True))
        except Exception as error:
            self.context.record(Failure(index, error, 1, time.monotonic() - started, None, name, item))
        else:
            self.context.record(Success(index, value, 1, time.monotonic() - started, name, item))

    def cancel(self, *, already_cancelled: bool) -> None:
        self.calls.append(("cancel", already_cancelled))
        for task in [] if already_cancelled else self.tasks:
            task.cancel()

    def stop(self) -> None:
        super().stop()
        self.calls.append("stop")

    async def open(self) -> None:
        await super().open()
        self.calls.append("open")

    async def close(self) -> None:
        await super().close()
        self.calls.append("close")


class InlineEngine:
    """Makes an Inline for each run, keeps what it was given, and acts on the context once the run has begun."""

    def __init__(self, act: Act = lambda _: None, kind: type[Inline] = Inline) -> None:
        self.checked: list[object] = []
        self.runs: list[Inline] = []
        self._act = act
        self._kind = kind

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Keep both."""
        self.checked += [func, inputs]

    def start(self, context: EngineContext[Any, Any]) -> EngineRun:
        """Begin a run."""
        self.runs.append(self._kind(context))
        asyncio.get_running_loop().call_soon(self._act, context)
        return self.runs[-1]


def engine_of(kind: type[Inline]) -> InlineEngine:
    """An engine whose runs are instances of a given class."""
    return InlineEngine(kind=kind)


async def double(number: int) -> int:
    """A job."""
    await asyncio.sleep(0)
    return 2 * number


async def never(_: object) -> None:
    """A job that does not end by itself."""
    await asyncio.Event().wait()


async def test_the_engine_gets_the_settings_of_the_run() -> None:
    """Function, name, limit and overload; and its outcomes are those of the run."""
    engine, overload = InlineEngine(), Overload(probes=3)
    report = await map_all(double, [1, 2], limit=7, overload=overload, name="doubles", engine=engine)
    assert report.values() == [2, 4]
    assert [outcome.name for outcome in report] == ["doubles-0", "doubles-1"]
    [run] = engine.runs
    config = run.context.config
    assert (config.func, config.name, config.limit, config.overload) == (double, "doubles", 7, overload)
    assert run.calls == ["open", "close"]


async def test_the_limit_is_kept() -> None:
    """By default, slots are free up to the limit of the tally, which an engine may move; without one there are many."""
    peak = running = 0

    async def count(_: object) -> None:
        nonlocal peak, running
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    for limit, most in (3, 3), (Adaptive(start=4, maximum=4, minimum=4), 4), (None, 20):
        peak = 0
        await map_all(count, range(20), limit=limit, engine=InlineEngine())
        assert peak == most


@pytest.mark.parametrize(("inputs", "held"), [([1, 2], [1, 2]), (range(2), ())], ids=["list", "range"])
async def test_the_engine_checks_the_inputs_that_a_list_holds(inputs: Collection[int], held: object) -> None:
    """And none of a source that is read lazily."""
    engine = InlineEngine()
    await map_all(double, inputs, engine=engine)
    assert engine.checked == [double, held]


async def test_the_engine_can_stop_the_run() -> None:
    """No other job is started."""
    engine = InlineEngine(lambda context: context.stop(Stopped.STOP))
    report = await map_all(double, [1] * 9, limit=2, engine=engine)
    assert [type(outcome) for outcome in report] == [Pending] * 9
    assert [outcome.name for outcome in report.pending] == [f"double-{n}" for n in range(9)]
    assert "stop" in engine.runs[0].calls


async def test_the_engine_can_fail_the_run() -> None:
    """No other job is started, and the first of its errors is raised."""

    def fail(context: EngineContext[Any, Any]) -> None:
        context.fail(OSError("gone"))
        context.fail(OSError("again"))

    run = map_all(double, [1] * 9, limit=2, engine=InlineEngine(fail))
    with pytest.raises(OSError, match="gone"):
        await run
    assert len(run.report.pending) == 9


@pytest.mark.parametrize(
    ("error", "is_cancelled"),
    [(OSError(), False), (asyncio.CancelledError(), False), (KeyboardInterrupt(), True), (SystemExit(), True)],
    ids=lambda value: type(value).__name__,
)
async def test_an_exit_that_the_engine_reports_cancels_the_running_jobs(
    error: BaseException, *, is_cancelled: bool
) -> None:
    """After any other error they finish."""

    async def job(n: int) -> int:
        if n == 1:
            engine.runs[0].context.fail(error)
        await asyncio.sleep(0.01)
        return n

    engine = InlineEngine()
    run = map_all(job, [0, 1, 2], limit=2, engine=engine)
    with pytest.raises(type(error)):
        await run
    done: list[Any] = [0, 1]
    assert [outcome.index for outcome in run.report.succeeded] == ([] if is_cancelled else done)
    assert [outcome.started for outcome in run.report.pending] == ([True, True, False] if is_cancelled else [False])
    assert run.report.stopped is (Stopped.CANCELLED if is_cancelled else None)


async def test_an_engine_that_cannot_start_fails_the_run() -> None:
    """Its error is raised when the run is awaited."""

    engine = InlineEngine()
    engine.start = Mock(side_effect=OSError("no workers"))  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no workers"):
        await map_all(double, [1], engine=engine)


async def test_the_jobs_are_cancelled_with_the_run() -> None:
    """Once, and each of them is pending."""
    engine = InlineEngine()
    report = await map_all(never, [1, 2, 3], limit=2, timeout=0.01, engine=engine)
    assert [(outcome.index, outcome.started) for outcome in report.pending] == [(0, True), (1, True), (2, False)]
    assert engine.runs[0].calls == ["open", "stop", ("cancel", False), "close"]


async def test_a_loop_that_shuts_down_has_cancelled_the_jobs_already() -> None:
    """The engine is informed, so that it does not cut their clean-up short with a second cancel."""
    begun = asyncio.Event()

    async def begin(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    engine = InlineEngine()
    run = asyncio.ensure_future(_await(map_all(begin, [1], engine=engine)))
    await begun.wait()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ("cancel", True) in engine.runs[0].calls


async def _await(run: Awaitable[object]) -> None:
    await run


async def test_jobs_that_keep_the_run_waiting_are_named_in_the_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine need not know their names."""
    monkeypatch.setattr("aiosupervise._batch.pump._GRACE", 0.0)
    released = asyncio.Event()

    async def stubborn(_: object) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_later(0.01, released.set)

    with pytest.warns(RuntimeWarning, match="so the run waits: jobs of stubborn"):
        await map_all(stubborn, [1, 2], timeout=0.01, engine=InlineEngine())


async def test_an_input_that_was_pulled_too_late_is_pending() -> None:
    """The source was busy with it when the run was stopped."""
    asked = asyncio.Event()

    async def inputs() -> AsyncIterator[int]:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield 1

    run = map_all(double, inputs(), engine=InlineEngine())
    task = asyncio.ensure_future(_await(run))
    await asked.wait()
    run.stop()
    await task
    assert [(outcome.index, outcome.started, outcome.input) for outcome in run.report.pending] == [(0, False, 1)]


def lose(context: EngineContext[Any, Any]) -> None:
    """Report that a worker was lost."""
    context.scope.emit(WorkerLost, "tcp://worker", 3)


async def test_the_listeners_of_the_run_get_an_event_for_a_lost_worker() -> None:
    """With its address, and how many jobs start again."""
    events: list[Event] = []
    await map_all(double, [1], listen=events.append, engine=InlineEngine(lose))
    [lost] = [event for event in events if isinstance(event, WorkerLost)]
    assert (lost.name, lost.worker, lost.jobs) == ("double", "tcp://worker", 3)


async def test_a_lost_worker_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the same values, also when nobody listens."""
    caplog.set_level(logging.WARNING)
    await map_all(double, [1], engine=InlineEngine(lose))
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "WARNING",
        "run double lost worker tcp://worker; unfinished jobs that start again elsewhere: 3",
    )
    values = {name: value for name, value in vars(record).items() if name.startswith("aiosupervise_")}
    assert values.items() >= {
        ("aiosupervise_name", "double"),
        ("aiosupervise_worker", "tcp://worker"),
        ("aiosupervise_jobs", 3),
    }


async def test_reports_that_come_after_the_end_are_ignored() -> None:
    """An engine cannot know that the run ended a moment ago."""
    engine = InlineEngine()
    run = map_all(double, [1], engine=engine)
    report = await run
    context = engine.runs[0].context
    context.record(report[0])
    context.fail(OSError("late"))
    context.stop(Stopped.STOP)
    context.wake()
    assert run.report.tally.succeeded == 1


async def test_an_engine_need_not_say_why_it_waits() -> None:
    """A run on such an engine is just running."""
    texts: list[str] = []

    async def look(_: int) -> None:
        texts.append(repr(run))

    run = map_all(look, [1], engine=InlineEngine())
    await run
    assert texts == ["<Run look: running; 0 running, 0 succeeded, 0 failed, 0 pending>"]


async def test_the_function_of_a_run_of_jobs_does_a_job() -> None:
    """Under `run_all`, where the items are jobs themselves: awaitables, or functions that return one."""
    assert [await run_job(double(1)), await run_job(partial(double, 2))] == [2, 4]


async def test_a_run_leaves_no_cycle_with_its_engine() -> None:
    """An engine that keeps its part of a run, and that part its context, do not keep the run."""
    engine = InlineEngine()
    run = map_all(double, [1], engine=engine)
    await run
    gone = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert gone() is None
        part = weakref.ref(engine.runs.pop())
        assert part() is None
    finally:
        gc.enable()


async def test_an_engine_is_cancelled_once() -> None:
    """However often the caller is cancelled: a job that its run cancelled twice could not clean up."""
    engine = InlineEngine()
    caller = asyncio.create_task(of(map_all(stubborn, [1], engine=engine)))
    for _ in range(5):
        await asyncio.sleep(0)
    for _ in range(5):
        caller.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert engine.runs[0].calls.count(("cancel", False)) == 1


async def test_an_engine_that_fails_is_stopped() -> None:
    """A run that its engine fails stops the engine from starting other jobs, and raises the error."""
    engine = InlineEngine(lambda context: context.fail(LookupError("no workers")))
    with pytest.raises(LookupError, match="no workers"):
        await map_all(double, [1], engine=engine)
    assert engine.runs[0].calls == ["stop", "open", "close"]


async def of(run: Any) -> Any:
    """Await a run."""
    return await run


async def stubborn(_: object) -> None:
    """A job that takes some turns to clean up."""
    try:
        await asyncio.Event().wait()
    finally:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.mark.parametrize("is_stored", [False, True])
async def test_an_outcome_that_is_recorded_twice_is_an_error_of_the_engine(*, is_stored: bool) -> None:
    """The run keeps the first outcome and ends normally; the engine gets the error, even if it has stored `record`."""
    rejected: list[RuntimeError] = []

    class Repeating(Inline):
        def __init__(self, context: Any) -> None:
            super().__init__(context)
            self.stored = context.record

        async def _call(self, item: Any, index: int) -> None:
            await super()._call(item, index)
            record = self.stored if is_stored else self.context.record
            with pytest.raises(RuntimeError) as caught:
                record(Success(index, "another", 1, 0.0, "", item))
            rejected.append(caught.value)

    report = await map_all(double, [1, 2, 3], limit=2, engine=engine_of(Repeating))
    assert [outcome.index for outcome in report] == [0, 1, 2]
    assert report.values() == [2, 4, 6]
    assert len(rejected) == 3
    assert str(rejected[0]) == (
        "context.record must be called once for each job that was started; job 0 was never started, or "
        "already has its outcome: record each outcome once"
    )


@pytest.mark.parametrize("is_refused", [False, True], ids=["unknown", "refused"])
async def test_only_jobs_that_were_started_may_have_an_outcome(*, is_refused: bool) -> None:
    """An outcome is rejected if its index is unknown, or if the engine has refused its job."""

    class Confused(Inline):
        def start_job(self, item: Any, index: int) -> None:
            super().start_job(item, index)
            if is_refused and index == 1:
                self.tasks.clear()
                raise OSError("refused")

        async def _call(self, item: Any, index: int) -> None:
            if not is_refused or index == 1:
                with pytest.raises(RuntimeError, match=rf"job {1 if is_refused else 7} was never started"):
                    self.context.record(Success(1 if is_refused else 7, 0, 1, 0.0, "", item))
            if not (is_refused and index == 1):
                await super()._call(item, index)

    run = map_all(double, [1, 2], engine=engine_of(Confused))
    with pytest.raises(OSError, match="refused") if is_refused else nullcontext():
        await run
    assert [outcome.index for outcome in run.report.succeeded] == ([0] if is_refused else [0, 1])


async def test_an_outcome_from_another_thread_is_an_error_of_the_engine() -> None:
    """The error shows the repair: the state of the run may be changed only in the thread of its loop."""

    class Threaded(Inline):
        async def _call(self, item: Any, index: int) -> None:
            outcome = Success(index, item, 1, 0.0, "", item)
            with pytest.raises(RuntimeError) as caught:
                await asyncio.to_thread(self.context.record, outcome)
            assert str(caught.value) == (
                "the context of an engine must be called in the thread of the run's event loop; record was called in "
                "another thread: write loop.call_soon_threadsafe(context.record, outcome)"
            )
            await super()._call(item, index)

    assert (await map_all(double, [1], engine=engine_of(Threaded))).values() == [2]


async def test_outcomes_that_skip_the_engine_are_recorded(tmp_path: Path) -> None:
    """These are the outcomes that a stage passes on, and those that a journal replays."""

    async def odd(number: int) -> int:
        if number % 2 == 0:
            raise ValueError(number)
        return number

    for replayed in 0, 2:
        first = map_all(odd, [0, 1, 2, 3], engine=InlineEngine(), journal=tmp_path / "first.db")
        report = await map_all(double, first, engine=InlineEngine())
        assert [type(outcome) for outcome in report] == [Failure, Success, Failure, Success]
        assert first.tally.replayed == replayed


@pytest.mark.parametrize("kind", ["None", "a value of type coroutine"])
async def test_a_start_that_returns_no_engine_run_is_an_error(kind: str) -> None:
    """If the method is async, its coroutine is closed."""
    engine = InlineEngine()
    engine.start = Mock(return_value=None if kind == "None" else double(0))  # type: ignore[method-assign]
    with pytest.raises(TypeError) as caught:
        await map_all(double, [1], engine=engine)
    assert str(caught.value) == (
        f"the method start of an engine must be a plain method that returns an EngineRun; that of {safe_repr(engine)} "
        f"returned {kind}"
    )


@pytest.mark.parametrize("name", ["start_job", "cancel", "free_slots", "skip", "job_names", "status", "stop"])
def test_a_method_that_the_run_calls_cannot_be_async(name: str) -> None:
    """Its coroutine would never be awaited, and the run would wait forever."""

    async def method(*_: object) -> None:
        """Do nothing."""

    with pytest.raises(TypeError) as caught:
        type("Late", (EngineRun,), {name: method})
    assert str(caught.value) == f"Late.{name} must not be async: write `def`, and create a task for the part that waits"


@pytest.mark.parametrize("name", ["open", "close"])
def test_a_method_that_the_run_awaits_has_to_be_async(name: str) -> None:
    """The error is raised when the class is defined, not during a run."""
    with pytest.raises(TypeError) as caught:
        type("Early", (EngineRun,), {name: lambda _: None})
    assert str(caught.value) == f"Early.{name} must be async, because the run awaits it: write `async def`"


def test_an_engine_run_accepts_class_keywords_of_other_bases() -> None:
    """Such as those of a registry, whichever base class comes first."""

    class Registered:
        name = ""

        def __init_subclass__(cls, *, name: str = "", **keywords: Any) -> None:
            super().__init_subclass__(**keywords)
            cls.name = name

    class First(Registered, EngineRun, name="first"):
        """Inherit from the registry first."""

    class Second(EngineRun, Registered, name="second"):
        """Inherit from the registry second."""

    assert (First.name, Second.name) == ("first", "second")


async def test_a_run_whose_time_is_up_waits_for_open() -> None:
    """The engine is cancelled in the meantime, and closed at the end; no job starts."""

    class Slow(Inline):
        async def open(self) -> None:
            await cancelled.wait()
            await super().open()

        def cancel(self, *, already_cancelled: bool) -> None:
            super().cancel(already_cancelled=already_cancelled)
            cancelled.set()

    cancelled = asyncio.Event()
    engine = engine_of(Slow)
    report = await map_all(double, [1], timeout=0.01, engine=engine)
    assert [outcome.started for outcome in report.pending] == [False]
    assert engine.runs[0].calls == ["stop", ("cancel", False), "open", "close"]


async def test_an_engine_that_cannot_open_is_closed() -> None:
    """It may already hold resources."""

    class Broken(Inline):
        async def open(self) -> None:
            raise OSError("no workers")

    engine = engine_of(Broken)
    with pytest.raises(OSError, match="no workers"):
        await map_all(double, [1], engine=engine)
    assert engine.runs[0].calls == ["close"]
