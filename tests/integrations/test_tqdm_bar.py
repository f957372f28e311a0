"""The tqdm bar of a run: its appearance in a terminal of a given width, in a file, and with the settings of tqdm."""

import asyncio
import io
import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from aiosupervise import Tally, map_all
from aiosupervise.integrations.tqdm import ProgressBar


def lines(written: str) -> list[str]:
    """The values that were drawn, in order."""
    return [line.strip() for line in written.replace("\n", "\r").split("\r") if line.strip()]


def drawn_bar(tally: Tally, status: str = "", name: str = "fetch", **options: Any) -> str:
    """Return the last line of a bar with these counts."""
    file = io.StringIO()
    settings: Any = {"file": file, "ncols": 80, **options}
    bar = ProgressBar(name, settings)
    bar.open(Tally(tally.total, tally.limit))
    # The rate has two digits before the decimal point.
    bar._bar.start_t = bar._bar.last_print_t = time.time() - 1
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
def test_in_80_columns_a_bar_is_visible(tally: Tally, status: str, ends: str) -> None:
    """It has at least 10 characters, and the complete status follows it."""
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
def test_where_no_bar_fits_the_text_is_complete(name: str, status: str, line: str) -> None:
    """The counts and the reason of a pause matter more than the bar."""
    assert drawn_bar(Tally(6000, 10, succeeded=3200, failed=27), status, name) == line


def test_without_a_total_or_a_width_the_line_has_all_its_parts() -> None:
    """There is no bar that needs room, or the line has no maximum length."""
    tally = Tally(60, 10, succeeded=32, failed=2, retries=10)
    assert drawn_bar(tally, name=NAME, ncols=None).endswith("job/s, 2 failed, 10 retries]")
    endless = Tally(None, 10, succeeded=32)
    assert drawn_bar(endless, name=NAME).endswith("job/s]")
    assert drawn_bar(endless, PAUSED, NAME).endswith(f"[{PAUSED}]")


def test_a_bar_is_shown_as_soon_as_there_is_room_for_10_characters() -> None:
    """This holds for each of the forms, from the longest to the shortest."""
    tally = Tally(60, 10, succeeded=32, failed=2, retries=10)
    drawn = [drawn_bar(tally, ncols=columns) for columns in range(50, 100)]
    for form in ("job/s, 2 failed", "<00:00, 2 failed", "[00:01, 2 failed"):
        assert min(len(line.split("|")[1]) for line in drawn if "|" in line and form in line) == 10


def test_replayed_jobs_are_done_but_do_not_count_towards_the_rate() -> None:
    """The bar includes the replayed jobs; the rate and the estimate are based on the jobs that run."""
    now, file = 0.0, io.StringIO()
    bar = ProgressBar("fetch", {"file": file, "ncols": 120})
    tally = Tally(200, 1)
    bar.open(tally)
    inner = bar._bar
    inner._time = lambda: now  # type: ignore[attr-defined]  # not in the stubs
    inner.start_t = inner.last_print_t = now
    for ran, replayed in ((2, 0), (2, 90), (2, 0), (2, 2)):
        now += 1
        tally.succeeded += ran + replayed
        tally.replayed += replayed
        bar.show(tally)
        assert "2.00job/s" in str(inner)
    assert (inner.n, inner.n - inner.initial) == (100, 8)
    assert "92 from the journal" in str(inner)
    bar.close()
    assert " 2.00job/s" in file.getvalue().splitlines()[-1]


def test_each_update_draws_the_bar_once() -> None:
    """This holds from the first line, which has the total, and even if a fast run becomes slow."""
    file = io.StringIO()
    bar = ProgressBar("fetch", {"file": file, "ncols": 80})
    tally = Tally(100, 1)
    bar.open(tally)
    for succeeded in (50, 51, 52):
        tally.succeeded = succeeded
        bar.show(tally)
    bar.close()
    drawn = re.findall(r"\d+/100", file.getvalue())
    assert drawn == ["0/100", "50/100", "51/100", "52/100", "52/100"], "the last is the line that stays"


def test_after_its_end_a_bar_shows_nothing() -> None:
    """Neither another update nor another end draws a line."""
    file = io.StringIO()
    bar = ProgressBar("fetch", {"file": file})
    bar.open(Tally(2, 2))
    bar.close()
    written = file.getvalue()
    bar.show(Tally(2, 2, succeeded=1))
    bar.close()
    assert file.getvalue() == written


def test_a_format_of_the_users_own_is_kept() -> None:
    """This includes the lines of a paused run."""
    tally = Tally(60, 10, succeeded=30)
    own = "{desc} {n_fmt} of {total_fmt}{postfix}"
    assert drawn_bar(tally, "paused", bar_format=own) == "fetch 30 of 60, paused"


# Where the output is not a terminal


@pytest.mark.looptime
async def test_a_file_needs_no_isatty_method() -> None:
    """A bar can be written to anything that has `write` and `flush`."""

    class File:
        def __init__(self) -> None:
            self.written = ""

        def write(self, text: str) -> None:
            self.written += text

        def flush(self) -> None: ...

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda *complaint: complaints.append(complaint))
    file = File()
    await map_all(asyncio.sleep, [1, 2], progress={"file": file})
    assert "2/2" in lines(file.written)[-1]
    assert complaints == []


@pytest.mark.looptime
@pytest.mark.parametrize("is_terminal", [False, True], ids=["file", "terminal"])
async def test_in_a_file_the_bar_is_drawn_only_when_something_has_changed(
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_terminal: bool,
) -> None:
    """A job of minutes does not fill a log; in a terminal, the elapsed time is updated."""
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: is_terminal, raising=False)

    async def minutes(_: int) -> None:
        await asyncio.sleep(200)

    await map_all(minutes, [1, 2], limit=1, progress={"file": file, "mininterval": 1})
    # The bar is drawn when it opens, at the first count and at each job's end, and when it closes.
    assert len(lines(file.getvalue())) in (range(4, 6) if not is_terminal else range(400, 410))


def test_a_countdown_does_not_count_as_a_change() -> None:
    """The beginning and the end of the pause do."""
    file = io.StringIO()
    bar = ProgressBar("fetch", {"file": file})
    tally = Tally(2, 2)
    bar.open(tally)
    for status in ("", "", "paused for 9.9 s", "paused for 9.8 s", "paused for 10.0 s", ""):
        bar.show(tally, status)
    shown = lines(file.getvalue())
    assert ["paused" in line for line in shown] == [False, False, True, False]
    bar.close()


# The settings of tqdm


@pytest.mark.parametrize(("interval", "expected"), [(5, 5), (0.1, 0.1), (0, 0.05)])
def test_the_interval_is_that_of_tqdm(interval: float, expected: float) -> None:
    """The bar is updated at most 20 times a second, by the clock of the loop."""
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
