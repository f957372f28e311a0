"""The service: what it survives, what the terminal shows, and how it ends, in this process and as the command."""

import argparse
import asyncio
import importlib
import inspect
import json
import re
import runpy
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession, WSMsgType
from rich.live import Live

from aiosupervise import (
    AttemptFailed,
    ChildExited,
    ChildRestarted,
    ChildStarted,
    Event,
    RestartsExceeded,
    Supervisor,
    listen,
    policy_of,
    supervise,
)
from aiosupervise.examples import _feed, _tree, service

MODULE = "aiosupervise.examples.service"
NO_WAIT: Any = {"backoff": [0]}
FOR_EVER = 3600.0  # seconds: longer than a test may take
STARTS = [
    "upstream: server was started",
    "service: web was started",
    "service: poller was started",
    "service: consumer was started",
    "consumer: reader was started",
    "consumer: writer was started",
]
STOPS = [
    "consumer: writer was stopped",
    "consumer: reader was stopped",
    "service: consumer was stopped",
    "service: poller was stopped",
    "service: web was stopped",
    "upstream: server was stopped",
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same service at a pace of tens of milliseconds, which never gives up, however slow the machine."""
    monkeypatch.setattr(_feed, "UP", (0.15, 0.15))
    monkeypatch.setattr(_feed, "DOWN", 0.1)
    monkeypatch.setattr(_tree, "REDRAWN", 0.01)
    monkeypatch.setattr(service, "PAUSE", 0.01)
    monkeypatch.setattr(service, "Supervisor", lambda **rules: Supervisor(**rules | {"max_restarts": None} | NO_WAIT))
    for call in (service.fetch_price, service.connect):
        policy = policy_of(call).replace(backoff=[0.02], max_retries=None)
        monkeypatch.setattr(service, call.__name__, supervise(policy)(inspect.unwrap(call)))


@pytest.fixture
def stays_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that nobody kills."""
    monkeypatch.setattr(_feed, "UP", (FOR_EVER, FOR_EVER))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal of 80 columns in which the tree is drawn anew after each event, however slow the machine."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    lives: list[Live] = []

    def live(**options: Any) -> Live:
        lives.append(Live(**options))
        return lives[-1]

    def draw() -> None:
        if lives[-1].is_started:
            lives[-1].refresh()

    def on_event(_: Event) -> None:
        asyncio.get_running_loop().call_soon(draw)

    monkeypatch.setattr(_tree, "Live", live)
    with listen(on_event):
        yield


@contextmanager
def once(happens: Callable[[Event], bool], number: signal.Signals) -> Iterator[None]:
    """Send a signal to this process when something happens for the first time."""
    sent: list[Event] = []

    def on_event(event: Event) -> None:
        if not sent and happens(event):
            sent.append(event)
            asyncio.get_running_loop().call_soon(signal.raise_signal, number)

    with listen(on_event):
        yield
    assert sent


def all_is_up(event: Event) -> bool:
    """The last child has been started."""
    return isinstance(event, ChildStarted) and event.child == "writer"


class Everything:
    """Whether all that this example is about has happened."""

    def __init__(self) -> None:
        self.to_come = {"a retry", "a crash", "a hang-up", "a kill", "poller", "consumer", "reader", "server"}

    def __call__(self, event: Event) -> bool:
        """Note one event."""
        match event:
            case AttemptFailed(name="fetch_price"):
                self.to_come.discard("a retry")
            case ChildExited(child="poller", error=KeyError()):
                self.to_come.discard("a crash")
            case ChildExited(child="reader", error=ConnectionResetError()):
                self.to_come.discard("a hang-up")
            case ChildExited(child="server"):
                self.to_come.discard("a kill")
            case ChildRestarted(child=child):
                self.to_come.discard(child)
            case _:
                pass
        return not self.to_come


def lines_of(output: str) -> list[str]:
    """What the lines of events say, without the times."""
    return [line.split(" s  ", 1)[1] for line in output.splitlines() if re.match(r" *\d+\.\d\d s  ", line)]


def stops_of(output: str) -> list[str]:
    """Which children were stopped, in which order."""
    return [line for line in lines_of(output) if line.endswith(" was stopped")]


def ends_with(lines: list[str], failure: int, child: str, sibling: str) -> bool:
    """Whether a sibling of a child that fails is stopped before the restart, or has failed at the same time."""
    start = max(number for number, line in enumerate(lines[:failure]) if line.startswith(f"{child} was "))
    run = takewhile(lambda line: not line.startswith(f"{child} was restarted"), lines[start + 1 :])
    return any(line.startswith((f"{sibling} was stopped", f"{sibling} has ended")) for line in run)


def without_control(output: str) -> str:
    """What a terminal would show, each frame below the one before."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "\n")


# What it survives


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_what_it_survives(capsys: pytest.CaptureFixture[str]) -> None:
    """A failed call is retried, a crashed poller and the consumer of a killed server are restarted; it goes on."""
    with once(Everything(), signal.SIGTERM):
        assert service.main([]) == 143
    printed = capsys.readouterr()
    lines = lines_of(printed.out)
    assert lines[: len(STARTS)] == STARTS
    assert any(re.match(r"fetch_price: attempt 1 failed, retrying in 0\.\d\d s: Client", line) for line in lines)
    crash = lines.index("service: poller has ended: KeyError: 'price'")
    assert ends_with(lines, crash, "service: poller", "service: consumer"), "the strategy is rest_for_one"
    hang_up = lines.index("consumer: reader has ended: ConnectionResetError: the feed hung up")
    assert ends_with(lines, hang_up, "consumer: reader", "consumer: writer"), "the strategy is one_for_all"
    assert "service: web was stopped" in lines
    assert printed.err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "stays_up")  # a feed that hangs up often would end the consumer first
def test_it_gives_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A poller that crashes again and again ends the service: it stops in order, and whoever runs it gets the error."""
    monkeypatch.setattr(_feed, "BUSY", 0.0)
    monkeypatch.setattr(_feed, "NONSENSE", 1.0)
    patient = {"within": FOR_EVER} | NO_WAIT
    monkeypatch.setattr(service, "Supervisor", lambda **rules: Supervisor(**rules | patient))
    with pytest.raises(ExceptionGroup) as gave_up:
        service.main([])
    (exceeded,) = gave_up.value.exceptions
    assert isinstance(exceeded, RestartsExceeded)
    assert exceeded.child == "poller"
    printed = capsys.readouterr().out
    assert "service: poller was restarted too often, so all are stopped" in lines_of(printed)
    assert stops_of(printed)[-2:] == STOPS[-2:]


async def test_what_was_collected_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    """The service answers with what the tasks have collected so far, on the port that it prints."""
    market = service.Market("http://127.0.0.1:1")
    async with Supervisor() as supervisor, ClientSession() as session:
        supervisor.start(service.serve, market)
        printed = ""
        while not printed:
            await asyncio.sleep(0.001)
            printed = capsys.readouterr().out
        market.price, market.ticks = 99.5, 3
        async with session.get(printed.removeprefix("serving on ").strip()) as response:
            assert await response.json() == {"price": 99.5, "ticks": 3}
        await supervisor.stop()


@pytest.mark.slow
async def test_the_upstream_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream hangs up on its feed when it is killed, refuses meanwhile, and is back on the same port."""
    killer, is_killed = asyncio.Event(), asyncio.Event()

    async def until_killed(_: float) -> None:
        await killer.wait()
        killer.clear()

    def on_event(event: Event) -> None:
        if isinstance(event, ChildExited):
            is_killed.set()

    clock = SimpleNamespace(get_running_loop=asyncio.get_running_loop, sleep=until_killed)
    monkeypatch.setattr(_feed, "asyncio", clock)
    monkeypatch.setattr(_feed, "DOWN", FOR_EVER)
    supervisors: dict[str, Supervisor] = {}
    async with _feed.flaky_upstream(supervisors, 1) as url, ClientSession() as session:
        with listen(on_event):
            async with session.ws_connect(f"{url}/feed") as feed:
                await feed.send_str("more")
                assert [await feed.receive_json() for _ in range(5)] == [{"tick": tick} for tick in range(5)]
                killer.set()
                assert (await feed.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            await is_killed.wait()
            with pytest.raises(ClientConnectionError):
                await session.get(f"{url}/price")
            (server,) = supervisors["upstream"].children()
            await server.restart()
            connect = supervise(policy_of(service.connect).replace(backoff=[0.001]))(inspect.unwrap(service.connect))
            await (await connect(session, url)).close()


@pytest.mark.parametrize(("busy", "nonsense", "status", "body"), [(1, 0, 503, ""), (0, 1, 200, "{}")])
async def test_the_upstream_is_flaky(
    busy: float, nonsense: float, status: int, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By chance an answer is a 503, which passes, or one without a price."""
    monkeypatch.setattr(_feed, "BUSY", busy)
    monkeypatch.setattr(_feed, "NONSENSE", nonsense)
    async with (
        _feed.flaky_upstream({}, 1) as url,
        ClientSession() as session,
        session.get(f"{url}/price") as response,
    ):
        assert response.status == status
        assert await response.text() == body


# What is shown


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """If stdout is not a terminal, only the address and one whole line for each event are printed."""
    with once(Everything(), signal.SIGTERM):
        service.main([])
    lines = capsys.readouterr().out.splitlines()
    others = [line for line in lines if not re.match(r" *\d+\.\d\d s  \w+: ", line)]
    assert len(others) == 1
    assert re.fullmatch(r"serving on http://127\.0\.0\.1:\d+/", others[0])
    assert any(len(line) > 80 for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "stays_up", "drawn")
def test_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the tree stands below the lines: names, states, restarts and since when."""
    with once(all_is_up, signal.SIGTERM):
        service.main([])
    assert re.search(
        r"^child +state +restarts +since +last error *\n"
        r"upstream *\n"
        r"  server +running +0 +\d+\.\d s *\n"
        r"service *\n"
        r"  web +running +0 +\d+\.\d s *\n"
        r"  poller +running +0 +\d+\.\d s *\n"
        r"  consumer +running +0 +\d+\.\d s *\n"
        r"    reader +running +0 +\d+\.\d s *\n"
        r"    writer +running +0 +\d+\.\d s *\n",
        without_control(capsys.readouterr().out),
        re.MULTILINE,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "drawn")
def test_errors_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A child that failed shows its last error, while it waits and at the end, when all are shown as stopped.

    The server fails every moment, also while it is being stopped.
    """
    with once(Everything(), signal.SIGTERM):
        service.main([])
    screen = without_control(capsys.readouterr().out)
    assert re.search(r"^  server +waiting +\d+ +\d+\.\d s +ConnectionAbortedError: killed *$", screen, re.MULTILINE)
    last = screen[screen.rindex("child ") :]
    assert re.search(r"^  poller +stopped +\d+ +\d+\.\d s +KeyError: 'price' *$", last, re.MULTILINE)
    assert re.search(r"^ +server +(stopped|failed) ", last, re.MULTILINE)
    assert len(re.findall(r"^ +(?!server)\w+ +stopped ", last, re.MULTILINE)) == 5
    assert max(map(len, last.splitlines())) == 78, "room for the ^C that a terminal echoes"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_long_lines_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is longer than the terminal is wide is cut, so that the tree below it stays where it is."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "50"}.items():
        monkeypatch.setenv(name, value)
    with once(Everything(), signal.SIGTERM):
        service.main([])
    lines = without_control(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) == 50
    assert any(re.match(r" *\d+\.\d\d s  fetch_price: .*…$", line) for line in lines)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--quiet` it prints its address and nothing else."""
    with once(Everything(), signal.SIGTERM):
        assert service.main(["--quiet"]) == 143
    printed = capsys.readouterr()
    assert re.fullmatch(r"serving on http://127\.0\.0\.1:\d+/\n", printed.out)
    assert printed.err == ""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, ""),
        (TimeoutError(), "TimeoutError"),
        (ValueError("\x1b[2Jno"), "ValueError:  [2Jno"),
        (ValueError("long " * 40), "ValueError: " + "long " * 12),
        (ExceptionGroup("all", [ExceptionGroup("some", [KeyError("price")]), TimeoutError()]), "KeyError: 'price'"),
    ],
)
def test_how_an_error_is_shown(error: BaseException | None, text: str) -> None:
    """An error is its type and the beginning of its message, without control characters; a group is its first one."""
    assert _tree._described(error) == text


def test_rich_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rich the example says how to install it."""
    for module in (MODULE, _tree.__name__, "aiosupervise.integrations.rich"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"aiosupervise\[rich\]"):
        importlib.import_module(MODULE)


# Its options


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--seconds", "0"], "above 0"),
        (["--seconds", "nan"], "above 0"),
        (["--seconds", "inf"], "above 0"),
        (["--seconds", "soon"], "invalid float"),
        (["--seed", "x"], "invalid int"),
        (["--loud"], "unrecognized"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that makes no sense is explained on stderr, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        service.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is wider than 80 columns, and the exit codes are explained."""
    with pytest.raises(SystemExit):
        service.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert " ".join(" ".join(lines).split()).endswith(
        "exit code: 0 after --seconds, 130 after Ctrl-C and 143 after SIGTERM, 1 if the outermost supervisor gave up, "
        "2 for an invalid option"
    )


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m` reads the process's own arguments and ends with main's exit code."""
    monkeypatch.delitem(sys.modules, MODULE)
    monkeypatch.setattr(sys, "argv", ["service", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(MODULE, run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: python -m {MODULE}" in capsys.readouterr().out


# How it ends


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_this_process(number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A signal stops the children in reverse start order, and the exit code names the signal."""
    with once(all_is_up, number):
        assert service.main([]) == code
    assert stops_of(capsys.readouterr().out) == STOPS


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
async def test_nothing_is_left() -> None:
    """With a number of seconds it ends successfully by itself, and leaves no task behind."""
    before = asyncio.all_tasks()
    assert await service.run(argparse.Namespace(seconds=0.1, seed=2, quiet=False)) == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a child cannot be sent these signals")
async def test_the_command() -> None:
    """The command serves what its tasks collect; Ctrl-C stops all of them in order, and it says nothing on stderr."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", MODULE, stdout=PIPE, stderr=PIPE)
    assert child.stdout
    try:
        url = ""
        while not url:
            url = (await child.stdout.readline()).decode().partition("serving on ")[2].strip()
        served = {"price": None, "ticks": 0}
        async with ClientSession() as session:
            while served["price"] is None or not served["ticks"]:
                async with session.get(url) as response:
                    served = json.loads(await response.text())
        child.send_signal(signal.SIGINT)
        out, err = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 130
    assert served["price"] == 100.0
    assert stops_of(out.decode()) == STOPS
    assert err == b""
