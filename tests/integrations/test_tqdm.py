"""Log lines beside a tqdm bar: whole, once each, and the bar goes on below them."""

import asyncio
import gc
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import pytest
from tqdm import tqdm

from aiosupervise import Backoff, map_all, supervise
from aiosupervise._events.log import beside_bars
from aiosupervise._events.outcomes import Tally
from aiosupervise.integrations import tqdm as tqdm_integration
from aiosupervise.integrations.tqdm import ProgressBar, _counts

pytestmark = pytest.mark.looptime


def lines_of(index: int) -> list[str]:
    """The log lines of the job with this index, which fails after two retries."""
    retried = f"job (job {index}) failed in attempt {{}} and is retried in {{}}.00 s: ConnectionError".format
    gave_up = f"job (job {index}) gave up in attempt 3, 5.00 s after the first failure (retries exhausted)"
    return [retried(1, 1), retried(2, 2), f"{gave_up}: ConnectionError"]


@supervise(retry_on=ConnectionError, max_retries=2, backoff=Backoff(base=1, jitter="none"))
async def job(number: int) -> int:
    """A job of one second, of which number 1 fails after two retries."""
    await asyncio.sleep(1)
    if number == 1:
        raise ConnectionError
    return number


class Lines(logging.StreamHandler[Any]):
    """A handler that prints to a file, as that of logging.basicConfig does, and runs something else first."""

    def __init__(self, file: io.StringIO, first: Callable[[], object] = lambda: None) -> None:
        super().__init__(file)
        self._first = first

    def emit(self, record: logging.LogRecord) -> None:
        """Print."""
        self._first()
        super().emit(record)


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The library's logger, whose handlers go after the test; no bar is left beside it."""
    logger = logging.getLogger("aiosupervise")
    before = logger.handlers[:]
    yield logger
    logger.handlers[:] = before
    assert beside_bars == []


async def test_a_log_line_does_not_tear_the_bar_apart(
    terminal: io.StringIO, logger: logging.Logger, screen: Callable[[str], list[str]]
) -> None:
    """Each line is whole and printed once; the bar is below them, and once."""
    logger.addHandler(Lines(terminal))
    with redirect_stderr(terminal):
        await map_all(job, [0, 1, 2], progress=True)
        *lines, bar = screen(terminal.getvalue())
        assert lines == lines_of(1)
        assert bar.startswith("job: 100%")
        assert bar.endswith("job/s, 1 failed, 2 retries]")


async def test_the_bar_is_there_again_at_once(
    terminal: io.StringIO, logger: logging.Logger, screen: Callable[[str], list[str]]
) -> None:
    """The bar is drawn again right after the line, not only when its timer comes."""
    logger.addHandler(Lines(terminal))
    with redirect_stderr(terminal):
        running = asyncio.ensure_future(map_all(job, [1], progress=True))
        await asyncio.sleep(0.5)
        with beside_bars[0]():
            terminal.write("from somebody else\n")
        line, bar = screen(terminal.getvalue())
        assert line == "from somebody else"
        assert bar.startswith("job:   0%")
        await running


async def test_a_bar_in_another_terminal_is_redrawn_at_once(
    terminal: io.StringIO, screen: Callable[[str], list[str]]
) -> None:
    """A bar is hidden in the file that the user has chosen for it, which need not be stderr."""
    running = asyncio.ensure_future(map_all(job, [1], progress={"file": terminal}))
    await asyncio.sleep(0.5)
    with beside_bars[0]():
        terminal.write("from somebody else\n")
    line, bar = screen(terminal.getvalue())
    assert line == "from somebody else"
    assert bar.startswith("job:   0%")
    await running


async def test_bars_of_the_user_step_aside_too(
    terminal: io.StringIO,
    logger: logging.Logger,
    screen: Callable[[str], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tqdm bar that somebody else shows in the same terminal is not torn apart either."""
    logger.addHandler(Lines(terminal))
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # no thread that outlives the test
    with redirect_stderr(terminal):
        with tqdm(total=5, desc="theirs") as theirs:
            await map_all(job, [1], progress=True)
            theirs.update(5)
        *lines, first, second = screen(terminal.getvalue())
    assert lines == lines_of(0)
    assert first.startswith("job: 100%")
    assert second.startswith("theirs: 100%")


async def test_where_stderr_is_no_terminal_nothing_changes(logger: logging.Logger) -> None:
    """In a file nothing is torn apart: the bar stays as it is, and lines are only written."""
    file = io.StringIO()
    found: list[int] = []
    logger.addHandler(Lines(file, first=lambda: found.append(len(beside_bars))))
    with redirect_stderr(file):
        await map_all(job, [1], progress=True)
    assert found == [0, 0, 0]
    assert file.getvalue().count("is retried in") == 2


async def test_a_bar_that_the_user_has_turned_off_is_left_alone(
    terminal: io.StringIO, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable TQDM_DISABLE turns off the bar of a run, and lines are printed as without one."""

    class Off(tqdm_integration._Bar):
        """A bar as tqdm makes it with that variable, which it reads when it is imported."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(disable=True, **settings)

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda *complaint: complaints.append(complaint))
    monkeypatch.setattr(tqdm_integration, "_Bar", Off)
    logger.addHandler(Lines(terminal))
    with redirect_stderr(terminal):
        await map_all(job, [1], progress=True)
        assert terminal.getvalue().splitlines() == lines_of(0)
    assert complaints == []


async def test_a_bar_that_failed_stands_beside_nothing(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that was dropped because it failed is not asked to step aside for the lines of later runs."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    with redirect_stderr(terminal), monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "show", lambda *_: 1 / 0)
        await map_all(job, [0], progress=True)
    gc.collect()  # the error and the frame that reported it hold each other
    assert beside_bars == []


async def test_a_bar_that_cannot_be_drawn_loses_no_line(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    """When the bar fails to step aside, or to come back, the line is printed all the same."""

    def fail(*_: object, **__: object) -> None:
        raise OSError("terminal gone")

    lines = io.StringIO()
    logger.addHandler(Lines(lines))
    for method in ("clear", "refresh"):
        with redirect_stderr(terminal), monkeypatch.context() as patch:
            running = asyncio.ensure_future(map_all(job, [1], progress=True))
            await asyncio.sleep(0.05)
            (beside,) = beside_bars
            patch.setattr(tqdm_integration._Bar, method, fail)
            with beside():
                lines.write("printed\n")
            patch.undo()
            await running
    assert lines.getvalue().count("printed") == 2
    assert lines.getvalue().count("is retried in") == 4


async def test_an_error_of_who_prints_is_passed_on_and_the_bar_comes_back(
    terminal: io.StringIO, screen: Callable[[str], list[str]]
) -> None:
    """The error of a handler propagates, and the bar is drawn again."""
    with redirect_stderr(terminal):
        running = asyncio.ensure_future(map_all(job, [0], progress=True))
        await asyncio.sleep(0.05)
        with pytest.raises(LookupError), beside_bars[0]():
            raise LookupError
        assert screen(terminal.getvalue())[-1].startswith("job:   0%")
        await running


async def test_while_a_line_is_printed_other_threads_may_draw(terminal: io.StringIO, logger: logging.Logger) -> None:
    """A handler that has to wait for a thread that draws a bar does not wait for ever: no lock is held for it."""
    drawn: list[bool] = []

    def draw() -> None:
        tqdm.write("drawn", file=io.StringIO())
        drawn.append(True)

    def first() -> None:
        thread = threading.Thread(target=draw, daemon=True)
        thread.start()
        thread.join(30)
        assert drawn, "the other thread waits for the lock of the bars"

    logger.addHandler(Lines(terminal, first))
    with redirect_stderr(terminal):
        await map_all(job, [1], progress=True)
        assert len(drawn) == 3


def test_tqdm_starts_no_thread(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is updated by a timer of the event loop, so tqdm needs no thread that watches it."""
    monkeypatch.setattr(tqdm_integration._Bar, "monitor", None)
    before = set(threading.enumerate())
    bar = ProgressBar("job")
    with redirect_stderr(terminal):
        bar.open(Tally(1, 1))
        assert set(threading.enumerate()) == before
        bar.close()


def test_the_bars_are_cleared_and_drawn_with_their_lock_and_the_line_is_printed_without(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread cannot draw a bar while this one clears or draws them all."""
    steps: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            steps.append("acquired")

        def __exit__(self, *_: object) -> None:
            steps.append("released")

    bar = ProgressBar("job")
    with redirect_stderr(terminal):
        bar.open(Tally(1, 1))
        with monkeypatch.context() as patch:
            patch.setattr(tqdm_integration._Bar, "_lock", Lock(), raising=False)
            patch.setattr(tqdm_integration._Bar, "clear", lambda *_, **__: steps.append("cleared"))
            patch.setattr(tqdm_integration._Bar, "refresh", lambda *_, **__: steps.append("drawn"))
            with beside_bars[0]():
                steps.append("printed")
        bar.close()
    assert steps == ["acquired", "cleared", "released", "printed", "acquired", "drawn", "released"]


@pytest.mark.parametrize(("count", "text"), [(0, ""), (1, "1 group paused"), (3, "3 groups paused")])
def test_groups_that_are_paused_are_counted(count: int, text: str) -> None:
    """How many of the services behind the run are not called at present."""
    tally = Tally(100, 1, paused_groups=count)
    assert _counts(tally) == text


async def test_the_bars_of_stages_are_below_each_other(
    terminal: io.StringIO, screen: Callable[[str], list[str]]
) -> None:
    """In the order of the stages, while they run and in the end."""

    async def parse(number: int) -> int:
        await asyncio.sleep(2)
        return number

    with redirect_stderr(terminal):
        pages = map_all(job, [0, 2, 3], limit=1, progress=True)
        running = asyncio.ensure_future(map_all(parse, pages, progress=True))
        await asyncio.sleep(2.5)
        first, second = screen(terminal.getvalue())
        assert first.startswith("job:  67%")
        assert second.startswith("parse:   0%")
        await running
    first, second = screen(terminal.getvalue())
    assert first.startswith("job: 100%")
    assert second.startswith("parse: 100%")
