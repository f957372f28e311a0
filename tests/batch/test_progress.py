"""`progress=True`: a real tqdm bar, and what happens when it fails or is missing."""

import asyncio
import gc
import inspect
import io
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, get_type_hints

import pytest
from tqdm import tqdm

from aiosupervise import Backoff, Budget, Overload, Tally, map_all, run_all, supervise
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


async def test_by_default_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """A run shows nothing unless `progress` is set."""
    await run_all([job(0)])
    await map_all(job, [0])
    assert capsys.readouterr().err == ""


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


async def test_fewer_updates_than_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """`miniters` is how many jobs there are between two updates; the last line is right all the same."""
    await map_all(job, list(range(2, 12)), limit=1, progress={"miniters": 5})
    drawn = lines(capsys.readouterr().err)
    assert not any("3/10" in line for line in drawn)
    assert "10/10" in drawn[-1]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (print, ["True, False or a dict", "got print: pass an event listener as listen="]),
        (1, ["progress must be True, False or a dict of tqdm's keywords, such as {'leave': False}; got 1"]),
        ("yes", ["True, False or a dict", "got 'yes'"]),
        (None, ["True, False or a dict", "got None"]),
        ({"total": 3}, ["got the key 'total': write total=... beside progress"]),
        ({"colr": "green"}, ["got the key 'colr'", ": it may have desc, leave, file", ", delay"]),
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
        assert str(caught.value).endswith(words[-1])
    gc.collect()


@pytest.mark.parametrize("keyword", ["mininterval", "delay"])
async def test_intervals_of_zero_seconds_are_accepted(keyword: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar then appears without a delay, or is redrawn as often as possible."""
    settings: Any = {keyword: 0}
    await map_all(job, [0], progress=settings)
    assert "1/1" in lines(capsys.readouterr().err)[-1]


def test_each_option_is_a_keyword_of_tqdm() -> None:
    """So a name that tqdm changes is noticed."""
    assert get_type_hints(BarOptions).keys() <= inspect.signature(tqdm.__init__).parameters.keys()
