"""Crash reports: no failure of a child is silent, and ten thousand that are alike are one report and a count."""

import asyncio
import logging
from contextvars import copy_context

import pytest

from aiosupervise import ChildExited, Event, RestartsExceeded, Supervisor, listen
from aiosupervise._supervisor.crash_reports import CrashReports

from .scene import Scene, fails, me, now, returns, turns

pytestmark = pytest.mark.looptime

AGAIN = "has failed in the same way again: ValueError: broken; such failures of all children since the last report: "


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of failures."""
    return [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_a_crash_report_has_the_child_the_error_and_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """On the logger of supervisors, as an error."""
    error = KeyError("price")
    async with Supervisor(name="web") as sup:
        Scene().start(sup, "it", fails(1, error), restart="temporary")
    [record] = failures(caplog)
    assert record.getMessage() == "child it of web has failed: KeyError: 'price'"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert vars(record)["aiosupervise_child"] == "it"


async def test_a_failure_that_repeats_is_logged_by_count(caplog: pytest.LogCaptureFixture) -> None:
    """Once in full in `within` seconds; counts come after one second, two, four; listeners get each event."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor(within=60, max_restarts=None, backoff=[0], name="web") as sup:
            Scene().start(sup, "it", *[fails(0.5)] * 200)
            await asyncio.sleep(95.2)
            rows = [record.getMessage() for record in failures(caplog)]
            sup.stop()
    full = "child it of web has failed: ValueError: broken"
    assert [row for row in rows if row == full] == [full] * 2
    counts = [int(row.removeprefix(f"child it of web {AGAIN}")) for row in rows if row != full]
    assert counts[:4] == [2, 4, 8, 16]
    exits = len([event for event in events if isinstance(event, ChildExited)])
    assert exits == 190
    counted = [record for record in failures(caplog) if AGAIN in record.getMessage()]
    assert sum(vars(record)["aiosupervise_count"] for record in counted) + 2 == exits


async def test_restarts_are_logged_as_their_failures_are(caplog: pytest.LogCaptureFixture) -> None:
    """A restart after a failure that is only counted has no line of its own."""
    async with Supervisor(backoff=[0]) as sup:
        for number in range(100):
            Scene().start(sup, f"it-{number}", fails(1))
        await asyncio.sleep(3)
        sup.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "child it-0 of supervisor has failed: ValueError: broken",
        "child it-0 of supervisor restarted; its restarts so far: 1",
        f"child it-1 of supervisor {AGAIN}99",
    ]


async def test_the_restarts_of_siblings_are_logged_as_the_failure_is(caplog: pytest.LogCaptureFixture) -> None:
    """All restarts of a group are logged, or none if the failure is only counted, even if a sibling never failed."""
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        Scene().start(sup, "sibling")
        Scene().start(sup, "it", fails(1), fails(1))
        await asyncio.sleep(3)
        sup.stop()
    assert [child.restarts for child in sup.children()] == [2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "child it of supervisor has failed: ValueError: broken",
        "child sibling of supervisor restarted; its restarts so far: 1",
        "child it of supervisor restarted; its restarts so far: 1",
        f"child it of supervisor {AGAIN}1",
    ]


async def test_a_failure_that_is_only_counted_does_not_hide_a_restart_that_it_extends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The restart follows the new failure too."""
    async with Supervisor(strategy="rest_for_one", backoff=[2]) as sup:
        Scene().start(sup, "first", fails(3))
        Scene().start(sup, "it", fails(2, KeyError("new")))
        Scene().start(sup, "other", fails(1), restart="temporary")
        await asyncio.sleep(3.5)
        assert [child.state for child in sup.children()] == ["waiting", "waiting"]
        await asyncio.sleep(5)
        sup.stop()
    restarts = [record.getMessage() for record in caplog.records if "restarted" in record.getMessage()]
    assert restarts == [f"child {name} of supervisor restarted; its restarts so far: 1" for name in ("first", "it")]


async def test_failures_of_different_kinds_are_reported_in_full(caplog: pytest.LogCaptureFixture) -> None:
    """The type of the error and the line that raised it make a kind."""

    async def first() -> None:
        raise ValueError("first")

    async def second() -> None:
        raise ValueError("second")

    async with Supervisor() as sup:
        for func in (first, second):
            sup.start(func, restart="temporary")
        Scene().start(sup, "other", fails(0, KeyError()), restart="temporary")
    assert len(failures(caplog)) == 3


async def test_a_clean_up_that_fails_is_reported_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """As a warning: the child was stopped."""

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("clean-up")

    async with Supervisor() as sup:
        sup.start(clumsy, name="it")
        await turns()
        sup.stop()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is not None


async def test_a_permanent_child_that_returns_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    """A warning says why the next line is a restart; other children may return, and all as the supervisor stops."""
    async with Supervisor(backoff=[0], name="web") as sup:
        Scene().start(sup, "it", returns(1))
        Scene().start(sup, "may", returns(1), restart="transient")
        Scene().start(sup, "late", returns(3))
        await asyncio.sleep(2)
        Scene().start(sup, "slow", clean_up=2)
        await turns()
        sup.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "child it of web returned, although it is permanent",
        "child it of web restarted; its restarts so far: 1",
    ]
    assert vars(caplog.records[0])["aiosupervise_child"] == "it"


async def test_counts_are_not_made_where_nobody_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger may be switched off."""
    monkeypatch.setattr(logging.getLogger("aiosupervise.supervisor"), "disabled", True)
    logging.getLogger("aiosupervise.supervisor")._cache.clear()  # type: ignore[attr-defined]
    async with Supervisor(backoff=[0]) as sup:
        Scene().start(sup, "it", *[fails(0.5)] * 3, returns(0.5))
        await asyncio.sleep(10)
        sup.stop()
    logging.getLogger("aiosupervise.supervisor")._cache.clear()  # type: ignore[attr-defined]


async def test_kinds_are_forgotten_when_there_are_many() -> None:
    """A program that makes classes of errors does not fill the memory."""
    reports = CrashReports("web", 60.0, asyncio.get_running_loop(), copy_context())
    kinds = [type(f"Error{number}", (Exception,), {}) for number in range(150)]
    assert all(reports.is_new("it", kind()) for kind in kinds)
    assert not any(reports.is_new("it", kind()) for kind in kinds[50:])
    assert reports.is_new("it", kinds[0]())
    reports.close()


async def test_the_count_comes_before_the_next_full_report(caplog: pytest.LogCaptureFixture) -> None:
    """A failure exactly `within` seconds after a full report is still counted; after the next one, the count is new."""
    reports = CrashReports("web", 60.0, asyncio.get_running_loop(), copy_context())
    error = ValueError("broken")
    assert reports.is_new("it", error)
    await asyncio.sleep(60)
    assert not reports.is_new("it", error)
    assert caplog.records == []
    await asyncio.sleep(0.5)
    assert reports.is_new("it", error)
    counts = [f"child it of web {AGAIN}1"]
    assert [record.getMessage() for record in caplog.records] == counts
    await asyncio.sleep(100)
    reports.close()
    assert [record.getMessage() for record in caplog.records] == counts


class BrokenReprError(Exception):
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise LookupError

    __str__ = __repr__


async def test_an_error_with_a_broken_repr_does_not_replace_a_cancellation() -> None:
    """The caller that is cancelled while the supervisor gives up gets its CancelledError."""

    async def serve() -> None:
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "slow", clean_up=2)
            Scene().start(sup, "it", fails(1, BrokenReprError()))
            await asyncio.Event().wait()

    caller = asyncio.create_task(serve())
    await asyncio.sleep(2)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert "its last errors: BrokenReprError, whose message cannot be read" in caught.value.__notes__[0]
    assert (me().cancelling(), now()) == (0, 3)


async def test_an_error_with_a_broken_repr_can_be_shown() -> None:
    """In the repr of its child, and in the error of the supervisor."""
    async with Supervisor() as sup:
        child = Scene().start(sup, "it", fails(1, BrokenReprError()), restart="temporary")
        await sup.wait()
    assert repr(child) == "<Child it: failed, 0 restarts, last error BrokenReprError, whose message cannot be read>"
    exceeded = RestartsExceeded("it", (BrokenReprError(),), 0, 5.0)
    assert str(exceeded).endswith("its last errors: BrokenReprError, whose message cannot be read")


class SecretReprError(Exception):
    """An error whose repr quotes what is secret, and whose message does not."""

    def __init__(self) -> None:
        super().__init__("a secret")

    def __str__(self) -> str:
        return "harmless"


async def test_the_repr_of_an_error_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in the log, the repr of a child, the error of the supervisor, its repr, and the note on a cancellation."""
    caplog.set_level(logging.INFO)
    shown: list[str] = []

    async def serve() -> None:
        async with Supervisor(max_restarts=2, backoff=[0], name="web") as sup:
            Scene().start(sup, "slow", clean_up=2)
            it = Scene().start(sup, "it", *[fails(1, SecretReprError())] * 3)
            try:
                await asyncio.Event().wait()
            finally:
                shown.append(repr(it))

    caller = asyncio.create_task(serve())
    await asyncio.sleep(4)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    exceeded = RestartsExceeded("it", (SecretReprError(),), 0, 5.0)
    shown += [*caught.value.__notes__, str(exceeded), repr(exceeded), repr(ExceptionGroup("web escalated", [exceeded]))]
    assert ["harmless" in text for text in shown] == [True] * 5
    records = [
        logging.Formatter().format(record) + repr(vars(record)["aiosupervise_child"]) for record in caplog.records
    ]
    extras = [repr(value) for record in caplog.records for name, value in vars(record).items() if "aiosup" in name]
    assert sum("harmless" in text for text in records) == 4
    assert [text for text in shown + records + extras if "a secret" in text] == []


def test_the_error_of_a_supervisor_has_a_repr_even_if_those_of_the_children_have_none() -> None:
    """It is made of their types and messages."""
    exceeded = RestartsExceeded("it", (BrokenReprError(), ValueError("broken")), 1, 5.0)
    assert repr(exceeded) == (
        "RestartsExceeded('it', (BrokenReprError, whose message cannot be read, ValueError: broken), 1, 5.0)"
    )


async def test_a_broken_error_is_reported_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Its child is restarted like any other, and tasks that wait for it get the error."""
    async with Supervisor(backoff=[0]) as sup:
        child = Scene().start(sup, "it", fails(1, BrokenReprError()), fails(1, BrokenReprError()), returns(1))
        await asyncio.sleep(2.5)
        assert (child.state, child.restarts) == ("running", 2)
        late = Scene().start(sup, "late", fails(1, BrokenReprError()), ready=2.0, restart="temporary")
        with pytest.raises(BrokenReprError):
            await late.wait_ready()
        sup.stop()
    rows = [record.getMessage() for record in failures(caplog)]
    assert rows[0] == "child it of supervisor has failed: BrokenReprError, whose message cannot be read"
    assert [row.split()[1] for row in rows] == ["it", "it", "late"]
