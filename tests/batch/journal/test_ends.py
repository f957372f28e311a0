"""Every way in which a run with a journal ends: nothing that was done is lost, and nothing is done for ever."""

import asyncio
import gc
import pickle
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import (
    Event,
    Failure,
    JobFinished,
    Journal,
    Pending,
    Report,
    Run,
    RunFinished,
    RunStarted,
    Stopped,
    Success,
    listen,
    map_all,
)
from aiosupervise._batch._journal.lock import FileLock
from aiosupervise._batch._journal.session import Session
from aiosupervise._batch._journal.store import Store
from aiosupervise._batch._journal.writer import Writer

pytestmark = pytest.mark.looptime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    return tmp_path / "run.db"


async def work(item: Any) -> int:
    """A job that takes as many hundredths as its input."""
    await asyncio.sleep(item / 100)
    return int(item)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def is_free(path: Path) -> bool:
    """Whether somebody else could open the file."""
    lock = FileLock(str(path))
    try:
        lock.acquire(lambda: None)
    except RuntimeError:
        return False
    lock.release()
    return True


async def known(path: Path, function: Any = work) -> list[int]:
    """The inputs below 20 that are known."""

    async def fail(_: int) -> int:
        raise LookupError

    assert is_free(path)
    report = await map_all(fail, range(20), journal=path, name=function.__name__)
    return [outcome.input for outcome in report.succeeded]


async def read_all(run: Run[Any, Any], read: list[int]) -> None:
    """Read the indexes of a streamed run."""
    async for outcome in run:
        read.append(outcome.index)  # noqa: PERF401 - it may raise after some


class SlowDisk:
    """Holds up every commit until it is released; the time of the loop goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
        self.commits: list[int] = []
        self._seconds = seconds
        call = Writer.call
        save = Store.save

        def counted(store: Store, rows: Any) -> None:
            held = [*rows]
            self.commits.append(len(held))
            save(store, held)

        def slow(writer: Writer, job: Any, *, in_loop: bool) -> Any:
            if getattr(job, "func", None) is None or job.func.__name__ != "_save":
                return call(writer, job, in_loop=in_loop)
            loop = asyncio.get_running_loop()
            later = loop.create_future()
            loop.call_later(self._seconds, lambda: later.set_result(job(writer._store)))
            return later

        monkeypatch.setattr(Store, "save", counted)
        monkeypatch.setattr(Writer, "call", slow)


# Ends that the user asks for.


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_timeout(path: Path, strategy: Any) -> None:
    """Outcomes of finished jobs are committed at once; the other jobs are pending."""
    report = await map_all(work, range(20), journal=path, timeout=0.055, strategy=strategy)
    assert now() == 0.055
    assert [outcome.index for outcome in report.succeeded] == [0, 1, 2, 3, 4, 5]
    assert [outcome.index for outcome in report.pending] == [*range(6, 20)]
    assert report.stopped is Stopped.TIMEOUT
    assert await known(path) == [0, 1, 2, 3, 4, 5]


async def test_a_slow_disk_delays_the_end_by_two_commits_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That under way, and one for everything that has arrived meanwhile, however much that is."""
    disk = SlowDisk(monkeypatch, seconds=0.5)

    async def quick(item: int) -> int:
        await asyncio.sleep(0.0001)
        return item

    report = await map_all(quick, iter(range(10_000)), limit=500, journal=path, timeout=0.1)
    assert now() == pytest.approx(1.02, abs=0.03)
    assert len(disk.commits) == 2
    assert disk.commits[1] > 200
    assert report.tally.succeeded == sum(disk.commits)


async def test_a_row_whose_time_was_up_during_a_commit_goes_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for another outcome to come."""
    SlowDisk(monkeypatch, seconds=0.5)
    async with map_all(work, [1, 20, 1000], strategy="as_completed", journal=path) as run:
        moments = [(outcome.index, round(now(), 2)) async for outcome in run]
    assert moments == [(0, 0.53), (1, 1.03), (2, 10.5)]


async def test_a_failure_during_a_commit_is_handed_over_after_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no row that another commit would have to store."""
    SlowDisk(monkeypatch, seconds=0.5)

    async def fail(item: int) -> int:
        await asyncio.sleep(item / 100)
        if item == 20:
            raise LookupError
        return item

    async with map_all(fail, [1, 20, 1000], strategy="as_completed", journal=path) as run:
        moments = [(outcome.index, round(now(), 2)) async for outcome in run]
    assert moments == [(0, 0.53), (1, 0.53), (2, 10.5)]


@pytest.mark.parametrize(("count", "moment"), [(19, 0.03), (20, 0.01)])
async def test_the_first_group_of_rows_is_written_when_it_has_twenty(path: Path, count: int, moment: float) -> None:
    """At once, while a smaller one waits for others."""
    async with map_all(work, [1] * count + [50], strategy="as_completed", journal=path) as run:
        moments = {round(now(), 4) async for _ in run}
    assert moments == {moment, 0.5}


async def test_a_row_waits_for_others_from_its_own_arrival(path: Path) -> None:
    """It waits less if a group of rows is already waiting; the rows of that group do not count for the next group."""
    async with map_all(work, [1, 1.2, 1.4, 3.1, 50], strategy="as_completed", journal=path) as run:
        moments = [(outcome.index, round(now(), 4)) async for outcome in run]
    assert moments == [(0, 0.03), (1, 0.03), (2, 0.03), (3, 0.051), (4, 0.5)]


async def test_stop_lets_running_jobs_finish(path: Path) -> None:
    """And commits them; what they return last is committed at once."""
    run = map_all(work, range(20), limit=5, journal=path)
    asyncio.get_running_loop().call_later(0.035, run.stop)
    report = await run
    assert report.stopped is Stopped.STOP
    done = [outcome.input for outcome in report.succeeded]
    assert now() == pytest.approx(0.11)
    assert done == await known(path)


async def test_stop_while_inputs_are_looked_up(path: Path) -> None:
    """They were pulled, so each has an outcome."""
    await map_all(work, range(10), journal=path)
    run = map_all(work, iter(range(10)), journal=path, limit=4)

    def stop(event: object) -> None:
        if isinstance(event, JobFinished) and event.outcome.index == 1:
            run.stop()

    with listen(stop):
        report = await run
    assert [type(outcome) for outcome in report] == [Success, Success, Pending, Pending]


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancel_while_inputs_are_looked_up(path: Path, turns: int) -> None:
    """Whenever it comes, each outcome has the index and the input of one place in the source."""
    inputs = [f"item {number}" for number in range(8)]
    await map_all(work, [0, inputs[1], inputs[6]], journal=path)

    run = map_all(work, inputs, journal=path, limit=3)
    task = asyncio.ensure_future(run)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if turns:  # else the run has not begun
        assert {outcome.index: outcome.input for outcome in run.report} == dict(enumerate(inputs))


async def test_a_source_that_stops_the_run(path: Path) -> None:
    """The item that it was busy with is pending."""
    await map_all(work, range(10), journal=path)

    def source() -> Iterator[int]:
        yield 0
        run.stop()
        yield 1
        raise AssertionError

    run = map_all(work, source(), journal=path)
    report = await run
    assert [outcome.index for outcome in report] == [0, 1]
    assert all(isinstance(outcome, Pending) for outcome in report)
    assert report.stopped is Stopped.STOP


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
async def test_signals(path: Path) -> None:
    """The first one stops the run."""
    run = map_all(work, range(20), limit=5, journal=path, stop_on=[signal.SIGUSR1])
    asyncio.get_running_loop().call_later(0.035, signal.raise_signal, signal.SIGUSR1)
    report = await run
    assert report.stopped is Stopped.SIGNAL
    assert [outcome.input for outcome in report.succeeded] == await known(path)


async def test_leaving_the_block(path: Path) -> None:
    """Outcomes that were not read are committed."""
    async with map_all(work, range(20), limit=5, strategy="as_completed", journal=path) as run:
        async for outcome in run:
            assert outcome.index == 0
            break
    assert [outcome.index for outcome in run.report.succeeded] == [1, 2]
    assert await known(path) == [0, 1, 2]


@pytest.mark.parametrize("times", [1, 3])
async def test_cancellation(path: Path, times: int) -> None:
    """However often the caller is cancelled, what was done is committed before control returns."""
    run = map_all(work, range(20), journal=path)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(0.055)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert [outcome.index for outcome in run.report.succeeded] == [0, 1, 2, 3, 4, 5]
    assert len(run.report) == 20
    assert await known(path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("when", ["opening", "looking up", "saving", "closing"])
async def test_a_cancel_on_every_turn(path: Path, when: str) -> None:
    """The run ends as soon as its commit has."""
    if when == "looking up":
        await map_all(work, range(3), journal=path)
    run = map_all(work, [*range(5)], journal=path)
    task = asyncio.ensure_future(run)
    await asyncio.sleep({"opening": 0, "looking up": 0, "saving": 0.025, "closing": 0.04}[when])
    for _ in range({"looking up": 3}.get(when, 0)):
        await asyncio.sleep(0)
    turns = 0
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
        turns += 1
    assert turns < 20
    assert len(run.report) == 5
    assert [outcome.index for outcome in run.report.succeeded] == [
        index for index in await known(path) if index in {outcome.index for outcome in run.report.succeeded}
    ]


async def test_return_when(path: Path) -> None:
    """It is checked when an outcome arrives: waiting for the commit would allow many more calls."""
    calls = 0

    async def count(item: int) -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.001)
        return item

    report = await map_all(count, range(100), limit=5, strategy="wait", return_when="FIRST_COMPLETED", journal=path)
    assert calls == 5
    assert len(report.succeeded) == 5
    assert report.stopped is Stopped.RETURN_WHEN
    # A known input is completed, too.
    calls = 0
    report = await map_all(count, range(100), limit=5, strategy="wait", return_when="FIRST_COMPLETED", journal=path)
    assert (calls, report.tally.replayed) == (0, 1)


async def test_max_failures(path: Path) -> None:
    """They count when they have arrived, though they are handed over behind what is not committed yet."""

    async def fail(item: int) -> int:
        await asyncio.sleep(0.001)
        if item % 2:
            raise LookupError
        return item

    report = await map_all(fail, range(100), limit=2, max_failures=2, journal=path)
    assert report.stopped is Stopped.FAILURES
    assert [outcome.index for outcome in report if isinstance(outcome, (Success, Failure))] == [*range(6)]
    assert await known(path, fail) == [0, 2, 4]


# Sources.


def failing(count: int) -> Iterator[int]:
    """A source that raises."""
    yield from range(count)
    raise LookupError("the list is broken")


async def failing_later(count: int) -> AsyncIterator[int]:
    """Likewise."""
    for number in range(count):
        yield number
    raise LookupError("the list is broken")


@pytest.mark.parametrize("source", [failing, failing_later])
@pytest.mark.parametrize("before", [0, 2, 5])
async def test_a_source_that_fails(path: Path, source: Callable[[int], Any], before: int) -> None:
    """Its earlier items are processed and committed, replayed or not; then its error is raised."""
    await map_all(work, range(before), journal=path)
    run = map_all(work, source(5), journal=path)
    with pytest.raises(LookupError, match="the list is broken"):
        await run
    assert [outcome.index for outcome in run.report.succeeded] == [0, 1, 2, 3, 4]
    assert await known(path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_a_source_that_is_interrupted(path: Path, interrupt: type[BaseException]) -> None:
    """Its items that were not started are pending."""
    await map_all(work, range(2), journal=path)

    def source() -> Iterator[int]:
        yield 0
        yield 5
        raise interrupt

    run = map_all(work, source(), journal=path)
    with pytest.raises(interrupt):
        await run
    assert [type(outcome) for outcome in run.report] == [Pending, Pending]


@pytest.mark.parametrize("before", [0, 2])
async def test_an_input_without_a_key_in_a_lazy_source(path: Path, before: int) -> None:
    """It is an error of the source, when it is pulled; the input is pending."""
    await map_all(work, range(before), journal=path)
    run = map_all(work, iter([0, 1, {2}, 3]), journal=path)
    with pytest.raises(TypeError, match="input 2 is a value of type set"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Success, Pending]


# Failures of the journal.


async def test_a_file_of_which_a_part_is_gone(path: Path) -> None:
    """It is closed again, so that it can be repaired."""
    await map_all(work, [1], journal=path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE function")
    with pytest.raises(RuntimeError, match=f"the journal {path} cannot be opened: OperationalError: no such table"):
        await map_all(work, [1], journal=path)
    assert is_free(path)


async def test_a_file_that_cannot_be_opened(path: Path) -> None:
    """Nothing starts: what a list holds is pending, and the error is raised."""
    path.write_text("my notes\n" * 1000)  # noqa: ASYNC240 - the test itself
    events: list[Event] = []
    run = map_all(work, [1, 2], journal=path, listen=events.append)
    with pytest.raises(RuntimeError, match=f"the journal {path} cannot be opened: DatabaseError"):
        await run
    assert [outcome.started for outcome in run.report.pending] == [False, False]
    assert [event.known for event in events if isinstance(event, RunStarted)] == [0]
    async with map_all(work, iter([1, 2]), journal=path) as run:
        with pytest.raises(RuntimeError, match=f"the journal {path} cannot be opened: DatabaseError"):
            await anext(run)
    assert is_free(path)


class FullDisk:
    """Lets some commits succeed, and no other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, commits: int) -> None:
        self.failed = 0
        save = Store.save

        def fail_at_last(store: Store, rows: Any) -> None:
            nonlocal commits
            commits -= 1
            if commits < 0:
                self.failed += 1
                store._connection.execute("PRAGMA max_page_count = 1")  # type: ignore[union-attr]
                rows = [(*row[:3], "x" * 1_000_000, *row[4:]) for row in rows]
            save(store, rows)

        monkeypatch.setattr(Store, "save", fail_at_last)


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_commit_that_fails(path: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops, running jobs finish, the error is raised, and the report has every outcome."""
    disk = FullDisk(monkeypatch, commits=1)
    run = map_all(work, [*range(20)], limit=5, journal=path, strategy=strategy)
    words = f"the journal {path} cannot be written: OperationalError: database or disk is full; is there space left"
    with pytest.raises(RuntimeError, match=words):
        await run
    report: Report[int, int] = run.report
    done = [outcome.index for outcome in report.succeeded]
    assert sorted(outcome.index for outcome in report) == [*range(20)]
    assert 5 < len(done) < 15
    assert all(not outcome.started for outcome in report.pending)
    assert 0 < len(await known(path)) < len(done)
    assert disk.failed == 1


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_commit_that_fails_hands_nothing_to_the_reader(
    path: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader gets what is safe, then the error; the rest is in the report."""
    FullDisk(monkeypatch, commits=1)
    read: list[int] = []
    async with map_all(work, [*range(20)], limit=5, journal=path, strategy=strategy) as run:
        with pytest.raises(RuntimeError, match="cannot be written"):
            await read_all(run, read)
    monkeypatch.undo()
    assert read == await known(path)
    assert sorted([*read, *(outcome.index for outcome in run.report)]) == [*range(20)]
    assert run.report.succeeded != ()


async def test_a_disk_that_is_full_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one outcome is handed over, and what arrives later is in the report too."""
    FullDisk(monkeypatch, commits=0)
    async with map_all(work, range(10), journal=path, strategy="as_completed") as run:
        with pytest.raises(RuntimeError, match="cannot be written"):
            await anext(run)
    assert [outcome.index for outcome in run.report.succeeded] == [*range(10)]


async def test_a_value_that_is_refused(path: Path) -> None:
    """The run stops with a TypeError; the values beside it are stored, and those of jobs that ran."""

    async def pair(item: int) -> object:
        await asyncio.sleep(0.001)
        return (item, item) if item == 3 else item

    run = map_all(pair, range(20), limit=10, journal=path)
    words = "the value of pair-3, which would come back changed: a value of type tuple"
    with pytest.raises(TypeError, match=words) as caught:
        await run
    # Frames of the thread that writes would keep the run alive for as long as the error.
    assert {"encode", "_save"}.isdisjoint(frame.name for frame in caught.traceback)
    done = [outcome.index for outcome in run.report.succeeded]
    assert len(run.report) == 20
    assert 3 in done
    assert await known(path, pair) == [index for index in done if index != 3]


async def test_a_value_that_is_refused_is_not_read(path: Path) -> None:
    """Nor is what comes behind it; all of it is in the report."""

    async def pair(item: int) -> object:
        return {item} if item in (3, 5) else item

    read: list[int] = []
    async with map_all(pair, range(6), strategy="as_completed", journal=path) as run:
        with pytest.raises(TypeError, match="the value of pair-3 with the codec json: TypeError: Object of type set"):
            await read_all(run, read)
    assert read == [0, 1, 2]
    assert [outcome.index for outcome in run.report.succeeded] == [3, 4, 5]
    assert await known(path, pair) == [0, 1, 2, 4]


class Gone:
    """A value whose class is removed."""


async def test_a_value_that_cannot_be_decoded_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops before it is called again: it may have cost money. Everything pulled has an outcome."""

    async def make(item: int) -> object:
        return Gone() if item == 2 else item

    journal = Journal(path, codec=pickle)
    await map_all(make, range(4), journal=journal)
    monkeypatch.delitem(globals(), "Gone")
    run = map_all(make, range(6), journal=journal)
    with pytest.raises(RuntimeError, match=f"{path} has a value that the codec pickle cannot decode: AttributeError"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Success, Pending, Pending, Pending, Pending]
    assert [outcome.input for outcome in run.report] == [*range(6)]
    assert is_free(path)


class Interrupting:
    """A codec that is hit by a signal."""

    def __init__(self, *, dumps: bool) -> None:
        self._dumps = dumps

    def dumps(self, value: object) -> str:
        """Raise a BaseException."""
        if self._dumps:
            raise SystemExit(3)
        return str(value)

    def loads(self, data: str) -> object:
        """Likewise."""
        if not self._dumps:
            raise SystemExit(3)
        return int(data)


async def test_a_codec_that_is_interrupted(path: Path) -> None:
    """As anywhere in a run, running jobs are cancelled, and the exception is raised."""
    run = map_all(work, [1, 2, 50], journal=Journal(path, codec=Interrupting(dumps=True)))
    with pytest.raises(SystemExit):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Success, Pending]
    await map_all(work, [1], journal=path)
    run = map_all(work, [1, 2], journal=Journal(path, codec=Interrupting(dumps=False)))
    with pytest.raises(SystemExit):
        await run
    assert [type(outcome) for outcome in run.report] == [Pending, Pending]
    assert is_free(path)


@pytest.mark.parametrize("staged", [False, True])
async def test_the_warning_names_the_commit_that_the_run_waits_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, staged: bool
) -> None:
    """The warning names neither the source nor an earlier stage."""
    SlowDisk(monkeypatch, seconds=8)
    inputs: Any = map_all(work, range(20), name="earlier") if staged else range(20)
    with pytest.warns(RuntimeWarning, match=f"so the run waits: the commit of the journal {path}"):
        report = await map_all(work, inputs, journal=path, timeout=0.05)
    assert report.tally.succeeded == (3 if staged else 6)


async def test_a_run_that_cannot_begin(path: Path) -> None:
    """If the task factory of the loop raises an error, the events show the journal, and that nothing was replayed."""

    def broken(*_: Any, **__: Any) -> Any:
        raise LookupError

    events: list[Event] = []
    asyncio.get_running_loop().set_task_factory(broken)
    with pytest.raises(LookupError):
        await map_all(work, range(3), journal=path, listen=events.append)
    asyncio.get_running_loop().set_task_factory(None)
    started, finished = events
    assert isinstance(started, RunStarted)
    assert isinstance(finished, RunFinished)
    assert (started.known, finished.replayed) == (0, 0)


async def test_listeners_that_are_interrupted(path: Path) -> None:
    """Everything is handed over all the same."""
    loop = asyncio.get_running_loop()
    session = Session(Journal(path)._writer, Journal(path)._settings, "fetch")
    delivered: list[int] = []
    errors: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def deliver(outcome: Any) -> None:
        delivered.append(outcome.index)
        if outcome.index == 1:
            raise ValueError("as if it were a signal")

    session.connect(deliver=deliver, fail=errors.append, wake=lambda: None)
    await session.open()
    for index in range(4):
        session.keys[index] = str(index)
        session.add(Success(index, index, 1, 0.0))
    await asyncio.sleep(1)
    assert delivered == [0, 1, 2, 3]
    assert [type(error) for error in errors] == [ValueError]
    await session.close()
    session.detach()


async def test_outcomes_that_no_commit_will_come_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the task of the run is gone, they are in the report all the same, and nothing is sent to the writer later."""
    delivered: list[int] = []
    session = Session(Journal(path)._writer, Journal(path)._settings, "fetch")
    session.connect(deliver=lambda outcome: delivered.append(outcome.index), fail=lambda _: None, wake=lambda: None)
    await session.open()
    session.keys[0] = "0"
    session.add(Success(0, 0, 1, 0.0))
    session.detach()
    await session.close()
    assert delivered == [0]
    monkeypatch.setattr(Writer, "_perform", None)
    await asyncio.sleep(1)


async def test_a_commit_that_ends_after_the_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcomes are delivered once, whether or not the commit succeeds."""
    call = Writer.call
    commits: list[asyncio.Future[Any]] = []
    delivered: list[int] = []

    def held_up(writer: Writer, job: Any, *, in_loop: bool) -> Any:
        if not isinstance(job, partial):
            return call(writer, job, in_loop=in_loop)
        commits.append(asyncio.get_running_loop().create_future())
        return commits[-1]

    monkeypatch.setattr(Writer, "call", held_up)
    for end in ("succeeds", "fails"):
        session = Session(Journal(path)._writer, Journal(path)._settings, "fetch")
        session.connect(deliver=lambda outcome: delivered.append(outcome.index), fail=lambda _: None, wake=lambda: None)
        await session.open()
        session.keys[0] = "0"
        session.add(Success(0, 0, 1, 0.0))
        session.flush()
        session.detach()
        if end == "succeeds":
            commits[-1].set_result((1, 10, {}))
        else:
            commits[-1].set_exception(LookupError())
        await session.close()
    assert delivered == [0, 0]


# Runs that are thrown away.


class OwnClock(asyncio.SelectorEventLoop):
    """A loop whose clock is not asyncio's, so that the journal takes it for a virtual one, and has no thread."""

    def time(self) -> float:
        return super().time()


class Deserted:
    """A run whose loop was closed under it."""

    def __init__(self, journal: Journal, *, virtual: bool = False) -> None:
        self.loop = OwnClock() if virtual else asyncio.new_event_loop()
        self.run = map_all(self.stop, [0], journal=journal, name="work")
        self.task = self.loop.create_task(_finish(self.run))
        self.loop.run_forever()
        assert not is_free(Path(journal.path))
        pump = self.run._pump
        assert pump is not None
        assert pump._task is not None
        self.task._log_destroy_pending = pump._task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop.close()

    async def stop(self, _: int) -> None:
        """A job, which does not end."""
        task: Any = asyncio.current_task()
        task._log_destroy_pending = False
        self.loop.stop()
        await asyncio.sleep(1000)


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("shared", [False, True], ids=["another Journal", "the same Journal"])
def test_a_loop_that_is_closed_under_a_run(path: Path, *, virtual: bool, shared: bool) -> None:
    """The next run of this process uses the file at once, though somebody still holds the first one."""
    journal = Journal(path)
    deserted = Deserted(journal, virtual=virtual)
    report = asyncio.run(_finish(map_all(work, [0, 1], journal=journal if shared else path)))
    assert report.values() == [0, 1]
    assert not journal._writer._store.is_open
    assert is_free(path)
    assert deserted.task.done() is False


def test_a_run_that_is_collected_closes_the_file(path: Path) -> None:
    """For other processes too, if nobody holds a run whose loop was closed under it; its thread ends."""
    journal = Journal(path)
    Deserted(journal)
    thread = journal._writer._thread
    assert thread is not None
    for _ in range(1000):
        if thread.is_alive():  # at first, it may still hold the work that it has just done
            gc.collect()
            thread.join(0.01)
    assert not thread.is_alive()
    assert is_free(path)


async def _finish(run: Any) -> Any:
    return await run


def test_a_loop_that_shuts_down(path: Path) -> None:
    """asyncio.run cancels every task: what was done is committed, and the file is closed."""

    async def main() -> None:
        run = map_all(work, [0, 1, 1000, *range(1001, 1030)], journal=path, limit=5)
        task = asyncio.ensure_future(run)
        while run.tally.succeeded < 1 or run.tally.running < 5:  # noqa: ASYNC110 - counts of another task
            await asyncio.sleep(0.001)
        assert not task.done()

    asyncio.run(main())
    assert asyncio.run(known(path)) in ([0], [0, 1])


async def test_a_loop_that_shuts_down_while_the_file_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run waits until the file is closed, so the file can be opened afterwards."""
    call = Writer.call

    def slow(writer: Writer, job: Any, *, in_loop: bool) -> Any:
        if getattr(job, "__name__", "") != "_close":
            return call(writer, job, in_loop=in_loop)
        loop = asyncio.get_running_loop()
        later = loop.create_future()
        loop.call_later(1, lambda: later.set_result(job(writer._store)))
        return later

    monkeypatch.setattr(Writer, "call", slow)
    run = map_all(work, [0], journal=path)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(0.5)
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert run.report.tally.succeeded == 1
    assert is_free(path)


def test_a_loop_that_shuts_down_while_inputs_are_looked_up(path: Path) -> None:
    """Nothing is left open."""

    async def main(turns: int) -> None:
        run = map_all(work, range(300), journal=path, limit=50)
        task = asyncio.ensure_future(run)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert task is not None

    asyncio.run(_finish(map_all(work, [0] * 300, journal=path)))
    for turns in range(0, 12, 2):
        asyncio.run(main(turns))
        assert is_free(path)


async def test_no_garbage(path: Path, garbage: list[object]) -> None:
    """A run with a journal leaves no cycles: neither when it succeeds, nor when it fails."""

    async def pair(item: int) -> object:
        return (item,)

    for _ in range(2):
        await map_all(work, range(5), journal=path)
    with suppress(TypeError):
        await map_all(pair, [1], journal=path)
    with suppress(TypeError):
        await map_all(work, iter([1, {1}]), journal=path)
    gc.collect()
    assert garbage == []


def test_a_lock_that_is_not_held_can_be_released(path: Path) -> None:
    """As after it was released once."""
    lock = FileLock(str(path))
    for _ in range(2):
        lock.acquire(lambda: None)
        lock.release()
        lock.release()
