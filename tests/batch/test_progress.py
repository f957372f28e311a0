"""`progress=True`: a real tqdm bar, and what happens when it fails or is missing."""

import asyncio
import gc
import inspect
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, get_type_hints

import pytest
from tqdm import tqdm

from aiosupervise import Backoff, Budget, Overload, Run, Tally, map_all, run_all, supervise
from aiosupervise._batch.progress import BarOptions, ProgressUpdater
from aiosupervise.integrations.tqdm import ProgressBar

pytestmark = pytest.mark.looptime


@supervise(retry_on=ConnectionError, max_retries=1, backoff=Backoff(base=1, jitter="none"))
async def job(number: int) -> int:
    """A job of one second, of which number 1 fails after a retry."""
    await asyncio.sleep(1)
    if number == 1:
        raise ConnectionError
    return number


def lines(captured: str) -> list[str]:
    """What was drawn, in order."""
    return [line.strip() for line in captured.replace("\n", "\r").split("\r") if line.strip()]


async def test_the_bar_shows_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """Count, total, failed and retries, under the name of the function; the last line stays."""
    await map_all(job, [0, 1, 2], progress=True)
    captured = capsys.readouterr()
    last = lines(captured.err)[-1]
    assert last.startswith("job: 100%")
    assert "3/3" in last
    assert last.endswith("job/s, 1 failed, 1 retry]")
    assert captured.err.endswith("\n")
    assert captured.out == ""


async def test_the_bar_moves_while_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """It is drawn when the run starts, and again when jobs have finished."""
    await map_all(job, [0, 2, 3, 4], limit=1, progress=True)
    drawn = lines(capsys.readouterr().err)
    assert "0/4" in drawn[0]
    for count in ("1/4", "2/4", "3/4"):
        assert any(count in line for line in drawn)


@pytest.mark.parametrize("name", [None, "fetch"])
async def test_without_a_length_there_is_no_total_until_the_end(
    name: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A source of unknown length gets a count without a total until it is exhausted; the run's name is shown."""
    await run_all((partial(job, n) for n in (2, 3)), progress=True, name=name)
    drawn = lines(capsys.readouterr().err)
    assert drawn[0].startswith(f"{name or 'run_all'}: 0job")
    assert "%" not in drawn[0]
    assert "2/2" in drawn[-1]
    assert drawn[-1].endswith("job/s]")


async def test_after_an_error_of_the_source_only_the_last_line_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """A source that raises closes the bar, too, and nothing is drawn after that."""

    def source() -> Iterator[int]:
        yield 0
        raise LookupError

    with pytest.raises(LookupError):
        await map_all(job, source(), progress=True)
    err = capsys.readouterr().err
    assert err.endswith("\n")
    assert lines(err)[-1].startswith("job: 1job [")
    await asyncio.sleep(10)
    assert capsys.readouterr().err == ""


async def test_a_streamed_run_has_a_bar_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar is closed when the block is left."""
    async with map_all(job, [0, 2], limit=1, progress=True) as run:
        async for _ in run:
            break
    err = capsys.readouterr().err
    assert err.endswith("\n")
    assert "1/2" in lines(err)[-1]


@pytest.mark.parametrize("method", ["open", "show", "close"])
async def test_a_failing_bar_never_kills_a_run(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the bar goes to the loop's exception handler, and the run continues without a bar."""

    def fail(*_: object) -> None:
        raise OSError("terminal gone")

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr(ProgressBar, method, fail)
    report = await map_all(job, [0, 2, 3], limit=1, progress=True)
    assert report.values() == [0, 2, 3]
    assert [str(context["exception"]) for context in complaints] == ["terminal gone"]
    assert complaints[0]["message"] == "a progress bar failed; its run continues without it"
    capsys.readouterr()
    complaints.clear()
    gc.collect()  # the error and the frame that reported it hold each other: the next bar would be below this one


async def test_a_bar_is_updated_by_a_timer_until_its_end() -> None:
    """It is shown when it opens, by a timer, and once more at the end; stopping twice closes it once."""
    calls: list[str] = []

    class Bar:
        interval = 0.1

        def open(self, _: Tally) -> None:
            calls.append("open")

        def show(self, _: Tally, status: str = "") -> None:
            calls.append(status)

        def close(self) -> None:
            calls.append("close")

    updater = ProgressUpdater(Bar(), Tally(1, 1), lambda: "paused")
    assert calls == ["open", "paused"]
    await asyncio.sleep(1.05)
    assert calls == ["open", *["paused"] * 11]
    for _ in range(2):
        updater.stop()
        updater.close()
    await asyncio.sleep(1)
    assert calls == ["open", *["paused"] * 12, "close"]


async def test_a_bar_that_was_never_opened_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """show and close are harmless before open and after close."""
    bar = ProgressBar("nothing")
    run: Run[None] = run_all([])
    bar.show(run.tally)
    bar.close()
    await run
    assert capsys.readouterr().err == ""


async def test_without_tqdm_nothing_starts_and_the_install_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImportError with the install command, before anything starts; the coroutines given are closed."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.tqdm")
    with pytest.raises(ImportError, match=r'pip install "aiosupervise\[tqdm\]"'):
        run_all([job(0)], progress=True)
    with pytest.raises(ImportError, match=r'pip install "aiosupervise\[tqdm\]"'):
        map_all(job, [0], progress=True)


async def test_the_bar_shows_why_a_run_is_paused(capsys: pytest.CaptureFixture[str]) -> None:
    """While a run is paused the bar shows the reason, and for how long; afterwards only the counts."""
    down = True

    @supervise(retry_on=ConnectionError, max_retries=1)
    async def call(_: int) -> None:
        if down:
            raise ConnectionError

    async def mend() -> None:
        nonlocal down
        await asyncio.sleep(1)
        down = False

    mending = asyncio.create_task(mend())
    overload = Overload(Budget(capacity=0), first_pause=4)
    await map_all(call, [0, 1], progress=True, overload=overload)
    await mending
    drawn = lines(capsys.readouterr().err)
    assert any("paused for" in line and "the retry budget is empty" in line for line in drawn)
    assert drawn[-1].endswith("job/s, 2 retries]")


# How it looks


def drawn_bar(tally: Tally, status: str = "", name: str = "fetch", **options: Any) -> str:
    """The last line of a bar with these counts."""
    file = io.StringIO()
    settings: Any = {"file": file, "ncols": 80, **options}
    bar = ProgressBar(name, settings)
    bar.open(Tally(tally.total, tally.limit))
    assert bar._bar is not None
    bar._bar.start_t = bar._bar.last_print_t = time.time() - 1  # so that the rate has two digits before the point
    bar.show(tally, status)
    shown = lines(file.getvalue())[-1]
    bar.close()
    return shown


@pytest.mark.parametrize(
    ("tally", "status", "ends"),
    [
        (Tally(60, 10, succeeded=32, failed=2, retries=10), "", "2 failed, 10 retries]"),
        (Tally(60, 10, succeeded=33, retries=1), "", ", 1 retry]"),
        (Tally(60, 10, succeeded=33), "", "job/s]"),
        (Tally(60, 10, succeeded=33, failed=1, pending=26), "", ", 1 failed, 26 pending]"),
        (
            Tally(60, 10, succeeded=32, failed=2, retries=10),
            "paused for 12.3 s, the retry budget is empty",
            "[paused for 12.3 s, the retry budget is empty]",
        ),
    ],
    ids=["failures and retries", "a retry", "neither", "pending", "paused"],
)
def test_in_80_columns_there_is_a_bar_to_see(tally: Tally, status: str, ends: str) -> None:
    """At least 10 characters of it, with the whole status behind it."""
    line = drawn_bar(tally, status)
    assert len(line) == 80
    assert line.endswith(ends)
    assert len(line.split("|")[1]) >= 10


NAME = "download_and_parse"
PAUSED = "paused for 12.3 s, the retry budget is empty"


@pytest.mark.parametrize(
    ("name", "tally", "status", "ends"),
    [
        ("fetch", Tally(6000, 10, succeeded=3200, failed=27, retries=1033), "", "<00:00, 27 failed, 1033 retries]"),
        (NAME, Tally(60, 10, succeeded=32, failed=2, retries=10), "", "[00:01<00:00, 2 failed, 10 retries]"),
        (NAME, Tally(6000, 10, succeeded=3200, failed=27, retries=13), "", "[00:01, 27 failed, 13 retries]"),
    ],
    ids=["many retries", "a long name", "both"],
)
def test_in_80_columns_the_rate_and_the_estimate_give_way_to_the_bar(
    name: str, tally: Tally, status: str, ends: str
) -> None:
    """A name of ordinary length and counts of four digits leave at least 10 characters of bar."""
    line = drawn_bar(tally, status, name)
    assert len(line) == 80
    assert line.endswith(ends)
    assert "job/s" not in line
    assert len(line.split("|")[1]) >= 10


@pytest.mark.parametrize(
    ("name", "status", "line"),
    [
        (NAME, PAUSED, f"{NAME}: 3227/6000 [{PAUSED}]"),
        (NAME * 2, "", f"{NAME}{NAME}: 3227/6000 [00:01, 27 failed]"),
    ],
    ids=["paused", "running"],
)
def test_where_no_bar_fits_the_words_are_whole(name: str, status: str, line: str) -> None:
    """The counts and the reason of a pause matter more than the bar."""
    assert drawn_bar(Tally(6000, 10, succeeded=3200, failed=27), status, name) == line


def test_without_a_total_or_a_width_the_line_has_all_its_parts() -> None:
    """There is no bar to make room for, or no end of the line."""
    tally = Tally(60, 10, succeeded=32, failed=2, retries=10)
    assert drawn_bar(tally, name=NAME, ncols=None).endswith("job/s, 2 failed, 10 retries]")
    endless = Tally(None, 10, succeeded=32)
    assert drawn_bar(endless, name=NAME).endswith("job/s]")
    assert drawn_bar(endless, PAUSED, NAME).endswith(f"[{PAUSED}]")


def test_a_format_of_the_users_own_is_kept() -> None:
    """While the run is paused too."""
    tally = Tally(60, 10, succeeded=30)
    own = "{desc} {n_fmt} of {total_fmt}{postfix}"
    assert drawn_bar(tally, "paused", bar_format=own) == "fetch 30 of 60, paused"


# Where the output is not a terminal


@pytest.mark.parametrize("is_terminal", [False, True], ids=["file", "terminal"])
async def test_in_a_file_the_bar_is_drawn_only_when_something_has_changed(
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_terminal: bool,
) -> None:
    """A job of minutes does not fill a log; in a terminal the seconds go on."""
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: is_terminal, raising=False)

    async def minutes(_: int) -> None:
        await asyncio.sleep(200)

    await map_all(minutes, [1, 2], limit=1, progress={"file": file, "mininterval": 1})
    # As it opens, at the first count, at each job's end, and the last line.
    assert len(lines(file.getvalue())) in (range(4, 6) if not is_terminal else range(400, 410))


def test_a_pause_that_counts_down_is_no_change() -> None:
    """Its beginning and its end are."""
    file = io.StringIO()
    bar = ProgressBar("fetch", {"file": file})
    tally = Tally(2, 2)
    bar.open(tally)
    for status in ("", "", "paused for 9.9 s", "paused for 9.8 s", "paused for 10.0 s", ""):
        bar.show(tally, status)
    shown = lines(file.getvalue())
    assert ["paused" in line for line in shown] == [False, False, True, False]
    bar.close()


# tqdm's keywords


async def test_the_keywords_of_tqdm(capsys: pytest.CaptureFixture[str]) -> None:
    """They are passed on; what they do not say is as without them."""
    file = io.StringIO()
    await map_all(job, [0, 2], progress={"desc": "pages", "unit": "page", "leave": False, "file": file})
    drawn = lines(file.getvalue())
    assert drawn[0].startswith("pages:   0%")
    assert "page/s" in drawn[-1]
    assert capsys.readouterr().err == ""
    await map_all(job, [0, 2], progress={"ncols": 80})
    assert lines(capsys.readouterr().err)[-1].startswith("job: 100%")
    await map_all(job, [0, 2], progress={})
    assert lines(capsys.readouterr().err)[-1].startswith("job: 100%")


@pytest.mark.parametrize(("interval", "expected"), [(5, 5), (0.1, 0.1), (0, 0.05)])
async def test_the_interval_is_that_of_tqdm(interval: float, expected: float) -> None:
    """Down to 20 times a second; by the clock of the loop."""
    bar = ProgressBar("fetch", {"file": io.StringIO(), "mininterval": interval})
    assert bar.interval == 0.1
    bar.open(Tally(2, 2))
    assert bar.interval == expected
    bar.close()


@pytest.mark.parametrize(
    ("variable", "settings"),
    [
        ("TQDM_MININTERVAL", {"interval": 7.0}),
        ("TQDM_MINITERS", {"miniters": 7.0}),
        ("TQDM_DISABLE", {}),
        ("TQDM_BAR_FORMAT", {}),
    ],
)
def test_the_environment_variables_of_tqdm(variable: str, settings: dict[str, float]) -> None:
    """tqdm reads them when it is imported, so this needs another process."""
    program = (
        "from aiosupervise.integrations.tqdm import ProgressBar; from aiosupervise import Tally; "
        "bar = ProgressBar('fetch'); tally = Tally(100, 1); bar.open(tally); tally.succeeded = 3; bar.show(tally); "
        "print(bar.interval, getattr(bar._bar, 'miniters', None)); bar.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, variable: "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    interval, miniters = done.stdout.split()
    assert float(interval) == settings.get("interval", 0.1)
    assert miniters == ("None" if variable == "TQDM_DISABLE" else str(settings.get("miniters", 0)))
    shown = {line.partition(":")[0] for line in lines(done.stderr)}
    assert shown == {"TQDM_DISABLE": set(), "TQDM_BAR_FORMAT": {"7"}}.get(variable, {"fetch"})


async def test_fewer_updates_than_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """`miniters` is how many jobs there are between two updates; the last line is right all the same."""
    await map_all(job, list(range(2, 12)), limit=1, progress={"miniters": 5})
    drawn = lines(capsys.readouterr().err)
    assert not any("3/10" in line for line in drawn)
    assert "10/10" in drawn[-1]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (print, ["True, False or a dict", "got print", "listen="]),
        (1, ["True, False or a dict", "got 1"]),
        ("yes", ["True, False or a dict", "got 'yes'"]),
        (None, ["True, False or a dict", "got None"]),
        ({"total": 3}, ["got the key 'total'", "total=... beside progress"]),
        ({"colr": "green"}, ["got the key 'colr'", "it may have desc, leave, file"]),
        ({"ncols": "80"}, ["progress['ncols'] must be of the type int | None; got '80'"]),
        ({"smoothing": "no"}, ["progress['smoothing'] must be of the type float; got 'no'"]),
        ({"file": "log.txt"}, ["progress['file'] must be of the type TextFile; got 'log.txt'"]),
        ({"mininterval": -1}, ["progress['mininterval'] must be a finite number of seconds", "-1"]),
        ({"delay": float("nan")}, ["progress['delay'] must be a finite number of seconds", "nan"]),
    ],
    ids=str,
)
def test_anything_else_is_refused_at_once(progress: Any, words: list[str]) -> None:
    """With what it may be; the coroutines given are closed."""
    for make in (lambda: run_all([job(0)], progress=progress), lambda: map_all(job, [0], progress=progress)):
        with pytest.raises((TypeError, ValueError)) as caught:
            make()
        for word in words:
            assert word in str(caught.value)
    gc.collect()


def test_each_option_is_a_keyword_of_tqdm() -> None:
    """So a name that tqdm changes is noticed."""
    assert get_type_hints(BarOptions).keys() <= inspect.signature(tqdm.__init__).parameters.keys()
