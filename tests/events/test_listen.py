"""`listen`: which listeners receive events, for how long, and that no listener can harm the work."""

import asyncio
import functools
import gc
from collections.abc import Awaitable
from typing import Any

import pytest

from aiosupervise import (
    CallFinished,
    Event,
    JobFinished,
    RunFinished,
    RunStarted,
    listen,
    map_all,
    run_all,
    supervise,
)
from aiosupervise._events.listeners import ListenerRegistry, listeners

from .kept import POLICY, Kept, Script

pytestmark = pytest.mark.looptime


async def call() -> str:
    """A supervised call that succeeds."""
    return await supervise(POLICY)(Script())()


def test_at_first_nobody_listens() -> None:
    """A process begins without listeners; each of them counts for one, and those of runs count too."""
    kept = Kept()
    fresh = ListenerRegistry()
    assert (fresh.count, fresh.global_listeners) == (0, ())
    fresh.add(kept)
    assert (fresh.count, fresh.global_listeners) == (1, (kept,))
    loop = asyncio.new_event_loop()
    fresh.adjust(2, loop)
    assert fresh.count == 3
    fresh.remove(kept)
    assert (fresh.count, fresh.global_listeners) == (2, ())
    fresh.adjust(-1, loop)
    assert fresh.count == 1
    loop.close()
    fresh.drop_closed()
    assert fresh.count == 0


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning")
def test_a_loop_that_is_closed_under_a_run_leaves_no_listener_behind(*, held: bool) -> None:
    """Its run never ends; the count is back when the run is thrown away, or else when the next event is due."""
    loop = asyncio.new_event_loop()
    runs = [run_all([asyncio.Event().wait() for _ in range(2)], listen=Kept())]
    caller: list[object] = [loop.create_task(_await(runs[0]))]
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert listeners.count == 1
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    loop.close()
    if held:
        with asyncio.Runner() as runner:
            assert runner.run(_failing_call()) == "done"
    runs.clear()
    caller.clear()
    gc.collect()
    assert listeners.count == 0


async def _await(run: Awaitable[object]) -> None:
    await run


async def _failing_call() -> str:
    return await supervise(POLICY)(Script(ConnectionError()))()


def test_a_count_that_the_garbage_collector_finds_taken_is_left_to_the_next_event() -> None:
    """It may come in the middle of a change of the registry, in the same thread, and must not wait for itself."""
    registry = ListenerRegistry()
    loop = asyncio.new_event_loop()
    registry.adjust(1, loop)
    loop.close()
    with registry._lock:
        registry.drop_closed()
    assert registry.count == 1
    registry.drop_closed()
    assert registry.count == 0


def test_a_count_that_is_dropped_twice_at_the_same_time() -> None:
    """In another thread, or by the garbage collector: it is subtracted once."""
    registry = ListenerRegistry()

    class Loop:
        is_first = True

        def is_closed(self) -> bool:
            if self.is_first:
                self.is_first = False
                registry.drop_closed()
            return True

    loop: Any = Loop()
    registry.adjust(3, loop)
    registry.drop_closed()
    assert registry.count == 0


def test_of_a_listener_that_was_added_twice_the_later_one_is_removed() -> None:
    """The earlier one keeps its turn, before those that were added in between."""
    first, second = Kept(), Kept([CallFinished(1, "call", None, None, 1, None)])
    registry = ListenerRegistry()
    for listener in (first, second, first):
        registry.add(listener)
    registry.remove(first)
    assert [listener is first for listener in registry.global_listeners] == [True, False]


def test_of_two_equal_listeners_the_one_that_was_added_is_removed() -> None:
    """Listeners are distinguished by identity: lists with the same events are equal."""
    first, second = Kept(), Kept()
    assert first == second
    with listen(second):
        subscription = listen(first)
        assert [listener is first for listener in listeners.global_listeners] == [False, True]
        later = listen(second)
        with subscription:
            pass
        assert [listener is second for listener in listeners.global_listeners] == [True, True]
        with later:
            pass
    assert not listeners.count


async def test_for_a_while() -> None:
    """A listener receives events inside of the block, but not before and after it."""
    kept = Kept()
    await call()
    with listen(kept):
        await call()
    await call()
    assert kept.names() == ["AttemptStarted", "CallFinished"]


async def test_for_good() -> None:
    """Without a block a listener receives events from then on; leaving a block twice removes it once."""
    kept, other = Kept(), Kept()
    subscription = listen(kept)
    await call()
    assert len(kept) == 2
    with listen(other):
        with subscription:
            await call()
        with subscription:
            await call()
        assert (len(kept), len(other)) == (4, 4)
    assert not listeners.count


async def test_many_listeners() -> None:
    """All receive each event, in the order in which they were added; a listener added twice receives it twice."""
    order: list[str] = []
    first, second = functools.partial(record, order, "first"), functools.partial(record, order, "second")
    with listen(first), listen(second), listen(first):
        await call()
    assert order == ["first", "second", "first"] * 2


def record(order: list[str], name: str, _: Event) -> None:
    """Record which listener received an event."""
    order.append(name)


@pytest.mark.parametrize("error", [ValueError("broken"), asyncio.CancelledError("broken")], ids=["error", "cancelled"])
async def test_a_listener_that_raises(error: BaseException) -> None:
    """It is reported to the loop's exception handler; the work, and the other listeners, go on."""

    def broken(_: Event) -> None:
        raise error

    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    kept = Kept()
    with listen(broken), listen(kept):
        assert await call() == "done"
        report = await run_all([call], listen=broken)
    assert report.values() == ["done"]
    assert kept.names()[-1] == "RunFinished"
    assert [context["exception"] for context in reports] == [error] * len(reports)
    assert len(reports) == 2 + 2 * 5
    assert all("a listener failed" in context["message"] and "broken" in context["message"] for context in reports)


def test_a_listener_that_raises_where_no_loop_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Of a call that is thrown away after its loop, the error goes to asyncio's logger, as from the loop's handler."""

    def broken(event: Event) -> None:
        if isinstance(event, CallFinished):
            raise LookupError  # noqa: TRY004 - not about types

    @supervise(POLICY)
    async def hang() -> None:
        await asyncio.Future()

    async def begin() -> None:
        coroutine.send(None)

    with listen(broken):
        coroutine = hang()
        asyncio.run(begin())
        coroutine.close()
    [record] = caplog.records
    assert record.name == "asyncio"
    assert "a listener failed" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


async def test_a_listener_that_returns_a_coroutine_is_reported_once() -> None:
    """As that of a lambda: nobody awaits it, so it is closed; a warning for each event would bury the first."""

    async def save(_: Event) -> None:
        raise AssertionError

    listener: Any = lambda event: save(event)  # noqa: E731, PLW0108 - that is the point
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    for time in (1, 2):  # a listener that is subscribed anew is reported anew, and so is one of another run
        with listen(listener):
            assert await call() == "done"
        assert (await run_all([call, call], listen=listener)).values() == ["done", "done"]
        assert len(reports) == 2 * time
    for report in reports:
        assert "a listener failed: <lambda>" in report["message"]
        assert isinstance(report["exception"], TypeError)
        assert "not awaited, and it returned a coroutine, which was closed without being run: write a plain" in str(
            report["exception"]
        )
    gc.collect()


async def test_a_listener_may_return_anything_else() -> None:
    """A task that it has started, for one, goes on."""
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda *report: reports.append(report))
    tasks: list[asyncio.Task[None]] = []

    async def save(_: Event) -> None:
        pass

    def start(event: Event) -> asyncio.Task[None]:
        tasks.append(asyncio.ensure_future(save(event)))
        return tasks[-1]

    listener: Any = start
    await run_all([call], listen=listener)
    await asyncio.gather(*tasks)
    assert reports == []


@pytest.mark.parametrize("listener", [None, 3, "listener"])
def test_what_cannot_be_called(listener: Any) -> None:
    """A listener that cannot be called is refused at once."""
    rule = f"must be a function of one argument, the event; got {listener!r}$"
    with pytest.raises(TypeError, match=f"^listener {rule}"):
        listen(listener)
    if listener is not None:
        with pytest.raises(TypeError, match=f"^listen {rule}"):
            run_all([], listen=listener)


def test_an_async_listener() -> None:
    """An async function would never be awaited: it is refused at once."""

    async def listener(event: Event) -> None: ...

    with pytest.raises(TypeError, match=r"write `def`, not `async def`; got .*listener"):
        listen(listener)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="listen is called and not awaited"):
        run_all([], listen=listener)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="listen is called and not awaited"):
        map_all(asyncio.sleep, [], listen=listener)  # type: ignore[arg-type]
    assert not listeners.count


async def test_listening_begins_while_a_call_runs() -> None:
    """The listener receives the call's events from then on, and one CallFinished."""
    kept = Kept()

    async def listen_later() -> None:
        await asyncio.sleep(0.5)
        with listen(kept):
            await asyncio.sleep(5)

    fetch = supervise(POLICY)(Script(ConnectionError(), ConnectionError()))
    await asyncio.gather(fetch(), listen_later())
    assert kept.names() == ["AttemptStarted", "AttemptFailed", "AttemptStarted", "Recovered", "CallFinished"]


async def test_a_run_has_a_listener_of_its_own() -> None:
    """It receives the events of that run and of the calls in it, and no others."""
    kept = Kept()
    await asyncio.gather(run_all([call], listen=kept), run_all([call, call]), call())
    assert kept.names() == ["RunStarted", "AttemptStarted", "CallFinished", "JobFinished", "RunFinished"]
    assert not listeners.count


async def test_runs_within_runs() -> None:
    """A run's listener also receives the events of runs inside its jobs; their listeners receive none of its own."""
    inner, outer = Kept(), Kept()

    async def job() -> None:
        await run_all([call], listen=inner)

    await run_all([job], listen=outer)
    assert inner.names() == ["RunStarted", "AttemptStarted", "CallFinished", "JobFinished", "RunFinished"]
    assert outer.names() == ["RunStarted", *inner.names(), "JobFinished", "RunFinished"]
    assert [event.run for event in outer.only(CallFinished)] == [event.run for event in inner.only(RunFinished)]
    assert len({event.run for event in outer.only(JobFinished)}) == 2


async def test_a_listener_may_stop_its_run() -> None:
    """A listener acts before the run goes on: it can end the run at the first failure."""

    def stop(event: Event) -> None:
        if isinstance(event, JobFinished) and event.tally.failed:
            run.stop()

    async def fail() -> None:
        raise ValueError

    run = run_all((fail for _ in range(100)), limit=1, listen=stop)
    report = await run
    assert report.tally.failed == 1


async def test_a_listener_may_stop_its_run_before_it_begins() -> None:
    """No job starts, and the listener does not fail."""
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))

    def stop(event: Event) -> None:
        if isinstance(event, RunStarted):
            run.stop()

    run = run_all([call, call], listen=stop)
    report = await run
    assert [pending.started for pending in report.pending] == [False, False]
    assert reports == []


async def test_a_call_that_outlives_its_run_emits_no_events_to_its_listener() -> None:
    """When a run has ended, its listener is released, though a task of a job goes on and others listen."""
    kept, other = Kept(), Kept()
    tasks = list[asyncio.Task[str]]()
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))

    async def leave_behind() -> None:
        tasks.append(asyncio.create_task(supervise(POLICY)(Script(ConnectionError()))()))

    await run_all([leave_behind], listen=kept)
    before = len(kept)
    with listen(other):
        assert await tasks[0] == "done"
    assert len(kept) == before
    assert len(other) > 0
    assert reports == []
