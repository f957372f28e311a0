"""`Bars`: lines of runs in a real rich Progress, and log lines beside them."""

import asyncio
import gc
import io
import itertools
import logging
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from aiosupervise import Backoff, Budget, Overload, RetryAfter, listen, map_all, run_all, supervise
from aiosupervise._events.log import beside_bars
from aiosupervise._events.outcomes import Tally
from aiosupervise._events.records import (
    AttemptFailed,
    AttemptStarted,
    CallFinished,
    Event,
    RunFinished,
    RunPaused,
    RunStarted,
)
from aiosupervise.integrations import rich as integration
from aiosupervise.integrations.rich import Bars

pytestmark = pytest.mark.looptime
Screen = Callable[[str], list[str]]


def lines_of(index: int) -> list[str]:
    """The log lines of the job with this index, which fails after two retries."""
    retried = f"job (job {index}) failed in attempt {{}} and is retried in {{}}.00 s: ConnectionError".format
    gave_up = f"job (job {index}) gave up in attempt 3, 6.00 s after the first failure (retries exhausted)"
    return [retried(1, 2), retried(2, 2), f"{gave_up}: ConnectionError"]


@supervise(retry_on=ConnectionError, max_retries=2, backoff=Backoff(base=2, factor=1, jitter="none"))
async def job(number: int) -> int:
    """A job of one second, of which number 1 fails after two retries: it takes seven."""
    await asyncio.sleep(1)
    if number == 1:
        raise ConnectionError
    return number


class Drawn(Progress):
    """A Progress of the user's, which counts how often it is drawn by us."""

    def __init__(self, *, auto_refresh: bool = False) -> None:
        console = Console(file=io.StringIO(), force_terminal=True, width=200)
        super().__init__(TextColumn("{task.description}"), console=console, auto_refresh=auto_refresh)
        self.drawn = 0

    def refresh(self) -> None:
        """Count."""
        self.drawn = getattr(self, "drawn", 0) + 1
        super().refresh()

    def fields(self, *names: str) -> list[Any]:
        """Return these fields of the latest task."""
        return [self.tasks[-1].fields[name] for name in names]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test nothing is shown, and nothing stands beside a bar."""
    logger = logging.getLogger("aiosupervise")
    before = logger.handlers[:]
    yield
    logger.handlers[:] = before
    gc.collect()
    assert beside_bars == []
    assert integration._SHARED_DISPLAY._lines == {}
    assert integration._SHARED_DISPLAY._progress is None


@pytest.fixture
def ours(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where a Progress of ours draws: a terminal of 100 columns."""
    console = partial(Console, file=terminal, force_terminal=True, width=100)
    monkeypatch.setattr(integration, "Console", lambda *, stderr: console() if stderr else None)
    return terminal


def log_to(file: io.StringIO) -> None:
    """Print the library's log there, as logging.basicConfig does."""
    logging.getLogger("aiosupervise").addHandler(logging.StreamHandler(file))


# The contents of a line.


async def test_a_line_shows_the_state_of_its_run() -> None:
    """Finished and total jobs, outcomes, and retrying and waiting calls at each moment; then the final counts."""
    progress = Drawn()
    with listen(Bars(progress)):
        running = asyncio.ensure_future(map_all(job, [0, 1, 2, 3], limit=3))
        moments = []
        for _ in range(5):
            await asyncio.sleep(0.85)
            (task,) = progress.tasks
            moments.append((task.completed, task.total, *progress.fields("succeeded", "retrying", "waiting")))
        assert moments == [(0, 4, 0, 0, 0), (2, 4, 2, 0, 1), (3, 4, 3, 0, 1), (3, 4, 3, 1, 0), (3, 4, 3, 0, 1)]
        assert task.description == "job: 3 succeeded, 0 failed, 1 waiting"
        await running
    assert (task.completed, task.finished) == (4, True)
    assert task.description == "job: 3 succeeded, 1 failed"
    assert progress.fields("name", "failed", "pending", "retrying", "waiting", "paused") == ["job", 1, 0, 0, 0, ""]


async def test_calls_are_forgotten_however_they_end() -> None:
    """A call that was cancelled in an attempt or in a wait counts neither as retrying nor as waiting."""
    progress = Drawn()

    async def outer() -> None:
        for seconds in (2, 3.5):  # in the wait for the second attempt, and in that attempt
            try:
                async with asyncio.timeout(seconds):
                    await job(1)
            except TimeoutError:
                pass
        await asyncio.sleep(1)

    with listen(Bars(progress)):
        running = asyncio.ensure_future(run_all([outer]))
        await asyncio.sleep(5.4)
        assert progress.fields("retrying", "waiting") == [1, 0]
        await asyncio.sleep(0.5)
        assert progress.fields("retrying", "waiting") == [0, 0]
        await running


async def test_without_a_length_there_is_no_total_until_the_end() -> None:
    """A source of unknown length gets a pulsing bar; a run that was stopped is done with what it did."""
    progress = Drawn()
    with listen(Bars(progress)):
        async with map_all(job, iter([0, 2, 3, 4]), limit=1) as run:
            await anext(run)
            await asyncio.sleep(0.2)
            assert progress.tasks[0].total is None
            await anext(run)
            run.stop()
    (task,) = progress.tasks
    assert (task.completed, task.total, task.finished) == (2, 2, True)


async def test_pending_jobs_count_towards_the_total_of_a_source_without_a_length() -> None:
    """The total of a run that ended early is the number of its outcomes."""
    progress = Drawn()
    with listen(Bars(progress)):
        await map_all(job, itertools.count(2), limit=3, timeout=1.5)
    (task,) = progress.tasks
    assert task.description == "job: 3 succeeded, 0 failed, 3 pending"
    assert (task.completed, task.total) == (3, 6)


async def test_pending_jobs_are_shown_at_the_end() -> None:
    """A run that ended early says how many jobs are pending, and its clock has stopped."""
    progress = Drawn()
    with listen(Bars(progress)):
        await map_all(job, [0, 1, 2], limit=1, timeout=3)
    (task,) = progress.tasks
    assert task.description == "job: 1 succeeded, 0 failed, 2 pending"
    assert (task.completed, task.total, task.stop_time is None) == (1, 3, False)


@pytest.mark.parametrize(
    "event",
    [
        AttemptFailed(1, "call", 7, 0, 1, OSError(), 2.0),
        AttemptStarted(1, "call", 7, 0, 2),
        RunPaused(7, "fetch", Tally(1, 1), 5.0, "the retry budget is empty"),
    ],
    ids=["waiting", "retrying", "paused"],
)
async def test_a_run_that_has_ended_waits_for_nothing(event: Event) -> None:
    """Also where a call outlives its run, or the run ended in a pause."""
    progress = Drawn()
    bars = Bars(progress)
    bars(RunStarted(7, "fetch", Tally(1, 1)))
    bars(event)
    await asyncio.sleep(0.15)
    assert progress.fields("status") != ["0 succeeded, 0 failed"]
    bars(RunFinished(7, "fetch", Tally(1, 1), 1.0))
    assert progress.fields("status", "waiting", "retrying", "paused") == ["0 succeeded, 0 failed", 0, 0, ""]


@pytest.mark.parametrize(("count", "text"), [(1, "1 group paused"), (3, "3 groups paused")])
async def test_groups_that_are_paused_are_counted(count: int, text: str) -> None:
    """How many of the services behind the run are not called at present."""
    progress = Drawn()
    bars = Bars(progress)
    tally = Tally(1, 1, paused_groups=count)
    bars(RunStarted(7, "fetch", tally))
    assert progress.fields("status", "paused") == [f"0 succeeded, 0 failed, {text}", ""]
    bars(RunFinished(7, "fetch", tally, 1.0))


async def test_a_pause_is_shown_with_its_reason_and_its_length() -> None:
    """While a run pauses, its line counts down, then says probing; when the run resumes, it shows neither."""
    progress = Drawn()
    broken = True

    @supervise(retry_on=ConnectionError, backoff=Backoff(base=0.01))
    async def call(_: int) -> None:
        await asyncio.sleep(1)
        if broken:
            raise ConnectionError

    with listen(Bars(progress)):
        running = asyncio.ensure_future(map_all(call, [0], overload=Overload(Budget(capacity=0), first_pause=4)))
        await asyncio.sleep(1.5)
        first, broken = progress.tasks[0].fields["paused"], False
        await asyncio.sleep(1)
        second = progress.tasks[0].fields["paused"]
        for paused in (first, second):
            assert paused.startswith("paused for ")
            assert paused.endswith(" s, the retry budget is empty")
        seconds = [float(paused.split()[2]) for paused in (first, second)]
        assert seconds[0] - seconds[1] == pytest.approx(1, abs=0.11)
        await asyncio.sleep(seconds[1] + 0.3)
        assert progress.fields("paused") == ["probing, the retry budget is empty"]
        assert progress.fields("status") == ["0 succeeded, 0 failed, 1 retrying; probing, the retry budget is empty"]
        await running
    assert progress.fields("paused", "status") == ["", "1 succeeded, 0 failed"]


async def test_a_pause_whose_wait_has_ended_is_shown_as_probing() -> None:
    """A line never shows a continuing pause of 0 seconds."""
    progress = Drawn()
    bars, tally = Bars(progress), Tally(1, 1)
    bars(RunStarted(7, "fetch", tally))
    bars(RunPaused(7, "fetch", tally, 0.5, "the server asked to wait"))
    await asyncio.sleep(0.15)
    assert progress.tasks[0].fields["paused"].startswith("paused for 0.")
    bars(RunPaused(7, "fetch", tally, integration._INTERVAL, "the server asked to wait"))
    await asyncio.sleep(0.15)
    assert progress.fields("paused") == ["probing, the server asked to wait"]
    bars(RunFinished(7, "fetch", tally, 1.0))


async def test_when_a_run_has_resumed_its_line_no_longer_shows_the_pause() -> None:
    """The end of a pause is shown while the run still goes on."""
    progress = Drawn()

    @supervise(retry_on=ConnectionError)
    async def call(attempts: list[int]) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise RetryAfter(2)
        await asyncio.sleep(3)

    with listen(Bars(progress)):
        running = asyncio.ensure_future(map_all(call, [list[int]()]))
        await asyncio.sleep(1)
        assert progress.fields("paused")[0].endswith("the server asked to wait")
        await asyncio.sleep(2)
        assert progress.fields("paused") == [""]
        await running


@pytest.mark.parametrize("name", ["list[int]", "[/b]", "plain"])
async def test_a_name_is_shown_as_it_is(name: str, ours: io.StringIO, screen: Screen) -> None:
    """Square brackets in a name are no markup, in the description and in our own columns."""
    progress = Drawn()
    with progress, listen(Bars(progress)), listen(Bars()):
        await map_all(job, [0], name=name)
    (line,) = screen(ours.getvalue())
    assert line.split()[0] == name
    assert isinstance(progress.console.file, io.StringIO)
    (line,) = screen(progress.console.file.getvalue())
    assert line == f"{name}: 1 succeeded, 0 failed"


# Several runs.


async def test_runs_at_once_and_runs_inside_of_runs_have_a_line_each() -> None:
    """A call is counted to the run that it is made in, and to no other."""
    progress = Drawn()

    async def outer() -> None:
        await map_all(job, [1, 2], name="inner")

    with listen(Bars(progress)):
        outers = [asyncio.ensure_future(run_all([outer], name=name)) for name in ("first", "second")]
        await asyncio.sleep(1.5)
        shown = {(task.fields["name"], task.fields["waiting"], task.fields["succeeded"]) for task in progress.tasks}
        assert len(progress.tasks) == 4
        assert shown == {("first", 0, 0), ("second", 0, 0), ("inner", 1, 1)}
        await asyncio.gather(*outers)
    assert [task.finished for task in progress.tasks] == [True] * 4


async def test_for_one_run_the_bars_show_it_and_the_runs_inside_of_it() -> None:
    """Given to a run, the listener shows nothing of other runs; given to an inner run as well, each still once."""
    progress = Drawn()
    bars = Bars(progress)

    async def outer() -> None:
        await map_all(job, [1, 2], name="inner", listen=bars)

    running = asyncio.ensure_future(run_all([outer], name="outer", listen=bars))
    await map_all(job, [0])
    await asyncio.sleep(0.5)
    assert [task.description for task in progress.tasks] == [
        "outer: 0 succeeded, 0 failed",
        "inner: 1 succeeded, 0 failed, 1 waiting",
    ]
    await running
    assert [task.completed for task in progress.tasks] == [1, 2]


async def test_events_that_come_twice_count_once() -> None:
    """The same listener for everything and for a run, or for a run and the run around it, shows the same."""
    progress = Drawn()
    bars = Bars(progress)
    tally = Tally(3, 3)
    events: list[Event] = [RunStarted(7, "fetch", tally), AttemptFailed(1, "call", 7, 0, 1, OSError(), 2.0)]
    events += [AttemptStarted(1, "call", 7, 0, 2), AttemptFailed(1, "call", 7, 0, 2, OSError(), None)]
    events += [CallFinished(1, "call", 7, 0, 2, OSError())]
    shown = []
    for event in [*events, RunFinished(7, "fetch", tally, 1.0)]:
        for _ in range(2):
            bars(event)
        await asyncio.sleep(0.15)
        shown.append(tuple(progress.fields("waiting", "retrying")))
    assert shown == [(0, 0), (1, 0), (0, 1), (0, 0), (0, 0), (0, 0)]
    assert len(progress.tasks) == 1


async def test_what_belongs_to_no_run_that_is_shown_is_ignored() -> None:
    """Calls outside of a run, and those of a run that had begun before, show nothing."""
    progress = Drawn()
    running = asyncio.ensure_future(map_all(job, [1]))
    await asyncio.sleep(0)
    with listen(Bars(progress)):
        with pytest.raises(ConnectionError):
            await job(1)
        await running
    assert progress.tasks == []


async def test_of_runs_that_have_ended_the_latest_stay() -> None:
    """However many runs there were, the display does not grow without end."""
    progress = Drawn()
    bars = Bars(progress)
    with listen(bars):
        for number in range(30):
            await map_all(job, [0], name=f"run {number}")
    assert [task.fields["name"] for task in progress.tasks] == [f"run {number}" for number in range(20, 30)]
    assert bars._runs == set()


async def test_runs_in_several_threads_share_the_display(ours: io.StringIO, screen: Screen) -> None:
    """Each thread with a loop of its own has its line, and the last to end stops the display."""

    async def fetch() -> None:
        await run_all([asyncio.sleep(0.01) for _ in range(5)], name="fetch")

    with listen(Bars()):
        threads = [threading.Thread(target=asyncio.run, args=(fetch(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = screen(ours.getvalue())
    assert sum("5/5 5 succeeded" in line for line in lines) >= 3


# The Progress of the user, and ours.


@pytest.mark.parametrize("started", [False, True])
async def test_a_progress_of_the_user_is_neither_started_nor_stopped(started: bool) -> None:  # noqa: FBT001
    """Tasks are added to it, beside those that it has; the rest is the user's."""
    progress = Drawn()
    other = progress.add_task("other", total=3)
    if started:
        progress.start()
    with listen(Bars(progress)):
        await map_all(job, [0])
        assert progress.live.is_started is started
        await map_all(job, [0])
        assert progress.live.is_started is started
    progress.stop()
    assert [task.description for task in progress.tasks] == ["other", *["job: 1 succeeded, 0 failed"] * 2]
    assert progress.tasks[other].completed == 0


async def test_it_is_drawn_at_most_ten_times_a_second() -> None:
    """However many runs and events there are: a start, ten a second, and an end for each."""
    progress = Drawn()
    with listen(Bars(progress)):
        await asyncio.gather(*[asyncio.ensure_future(map_all(job, [0, 2, 3] * 10, limit=3)) for _ in range(4)])
    assert 90 <= progress.drawn <= 101 + 4 + 4 + 1


async def test_a_progress_that_draws_itself_is_left_to_it() -> None:
    """If a Progress refreshes in a thread of its own, as is rich's default, only its numbers are updated."""
    progress = Drawn(auto_refresh=True)
    before = progress.drawn
    with listen(Bars(progress)):
        await map_all(job, [0, 1, 2])
    assert progress.drawn - before == 1  # add_task does it
    assert progress.tasks[0].completed == 3


async def test_ours_is_there_while_there_are_runs(ours: io.StringIO, screen: Screen) -> None:
    """It comes with the first run, goes with the last, and comes again; the lines of before stay where they are."""
    with listen(Bars()):
        await asyncio.gather(*[asyncio.ensure_future(map_all(job, jobs)) for jobs in ([0], [0, 1])])
        written = ours.getvalue()
        assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor goes and comes back
        await map_all(job, [2])
    ends = [line.split("━ ")[1].split(" 0:")[0].split() for line in screen(ours.getvalue())]
    assert [" ".join(end) for end in ends] == [
        "1/1 1 succeeded, 0 failed",
        "2/2 1 succeeded, 1 failed",
        "1/1 1 succeeded, 0 failed",
    ]
    assert ours.getvalue().count("\x1b[?25h") == 2


async def test_the_parts_of_a_line(ours: io.StringIO, screen: Screen) -> None:
    """A line has the name, a bar that leaves room for the rest, the finished jobs, the status and the duration."""
    with listen(Bars()):
        await map_all(job, [0])
    (line,) = screen(ours.getvalue())
    assert re.fullmatch(rf"job {'━' * 20} 1/1 1 succeeded, 0 failed +\d:\d\d:\d\d", line)


async def test_ours_begins_anew_each_time(ours: io.StringIO, screen: Screen) -> None:
    """The lines of runs that have ended before are not those of the Progress that comes next."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda *complaint: complaints.append(complaint))
    with listen(Bars()):
        for _ in range(12):
            await map_all(job, [0])
    assert len(screen(ours.getvalue())) == 12
    assert complaints == []


async def test_ours_shows_a_long_status_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow terminal the status goes on in the next line, and what looks like markup in it is shown."""
    file = io.StringIO()
    monkeypatch.setattr(integration, "Console", lambda **_: Console(file=file, force_terminal=True, width=60))
    bars, tally = Bars(), Tally(1, 1)
    bars(RunStarted(7, "fetch", tally))
    bars(RunPaused(7, "fetch", tally, 5.0, "[red] the server asked to wait"))
    await asyncio.sleep(0.15)
    bars(RunFinished(7, "fetch", tally, 1.0))
    shown = " ".join(file.getvalue().split())
    assert "…" not in shown
    for word in ("succeeded,", "paused", "[red]", "wait"):
        assert word in shown


def test_the_lock_of_a_display_can_be_acquired_twice() -> None:
    """The garbage collector may end lines at any moment, also while the same thread updates the display."""
    lock = Bars(Drawn())._display._lock
    with lock:
        assert lock.acquire(blocking=False)
        lock.release()


async def test_several_bars_share_our_progress(ours: io.StringIO, screen: Screen) -> None:
    """Two displays in one terminal would write over each other."""
    with listen(Bars()), listen(Bars()):
        await map_all(job, [0])
    assert len(screen(ours.getvalue())) == 1
    assert ours.getvalue().count("\x1b[?25l") == 1


# The timer.


async def test_after_the_end_nothing_is_drawn_and_nothing_kept(ours: io.StringIO) -> None:
    """The timer ends with the run, and a listener that nobody has any more is gone."""
    bars, theirs = Bars(), Drawn()
    gone: list[weakref.ref[Any]] = [weakref.ref(bars), weakref.ref(theirs)]
    with listen(bars), listen(Bars(theirs)):
        await map_all(job, [0])
    del bars, theirs
    gc.collect()  # a Progress and its parts hold each other
    assert [dead() for dead in gone] == [None, None]
    written = ours.getvalue()
    await asyncio.sleep(10)
    assert ours.getvalue() == written


async def test_a_listener_removed_before_the_end_leaves_a_tidy_terminal(ours: io.StringIO) -> None:
    """A listener that is removed before its run ends, and dropped, takes its line out of the live display."""
    with listen(Bars()):
        running = asyncio.ensure_future(map_all(job, [1]))
        await asyncio.sleep(0.5)
        assert "\x1b[?25h" not in ours.getvalue()
    written = ours.getvalue()
    assert written.endswith("\x1b[?25h")
    await running
    assert ours.getvalue() == written


def test_a_run_that_ends_because_its_loop_does_warns_of_nothing(ours: io.StringIO) -> None:
    """asyncio.run cancels what is left: the run ends, and so does its line."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept.append(asyncio.ensure_future(run_all([asyncio.sleep(5)])))
        await asyncio.sleep(0.02)

    kept: list[object] = []
    with warnings.catch_warnings(record=True) as caught, listen(Bars()):
        asyncio.run(main())
    assert ours.getvalue().endswith("\x1b[?25h")
    assert complaints == []
    assert caught == []


async def test_a_display_that_fails_harms_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich raises goes to the loop's exception handler, from events and from the timer; nothing is kept."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("terminal gone")

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    for method in ("add_task", "update"):
        progress = Drawn()
        with monkeypatch.context() as patch, listen(bars := Bars(progress)):
            patch.setattr(progress, method, fail)
            report = await map_all(job, [0, 2], limit=1)
        assert report.values() == [0, 2]
        assert bars._display._lines == {}
    assert [str(context["exception"]) for context in complaints] == ["terminal gone"] * 3


async def test_a_timer_that_comes_too_late_does_nothing() -> None:
    """A timer that waits for the lock while another thread finishes its line neither draws nor continues."""
    progress = Drawn()
    bars = Bars(progress)
    bars(RunStarted(7, "fetch", Tally(1, 1)))
    bars(RunFinished(7, "fetch", Tally(1, 1), 1.0))
    before = progress.drawn
    bars._display.update(7)
    await asyncio.sleep(1)
    assert progress.drawn == before


async def test_ours_goes_with_its_last_run_even_if_it_fails(ours: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has its cursor again, although the last state could not be shown."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with monkeypatch.context() as patch, listen(Bars()):
        patch.setattr(integration._SharedProgress, "update", lambda *_, **__: 1 / 0)
        await map_all(job, [0])
    assert ours.getvalue().count("\x1b[?25h") == 1


# Lines beside the bars.


async def test_a_log_line_does_not_tear_our_lines_apart(ours: io.StringIO, screen: Screen) -> None:
    """Each is whole and printed once, by a handler that knows nothing of rich; the bar is below, and once."""
    log_to(ours)
    threads = threading.active_count()
    with listen(Bars()):
        running = asyncio.ensure_future(map_all(job, [0, 1]))
        await asyncio.sleep(1.01)
        assert threading.active_count() == threads  # one that draws by itself could do so beside the line
        assert len(beside_bars) == 1
        line, bar = screen(ours.getvalue())
        assert (line, bar.split()[0]) == (lines_of(1)[0], "job")
        await running
    *lines, bar = screen(ours.getvalue())
    assert lines == lines_of(1)
    assert "2/2 1 succeeded, 1 failed" in bar


async def test_a_display_that_cannot_be_drawn_loses_no_line(ours: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it fails to step aside or to come back, the line is printed all the same."""
    lines = io.StringIO()
    log_to(lines)
    with listen(Bars()):
        running = asyncio.ensure_future(map_all(job, [1]))
        await asyncio.sleep(0.95)
        with monkeypatch.context() as patch:
            patch.setattr(integration._SHARED_DISPLAY._progress, "refresh", lambda: 1 / 0)
            with beside_bars[0]():
                lines.write("printed\n")
        await running
    assert lines.getvalue().splitlines() == ["printed", *lines_of(0)]
    assert ours.getvalue().endswith("\x1b[?25h")


async def test_while_a_line_is_printed_other_threads_may_draw(ours: io.StringIO) -> None:
    """A handler that has to wait for a thread that draws does not wait for ever: no lock is held for it."""
    log_to(ours)
    drawn: list[bool] = []

    def draw() -> None:
        progress = integration._SHARED_DISPLAY._progress
        assert progress is not None
        progress.console.print("drawn")
        progress.refresh()
        drawn.append(True)

    with listen(Bars()):
        running = asyncio.ensure_future(map_all(job, [0]))
        await asyncio.sleep(0.5)
        with beside_bars[0]():
            thread = threading.Thread(target=draw, daemon=True)
            thread.start()
            thread.join(30)
        assert drawn
        await running


async def test_where_stderr_is_no_terminal_only_the_end_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file nothing is torn apart: log lines as they are, and each run's last line."""
    file = io.StringIO()
    monkeypatch.setattr(integration, "Console", lambda **_: Console(file=file, width=100))
    log_to(file)
    with listen(Bars()):
        running = asyncio.ensure_future(map_all(job, [1]))
        await asyncio.sleep(0.5)
        assert beside_bars == []
        await running
    *lines, bar = file.getvalue().strip().splitlines()
    assert lines == lines_of(0)
    assert "1/1 0 succeeded, 1 failed" in bar
    assert "\x1b" not in file.getvalue()


async def test_what_is_printed_into_a_pipe_arrives_there(ours: io.StringIO, terminal: io.StringIO) -> None:
    """A stdout that is not a terminal receives the program's output, which rich would otherwise show above the bar."""

    async def say() -> None:
        sys.stdout.write("a result\n")

    with redirect_stdout(io.StringIO()) as pipe, listen(Bars()):
        await run_all([say])
    assert pipe.getvalue() == "a result\n"
    assert "a result" not in ours.getvalue()

    with redirect_stdout(type(terminal)()) as stdout, listen(Bars()):
        await run_all([say])
    assert "a result" in ours.getvalue()
    assert stdout.getvalue() == ""


async def test_a_program_without_a_stdout_has_bars_too(ours: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """In some programs, such as those of pythonw on Windows, `sys.stdout` is None."""
    monkeypatch.setattr(sys, "stdout", None)
    with listen(Bars()):
        await map_all(job, [0])
    assert "1 succeeded, 0 failed" in ours.getvalue()


# Mistakes.


async def test_anything_but_a_progress_is_refused() -> None:
    """A console, for example; and the error for an event, as when the class itself listens, shows the parentheses."""
    with pytest.raises(TypeError) as caught:
        Bars(Console())  # type: ignore[arg-type]  # the mistake
    rule = "progress must be a rich.progress.Progress, or None for the shared one on stderr"
    assert str(caught.value) == f"{rule}; got a value of type Console"
    with pytest.raises(TypeError, match=r"; got a value of type RunStarted: write Bars\(\), with parentheses$"):
        Bars(RunStarted(1, "fetch", Tally(1, 1)))  # type: ignore[arg-type]  # the mistake


async def test_without_rich_the_install_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImportError with the install command."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.rich")
    with pytest.raises(ImportError, match=r'pip install "aiosupervise\[rich\]"'):
        import aiosupervise.integrations.rich  # noqa: F401, PLC0415 - the import is what is tested


@pytest.mark.usefixtures("ours")
async def test_stderr_is_put_back() -> None:
    """While ours is shown, what the program prints goes above it; afterwards stderr is what it was."""
    with redirect_stderr(io.StringIO()) as before, listen(Bars()):
        await map_all(job, [0])
        assert sys.stderr is before


async def test_replayed_jobs_are_done_and_no_part_of_the_speed() -> None:
    """The line jumps to where a journal brings it, and the estimate goes by the jobs that run."""
    now = 0.0
    progress = Progress(auto_refresh=False, console=Console(file=io.StringIO()), get_time=lambda: now)
    bars = Bars(progress)
    tally = Tally(200, 1)
    bars(RunStarted(6, "other", Tally(100, 1)))
    bars(RunStarted(7, "fetch", tally))
    for seconds, ran, replayed in ((1.0, 0, 0), (2.0, 2, 0), (3.0, 3, 90), (4.0, 5, 0)):
        tally.succeeded += ran + replayed
        tally.replayed += replayed
        now = seconds
        await asyncio.sleep(0.1)
    other, task = progress.tasks
    assert (other.completed, task.completed) == (0, 100)
    # rich ignores the jobs of the first update that contains any.
    assert task.speed == (3 + 5) / 2
    tally.succeeded += 2
    bars(RunFinished(7, "fetch", tally, 1.0))
    bars(RunFinished(6, "other", Tally(100, 1), 1.0))
    assert task.completed == 102
