"""The simulation behind a page: its clock, its service, the claims of the page, and the command that prints it."""

import asyncio
import importlib
import logging
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

from storm import __main__ as command
from storm import plots, tables, virtual_time
from storm.scenarios import Batch, Clients, Result, Scenario, recovery_time
from storm.service import InternalServerError, Service, ServiceModel, Span, TooManyRequests

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the handler that the command adds to the library's logger, as the end of its process would."""
    monkeypatch.setattr(logging.getLogger("aiosupervise"), "handlers", [])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Disable the log of failed attempts: a simulation has thousands, and pytest would keep each record."""
    caplog.set_level(logging.CRITICAL, "aiosupervise")


def attempt(model: ServiceModel, program: Callable[[Service], Coroutine[object, None, Any]]) -> Service:
    """Run a program with a service, and return the service."""

    async def main() -> Service:
        service = Service(model, Random(1))
        await program(service)
        return service

    return virtual_time.run(main)


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

    assert virtual_time.run(sleep) == pytest.approx(365 * 86_400, abs=1e-6)


def test_a_program_that_hangs_is_an_error() -> None:
    """When all tasks wait and no timer is set, the loop raises: it would wait for ever."""
    loop = virtual_time.VirtualLoop()
    with pytest.raises(RuntimeError, match="no timer is set"):
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

    attempt(ServiceModel(workers=1), program)
    assert order == list(range(50))


@pytest.mark.parametrize("workers", [1, 20])
def test_finite_speed(workers: int) -> None:
    """However many requests arrive at once, each worker answers ten a second."""

    async def program(service: Service) -> None:
        await asyncio.gather(*(service.call() for _ in range(2000)))

    service = attempt(ServiceModel(workers=workers), program)
    assert len(service.successes) == 2000
    assert service.successes[-1] == pytest.approx(200 / workers, rel=0.1)


def test_abandoned_requests_are_processed() -> None:
    """A request that its client has abandoned occupies a worker all the same, so later requests wait as long."""

    async def two_calls(service: Service, *, patient: bool) -> None:
        first = asyncio.ensure_future(service.call())
        await asyncio.sleep(0)
        if not patient:
            first.cancel()
            await asyncio.wait([first])
        await asyncio.gather(first, service.call(), return_exceptions=True)

    left, waited = (attempt(ServiceModel(workers=1), partial(two_calls, patient=patient)) for patient in (False, True))
    assert len(waited.arrivals) == len(left.arrivals) == 2
    assert len(waited.successes) == 2
    assert left.successes == waited.successes[1:]


def test_down() -> None:
    """While it is down its answers are errors, which take as long as good ones."""
    took: list[float] = []

    async def program(service: Service) -> None:
        took.append(await seconds_of(service.call()))
        await asyncio.sleep(10.0 - took[0])
        await service.call()

    service = attempt(ServiceModel(workers=1, down=Span(0.0, 10.0)), program)
    assert took == attempt(ServiceModel(workers=1), one_call).successes
    assert len(service.successes) == 1
    with pytest.raises(InternalServerError):
        attempt(ServiceModel(workers=1, down=Span(0.0)), one_call)


def test_slow() -> None:
    """While it is slow, a request takes `slowdown` times as long."""
    usual = attempt(ServiceModel(workers=1), one_call).successes[0]
    assert attempt(ServiceModel(workers=1, slow=Span(0.0), slowdown=5.0), one_call).successes == [
        pytest.approx(5 * usual)
    ]


def test_rate_limit() -> None:
    """It admits a burst and then `rate_limit` requests a second; it rejects the others, which occupy no worker."""
    rejected: list[TooManyRequests] = []

    async def one(service: Service) -> None:
        try:
            await service.call()
        except TooManyRequests as error:
            rejected.append(error)

    async def program(service: Service) -> None:
        for burst, seconds in ((55, 0.5), (30, 10.0), (55, 0.0)):
            end = asyncio.get_running_loop().time() + seconds
            await asyncio.gather(*(one(service) for _ in range(burst)))
            await asyncio.sleep(end - asyncio.get_running_loop().time())

    service = attempt(ServiceModel(workers=100, rate_limit=50, rejection_time=0.02), program)
    assert len(service.arrivals) == 140
    assert len(service.successes) == 50 + 25 + 50  # 25 tokens were added in the half second between
    assert [error.retry_after for error in rejected] == [1.0] * 15


def test_a_rejection_takes_its_time() -> None:
    """A request is rejected after the rejection time, while the workers are free."""
    took: list[float] = []

    async def program(service: Service) -> None:
        took.append(await seconds_of(service.call()))

    attempt(ServiceModel(workers=1, rate_limit=0, rejection_time=0.02), program)
    assert took == [pytest.approx(0.02)]


def test_error_rate() -> None:
    """This share of its responses are errors, at random."""

    async def program(service: Service) -> None:
        await asyncio.gather(*(service.call() for _ in range(2000)), return_exceptions=True)

    assert len(attempt(ServiceModel(workers=100, error_rate=0.2), program).successes) == pytest.approx(1600, rel=0.05)


# The simulations


def test_a_simulation_repeats() -> None:
    """The same seed gives the same result, to the last attempt; the state of the global generator is restored."""
    batch = tables.outage().scenarios["after 10 s", "pauses"]
    assert isinstance(batch, Batch)
    state = random.getstate()
    results = [replace(batch, jobs=1500).simulate(seed) for seed in (3, 3, 4)]
    assert results[0] == results[1]
    assert results[0] != results[2]
    assert random.getstate() == state


def test_recovery_time() -> None:
    """Clients have recovered when nine in ten calls succeed, five seconds in a row."""
    calls = [(second + 0.5, second not in (4, 5, 8)) for second in range(20)]
    assert recovery_time(calls, since=4.0, until=20.0) == 5
    assert recovery_time(calls, since=4.0, until=13.0) == math.inf
    assert recovery_time([(second + 0.5, False) for second in range(20)], since=0.0, until=20.0) == math.inf


# What the page says of the library


def figures_of(table: tables.Table, *labels: str, seed: int = 0) -> dict[str, float]:
    """The figures of one line of a table."""
    return table.scenarios[labels].simulate(seed).figures


@pytest.mark.parametrize("seed", [0, 1])
def test_a_service_that_comes_back(seed: int) -> None:
    """By default no job is lost to an outage of ten seconds, and few calls are retried."""
    figures = figures_of(tables.outage(), "after 10 s", "pauses", seed=seed)
    assert (figures["done"], figures["failed"], figures["pending"]) == (5000, 0, 0)
    assert figures["per job"] <= 1.05


@pytest.mark.parametrize("seed", [0, 1])
def test_a_service_that_never_comes_back(seed: int) -> None:
    """Against a dead service a run makes few attempts, stops within two minutes, and keeps the unstarted jobs."""
    figures = figures_of(tables.outage(), "never", "pauses", seed=seed)
    assert figures["attempts"] <= 1300
    assert figures["seconds"] < 120
    assert figures["failed"] <= 50 + 8
    assert figures["done"] + figures["failed"] + figures["pending"] == 5000
    assert 0.5 * figures["seconds"] < figures["paused"] < figures["seconds"]


def test_a_budget_that_fails_calls() -> None:
    """Without the pause, the budget spares a dead service but loses most of the batch."""
    figures = figures_of(tables.outage(), "after 10 s", "fails")
    assert figures["per job"] <= 1.05
    assert figures["failed"] > 3000


@pytest.mark.parametrize("seed", [0, 1])
def test_429(seed: int) -> None:
    """One retry-after makes the whole run wait: fewer requests are rejected, and no job fails."""
    table = tables.rate_limit()
    alone = figures_of(table, "100", "0.02 s", "none", seed=seed)
    together = figures_of(table, "100", "0.02 s", "pauses", seed=seed)
    assert alone["done"] < 960
    assert together["done"] >= 999
    assert together["attempts"] < 0.6 * alone["attempts"]


@pytest.mark.parametrize("protection", ["none", "pauses"])
def test_an_adaptive_limit_learns_from_429(protection: str) -> None:
    """A limit that is halved by each retry-after soon fits the service, even if rejections arrive late."""
    figures = figures_of(tables.rate_limit(), "Adaptive()", "0.1 s", protection)
    assert figures["done"] == 1000
    assert figures["per job"] <= 1.15


def test_the_limit_decides() -> None:
    """A limit over what the service does within an attempt timeout loses the batch; pausing or Adaptive saves it."""
    table = tables.limits()
    assert figures_of(table, "150", "none")["done"] == 2000
    assert figures_of(table, "250", "none")["done"] < 300
    assert figures_of(table, "250", "pauses")["done"] > 1900
    adaptive = figures_of(table, "Adaptive()", "pauses")
    assert adaptive["done"] == 2000
    assert adaptive["per job"] <= 1.05


@pytest.mark.parametrize("errors", ["5%", "20%"])
def test_random_errors(errors: str) -> None:
    """A service with a constant error rate is retried as before: the protection loses no job."""
    figures = figures_of(tables.random_errors(), errors, "5", "pauses")
    assert figures["done"] >= 4995
    assert figures["paused"] < 0.3 * figures["seconds"]


@pytest.mark.parametrize(
    ("client", "until", "recovers"),
    [("no retries", 45.0, True), ("3 retries", 30.0, False), ("3 retries, Budget()", 55.0, True)],
)
def test_clients(client: str, until: float, recovers: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Retries keep a service down that was slow for a while; with a budget for each client it recovers."""
    scenario = tables.clients().scenarios[client,]
    assert isinstance(scenario, Clients)
    figures = replace(scenario, until=until).simulate(0).figures
    assert (figures["recovered after"] < math.inf) == recovers
    assert (figures["per call"] > 3) == (not recovers)


def test_a_reserve_fills_the_budget() -> None:
    """Clients whose budgets get ten retries a second without any success try more often than others."""
    scenarios = tables.clients().scenarios
    with_reserve = scenarios["3 retries, 20 % and 10 a second",]
    assert isinstance(with_reserve, Clients)
    with_reserve = replace(with_reserve, until=20.0)
    without = replace(with_reserve, reserve=0.0)
    assert with_reserve.simulate(0).figures["per call"] > without.simulate(0).figures["per call"] + 0.3


# What the command prints


class Fixed:
    """A scenario whose result is fixed, not simulated."""

    def simulate(self, seed: int) -> Result:
        """Return a result that depends on the seed."""
        return Result(figures={"done": 10 + seed, "again": math.inf}, arrivals=[0.5, 2.0, 2.5], successes=[2.5])


def fixed() -> tables.Table:
    """A table that needs no simulation."""
    scenarios: Mapping[tuple[str, ...], Scenario] = {("a", "one"): Fixed(), ("b", "another"): Fixed()}
    return tables.Table("Fixed:", ("name", "sort"), scenarios, {"both": list(scenarios)})


@pytest.fixture
def only_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that need no simulation."""
    monkeypatch.setattr(command, "TABLES", (fixed, fixed))


@pytest.mark.usefixtures("only_fixed")
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
    assert command.main(arguments) == 0
    width = len(done)
    table = [
        "Fixed:",
        f"name  sort     {'done'.rjust(width)}  again",
        f"a     one      {done.rjust(4)}  never",
        f"b     another  {done.rjust(4)}  never",
        "",
    ]
    assert capsys.readouterr().out.splitlines() == [f"seeds: {seeds}", "", *table * tables]


@pytest.mark.parametrize(("number", "text"), [(3, "3"), (3.14159, "3.14"), (0.0, "0.00"), (math.inf, "never")])
def test_a_number(number: float, text: str) -> None:
    """Counts are integers, other numbers have two decimals, and infinity is "never"."""
    assert command.format_number(number) == text


def test_all_tables_have_their_pictures() -> None:
    """Every scenario that is drawn is in its table, and each has a label for each label column."""
    for table in (make() for make in tables.TABLES):
        assert {len(labels) for labels in table.scenarios} == {len(table.labels)}
        assert {labels for chosen in table.pictures.values() for labels in chosen} <= set(table.scenarios)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--table", "0"], "invalid choice"),
        (["--table", "10"], "invalid choice"),
        (["--seeds", "0"], "must be at least 1"),
        (["--seed", "x"], "invalid int"),
        (["--seed", "1", "--seeds", "2"], "not allowed with"),
        (["again"], "unrecognized"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid option is explained on stderr, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is the exit code 130, not an exception."""

    def interrupted() -> tables.Table:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "TABLES", (interrupted,))
    assert command.main([]) == 130


def test_the_module_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m` reads the process's own arguments and ends with main's exit code."""
    monkeypatch.delitem(sys.modules, "storm.__main__")
    monkeypatch.setattr(sys, "argv", ["storm", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("storm", run_name="__main__")
    assert ended.value.code == 0
    assert "usage: python -m storm" in capsys.readouterr().out


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
        """Record that a figure was closed."""
        self.closed.append(figure)


@pytest.mark.usefixtures("only_fixed")
def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture shows the attempts and the successes of each second, a line for each scenario, in a new file."""
    pyplot = Pyplot()
    monkeypatch.setattr(importlib, "import_module", lambda _: pyplot)
    directory = tmp_path / "new" / "pictures"
    assert command.main(["--plot", str(directory), "--table", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [str(directory / "both.svg")]
    assert (directory / "both.svg").read_text() == "drawn"
    attempts, successes = pyplot.axes
    assert attempts.lines == {"a, one": [1, 0, 2], "b, another": [1, 0, 2]}
    assert successes.lines == {"a, one": [0, 0, 1], "b, another": [0, 0, 1]}
    assert "legend" in attempts.texts
    assert len(pyplot.closed) == 1


def test_pictures_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matplotlib is missing, the error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plots.draw(tmp_path / "none.svg", {})


def test_a_line_goes_on_to_the_end() -> None:
    """Seconds without an event count as 0, at the end too."""
    assert plots.per_second([0.5, 0.6, 2.0], 4.2) == [2, 0, 1, 0, 0]
    assert plots.per_second([], 1.0) == [0, 0]


@pytest.mark.parametrize("limit", ["5", "100"])
def test_inputs_that_always_fail_change_nothing_for_the_others(limit: str) -> None:
    """With 20 % of them, and with 10 % of the pages on a dead host, all others are done, and no run pauses."""
    for protection in ("none", "pauses"):
        figures = figures_of(tables.bad_inputs(), "20%", limit, protection)
        assert (figures["done"], figures["failed"], figures["paused"]) == (1600, 400, 0)
        figures = figures_of(tables.dead_host(), limit, protection)
        assert (figures["done"], figures["failed"], figures["paused"]) == (900, 100, 0)


def test_a_row_of_such_inputs_can_stop_a_run() -> None:
    """It looks like an outage."""
    figures = figures_of(tables.bad_inputs(), "10% in a row", "100", "pauses")
    assert figures["done"] == 1000
    assert figures["pending"] > 800


def test_most_jobs_survive_a_brownout() -> None:
    """With retries and the protection, nearly as many jobs are done as without."""
    bare, protected = (figures_of(tables.brownout(), "10", protection) for protection in ("none", "pauses"))
    assert protected["done"] >= bare["done"] - 500


def test_a_budget_of_its_own_keeps_contention_from_pausing_a_run() -> None:
    """A cost of 1 is enough for conflicts in half of the attempts."""
    figures = figures_of(tables.contention(), "50%", "Budget(cost=1)")
    assert figures["paused"] == 0
    assert figures["done"] >= 1990
