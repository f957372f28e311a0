"""The log: on by default, silent until the user configures logging."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from aiosupervise import Budget, Overload, Policy, Reason, map_all, run_all, supervise
from aiosupervise._events.log import LOGGER, beside_bars, is_logged

from .kept import POLICY, Script

pytestmark = pytest.mark.looptime


def values(record: logging.LogRecord) -> dict[str, object]:
    """What of ours a record has, without the prefix."""
    prefix = "aiosupervise_"
    return {name.removeprefix(prefix): value for name, value in vars(record).items() if name.startswith(prefix)}


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    """Catch records from INFO on."""
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("deadline", [None, 60.0], ids=["plain", "guarded"])
async def test_a_retry_is_a_warning_before_the_wait(deadline: float | None, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged at the time of the failure, with the wait to come."""
    call = asyncio.create_task(supervise(POLICY.replace(deadline=deadline))(Script(ConnectionError("down")))())
    await asyncio.sleep(0.5)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("aiosupervise", "WARNING")
    assert values(record) == {
        "call": "Script",
        "run": None,
        "job": None,
        "attempt": 1,
        "wait": 1.0,
        "error": "ConnectionError('down')",
    }
    assert await call == "done"
    assert len(caplog.records) == 1


async def test_giving_up_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the attempts, the seconds since the first failure, and the reason."""
    policy = POLICY.replace(max_retries=1, name="fetch")
    with pytest.raises(ConnectionError):
        await supervise(policy)(Script(ConnectionError(), ConnectionError("down")))()
    *_, record = caplog.records
    assert record.levelname == "ERROR"
    assert values(record) == {
        "call": "fetch",
        "run": None,
        "job": None,
        "attempts": 2,
        "elapsed": 1.0,
        "reason": Reason.EXHAUSTED.value,
        "error": "ConnectionError('down')",
    }


async def test_a_line_is_printed_while_bars_step_aside(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    """Whatever draws bars is asked to make room before the line comes, and has its place back afterwards."""
    seen: list[int] = []

    @contextmanager
    def beside() -> Iterator[None]:
        seen.append(len(caplog.records))
        yield
        seen.append(len(caplog.records))

    beside_bars.append(beside)
    request.addfinalizer(beside_bars.clear)
    await run_all([Script()])
    assert seen == [0, 1]


async def test_a_run_is_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    """Its end is logged at INFO with its counts, and its retries with the index of the job."""
    jobs: list[Callable[[], Awaitable[str]]] = [
        supervise(POLICY)(Script(ConnectionError())),
        Script(ValueError()),
        Script(),
    ]
    await run_all(jobs, name="pages")
    retry, summary = caplog.records
    assert values(retry)["job"] == 0
    assert values(retry)["run"] == values(summary)["run"]
    assert summary.levelname == "INFO"
    assert values(summary) == {
        "name": "pages",
        "run": values(retry)["run"],
        "total": 3,
        "succeeded": 2,
        "failed": 1,
        "pending": 0,
        "retries": 1,
        "elapsed": 1.0,
    }


async def test_a_pause_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its length and its reason."""
    budget = Budget()
    budget.tokens = 0
    await run_all([supervise(POLICY)(Script(ConnectionError()))], overload=Overload(budget=budget), name="pages")
    [pause] = [record for record in caplog.records if record.getMessage() == "a run pauses"]
    assert pause.levelname == "WARNING"
    assert 0.25 <= float(str(values(pause)["seconds"])) <= 0.5
    assert values(pause)["why"] == "the retry budget is empty"


async def test_messages_are_constant_and_hold_no_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """A message has no values in it, and no record has the arguments of a call."""

    @supervise(POLICY.replace(max_retries=1))
    async def log_in(password: str) -> None:
        raise ConnectionError("refused" if password else "no password")

    await map_all(log_in, ["hunter2", "hunter3"])
    assert {record.getMessage() for record in caplog.records} == {
        "a call failed and will be retried",
        "a call was given up",
        "a run has finished",
    }
    assert "hunter" not in str([vars(record) for record in caplog.records])


async def test_what_is_no_failure_of_a_policy_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither success nor an error that the policy does not list is any of the log's business."""
    await supervise(POLICY)(Script())()
    with pytest.raises(KeyError):
        await supervise(POLICY)(Script(KeyError()))()
    assert caplog.records == []


async def test_an_error_that_cannot_be_printed(caplog: pytest.LogCaptureFixture) -> None:
    """An error whose repr fails does not harm the call."""

    class ShyError(ConnectionError):
        def __repr__(self) -> str:
            raise RuntimeError

    assert await supervise(POLICY)(Script(ShyError()))() == "done"
    assert values(caplog.records[0])["error"] == "a value of type ShyError that cannot be printed"


async def test_a_filter_that_raises() -> None:
    """What a filter of the user's raises goes to the loop's exception handler, and does not hurt the work."""
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))

    def broken(_: logging.LogRecord) -> bool:
        raise LookupError

    LOGGER.addFilter(broken)
    try:
        assert await supervise(POLICY)(Script(ConnectionError()))() == "done"
    finally:
        LOGGER.removeFilter(broken)
    assert [type(report) for report in reports] == [LookupError]


@pytest.mark.parametrize(
    ("change", "heard"),
    [
        ({}, False),
        ({"filters": [lambda _: True]}, True),
        ({"handlers": [*LOGGER.handlers, logging.NullHandler()]}, True),
        ({"handlers": [*LOGGER.handlers, logging.NullHandler()], "disabled": True}, False),
    ],
    ids=["nobody", "filter", "handler", "disabled"],
)
def test_a_record_is_made_only_for_somebody(
    change: dict[str, object], *, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody has configured logging no record is made; a handler or a filter of the user's is somebody."""
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest
    for name, value in change.items():
        monkeypatch.setattr(LOGGER, name, value)
    assert is_logged(logging.ERROR) is heard


async def test_nobody_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has configured logging and nobody listens, calls and runs do what they do anyway."""
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest
    budget = Budget()
    budget.tokens = 0
    calls = [supervise(POLICY)(Script(ConnectionError())), supervise(POLICY)(Script(*[ConnectionError()] * 3))]
    assert (await run_all(calls, overload=Overload(budget=budget))).tally.succeeded == 2
    assert (await run_all([supervise(POLICY)(Script(*[ConnectionError()] * 9))])).tally.failed == 1


def test_nothing_is_printed_until_logging_is_configured() -> None:
    """A program that retries and gives up prints nothing of ours by itself."""
    program = """
import asyncio, aiosupervise
@aiosupervise.supervise(retry_on=ConnectionError, backoff=[0], max_retries=1)
async def fetch():
    raise ConnectionError
async def main():
    await aiosupervise.run_all([fetch])
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


async def test_logging_costs_no_retry_its_budget_or_its_order(caplog: pytest.LogCaptureFixture) -> None:
    """One record for each retry, in the order of the attempts."""
    errors = [ConnectionError(number) for number in range(3)]
    assert await supervise(Policy(retry_on=ConnectionError, backoff=[0]))(Script(*errors))() == "done"
    assert [values(record)["attempt"] for record in caplog.records] == [1, 2, 3]
