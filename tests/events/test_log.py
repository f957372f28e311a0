"""The log: one line for each event that an operator wants to read."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from aiosupervise import (
    AttemptFailed,
    Budget,
    ChildExited,
    ChildReady,
    ChildStopped,
    Event,
    GaveUp,
    GroupResumed,
    Overload,
    Policy,
    Reason,
    RunFinished,
    RunResumed,
    Tally,
    listen,
    map_all,
    run_all,
    supervise,
)
from aiosupervise._events.emit import Scope, emit
from aiosupervise._events.log import CALLS, LINES, RUNS, SUPERVISORS, LogLine, beside_bars, is_logged, line_for

from .kept import POLICY, Kept, Script

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
    assert (record.name, record.levelname) == ("aiosupervise.call", "WARNING")
    assert record.getMessage() == "Script failed in attempt 1 and is retried in 1.00 s: ConnectionError: down"
    assert values(record) == {
        "call": "Script",
        "run": None,
        "job": None,
        "attempt": 1,
        "wait": 1.0,
        "error": "ConnectionError: down",
    }
    assert await call == "done"
    assert len(caplog.records) == 1


async def test_giving_up_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the attempts, the seconds since the first failure, and the reason."""
    policy = POLICY.replace(max_retries=1, name="fetch")
    with pytest.raises(ConnectionError):
        await supervise(policy)(Script(ConnectionError(), ConnectionError("down")))()
    *_, record = caplog.records
    assert (record.name, record.levelname) == ("aiosupervise.call", "ERROR")
    line = "fetch gave up in attempt 2, 1.00 s after the first failure (retries exhausted): ConnectionError: down"
    assert record.getMessage() == line
    assert values(record) == {
        "call": "fetch",
        "run": None,
        "job": None,
        "attempts": 2,
        "elapsed": 1.0,
        "reason": Reason.EXHAUSTED.value,
        "error": "ConnectionError: down",
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


@pytest.mark.parametrize(("failures", "text"), [(0, "0 retries"), (1, "1 retry"), (2, "2 retries")])
async def test_one_retry_is_one_retry(failures: int, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The number and the noun agree, in the log and in the repr of the report; the template is constant."""
    report = await run_all([supervise(POLICY)(Script(*[ConnectionError() for _ in range(failures)]))])
    assert caplog.records[-1].getMessage().endswith(f"0 pending, {text}")
    assert f"0 pending, {text}," in repr(report)
    assert caplog.records[-1].msg.endswith("%(pending)d pending, %(retries)d %(retry_word)s")


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
    assert retry.getMessage() == "Script (job 0) failed in attempt 1 and is retried in 1.00 s: ConnectionError"
    assert values(retry)["run"] == values(summary)["run"]
    assert (summary.name, summary.levelname) == ("aiosupervise.run", "INFO")
    assert summary.getMessage() == "run pages finished in 1.00 s: 2 succeeded, 1 failed, 0 pending, 1 retry"
    assert values(summary) == {
        "name": "pages",
        "run": values(retry)["run"],
        "total": 3,
        "succeeded": 2,
        "failed": 1,
        "pending": 0,
        "retries": 1,
        "outcomes": 3,
        "elapsed": 1.0,
        "replayed": None,
    }


async def test_a_pause_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its length and its reason; that the run resumes is logged at INFO."""
    budget = Budget()
    budget.tokens = 0
    await run_all([supervise(POLICY)(Script(ConnectionError()))], overload=Overload(budget=budget), name="pages")
    [pause] = [record for record in caplog.records if "pauses" in record.msg]
    assert (pause.name, pause.levelname) == ("aiosupervise.run", "WARNING")
    seconds = float(str(values(pause)["seconds"]))
    assert 0.25 <= seconds <= 0.5
    assert values(pause)["why"] == "the retry budget is empty"
    assert pause.getMessage() == f"run pages pauses for {seconds:.1f} s: the retry budget is empty"
    [resumed] = [record for record in caplog.records if "resumes" in record.msg]
    assert (resumed.name, resumed.levelname) == ("aiosupervise.run", "INFO")
    assert resumed.getMessage() == "run pages resumes"


async def test_templates_are_constant_and_no_record_has_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """What groups records, `msg`, has no values in it, and no record has the arguments of a call."""

    @supervise(POLICY.replace(max_retries=1))
    async def log_in(password: str) -> None:
        raise ConnectionError("refused" if password else "no password")

    await map_all(log_in, ["hunter2", "hunter3"])
    without_journal = LINES[RunFinished].otherwise
    assert without_journal is not None
    assert {record.msg for record in caplog.records} == {
        LINES[AttemptFailed].template,
        LINES[GaveUp].template,
        without_journal.template,
    }
    assert "hunter" not in str([vars(record) for record in caplog.records])


async def test_what_is_no_failure_of_a_policy_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither success nor an error that the policy does not list is any of the log's business."""
    await supervise(POLICY)(Script())()
    with pytest.raises(KeyError):
        await supervise(POLICY)(Script(KeyError()))()
    assert caplog.records == []


async def test_an_error_is_its_type_and_its_message(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the `str` of an error, never its repr, on one line: promise 37."""

    class ShyError(ConnectionError):
        def __repr__(self) -> str:
            return "hunter2"

    assert await supervise(POLICY)(Script(ShyError("line\none\x1b[2J")))() == "done"
    assert values(caplog.records[0])["error"] == r"ShyError: line\none\x1b[2J"
    assert "hunter2" not in str(vars(caplog.records[0]))


async def test_an_error_whose_message_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """An error whose `str` fails does not harm the call."""

    class ShyError(ConnectionError):
        def __str__(self) -> str:
            raise RuntimeError

    assert await supervise(POLICY)(Script(ShyError()))() == "done"
    assert values(caplog.records[0])["error"] == "ShyError, whose message cannot be read"


async def test_a_filter_that_raises() -> None:
    """An error in a filter goes to the loop's exception handler and does not affect the call."""
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))

    def broken(_: logging.LogRecord) -> bool:
        raise LookupError

    CALLS.addFilter(broken)
    try:
        assert await supervise(POLICY)(Script(ConnectionError()))() == "done"
    finally:
        CALLS.removeFilter(broken)
    assert [type(report) for report in reports] == [LookupError]


PARENT = logging.getLogger("aiosupervise")
HANDLER, SILENT, PICKY = logging.Handler(), logging.NullHandler(), logging.Handler(logging.ERROR)


def unconfigure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make logging as it is in a program that does not configure it: without pytest's handlers and levels."""
    for logger in (logging.root, PARENT, CALLS, RUNS, SUPERVISORS):
        monkeypatch.setattr(logger, "handlers", [SILENT] if logger is CALLS else [])
    PARENT.setLevel(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)


@pytest.mark.parametrize(
    ("logger", "change", "level", "expected"),
    [
        (CALLS, {}, logging.ERROR, False),
        (RUNS, {}, logging.WARNING, True),
        (RUNS, {}, logging.INFO, False),
        (SUPERVISORS, {}, logging.ERROR, True),
        (logging, {"lastResort": None}, logging.ERROR, False),
        (logging, {"lastResort": logging.StreamHandler()}, logging.WARNING, True),
        (logging, {"lastResort": PICKY}, logging.WARNING, False),
        (logging.root, {"handlers": [HANDLER]}, logging.WARNING, True),
        (logging.root, {"handlers": [HANDLER]}, logging.INFO, False),
        (logging.root, {"handlers": [PICKY]}, logging.WARNING, False),
        (logging.root, {"handlers": [PICKY]}, logging.ERROR, True),
        (logging.root, {"handlers": [HANDLER], "disabled": True}, logging.ERROR, True),
        (logging.root.manager, {"disable": logging.ERROR}, logging.ERROR, False),
        (PARENT, {"handlers": [SILENT]}, logging.ERROR, False),
        (PARENT, {"handlers": [HANDLER]}, logging.ERROR, True),
        (PARENT, {"filters": [bool]}, logging.ERROR, True),
        (PARENT, {"propagate": False}, logging.ERROR, True),
        (RUNS, {"filters": [bool]}, logging.WARNING, True),
        (RUNS, {"handlers": [SILENT]}, logging.ERROR, False),
        (RUNS, {"handlers": [SILENT, HANDLER]}, logging.ERROR, True),
        (RUNS, {"handlers": [HANDLER], "disabled": True}, logging.ERROR, False),
        (CALLS, {"filters": [bool]}, logging.ERROR, True),
        (CALLS, {"handlers": [SILENT, HANDLER]}, logging.ERROR, True),
    ],
)
def test_a_record_is_made_only_for_a_reader(
    logger: Any, change: dict[str, object], level: int, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that takes the level is a reader, a filter of the logger itself too; without handlers, `lastResort`."""
    unconfigure(monkeypatch)
    for name, value in change.items():
        monkeypatch.setattr(logger, name, value)
    asked = logger if logger in (CALLS, RUNS, SUPERVISORS) else RUNS
    assert is_logged(asked, level) is expected


def test_a_logger_that_does_not_propagate_is_read_by_its_own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers beyond a logger that does not propagate read nothing of it."""
    unconfigure(monkeypatch)
    monkeypatch.setattr(logging.root, "handlers", [HANDLER])
    monkeypatch.setattr(PARENT, "handlers", [SILENT])
    assert is_logged(CALLS, logging.ERROR)
    monkeypatch.setattr(PARENT, "propagate", False)
    assert not is_logged(CALLS, logging.ERROR)


def test_each_line_of_the_table_can_be_written(caplog: pytest.LogCaptureFixture) -> None:
    """Every template names values that its event has, and is a sentence without them left out."""
    for kind, line in LINES.items():
        event = sample(kind)
        line.write(event)
        if line.otherwise is not None:
            line.otherwise.write(sample(kind, last=None))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == len(LINES) + 3
    assert not any("%(" in text or "None" in text for text in texts)
    assert {record.name for record in caplog.records} == {CALLS.name, RUNS.name, SUPERVISORS.name}


@pytest.mark.parametrize(
    ("event", "text", "group"),
    [
        (
            AttemptFailed(1, "fetch", 1, 0, 1, OSError(), 0.5, "a.example"),
            "fetch (job 0, group a.example) failed",
            "a.example",
        ),
        (AttemptFailed(1, "fetch", 1, 0, 1, OSError(), 0.5), "fetch (job 0) failed", "absent"),
        (GroupResumed(1, "pages", Tally(3, 1), None), "group None of run pages resumes", "None"),
    ],
    ids=["call", "call without a group", "run"],
)
def test_a_line_names_the_group(event: Event, text: str, group: str, caplog: pytest.LogCaptureFixture) -> None:
    """For a call, None means that the run has no groups; in an event of a group, it is the key of the group."""
    LINES[type(event)].write(event)
    assert caplog.records[0].getMessage().startswith(text)
    assert values(caplog.records[0]).get("group", "absent") == group


def test_the_line_of_a_run_with_a_journal_has_the_number_of_replayed_outcomes(caplog: pytest.LogCaptureFixture) -> None:
    """The total is the number of all outcomes, including pending ones."""
    tally = Tally(3, 1, succeeded=1, failed=1, pending=1, replayed=1)
    LINES[RunFinished].write(RunFinished(1, "pages", tally, 2.0, 1))
    assert caplog.records[0].getMessage().endswith("; 1 of 3 from the journal")


def test_a_line_has_a_traceback_on_request(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback is logged only if the line requests it, and the event has an error."""
    error = ValueError("broken")
    plain = LogLine(SUPERVISORS, logging.ERROR, "%(child)s")
    traced = LogLine(SUPERVISORS, logging.ERROR, "%(child)s", traceback=True)
    plain.write(ChildExited(1, "web", "it", error))
    traced.write(ChildExited(1, "web", "it", error))
    traced.write(ChildExited(1, "web", "it", None))
    traced.write(ChildReady(1, "web", "it"))
    assert [record.exc_info for record in caplog.records] == [None, (ValueError, error, None), None, None]


def test_an_event_can_be_left_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Listeners receive it nevertheless."""
    with listen(kept := Kept()):
        Scope(1, "pages").emit(RunResumed, Tally(3, 1), is_logged=False)
    assert kept.names() == ["RunResumed"]
    assert caplog.records == []


def sample(kind: Callable[..., Event], **last: None) -> Event:
    """An event of a kind; its last field is None on request."""
    values: dict[str, object] = dict.fromkeys(("run", "job", "supervisor", "attempt", "attempts"), 1)
    values |= {
        "restarts": 1,
        "jobs": 1,
        "name": "it",
        "call": 1,
        "child": "one",
        "tally": Tally(3, 1),
        "error": ValueError("broken"),
    }
    values |= {"wait": 1.0, "elapsed": 1.0, "seconds": 1.0, "why": "full", "worker": "a", "reason": Reason.DEADLINE}
    values |= {"replayed": 1, "group": "a.example"}
    fields = [values[name] for name in cast("Any", kind).__match_args__]
    return kind(*(fields[:-1] if last else fields), *last.values())


@pytest.mark.parametrize("kind", [AttemptFailed, ChildExited, ChildStopped])
def test_what_goes_well_is_no_warning(kind: Callable[..., Event]) -> None:
    """An attempt without a retry is not logged by itself, and the end of a child without an error is at INFO."""
    failed, ended = (line_for(kind, (*range(6), last)) for last in (ValueError(), None))
    assert failed is not None
    assert failed.level == (logging.ERROR if kind is ChildExited else logging.WARNING)
    assert ended is None if kind is AttemptFailed else ended is not None and ended.level == logging.INFO


def test_a_line_says_how_the_events_of_a_kind_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the logger, the level and the template; events whose last field is None have a line of their own."""
    logger = logging.getLogger("aiosupervise.other")
    ended = LogLine(logger, logging.INFO, "%(child)s ended")
    monkeypatch.setitem(LINES, ChildExited, LogLine(logger, logging.ERROR, "%(child)s: %(error)s", otherwise=ended))
    monkeypatch.setitem(LINES, ChildStopped, ended)
    for kind, error in ((ChildExited, ValueError("broken")), (ChildExited, None), (ChildStopped, None)):
        emit(kind, (1, "web", "it", error), None)
    assert [(record.name, record.levelno, record.msg, record.getMessage()) for record in caplog.records] == [
        ("aiosupervise.other", logging.ERROR, "%(child)s: %(error)s", "it: ValueError: broken"),
        ("aiosupervise.other", logging.INFO, "%(child)s ended", "it ended"),
    ]


@pytest.mark.parametrize("is_in_table", [True, False])
def test_an_event_that_nobody_receives_is_not_made(*, is_in_table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where no handler would emit its line, nor where it is not logged at all."""

    def make(*_: object) -> Event:
        raise AssertionError

    unconfigure(monkeypatch)
    if is_in_table:
        monkeypatch.setitem(LINES, make, LINES[RunFinished])
    Scope(1, "pages").emit(make, 1.0)


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without logging configuration and without listeners, calls and runs behave as usual."""
    unconfigure(monkeypatch)
    budget = Budget()
    budget.tokens = 0
    calls = [supervise(POLICY)(Script(ConnectionError())), supervise(POLICY)(Script(*[ConnectionError()] * 3))]
    assert (await run_all(calls, overload=Overload(budget=budget))).tally.succeeded == 2
    assert (await run_all([supervise(POLICY)(Script(*[ConnectionError()] * 9))])).tally.failed == 1


def stderr_of(program: str) -> list[str]:
    """The lines that a program without any logging set-up prints to stderr."""
    head = "import asyncio\nfrom aiosupervise import *\n"
    done = subprocess.run([sys.executable, "-c", head + program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_calls_print_nothing_until_logging_is_configured() -> None:
    """A program that retries and gives up prints nothing of ours by itself."""
    program = """
@supervise(retry_on=ConnectionError, backoff=[0], max_retries=1)
async def fetch():
    raise ConnectionError
async def main():
    await run_all([fetch])
asyncio.run(main())
"""
    assert stderr_of(program) == []


def test_a_run_that_pauses_is_seen_without_any_set_up() -> None:
    """The line goes to stderr, as Python prints warnings of loggers without a handler."""
    program = """
failures = [ConnectionError("down")]
@supervise(retry_on=ConnectionError, backoff=[0])
async def fetch():
    for failure in failures:
        failures.remove(failure)
        raise failure
async def main():
    budget = Budget()
    budget.tokens = 0
    with testing.no_waiting():
        await run_all([fetch], overload=Overload(budget=budget), name="pages")
from aiosupervise import testing
asyncio.run(main())
"""
    assert stderr_of(program) == ["run pages pauses for 0.0 s: the retry budget is empty"]


def test_a_child_that_crashes_is_seen_without_any_set_up() -> None:
    """Its failure and its restart go to stderr; its start and its ordinary end do not."""
    program = """
failures = [LookupError("no such queue")]
async def poll():
    for failure in failures:
        failures.remove(failure)
        raise failure
async def main():
    async with Supervisor(backoff=[0], name="web") as sup:
        sup.start(poll, restart="transient", name="poll")
asyncio.run(main())
"""
    first, *traceback, restarted = stderr_of(program)
    assert first == "child poll of web has failed: LookupError: no such queue"
    assert (traceback[0], traceback[-1]) == ("Traceback (most recent call last):", "LookupError: no such queue")
    assert restarted == "child poll of web restarted; its restarts so far: 1"


async def test_logging_costs_no_retry_its_budget_or_its_order(caplog: pytest.LogCaptureFixture) -> None:
    """One record for each retry, in the order of the attempts."""
    errors = [ConnectionError(number) for number in range(3)]
    assert await supervise(Policy(retry_on=ConnectionError, backoff=[0]))(Script(*errors))() == "done"
    assert [values(record)["attempt"] for record in caplog.records] == [1, 2, 3]


async def test_logging_can_be_configured_while_a_call_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next retry is logged, so that somebody who looks for the reason of a long wait sees it."""
    unconfigure(monkeypatch)
    call = asyncio.create_task(supervise(POLICY)(Script(ConnectionError("a"), ConnectionError("b")))())
    await asyncio.sleep(0.5)
    monkeypatch.setattr(logging.root, "handlers", [caplog.handler])
    assert await call == "done"
    assert [values(record)["error"] for record in caplog.records] == ["ConnectionError: b"]


def test_without_any_set_up_the_log_of_calls_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log record is made of a retry, even where Python would print the warnings of other loggers."""
    monkeypatch.setattr(logging.root, "handlers", [])
    assert not is_logged(CALLS, logging.CRITICAL)
    assert is_logged(logging.getLogger("aiosupervise.run"), logging.WARNING)
    monkeypatch.setattr(logging.getLogger("aiosupervise"), "handlers", [logging.StreamHandler()])
    assert is_logged(CALLS, logging.CRITICAL)
