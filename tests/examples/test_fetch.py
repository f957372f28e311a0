"""The reference example: its options, its tables, and how it ends, in this process and as the command."""

import asyncio
import os
import random
import re
import runpy
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout, web

from aiosupervise import Failure, Outcome, Pending, Reason, Report, Run, Success, Tally, map_all, verdict
from aiosupervise.examples.fetch import __main__ as command
from aiosupervise.examples.fetch import _cluster, _terminal, fetch
from aiosupervise.examples.site import Fault, flaky_site

MODULE = "aiosupervise.examples.fetch"


@pytest.fixture
def fast_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that take no time, only faults that take none either, and a client that bears with a slow machine."""
    monkeypatch.setattr("aiosupervise.examples.site._SLOWEST_PAGE", 0.0)
    monkeypatch.setattr(fetch, "ClientTimeout", lambda **_: ClientTimeout())
    monkeypatch.setattr(fetch, "flaky_site", partial(flaky_site, odds={Fault.DROP: 0.2, Fault.BROKEN: 0.2}))


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@asynccontextmanager
async def serve(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """A site of one page, and its URL."""
    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def run_example(*arguments: str, **how: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the command; if it has not ended with the block, end it."""
    command = (sys.executable, "-m", MODULE, *arguments)
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, **how)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def until_shown(text: bytes, child: asyncio.subprocess.Process) -> bytes:
    """Read what the command writes to stderr until a text is in it."""
    assert child.stderr
    shown = b""
    while text not in shown:
        piece = await child.stderr.read(1000)
        assert piece, f"it has ended: {shown!r}"
        shown += piece
    return shown


def rows_of(output: str) -> list[str]:
    """The rows of the tables, without the seconds, which differ from run to run."""
    return [re.sub(r" +\d+\.\d\d$", "", line) for line in output.splitlines() if line.startswith("fetch")]


# What it prints


@pytest.mark.usefixtures("fast_site")
def test_every_strategy_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without options the strategies run one after another, each with a table and a line of totals."""
    assert command.main(["--jobs", "4", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert re.findall(r"^(gather|as_completed|wait):$", printed.out, re.MULTILINE) == [
        "gather",
        "as_completed",
        "wait",
    ]
    assert len(re.findall(r"^job +result or error +attempts +seconds$", printed.out, re.MULTILINE)) == 3
    assert (
        len(re.findall(r"^4 jobs in \d\.\d\d s: \d succeeded, \d failed, 0 pending$", printed.out, re.MULTILINE)) == 3
    )
    assert len(re.findall(r"^per finished job +p50 +p95 +max$", printed.out, re.MULTILINE)) == 3
    assert printed.err == ""


@pytest.mark.usefixtures("fast_site")
def test_progress_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--quiet` it shows a progress bar on stderr, apart from the tables."""
    assert command.main(["--jobs", "3", "--strategy", "gather"]) == 0
    printed = capsys.readouterr()
    assert "3/3" in printed.err
    assert "3/3" not in printed.out


@pytest.mark.usefixtures("fast_site")
def test_a_run_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed brings the same outcomes and the same attempts, another seed others."""
    printed: list[list[str]] = []
    for seed in ("3", "3", "4"):
        command.main(["--jobs", "10", "--strategy", "gather", "--quiet", "--seed", seed])
        printed.append(rows_of(capsys.readouterr().out))
    assert len(printed[0]) == 10
    assert printed[0] == printed[1]
    assert printed[0] != printed[2]


@pytest.mark.slow
@pytest.mark.usefixtures("fast_site")
def test_a_cluster_makes_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By two worker processes the same fetches have the same outcomes, after the same attempts."""
    options = ["--jobs", "6", "--strategy", "gather", "--quiet", "--max-retries", "20"]
    printed: list[list[str]] = []
    for more in ([], ["--engine", "dask", "--journal", str(tmp_path / "run.db")]):
        assert command.main([*options, *more]) == 0
        printed.append(rows_of(capsys.readouterr().out))
    assert len(printed[0]) == 6
    assert printed[0] == printed[1]


async def test_what_a_worker_does() -> None:
    """It opens a session of its own, and applies the policy of the options: its input is plain data."""
    threshold = 1 - fetch.ERROR_RATE
    healthy, faulty = "17 0", next(f"17 {n}" for n in range(1000) if random.Random(f"17 {n}").random() > threshold)
    patience = ClientTimeout(sock_read=5.0)

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="well")

    async with serve(well) as url:
        assert await _cluster.fetch_page(_cluster.Page(url, healthy, (RuntimeError,), patience, 0)) == "4 bytes"
        with pytest.raises(RuntimeError, match="injected error") as raised:
            await _cluster.fetch_page(_cluster.Page(url, faulty, (RuntimeError,), patience, 0))
    note = verdict(raised.value)
    assert note is not None
    assert (note.attempts, note.reason) == (1, Reason.IRRECOVERABLE)


def test_there_is_one_fetch() -> None:
    """The function that the workers of a cluster import is the one of the command: its module is loaded once."""
    code = f"""
import distributed, gc, runpy, sys
from types import FunctionType

def count_and_stop(**_):
    functions = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    codes = [function.__code__ for function in functions]
    print(*(code.co_name for code in codes if code.co_filename.endswith("fetch.py") and code.co_name == "fetch"))
    raise KeyboardInterrupt

distributed.LocalCluster = count_and_stop
sys.argv = ["fetch", "--engine", "dask"]
runpy.run_module("{MODULE}", run_name="__main__", alter_sys=True)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout.split(), child.stderr) == (130, ["fetch"], "")


@pytest.mark.slow
def test_the_default_run_shows_every_ending(capsys: pytest.CaptureFixture[str]) -> None:
    """The first output shows success at once and after retries, and both reasons for giving up."""
    command.main(["--strategy", "gather", "--quiet"])
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 20
    assert any(re.search(r"1040 bytes +1$", row) for row in rows)
    assert any(re.search(r"1040 bytes +[234]$", row) for row in rows)
    assert any("irrecoverable: RuntimeError: injected error" in row for row in rows)
    assert any(row.endswith(" 4") and "retries exhausted: " in row for row in rows)


def test_a_real_site_gets_no_invented_faults(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a URL no error is injected; a site that cannot be reached makes failures, no traceback."""
    monkeypatch.setenv("COLUMNS", "120")
    url = f"http://127.0.0.1:{closed_port}/"
    options = ["--jobs", "40", "--strategy", "gather", "--quiet", "--max-retries", "0", "--seed", "3"]
    assert command.main([url, *options]) == 0
    printed = capsys.readouterr()
    assert re.search(r"^40 jobs in \d\.\d\d s: 0 succeeded, 40 failed, 0 pending$", printed.out, re.MULTILINE)
    assert "injected error" not in printed.out
    assert printed.out.count("retries exhausted: ClientConnectorError: Cannot connect") == 40
    assert re.search(r"^ +40 +0  ClientConnectorError: Cannot connect", printed.out, re.MULTILINE)
    assert printed.err == ""


def test_wait_lists_what_is_pending(capsys: pytest.CaptureFixture[str]) -> None:
    """When the time is up, the table lists the jobs that were running and those that had not started."""
    options = ["--jobs", "6", "--limit", "2", "--strategy", "wait", "--timeout", "0.01", "--quiet"]
    assert command.main(options) == 0
    printed = capsys.readouterr().out
    assert printed.count("pending: stopped") == 2
    assert printed.count("pending: not started") == 4
    assert "0 failed, 6 pending" in printed


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A long message is cropped at the terminal's width, and its control characters are taken out."""
    monkeypatch.setenv("COLUMNS", "60")
    failure = Failure(0, ValueError("\x1b[2J" + "long " * 40), 1, 0.25, None, "fetch-0", None)
    _terminal.show(Report([failure], Tally(total=1, limit=None, failed=1), 0.25))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:2])) == 60
    assert "ValueError:  [2Jlong long" in lines[1]
    assert lines[1].endswith("…         1     0.25")


def test_what_a_row_says(capsys: pytest.CaptureFixture[str]) -> None:
    """A row shows the result, or the reason and the error of a failure, or that the job is pending."""
    outcomes: tuple[Outcome[str], ...] = (
        Success(0, "12 bytes", 2, 0.5, "a", None),
        Failure(1, TimeoutError(), 4, 1.25, Reason.EXHAUSTED, "b", None),
        Pending(2, None, started=True, name="c", input=None),
        Success(3, "12 bytes", 1, 0.25, "d", None, replayed=True),
    )
    tally = Tally(total=4, limit=None, succeeded=2, failed=1, pending=1, retries=4, replayed=1)
    report = Report(outcomes, tally, 1.3)
    _terminal.show(report)
    table, _, summary = capsys.readouterr().out.partition("\n\n")
    assert summary == f"{report.summary()}\n\n"
    assert table.splitlines() == [
        "job  result or error                  attempts  seconds",
        "a    12 bytes                                2     0.50",
        "b    retries exhausted: TimeoutError         4     1.25",
        "c    pending: stopped",
        "d    12 bytes, from the journal              1     0.25",
    ]


@pytest.mark.parametrize(("columns", "width"), [("80", 78), ("120", 118)])
def test_the_bar_leaves_room_for_the_echo_of_ctrl_c(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A terminal writes ^C behind the bar, which would otherwise be broken into two lines."""
    monkeypatch.setenv("COLUMNS", columns)

    async def fetch_page(page: int) -> int:
        if page > 50:
            raise RuntimeError
        return page

    async def run_with_bar() -> None:
        bar = _terminal.bar(_terminal.read_options([]))
        run = map_all(fetch_page, list(range(1000)), limit=5, max_failures=500, name="fetch", progress=bar)
        run.tally.retries = 99
        await run

    asyncio.run(run_with_bar())
    *_, last = capsys.readouterr().err.rstrip("\n").split("\r")
    assert re.search(r"^fetch:  5\d%\|█+.* *\| 5\d\d/1000 \[00:\d\d, 50\d failed, 99 retries, 4\d\d pending\]$", last)
    assert len(last) == width


# Its options


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--jobs", "0"], "must be an integer of at least"),
        (["--jobs", "many"], "must be an integer of at least"),
        (["--limit", "-1"], "must be an integer of at least"),
        (["--max-retries", "1.5"], "must be an integer of at least"),
        (["--timeout", "0"], "must be a number of seconds above 0"),
        (["--timeout", "nan"], "must be a number of seconds above 0"),
        (["--timeout", "soon"], "must be a number of seconds above 0"),
        (["--seed", "x"], "invalid int"),
        (["--strategy", "race"], "invalid choice"),
        (["nonsense"], "must be an http or https URL"),
        (["ftp://127.0.0.1/"], "must be an http or https URL"),
        (["http://127.0.0.1:99999/"], "must be an http or https URL"),
        (["--loud"], "unrecognized"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid option is explained on stderr, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m` reads the process's own arguments and ends with main's exit code."""
    monkeypatch.delitem(sys.modules, f"{MODULE}.__main__")
    monkeypatch.setattr(sys, "argv", ["fetch", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(MODULE, run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: python -m {MODULE}" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "100"])
def test_help_fits_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is wider than the terminal, and the exit codes are explained."""
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit):
        command.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < int(columns)
    text = " ".join(" ".join(lines).split())
    assert text.endswith(
        "exit code: 0 when every run has ended, whatever its outcomes; 130 after Ctrl-C and 143 after SIGTERM; 2 for "
        "an invalid option, or a journal that cannot be used"
    )
    assert "gather, as_completed, wait, or all: one after another (default: all)" in text


def _in_no_folder(folder: Path) -> str:
    return str(folder / "missing" / "run.db")


def _no_journal(folder: Path) -> str:
    path = folder / "run.db"
    path.write_text("a file of another program")
    return str(path)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (_in_no_folder, "cannot be opened: its folder does not exist: "),
        (str, "cannot be opened: "),  # a folder
        (_no_journal, "is not a journal: use another path"),
        (lambda _: "", "the path of a journal must be a str or a PathLike of str that names a file on disk; got ''"),
    ],
    ids=["no folder", "a folder", "no journal", "no path"],
)
def test_a_journal_that_cannot_be_used(
    path: Callable[[Path], str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr and exit code 2, before anything is fetched."""
    assert command.main(["--journal", path(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"python -m {MODULE}: ")
    assert complaint in line


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a journal an error is a mistake in the example."""
    mistake = RuntimeError("a mistake")

    async def fail(_: _terminal.Options) -> None:
        raise mistake

    monkeypatch.setattr(command, "run", fail)
    with pytest.raises(RuntimeError) as caught:
        command.main([])
    assert caught.value is mistake


# How it ends


def test_interrupted_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C without a run to stop gives the exit code 130, not an exception."""

    async def interrupted(_: _terminal.Options) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(10)

    monkeypatch.setattr(command, "run", interrupted)
    assert command.main([]) == 130


@pytest.mark.usefixtures("fast_site")
def test_stopped_in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A signal during a run lets its running jobs finish, and no other strategy follows."""

    def map_all_and_interrupt(
        func: Callable[[int], Awaitable[str]], inputs: list[int], **options: Any
    ) -> Run[str, int]:
        async def fetch_or_interrupt(page: int) -> str:
            if page < len(inputs):
                return await func(page)
            signal.raise_signal(signal.SIGINT)
            return "sent"

        return map_all(fetch_or_interrupt, [*inputs, len(inputs)], **options)

    monkeypatch.setattr(fetch, "map_all", map_all_and_interrupt)
    assert command.main(["--jobs", "2", "--limit", "20", "--quiet"]) == 130
    printed = capsys.readouterr().out
    assert "fetch-2  sent" in printed
    assert "as_completed" not in printed


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("pages", "waits_for"),
    [(1, "1 running fetch"), (3, "2 running fetches")],
)
async def test_a_stop_is_announced(pages: int, waits_for: str, capsys: pytest.CaptureFixture[str]) -> None:
    """After the first Ctrl-C it says what it waits for, and how to cancel that, once; without one it says nothing."""

    async def fetch_page(page: int) -> str:
        if page == 0:
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(5)
        return "sent"

    for first in (1, 0):
        run = map_all(fetch_page, list(range(first, first + pages)), limit=2, stop_on=(signal.SIGINT,))
        async with _terminal.stop_announced(run):
            await run
        text = f"Stopping: waiting for {waits_for}. Press Ctrl-C again to cancel them.\n"
        assert capsys.readouterr().err == ("" if first else text)
        assert len(run.report.pending) == (0 if first else pages - min(pages, 2))


@pytest.mark.slow
async def test_the_command() -> None:
    """The command itself ends well, with its tables on stdout."""
    async with run_example("--jobs", "2", "--strategy", "as_completed", "--quiet", "--seed", "5") as child:
        out, err = await child.communicate()
    assert child.returncode == 0
    assert b"as_completed:\n" in out
    assert b"2 jobs in " in out
    assert err == b""


class Busy:
    """Answers the first two requests at once, and holds the others back until `release` is set."""

    def __init__(self, requests: int) -> None:
        self.reached = asyncio.Event()
        self.release = asyncio.Event()
        self.requests = 0
        self._to_come = requests
        self._quick = 2

    async def answer(self, _: web.Request) -> web.Response:
        """Answer one request."""
        self.requests += 1
        self._to_come -= 1
        self._quick -= 1
        if not self._to_come:
            self.reached.set()
        if self._quick < 0:
            await self.release.wait()
        return web.Response(text="well")


no_child_signals = pytest.mark.skipif(sys.platform == "win32", reason="a child cannot be sent these signals")


@pytest.mark.slow
@no_child_signals
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal(number: signal.Signals, code: int) -> None:
    """Running jobs finish, the table lists all, no other strategy follows, and the exit code names the signal."""
    busy = Busy(requests=4)
    async with serve(busy.answer) as url, run_example(url, "--jobs", "6", "--limit", "2", "--seed", "2") as child:
        await busy.reached.wait()
        child.send_signal(number)
        err = await until_shown(b"Press Ctrl-C again to cancel them.", child)
        busy.release.set()
        out, rest = await child.communicate()
        err += rest
    assert child.returncode == code
    assert out.startswith(b"gather:\n")
    assert b"as_completed" not in out
    assert out.count(b"4 bytes") == 4
    assert out.count(b"pending: not started") == 2
    assert b"4 succeeded, 0 failed, 2 pending" in out
    assert b"stopped: signal" in out
    assert b"Stopping: waiting for 2 running fetches." in err
    assert b"rror" not in err


@pytest.mark.slow
@no_child_signals
@pytest.mark.parametrize("signals", [1, 2])
async def test_ctrl_c_with_a_cluster(signals: int) -> None:
    """A terminal sends it to the workers too: they do not die of it, and the run ends in order."""
    busy = Busy(requests=4)
    options = [*("--jobs", "6", "--limit", "1", "--seed", "2"), *("--engine", "dask")]
    async with serve(busy.answer) as url, run_example(url, *options, start_new_session=True) as child:
        await busy.reached.wait()
        os.killpg(child.pid, signal.SIGINT)
        shown = await until_shown(b"Press Ctrl-C again to cancel them.", child)
        if signals == 1:
            busy.release.set()
        else:
            os.killpg(child.pid, signal.SIGINT)
        out, err = await child.communicate()
    assert child.returncode == 130
    assert b"as_completed" not in out
    # After one signal, the workers may finish all of their jobs before the stop reaches them.
    if signals == 2:
        assert b"pending: not started" in out
    assert (b"pending: stopped" in out) is (signals == 2)
    # Dask logs a connection that it was making or using when it closed its pool, now and then.
    last_line = err.rstrip().rpartition(b"\n")[2]
    assert b"Traceback" not in shown + err or last_line.startswith(b"distributed.comm.core.CommClosedError: ")


@pytest.mark.slow
@no_child_signals
@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_kill_9_with_a_journal(strategy: str, tmp_path: Path) -> None:
    """Killed and started again, it does not fetch what it had fetched, and shows what came from the journal."""
    busy = Busy(requests=4)
    options = ["--jobs", "6", "--limit", "2", "--strategy", strategy, "--seed", "3"]
    options += ["--journal", str(tmp_path / "run.db")]
    async with serve(busy.answer) as url:
        async with run_example(url, *options) as child:
            await until_shown(b"2/6", child)  # the bar counts a fetch when its row is committed
            await busy.reached.wait()
            child.kill()
            await child.communicate()
        assert child.returncode == -signal.SIGKILL
        busy.release.set()
        async with run_example(url, *options) as child:
            out, err = await child.communicate()
    assert child.returncode == 0
    assert out.count(b"4 bytes, from the journal") == 2
    assert out.count(b"4 bytes ") == 4
    assert b"6 succeeded, 0 failed, 0 pending\n0 retries, 2 from the journal\n" in out
    assert busy.requests == 2 + 2 + 4
    assert b"rror" not in err


@pytest.mark.slow
@no_child_signals
@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_two_signals(strategy: str) -> None:
    """The second one cancels the running jobs, under any strategy; the table lists the outcomes known by then."""
    busy = Busy(requests=4)
    options = ["--jobs", "6", "--limit", "2", "--strategy", strategy, "--seed", "2"]
    async with serve(busy.answer) as url, run_example(url, *options) as child:
        await busy.reached.wait()
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGTERM)
        out, err = await child.communicate()
    assert child.returncode == 130
    assert out.count(b"4 bytes") == 2
    assert out.count(b"pending: stopped") == 2
    assert out.count(b"pending: not started") == 2
    assert b"rror" not in err
