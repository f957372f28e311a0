"""Signals that end a run: the first one stops it, the second one cancels it, then the previous handlers are back."""

import asyncio
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from signal import SIGINT, SIGTERM
from types import FrameType
from typing import Any

import pytest

from aiosupervise import Pending, Report, Run, Success, map_all, run_all
from aiosupervise._batch.strategies import StrategyName
from aiosupervise._call.signals import SignalWatcher

BOTH = (SIGINT, SIGTERM)
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals between processes")
Received = list[int]


@pytest.fixture(autouse=True)
def before() -> Iterator[Received]:
    """Install a handler of SIGTERM that records its signals, and check that it is installed again after the test."""
    received: Received = []

    def handler(number: int, _: FrameType | None) -> None:
        received.append(number)

    first = signal.signal(SIGTERM, handler)
    signal.signal(SIGINT, signal.default_int_handler)  # which a background job of a shell starts without
    try:
        yield received
        assert signal.getsignal(SIGTERM) is handler
        assert signal.getsignal(SIGINT) is signal.default_int_handler
    finally:
        signal.signal(SIGTERM, first)
        signal.signal(SIGINT, signal.default_int_handler)
        gc.collect()  # a coroutine that was never awaited would warn, and fail the test


async def job(n: int = 1) -> int:
    """Be a plain job."""
    await asyncio.sleep(0)
    return n


async def signalled(n: int) -> int:
    """Be a job; the second one sends a signal."""
    if n == 1:
        signal.raise_signal(SIGTERM)
    return await job(n)


async def forever() -> None:
    """Wait, and send no signal."""
    await asyncio.Event().wait()


async def awaited(run: Run[Any, Any]) -> list[Any]:
    """Await a run."""
    return list(await run)


async def streamed(run: Run[Any, Any]) -> list[Any]:
    """Stream a run."""
    async with run:
        return [outcome async for outcome in run]


every_use = pytest.mark.parametrize("use", [awaited, streamed])


# The first and the second


@every_use
@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_the_first_signal_stops(use: Any, strategy: StrategyName, before: Received) -> None:
    """Running jobs finish, the rest is pending, the run ends as any other, and `stopped_by` is the signal."""
    run = map_all(signalled, list(range(6)), strategy=strategy, limit=2, stop_on=BOTH)
    assert run.stopped_by is None
    outcomes = await use(run)
    assert {outcome.value for outcome in outcomes if isinstance(outcome, Success)} == {0, 1}
    assert [outcome.started for outcome in outcomes if isinstance(outcome, Pending)] == [False] * 4
    assert run.stopped_by is SIGTERM
    assert before == []


@every_use
async def test_the_second_signal_cancels(use: Any, before: Received) -> None:
    """Running jobs are cancelled, and may clean up; any of the signals is the second one, `stopped_by` the first."""
    cleaned: list[int] = []

    async def twice(n: int) -> None:
        try:
            if n == 1:
                signal.raise_signal(SIGTERM)
                await asyncio.sleep(0)
                signal.raise_signal(SIGINT)
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append(n)

    run = map_all(twice, list(range(4)), limit=2, stop_on=BOTH)
    outcomes = await use(run)
    assert [outcome.started for outcome in outcomes if isinstance(outcome, Pending)] == [True, True, False, False]
    assert cleaned == [0, 1]
    assert run.stopped_by is SIGTERM
    assert before == []


async def test_the_second_signal_releases_the_other_signals(before: Received) -> None:
    """While the jobs clean up, the previous handlers of all signals are back."""
    handler = signal.getsignal(SIGINT)
    found: list[bool] = []

    async def twice() -> None:
        signal.raise_signal(SIGTERM)
        signal.raise_signal(SIGTERM)
        try:
            await forever()
        finally:
            found.append(signal.getsignal(SIGINT) is handler)

    await run_all([twice], stop_on=BOTH)
    assert found == [True]
    assert before == []


async def test_the_third_signal_does_what_it_did_before(before: Received) -> None:
    """The second signal restores the previous handlers at once, before the event loop runs again."""
    found: list[int] = []

    async def busy() -> None:
        for _ in range(4):
            signal.raise_signal(SIGTERM)
            found.append(len(before))
        await forever()

    run = run_all([busy], stop_on=BOTH)
    (outcome,) = await run
    assert isinstance(outcome, Pending)
    assert found == [0, 0, 1, 2]
    assert run.stopped_by is SIGTERM


async def test_a_source_that_waits_is_stopped_too() -> None:
    """A signal ends the wait for the next job, and the source is closed."""
    closed: list[bool] = []

    async def jobs() -> AsyncIterator[Coroutine[object, None, int]]:
        try:
            yield signalled(1)
            await forever()
        finally:
            closed.append(True)

    report = await run_all(jobs(), stop_on=[SIGTERM])
    assert [success.value for success in report.succeeded] == [1]
    assert closed == [True]


async def test_a_signal_after_the_last_outcome_is_recorded() -> None:
    """As long as the block is open the run takes its signals, and the one that it takes is in `stopped_by`."""
    async with run_all([job], stop_on=(SIGTERM,)) as run:
        async for _ in run:
            pass
        signal.raise_signal(SIGTERM)
    assert run.stopped_by is SIGTERM


async def test_other_signals_and_other_runs_are_left_alone(before: Received) -> None:
    """A run takes only its own signals, and without `stop_on` none."""
    before_interrupt = signal.getsignal(SIGINT)

    async def look() -> tuple[Any, Any]:
        signal.raise_signal(SIGTERM)
        return signal.getsignal(SIGINT), signal.getsignal(SIGTERM)

    run = run_all([look])
    assert (await run).values()[0] == (before_interrupt, signal.getsignal(SIGTERM))
    other = run_all([look], stop_on=(SIGINT,))
    assert (await other).values()[0][1] is signal.getsignal(SIGTERM)
    assert run.stopped_by is other.stopped_by is None
    assert before == [SIGTERM, SIGTERM]


# asyncio.run


def test_the_handler_of_asyncio_run_is_put_back() -> None:
    """It is the same object, so asyncio.run recognizes it, and the process has Python's own handler afterwards."""

    async def main() -> None:
        handler = signal.getsignal(SIGINT)
        assert handler is not signal.default_int_handler
        run = map_all(signalled, [0, 1, 2], limit=2, stop_on=BOTH)
        assert len((await run).pending) == 1
        assert signal.getsignal(SIGINT) is handler

    asyncio.run(main())
    assert signal.getsignal(SIGINT) is signal.default_int_handler


def test_the_third_interrupt_under_asyncio_run() -> None:
    """It cancels the caller, which is a KeyboardInterrupt outside; the known outcomes are in the report."""
    reports: list[Report[Any, Any]] = []

    async def thrice() -> None:
        for _ in range(3):
            signal.raise_signal(SIGINT)
        await forever()

    async def main() -> None:
        jobs: list[Callable[[], Awaitable[object]]] = [job, thrice, job]
        run = run_all(jobs, limit=2, stop_on=BOTH)
        try:
            await run
        finally:
            reports.append(run.report)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [type(outcome) for outcome in reports[0]] == [Success, Pending, Pending]


# Several runs


async def test_a_signal_reaches_all_runs() -> None:
    """Of two runs at once both are stopped, and the handler stays until the last one has ended."""
    first_ended = asyncio.Event()
    handler = signal.getsignal(SIGTERM)

    async def slow(n: int) -> int:
        await first_ended.wait()
        assert signal.getsignal(SIGTERM) is not handler
        return n

    quick = map_all(signalled, [0, 1, 2], limit=2, stop_on=(SIGTERM,))
    long = map_all(slow, [0, 1, 2], limit=2, stop_on=(SIGTERM, SIGTERM))
    waiting = asyncio.ensure_future(awaited(long))
    await asyncio.sleep(0)
    assert len((await quick).pending) == 1
    first_ended.set()
    assert [type(outcome) for outcome in await waiting] == [Success, Success, Pending]
    assert quick.stopped_by is long.stopped_by is SIGTERM
    assert signal.getsignal(SIGTERM) is handler


async def test_each_run_counts_its_own_signals(before: Received) -> None:
    """For a run that started after the first signal, the second one is the first."""
    runs: list[Run[Any, Any]] = []

    async def late() -> None:
        signal.raise_signal(SIGTERM)
        signal.raise_signal(SIGTERM)
        await forever()

    async def early() -> None:
        signal.raise_signal(SIGTERM)
        runs.append(run_all([late], stop_on=(SIGTERM,)))
        await runs[0]

    outer = run_all([early], stop_on=(SIGTERM,))
    report = await outer
    assert isinstance(report[0], Pending)
    assert len(runs[0].report.pending) == 1
    assert outer.stopped_by is runs[0].stopped_by is SIGTERM
    assert before == []


async def test_a_nested_run_is_stopped_with_the_run_around_it() -> None:
    """The inner one gives its report, so the job that made it finishes."""
    reports: list[Report[int, int]] = []

    async def inner(_: int) -> None:
        reports.append(await map_all(signalled, [0, 1, 2], limit=2, stop_on=BOTH))

    report = await map_all(inner, [0, 1], limit=1, stop_on=BOTH)
    assert [type(outcome) for outcome in report] == [Success, Pending]
    assert [len(inner_report.pending) for inner_report in reports] == [1]


# Somebody else's handlers


async def test_a_handler_that_replaced_ours_stays() -> None:
    """A handler that somebody installed during the run is theirs to remove."""
    handler = signal.getsignal(SIGTERM)

    async def replace() -> None:
        signal.signal(SIGTERM, signal.SIG_IGN)

    await run_all([replace], stop_on=BOTH)
    assert signal.getsignal(SIGTERM) is signal.SIG_IGN
    signal.signal(SIGTERM, handler)


async def test_a_run_that_starts_later_replaces_a_handler_that_replaced_ours() -> None:
    """It receives its signals, the earlier run receives them again, and the newest handler is the one restored."""
    handler = signal.getsignal(SIGTERM)
    ignored: list[Any] = []

    async def replace() -> None:
        signal.signal(SIGTERM, signal.SIG_IGN)
        inner = map_all(signalled, [0, 1, 2], limit=2, stop_on=BOTH)
        ignored.append(len((await inner).pending))

    outer = run_all([replace], stop_on=BOTH)
    await outer
    assert ignored == [1]
    assert outer.stopped_by is SIGTERM
    assert signal.getsignal(SIGTERM) is signal.SIG_IGN
    signal.signal(SIGTERM, handler)


async def test_our_handler_called_from_another_one(before: Received) -> None:
    """A handler that calls ours reaches the run, and after the run the handler that was installed before it."""
    handler = signal.getsignal(SIGTERM)

    async def chain() -> None:
        ours: Any = signal.getsignal(SIGTERM)

        def theirs(number: int, frame: FrameType | None) -> None:
            ours(number, frame)

        signal.signal(SIGTERM, theirs)
        signal.raise_signal(SIGTERM)

    run = run_all([chain], stop_on=(SIGTERM,))
    await run
    assert run.stopped_by is SIGTERM
    assert before == []
    signal.raise_signal(SIGTERM)
    assert before == [SIGTERM]
    signal.signal(SIGTERM, handler)


async def test_a_handler_that_was_replaced_gets_the_frame_that_another_one_passes_on(before: Received) -> None:
    """A handler that calls ours after the run reaches the one that ours had replaced, with the same frame."""
    frames: list[FrameType | None] = []
    handler = signal.signal(SIGTERM, lambda _, frame: frames.append(frame))

    async def chain() -> None:
        ours: Any = signal.getsignal(SIGTERM)

        def theirs(number: int, frame: FrameType | None) -> None:
            frames.append(frame)
            ours(number, frame)

        signal.signal(SIGTERM, theirs)

    await run_all([chain], stop_on=(SIGTERM,))
    signal.raise_signal(SIGTERM)
    first, second = frames
    assert first is second is not None
    assert before == []
    signal.signal(SIGTERM, handler)


async def test_our_handler_called_from_another_one_with_nothing_before(before: Received) -> None:
    """If only the default was installed before the run, our handler has nobody to call after it."""
    handler = signal.signal(SIGTERM, signal.SIG_DFL)

    async def chain() -> None:
        ours: Any = signal.getsignal(SIGTERM)

        def theirs(number: int, frame: FrameType | None) -> None:
            before.append(number)
            ours(number, frame)

        signal.signal(SIGTERM, theirs)

    await run_all([chain], stop_on=(SIGTERM,))
    signal.raise_signal(SIGTERM)
    assert before == [SIGTERM]
    signal.signal(SIGTERM, handler)


async def test_our_handler_installed_again_by_somebody_after_the_run(before: Received) -> None:
    """It restores the handler that was installed before the run, and passes the signal on to it."""
    ours: list[Any] = []

    async def replace() -> None:
        ours.append(signal.signal(SIGTERM, signal.SIG_IGN))

    await run_all([replace], stop_on=(SIGTERM,))
    signal.signal(SIGTERM, ours[0])
    raised: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "raise_signal", raised.append)
        ours[0](SIGTERM, None)
    assert raised == [SIGTERM]
    signal.raise_signal(SIGTERM)
    assert before == [SIGTERM]
    assert signal.getsignal(SIGTERM) is not ours[0]


@posix
async def test_our_handler_installed_again_after_it_was_removed() -> None:
    """No handler is known that was installed before it, so it restores the default, which ignores this signal."""
    ours: list[Any] = []

    async def keep() -> None:
        ours.append(signal.getsignal(signal.SIGURG))

    await run_all([keep], stop_on=(signal.SIGURG,))
    signal.signal(signal.SIGURG, ours[0])
    signal.raise_signal(signal.SIGURG)
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


@posix
def test_callbacks_of_the_loop_are_called_as_well() -> None:
    """`loop.add_signal_handler` works before, during and after a run, and so does removing it."""
    received_by_loop(asyncio.new_event_loop)


@posix
def test_callbacks_of_uvloop_are_called_as_well() -> None:
    """The same on uvloop."""
    received_by_loop(uvloop_loop)


def uvloop_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's."""
    loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return loop


def received_by_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Send two signals to a loop's own handler, the first one during a run."""
    handler = signal.getsignal(SIGTERM)
    received: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()

        def on_signal() -> None:
            received.append(True)
            came.set()

        loop.add_signal_handler(SIGTERM, on_signal)
        held = signal.getsignal(SIGTERM)

        async def raise_and_wait() -> None:
            signal.raise_signal(SIGTERM)
            await came.wait()

        run = run_all([raise_and_wait], stop_on=BOTH)
        await run
        assert run.stopped_by is SIGTERM
        assert signal.getsignal(SIGTERM) == held
        came.clear()
        await raise_and_wait()
        assert loop.remove_signal_handler(SIGTERM)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert received == [True, True]
    assert signal.getsignal(SIGTERM) is signal.SIG_DFL
    signal.signal(SIGTERM, handler)


@posix
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop_loop])
def test_a_signal_wakes_a_loop_that_has_nothing_to_do(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On asyncio's loop as on uvloop, at once and not at the timer: the first one stops and the second one cancels."""
    monkeypatch.setattr("aiosupervise._call.signals._WAKE_INTERVAL", 1000)

    def kill(number: signal.Signals) -> None:
        threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, number)).start()

    async def jobs() -> AsyncIterator[Coroutine[object, None, None]]:
        yield forever()
        kill(SIGINT)
        try:
            await forever()
        finally:
            kill(SIGTERM)

    async def main() -> None:
        handler = signal.getsignal(SIGINT)
        run = run_all(jobs(), stop_on=BOTH)
        async with asyncio.timeout(5):
            (outcome,) = await run
        assert isinstance(outcome, Pending)
        assert run.stopped_by is SIGINT
        assert signal.getsignal(SIGINT) is handler

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


SEVERAL_AT_ONCE = """
import asyncio, os, signal, sys
from aiosupervise import run_all

BOTH = (signal.SIGINT, signal.SIGTERM)


async def job():
    signal.raise_signal(signal.SIGINT)  # stops the run
    signal.pthread_sigmask(signal.SIG_BLOCK, BOTH)
    for number in BOTH:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BOTH)  # and now both are there: the first of them cancels the run
    await asyncio.Event().wait()


async def main():
    await run_all([job], stop_on=BOTH)


if sys.argv[1] == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
loop_factory = None
if sys.argv[2] == "uvloop":
    import uvloop
    loop_factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=loop_factory) as runner:
    runner.run(main())
print("ended")
"""


@posix
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("previous", ["default", "ignored"])
def test_a_signal_that_comes_together_with_the_one_that_cancels(previous: str, loop: str) -> None:
    """It is no longer the run's, and has the effect that it had before the run: none is dropped because of a race."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    program = [sys.executable, "-c", SEVERAL_AT_ONCE, previous, loop]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert ended.stderr == ""
    assert ended.returncode == (0 if previous == "ignored" else -SIGTERM)
    assert ended.stdout == ("ended\n" if previous == "ignored" else "")


# However the run ends


async def timed_out() -> None:
    """End a run by its timeout."""
    await run_all([forever], timeout=0, stop_on=BOTH)


async def source_raises() -> None:
    """End a run by its source."""

    def jobs() -> Iterator[Coroutine[object, None, int]]:
        yield job()
        raise LookupError

    with pytest.raises(LookupError):
        await run_all(jobs(), stop_on=BOTH)


async def caller_cancelled() -> None:
    """End a run by cancelling its caller."""
    task = asyncio.ensure_future(awaited(run_all([forever], stop_on=BOTH)))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def block_raises() -> None:
    """Leave the block by an error."""
    with pytest.raises(LookupError):
        async with run_all([forever], stop_on=BOTH):
            raise LookupError


async def interrupted() -> None:
    """Interrupt a bar while it opens."""

    class Bar:
        def __init__(self, *_: object) -> None:
            pass

        def open(self, _: object) -> None:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiosupervise._batch.api._progress_bar", Bar)
        with pytest.raises(KeyboardInterrupt):
            await run_all([job()], progress=True, stop_on=BOTH)


async def task_creation_fails() -> None:
    """Start where no task can be created."""

    def refuse(_: object, coroutine: Any, **__: object) -> Any:
        coroutine.close()
        raise LookupError

    loop = asyncio.get_running_loop()
    loop.set_task_factory(refuse)
    try:
        with pytest.raises(LookupError):
            await run_all([job()], stop_on=BOTH)
    finally:
        loop.set_task_factory(None)


async def second_handler_refused() -> None:
    """Start where the handler of the second signal cannot be installed."""
    install = signal.signal

    def refuse(number: int, handler: Any) -> Any:
        if number == SIGTERM:
            raise OSError
        return install(number, handler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", refuse)
        with pytest.raises(OSError, match=r"^$"):
            await run_all([job()], stop_on=BOTH)


@pytest.mark.parametrize(
    "end",
    [
        timed_out,
        source_raises,
        caller_cancelled,
        block_raises,
        interrupted,
        task_creation_fails,
        second_handler_refused,
    ],
)
async def test_the_handlers_are_put_back_however_the_run_ends(end: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Both are the same objects as before, and coroutines that did not start are closed."""
    handlers = [signal.getsignal(number) for number in BOTH]
    await end()
    assert [signal.getsignal(number) for number in BOTH] == handlers


async def test_a_run_that_could_not_start_has_ended() -> None:
    """It cannot be used a second time, and there is no warning that it was never awaited."""
    with pytest.MonkeyPatch.context() as patch:
        run = run_all([job()], stop_on=BOTH)
        patch.setattr(signal, "getsignal", lambda _: None)
        with pytest.raises(RuntimeError, match="stop_on cannot take SIGINT"):
            await run
    with pytest.raises(RuntimeError, match="used before"):
        await run


def test_a_loop_that_was_closed_under_its_run(before: Received) -> None:
    """The previous handler gets the signals of a run that can no longer act on them."""

    async def begin() -> SignalWatcher:
        return SignalWatcher((SIGTERM,), lambda: None, lambda: None)

    loop = asyncio.new_event_loop()
    watcher = loop.run_until_complete(begin())
    loop.close()
    signal.raise_signal(SIGTERM)
    assert before == [SIGTERM]
    assert watcher.stopped_by is None


async def test_a_run_that_another_thread_closes(before: Received) -> None:
    """Only the main thread can restore a handler, so ours does when it is called the next time."""
    watcher = SignalWatcher((SIGTERM,), lambda: None, lambda: None)
    await asyncio.to_thread(watcher.close)
    signal.raise_signal(SIGTERM)
    assert before == [SIGTERM]
    assert watcher.stopped_by is None


async def test_a_run_acts_on_a_signal_in_the_context_of_its_caller() -> None:
    """Not in the context of the code that the signal interrupts."""
    where = ContextVar("where", default="caller")
    found: list[str] = []

    def stop() -> None:
        found.append(where.get())

    async def elsewhere() -> None:
        where.set("job")
        signal.raise_signal(SIGTERM)
        await asyncio.sleep(0)

    watcher = SignalWatcher((SIGTERM,), stop, stop)
    await asyncio.create_task(elsewhere())
    watcher.close()
    assert found == ["caller"]


async def test_no_reference_to_a_restored_handler_is_kept() -> None:
    """The handler of asyncio.run holds its main task, so keeping it would keep much else alive."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        pass

    alive = weakref.ref(handler)
    before = signal.signal(SIGTERM, handler)
    await run_all([job], stop_on=BOTH)
    signal.signal(SIGTERM, before)
    del handler
    assert alive() is None


# Where it cannot be done


BAD: list[tuple[Any, type[Exception], str]] = [
    (SIGINT, TypeError, r"collection of signals, as in stop_on=.*\(signal.SIGINT,\); got <Signals.SIGINT: 2>$"),
    (15, TypeError, r"stop_on=\(signal.SIGINT, signal.SIGTERM\).*; got 15$"),
    (None, TypeError, r"collection of signals.*; got None$"),
    ("SIGINT", TypeError, r"collection of signals.*; got 'SIGINT'$"),
    (iter(BOTH), TypeError, r"collection of signals.*; got a value of type tuple_iterator"),
    (["SIGINT"], TypeError, r"stop_on=\(signal.SIGINT, signal.SIGTERM\).*; 'SIGINT' is not a signal$"),
    ([True], TypeError, r"; True is not a signal$"),
    ([SIGINT, 0], ValueError, r"; 0 is not a signal on this platform$"),
    ([35], ValueError, r"; 35 is not a signal on this platform$"),  # on Linux a real-time signal, which has no name
    ([4321], ValueError, r"stop_on=\(signal.SIGINT, signal.SIGTERM\).*; 4321 is not a signal on this platform$"),
]


def refused(stop_on: Any, kind: type[Exception], message: str) -> None:
    """Check that both functions refuse it at once, and close the coroutines."""
    with pytest.raises(kind, match=message):
        run_all([job(), job()], stop_on=stop_on)
    with pytest.raises(kind, match=message):
        map_all(job, [1], stop_on=stop_on)


@pytest.mark.parametrize(("stop_on", "kind", "message"), BAD, ids=[str(case[0])[:15] for case in BAD])
def test_stop_on_must_be_a_collection_of_signals(stop_on: Any, kind: type[Exception], message: str) -> None:
    """The error shows the right code and what was given."""
    refused(stop_on, kind, message)


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_signals_that_nobody_can_handle_are_refused(name: str) -> None:
    """There are two of them."""
    refused([SIGINT, getattr(signal, name)], ValueError, f"no process can handle {name}: leave it out$")


def test_plain_numbers_are_signals() -> None:
    """A number is accepted, in any collection, and `stopped_by` is the signal of that number."""

    async def main() -> None:
        run = map_all(signalled, [1], stop_on={15})
        await run
        assert run.stopped_by is SIGTERM

    asyncio.run(main())


async def test_another_thread_is_refused_at_once() -> None:
    """Python handles signals in the main thread only; the error says what can be done."""
    message = (
        r"^stop_on works in the main thread only, where Python handles signals: handle them there, and call "
        r"loop\.call_soon_threadsafe\(run\.stop\) with the loop of the run, or sup\.stop of the supervisor$"
    )
    await asyncio.to_thread(refused, BOTH, RuntimeError, message)
    assert (await asyncio.to_thread(lambda: asyncio.run(awaited(run_all([job], stop_on=())))))[0].value == 1


@every_use
async def test_another_thread_is_refused_when_the_run_starts(use: Any) -> None:
    """A run that was made in the main thread cannot be used in another one either; its coroutines are closed."""
    run = run_all([job()], stop_on=BOTH)
    with pytest.raises(RuntimeError, match="main thread only"):
        await asyncio.to_thread(lambda: asyncio.run(use(run)))


# A loop that waits


def signal_other_thread() -> None:
    """Send a signal that does not interrupt the event loop, since another thread gets it."""
    threading.Timer(0.02, lambda: signal.pthread_kill(threading.get_ident(), SIGTERM)).start()


async def source_that_waits() -> AsyncIterator[Coroutine[Any, Any, int]]:
    """Yield a job, send the signal, and wait for ever."""
    yield job()
    signal_other_thread()
    await forever()


async def end_of(run: Run[Any, Any]) -> None:
    """Await a run that a signal ends, or else a timer far too late."""
    late: list[bool] = []

    def too_late() -> None:
        late.append(True)
        run.stop()

    waiting = asyncio.get_running_loop().call_later(30, too_late)
    await run
    waiting.cancel()
    assert run.stopped_by is SIGTERM
    assert not late


@posix
def test_a_signal_ends_the_wait_of_the_loop() -> None:
    """Python calls the handler only when the loop wakes up, so a timer wakes it even if nothing else does."""
    asyncio.run(end_of(run_all(source_that_waits(), stop_on=BOTH)))


@posix
def test_a_run_whose_loop_is_woken_leaves_no_timer_behind() -> None:
    """However it ends, and however often it has been woken."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aiosupervise._call.signals._WAKE_INTERVAL", 0.001)
            async with run_all([job], stop_on=BOTH):
                await asyncio.sleep(0.01)
                assert [timer for timer in loop._scheduled if not timer.cancelled()]
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]

    asyncio.run(main())


@posix
def test_the_loop_is_woken_at_least_every_fifth_of_a_second() -> None:
    """So no signal is handled later than that, unless the loop is blocked."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        before = loop.time()
        async with run_all([job], stop_on=BOTH):
            (timer,) = [timer for timer in loop._scheduled if not timer.cancelled()]
            assert before < timer.when() <= loop.time() + 0.2

    asyncio.run(main())


# Real processes

HEAD = """
import asyncio, os, signal, sys
from aiosupervise import map_all, run_all

async def forever(n=0):
    print("up", n, flush=True)
    await asyncio.Event().wait()
"""


def process(script: str, *options: str) -> subprocess.Popen[str]:
    """Start a Python with a script."""
    code = HEAD + textwrap.dedent(script)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *options, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@posix
def test_a_container_that_is_stopped() -> None:
    """A process that is sent SIGTERM finishes its running jobs, starts no others, and chooses its exit code."""
    script = """
        async def work(n):
            print("up", n, flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            return n

        async def main():
            run = map_all(work, [1, 2, 3], limit=1, stop_on=(signal.SIGINT, signal.SIGTERM))
            report = await run
            print([outcome.value for outcome in report.succeeded], len(report.pending))
            return 128 + run.stopped_by

        sys.exit(asyncio.run(main()))
    """
    with process(script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up 1\n"
        child.send_signal(SIGTERM)
        out, err = child.communicate("\n", timeout=20)
    assert (out, err, child.returncode) == ("[1] 2\n", "", 143)


@posix
def test_an_impatient_user() -> None:
    """Ctrl-C three times: stopped, cancelled with a clean-up that takes too long, interrupted."""
    script = """
        async def stubborn(n):
            loop = asyncio.get_running_loop()
            loop.call_soon(print, "up", n)
            while not run.stopped_by:
                await asyncio.sleep(0.001)
            print("stopped", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                print("cancelled", flush=True)
                while not task.cancelling():
                    await asyncio.sleep(0.001)

        async def main():
            global run, task
            task = asyncio.current_task()
            run = map_all(stubborn, [1], stop_on=(signal.SIGINT,))
            print("begun", flush=True)
            try:
                await run
            finally:
                print(len(run.report.pending), flush=True)

        asyncio.run(main())
    """
    with process(script, "-u") as child:
        assert child.stdout is not None
        for line in ("up 1\n", "stopped\n", "cancelled\n"):
            while child.stdout.readline() != line:
                assert child.poll() is None
            child.send_signal(SIGINT)
        out, err = child.communicate(timeout=20)
    assert out == "1\n"
    assert err.endswith("KeyboardInterrupt\n")
    assert child.returncode == -SIGINT


@posix
def test_a_fork_of_the_process_takes_no_signals() -> None:
    """A worker process that was forked during a run can be terminated, although it has a copy of everything."""
    script = """
        async def fork():
            child = os.fork()
            if not child:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        async def main():
            run = run_all([fork], stop_on=(signal.SIGTERM,))
            print((await run).values(), run.stopped_by)

        asyncio.run(main())
    """
    with process(script) as child:
        out, err = child.communicate(timeout=20)
    assert (out, err) == ("[-15] None\n", "")


@posix
def test_a_handler_that_could_not_be_restored_is_refused_at_once() -> None:
    """A handler that was not installed from Python is unknown to it; faulthandler's is one."""
    script = """
        run_all([], stop_on=[signal.SIGSEGV])
    """
    with process(script, "-X", "faulthandler") as child:
        _, err = child.communicate(timeout=20)
    assert "RuntimeError: stop_on cannot take SIGSEGV: its handler was not installed from Python" in err


def test_the_error_about_a_handler_that_could_not_be_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message contains the reason and the repair."""
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    message = (
        "^stop_on cannot take SIGTERM: its handler was not installed from Python, so it could not be restored "
        "afterwards; leave the signal out$"
    )
    refused([SIGTERM], RuntimeError, message)
