"""The simulation: its clock, its service, what it promises about batches in trouble, and the command that prints it."""

import asyncio
import importlib
import math
import random
import runpy
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aiosupervise.examples import _plots, _storms, _virtual, storm
from aiosupervise.examples._play import Batch, Clients, Scenario, Story, served_again
from aiosupervise.examples._service import Broken, Nature, Service, Span, TooMany

MODULE = "aiosupervise.examples.storm"


def attempt(nature: Nature, program: Callable[[Service], Coroutine[object, None, Any]]) -> Service:
    """Run a program with a service, and return the service."""

    async def main() -> Service:
        service = Service(nature, Random(1))
        await program(service)
        return service

    return _virtual.run(main)


async def one_call(service: Service) -> None:
    """A lone request."""
    await service.call()


async def seconds_of(call: Awaitable[object]) -> float:
    """How long something takes, however it ends."""
    now = asyncio.get_running_loop().time
    began = now()
    await asyncio.gather(call, return_exceptions=True)
    return now() - began


# The clock


def test_time_costs_none() -> None:
    """A year of virtual time passes at once."""

    async def sleep() -> float:
        await asyncio.sleep(365 * 86_400)
        return asyncio.get_running_loop().time()

    assert _virtual.run(sleep) == pytest.approx(365 * 86_400, abs=1e-6)


def test_a_program_that_hangs_is_an_error() -> None:
    """When everybody waits for somebody who never comes, the loop says so: no time that passed could help."""
    loop = _virtual.VirtualLoop()
    with pytest.raises(RuntimeError, match="nobody will wake them"):
        loop.run_until_complete(loop.create_future())
    loop.close()


# The service


def test_first_in_first_out() -> None:
    """Requests are answered in the order in which they came."""
    order: list[int] = []

    async def program(service: Service) -> None:
        async def one(n: int) -> None:
            await service.call()
            order.append(n)

        await asyncio.gather(*(one(n) for n in range(50)))

    attempt(Nature(workers=1), program)
    assert order == list(range(50))


@pytest.mark.parametrize("workers", [1, 20])
def test_finite_speed(workers: int) -> None:
    """However many requests come at once, each worker makes ten answers a second."""

    async def program(service: Service) -> None:
        await asyncio.gather(*(service.call() for _ in range(2000)))

    service = attempt(Nature(workers=workers), program)
    assert len(service.answers) == 2000
    assert service.answers[-1] == pytest.approx(200 / workers, rel=0.1)


def test_it_does_not_notice_who_gave_up() -> None:
    """A request that its client abandons takes a worker all the same, and who comes later waits as long."""

    async def two_calls(service: Service, *, patient: bool) -> None:
        first = asyncio.ensure_future(service.call())
        await asyncio.sleep(0)
        if not patient:
            first.cancel()
            await asyncio.wait([first])
        await asyncio.gather(first, service.call(), return_exceptions=True)

    left, waited = (attempt(Nature(workers=1), partial(two_calls, patient=patient)) for patient in (False, True))
    assert len(waited.arrivals) == len(left.arrivals) == 2
    assert len(waited.answers) == 2
    assert left.answers == waited.answers[1:]


def test_down() -> None:
    """While it is down its answers are errors, which take as long as good ones."""
    took: list[float] = []

    async def program(service: Service) -> None:
        took.append(await seconds_of(service.call()))
        await asyncio.sleep(10.0 - took[0])
        await service.call()

    service = attempt(Nature(workers=1, down=Span(0.0, 10.0)), program)
    assert took == attempt(Nature(workers=1), one_call).answers
    assert len(service.answers) == 1
    with pytest.raises(Broken):
        attempt(Nature(workers=1, down=Span(0.0)), one_call)


def test_slow() -> None:
    """While it is slow it takes so many times as long."""
    usual = attempt(Nature(workers=1), one_call).answers[0]
    assert attempt(Nature(workers=1, slow=Span(0.0), slowdown=5.0), one_call).answers == [pytest.approx(5 * usual)]


def test_so_many_a_second() -> None:
    """It lets in a burst and then so many a second; the others are told to come back later, and take no worker."""
    refused: list[TooMany] = []

    async def one(service: Service) -> None:
        try:
            await service.call()
        except TooMany as error:
            refused.append(error)

    async def program(service: Service) -> None:
        for burst, seconds in ((55, 0.5), (30, 10.0), (55, 0.0)):
            end = asyncio.get_running_loop().time() + seconds
            await asyncio.gather(*(one(service) for _ in range(burst)))
            await asyncio.sleep(end - asyncio.get_running_loop().time())

    service = attempt(Nature(workers=100, allowed=50, refusal=0.02), program)
    assert len(service.arrivals) == 140
    assert len(service.answers) == 50 + 25 + 50  # 25 came free in the half second between
    assert [error.retry_after for error in refused] == [1.0] * 15


def test_a_refusal_takes_its_time() -> None:
    """The client learns of the refusal after a while, which is no worker's."""
    took: list[float] = []

    async def program(service: Service) -> None:
        took.append(await seconds_of(service.call()))

    attempt(Nature(workers=1, allowed=0, refusal=0.02), program)
    assert took == [pytest.approx(0.02)]


def test_unlucky() -> None:
    """So many of its answers are errors, at random."""

    async def program(service: Service) -> None:
        await asyncio.gather(*(service.call() for _ in range(2000)), return_exceptions=True)

    assert len(attempt(Nature(workers=100, unlucky=0.2), program).answers) == pytest.approx(1600, rel=0.05)


# The simulations


def test_a_simulation_repeats() -> None:
    """The same seed brings the same story to the last attempt, another seed another; no luck is left behind."""
    batch = _storms.outage().scenarios["after 10 s", "pauses"]
    assert isinstance(batch, Batch)
    state = random.getstate()
    stories = [replace(batch, jobs=1500).play(seed) for seed in (3, 3, 4)]
    assert stories[0] == stories[1]
    assert stories[0] != stories[2]
    assert random.getstate() == state


def test_served_again() -> None:
    """Clients are served again from the second on from which nine in ten calls succeed, five seconds in a row."""
    calls = [(second + 0.5, second not in (4, 5, 8)) for second in range(20)]
    assert served_again(calls, since=4.0, until=20.0) == 5
    assert served_again(calls, since=4.0, until=13.0) == math.inf
    assert served_again([(second + 0.5, False) for second in range(20)], since=0.0, until=20.0) == math.inf


# What the library promises of a batch in trouble


def numbers(table: _storms.Table, *labels: str, seed: int = 0) -> dict[str, float]:
    """The numbers of one line of a table."""
    return table.scenarios[labels].play(seed).numbers


@pytest.mark.parametrize("seed", [0, 1])
def test_a_service_that_comes_back(seed: int) -> None:
    """By default nothing is lost to an outage of ten seconds, and little is asked twice."""
    came = numbers(_storms.outage(), "after 10 s", "pauses", seed=seed)
    assert (came["done"], came["failed"], came["pending"]) == (5000, 0, 0)
    assert came["per job"] <= 1.05


@pytest.mark.parametrize("seed", [0, 1])
def test_a_service_that_never_comes_back(seed: int) -> None:
    """A run asks a dead service little, stops within two minutes, and keeps what never ran."""
    came = numbers(_storms.outage(), "never", "pauses", seed=seed)
    assert came["attempts"] <= 1300
    assert came["seconds"] < 120
    assert came["failed"] <= 50
    assert came["done"] + came["failed"] + came["pending"] == 5000


def test_a_budget_that_fails_calls() -> None:
    """Without the pause, the budget spares a dead service but throws away the batch."""
    came = numbers(_storms.outage(), "after 10 s", "fails")
    assert came["per job"] <= 1.05
    assert came["failed"] > 3000


@pytest.mark.parametrize("seed", [0, 1])
def test_429(seed: int) -> None:
    """One job that is told to wait makes the run wait: fewer are sent away, and none fails for it."""
    table = _storms.throttled()
    alone = numbers(table, "100", "0.02 s", "none", seed=seed)
    together = numbers(table, "100", "0.02 s", "pauses", seed=seed)
    assert alone["done"] < 960
    assert together["done"] >= 999
    assert together["attempts"] < 0.6 * alone["attempts"]


@pytest.mark.parametrize("protection", ["none", "pauses"])
def test_an_adaptive_limit_learns_from_429(protection: str) -> None:
    """A limit that is halved by each wait that is asked for soon fits the service, though it hears of it late."""
    came = numbers(_storms.throttled(), "Adaptive()", "0.1 s", protection)
    assert came["done"] == 1000
    assert came["per job"] <= 1.15


def test_the_limit_decides() -> None:
    """More at once than the service can do in an attempt's time is ruin, which the pause mends and Adaptive avoids."""
    table = _storms.limits()
    assert numbers(table, "150", "none")["done"] == 2000
    assert numbers(table, "250", "none")["done"] < 300
    assert numbers(table, "250", "pauses")["done"] > 1900
    adaptive = numbers(table, "Adaptive()", "pauses")
    assert adaptive["done"] == 2000
    assert adaptive["per job"] <= 1.05


@pytest.mark.parametrize("errors", ["5%", "20%"])
def test_bad_luck(errors: str) -> None:
    """A service that only fails now and then is retried as ever: the protection loses no job."""
    came = numbers(_storms.unlucky(), errors, "5", "pauses")
    assert came["done"] >= 4995
    assert came["paused"] < 0.3 * came["seconds"]


@pytest.mark.parametrize(
    ("client", "until", "recovers"),
    [("no retries", 45.0, True), ("3 retries", 35.0, False), ("3 retries, Budget()", 55.0, True)],
)
def test_clients(client: str, until: float, recovers: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Retries keep a service down that was only slow for a while; with a budget for each client it gets well."""
    scenario = _storms.clients().scenarios[client,]
    assert isinstance(scenario, Clients)
    came = replace(scenario, until=until).play(0).numbers
    assert (came["served again after"] < math.inf) == recovers
    assert (came["per call"] > 3) == (not recovers)


def test_a_reserve_fills_the_budget() -> None:
    """Clients whose budgets get ten retries a second without any success try more often than others."""
    scenarios = _storms.clients().scenarios
    with_reserve = scenarios["3 retries, 20 % and 10 a second",]
    assert isinstance(with_reserve, Clients)
    with_reserve = replace(with_reserve, until=25.0)
    without = replace(with_reserve, reserve=0.0)
    assert with_reserve.play(0).numbers["per call"] > without.play(0).numbers["per call"] + 0.3


# What the command prints


class Told:
    """A scenario whose story is told, not played."""

    def play(self, seed: int) -> Story:
        """Make a story of the seed."""
        return Story(numbers={"done": 10 + seed, "again": math.inf}, arrivals=[0.5, 2.0, 2.5], answers=[2.5])


def told() -> _storms.Table:
    """A table that takes no time."""
    scenarios: Mapping[tuple[str, ...], Scenario] = {("a", "one"): Told(), ("b", "another"): Told()}
    return _storms.Table("Told:", ("name", "sort"), scenarios, {"both": list(scenarios)})


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that take no time."""
    monkeypatch.setattr(storm, "TABLES", (told, told))


@pytest.mark.usefixtures("only_told")
@pytest.mark.parametrize(
    ("arguments", "seeds", "done", "tables"),
    [
        ([], "0", "10", 2),
        (["--table", "2", "--seed", "7"], "7", "17", 1),
        (["--table", "1", "--seeds", "3"], "0 1 2", "11 (10-12)", 1),
    ],
)
def test_the_tables(
    arguments: Sequence[str], seeds: str, done: str, tables: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The seeds are printed, and a line for each scenario: the median, and the range where there is one."""
    assert storm.main(arguments) == 0
    width = len(done)
    table = [
        "Told:",
        f"name  sort     {'done'.rjust(width)}  again",
        f"a     one      {done.rjust(4)}  never",
        f"b     another  {done.rjust(4)}  never",
        "",
    ]
    assert capsys.readouterr().out.splitlines() == [f"seeds: {seeds}", "", *table * tables]


@pytest.mark.parametrize(("number", "text"), [(3, "3"), (3.14159, "3.14"), (0.0, "0.00"), (math.inf, "never")])
def test_a_number(number: float, text: str) -> None:
    """Counts are whole, the rest has two digits, and what never happens is never."""
    assert storm.written(number) == text


def test_all_tables_have_their_pictures() -> None:
    """What is drawn is in the tables, and all scenarios of a table have as many labels as it has."""
    for table in (make() for make in _storms.TABLES):
        assert {len(labels) for labels in table.scenarios} == {len(table.labels)}
        assert {labels for chosen in table.pictures.values() for labels in chosen} <= set(table.scenarios)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--table", "0"], "invalid choice"),
        (["--table", "6"], "invalid choice"),
        (["--seeds", "0"], "at least 1"),
        (["--seed", "x"], "invalid int"),
        (["--seed", "1", "--seeds", "2"], "not allowed with"),
        (["again"], "unrecognized"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that makes no sense is explained on stderr, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        storm.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is the exit code 130, not an exception."""

    def interrupted() -> _storms.Table:
        raise KeyboardInterrupt

    monkeypatch.setattr(storm, "TABLES", (interrupted,))
    assert storm.main([]) == 130


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m` reads the process's own arguments and ends with main's exit code."""
    monkeypatch.delitem(sys.modules, MODULE)
    monkeypatch.setattr(sys, "argv", ["storm", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(MODULE, run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: python -m {MODULE}" in capsys.readouterr().out


# What it draws


class Axes:
    """Stands in for matplotlib's, and keeps what it is to show."""

    def __init__(self) -> None:
        self.lines: dict[str, list[int]] = {}
        self.texts: list[str] = []

    def plot(self, values: list[int], *, label: str) -> None:
        """Keep a line."""
        self.lines[label] = values

    def set_ylabel(self, text: str) -> None:
        """Keep a text."""
        self.texts.append(text)

    set_xlabel = set_ylabel

    def set_ylim(self, bottom: float) -> None:
        """Keep where the axis begins."""
        assert bottom == 0

    def legend(self, **_: object) -> None:
        """Show which line is which."""
        self.texts.append("legend")


class Pyplot(ModuleType):
    """Stands in for matplotlib.pyplot, which the tests do without."""

    def __init__(self) -> None:
        super().__init__("matplotlib.pyplot")
        self.axes = (Axes(), Axes())
        self.closed: list[object] = []

    def rc_context(self, _: Mapping[str, object]) -> "nullcontext[None]":
        """Take settings."""
        return nullcontext()

    def subplots(self, *_: int, **__: object) -> tuple[object, tuple[Axes, Axes]]:
        """Make a figure that writes a word instead of a picture."""
        return SimpleNamespace(savefig=lambda path, **_: path.write_text("drawn")), self.axes

    def close(self, figure: object) -> None:
        """Let go of a figure."""
        self.closed.append(figure)


@pytest.mark.usefixtures("only_told")
def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture shows the attempts and the good answers of each second, a line for each scenario, in a new file."""
    pyplot = Pyplot()
    monkeypatch.setattr(importlib, "import_module", lambda _: pyplot)
    directory = tmp_path / "new" / "pictures"
    assert storm.main(["--plot", str(directory), "--table", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [str(directory / "both.svg")]
    assert (directory / "both.svg").read_text() == "drawn"
    attempts, answers = pyplot.axes
    assert attempts.lines == {"a, one": [1, 0, 2], "b, another": [1, 0, 2]}
    assert answers.lines == {"a, one": [0, 0, 1], "b, another": [0, 0, 1]}
    assert "legend" in attempts.texts
    assert len(pyplot.closed) == 1


def test_pictures_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matplotlib is missing, the error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        _plots.draw(tmp_path / "none.svg", {})


def test_a_line_goes_on_to_the_end() -> None:
    """Seconds in which nothing happened count as none, those at the end too."""
    assert _plots.a_second([0.5, 0.6, 2.0], 4.2) == [2, 0, 1, 0, 0]
    assert _plots.a_second([], 1.0) == [0, 0]
