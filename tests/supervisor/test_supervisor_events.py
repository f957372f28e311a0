"""The events and log records of a supervisor."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from aiosupervise import (
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    RestartsExceeded,
    Supervisor,
    listen,
    ready,
    run_all,
)

from .scene import Scene, fails, returns, stubborn, turns

pytestmark = pytest.mark.looptime

COLOUR: ContextVar[str] = ContextVar("COLOUR")

OURS = (ChildStarted, ChildExited, ChildRestarted, ChildStopped, Escalated)


def rows_of(events: list[Event]) -> list[tuple[Any, ...]]:
    """Each event of a supervisor as a row: its type, the child and its own field."""
    rows: list[tuple[Any, ...]] = []
    for event in events:
        assert isinstance(event, OURS)
        own = [getattr(event, name) for name in ("error", "restarts") if hasattr(event, name)]
        rows.append((type(event).__name__, event.child, *own))
    return rows


async def test_the_events_of_one_child() -> None:
    """Started, exited, restarted, stopped and started again on request: each emits its event."""
    events: list[Event] = []
    error = ValueError("broken")
    with listen(events.append):
        async with Supervisor(backoff=[0], name="web") as sup:
            child = Scene().start(sup, "it", fails(1, error), returns(1))
            await asyncio.sleep(3)
            await child.restart()
            sup.stop()
    assert rows_of(events) == [
        ("ChildStarted", "it"),
        ("ChildExited", "it", error),
        ("ChildRestarted", "it", 1),
        ("ChildExited", "it", None),
        ("ChildRestarted", "it", 2),
        ("ChildStopped", "it", None),
        ("ChildStarted", "it"),
        ("ChildStopped", "it", None),
    ]
    assert {event.name for event in events if isinstance(event, OURS)} == {"web"}


async def test_the_events_of_a_group_restart() -> None:
    """Only the child that ended by itself has exited; siblings are stopped; all of them are restarted."""
    events: list[Event] = []
    with listen(events.append):
        async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
            Scene().start(sup, "a")
            Scene().start(sup, "b", returns(1))
            await asyncio.sleep(2)
            events_then = [*events]
            sup.stop()
    assert rows_of(events_then) == [
        ("ChildStarted", "a"),
        ("ChildStarted", "b"),
        ("ChildExited", "b", None),
        ("ChildStopped", "a", None),
        ("ChildRestarted", "a", 1),
        ("ChildRestarted", "b", 1),
    ]


async def test_escalation_is_emitted_before_the_children_are_stopped() -> None:
    """The event has the error that is raised at the end."""
    events: list[Event] = []
    with listen(events.append), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=0) as sup:
            Scene().start(sup, "a")
            Scene().start(sup, "it", fails(1))
            await sup.wait()
    assert [row[:2] for row in rows_of(events)][2:] == [
        ("ChildExited", "it"),
        ("Escalated", "it"),
        ("ChildStopped", "a"),
    ]
    [escalated] = [event for event in events if isinstance(event, Escalated)]
    assert escalated.error is caught.value.exceptions[0]
    assert isinstance(escalated.error, RestartsExceeded)


async def test_each_supervisor_has_a_number() -> None:
    """The number distinguishes supervisors with the same name."""
    events: list[Event] = []
    with listen(events.append):
        for _ in range(2):
            async with Supervisor() as sup:
                Scene().start(sup, "it", returns(), restart="temporary")
    numbers = [event.supervisor for event in events if isinstance(event, OURS)]
    assert numbers == [numbers[0]] * 2 + [numbers[2]] * 2
    assert numbers[0] != numbers[2]


async def test_events_of_a_supervisor_inside_a_job_reach_the_run() -> None:
    """The listener of a run gets the events of the supervisors inside its jobs."""
    events: list[Event] = []

    async def job() -> str:
        async with Supervisor(backoff=[0]) as sup:
            Scene().start(sup, "it", fails(1), returns(1), restart="transient")
        return "done"

    report = await run_all([job], listen=events.append)
    assert report.values() == ["done"]
    ours = [type(event).__name__ for event in events if isinstance(event, OURS)]
    assert ours == ["ChildStarted", "ChildExited", "ChildRestarted", "ChildExited"]


async def test_a_listener_that_fails_does_not_affect_the_supervisor() -> None:
    """Its error goes to the loop's exception handler, and the children continue."""
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))

    def broken(event: Event) -> None:
        raise LookupError(event)

    with listen(broken):
        async with Supervisor(backoff=[0]) as sup:
            child = Scene().start(sup, "it", fails(1))
            await asyncio.sleep(2)
            assert child.state == "running"
            sup.stop()
    assert [type(error) for error in reports] == [LookupError] * 4


async def test_every_listener_receives_the_events_in_order() -> None:
    """If a listener gives a command, its events follow when all listeners have received the current one."""
    seen: list[tuple[str, str]] = []

    def starts_another(event: Event) -> None:
        if isinstance(event, ChildStarted) and event.child == "a":
            Scene().start(sup, "b")

    with listen(starts_another), listen(lambda event: seen.append((type(event).__name__, getattr(event, "child", "")))):
        async with Supervisor() as sup:
            Scene().start(sup, "a")
            assert seen == [("ChildStarted", "a"), ("ChildStarted", "b")]
            sup.stop()


async def test_the_log_has_a_line_for_each(caplog: pytest.LogCaptureFixture) -> None:
    """Each says which child of which supervisor and why; the values are attributes of the record too."""
    caplog.set_level(logging.INFO, "aiosupervise")

    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError

    with pytest.raises(ExceptionGroup):  # noqa: PT012 - the whole block is what raises
        async with Supervisor(max_restarts=1, backoff=[0], name="web") as sup:
            Scene().start(sup, "polite")
            sup.start(clumsy, name="clumsy")
            Scene().start(sup, "short", returns(1), restart="temporary")
            Scene().start(sup, "it", fails(2), fails(1))
            await sup.wait()
    error = "ValueError: broken"
    again = (
        f"child it of web has failed in the same way again: {error};"
        " such failures of all children since the last report: 1"
    )
    gave_up = (
        "RestartsExceeded: max_restarts=1 within 60 s was exceeded when child it ended; its last errors: "
        "ValueError: broken, ValueError: broken"
    )
    assert [line(record) for record in caplog.records] == [
        *[("INFO", f"child {name} of web started", name) for name in ("polite", "clumsy", "short", "it")],
        ("INFO", "child short of web returned", "short", None),
        ("ERROR", f"child it of web has failed: {error}", "it", error),
        ("WARNING", "child it of web restarted; its restarts so far: 1", "it", 1),
        ("ERROR", f"web gives up and stops its children: {gave_up}", "it", gave_up),
        ("WARNING", "child clumsy of web stopped, and its clean-up failed: LookupError", "clumsy", "LookupError"),
        ("INFO", "child polite of web stopped", "polite", None),
        ("ERROR", again, "it", error),
    ]
    assert {record.name for record in caplog.records} == {"aiosupervise.supervisor"}
    assert {vars(record)["aiosupervise_supervisor"] for record in caplog.records} == {"web"}


def line(record: logging.LogRecord) -> tuple[Any, ...]:
    """A record as a row: level, message, child and its own field."""
    values = vars(record)
    own = [values[f"aiosupervise_{name}"] for name in ("error", "restarts") if f"aiosupervise_{name}" in values]
    return (record.levelname, record.getMessage(), values["aiosupervise_child"], *own)


class Colours:
    """The colour of the context in which each event was emitted."""

    def __init__(self) -> None:
        self.seen: list[tuple[type[Event], str, str]] = []

    def __call__(self, event: Event) -> None:
        assert isinstance(event, (*OURS, ChildStalled))
        self.seen.append((type(event), event.child, COLOUR.get()))


async def test_a_heartbeat_is_watched_in_the_context_of_the_supervisor() -> None:
    """A child that stalls does not run listeners in the context of the caller who started it."""
    colours = Colours()
    COLOUR.set("supervisor")
    with listen(colours):
        async with Supervisor() as sup:
            COLOUR.set("caller")
            Scene().start(sup, "it", heartbeat=2.0, restart="temporary")
    assert colours.seen == [
        (ChildStarted, "it", "caller"),
        (ChildStalled, "it", "supervisor"),
        (ChildExited, "it", "supervisor"),
    ]


@pytest.mark.parametrize("ends", ["in its group", "beside another"])
async def test_a_command_for_a_child_that_has_just_ended_lends_no_context_to_others(ends: str) -> None:
    """What follows for other children happens in the context of the supervisor, not in that of the caller."""
    colours, has_ended, both = Colours(), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        try:
            await both.wait()
        finally:
            has_ended.set()

    async def second() -> None:
        await both.wait()
        raise ValueError

    COLOUR.set("supervisor")
    with listen(colours):
        async with Supervisor(strategy="one_for_all" if ends == "in its group" else "one_for_one", backoff=[1]) as sup:
            COLOUR.set("caller")
            child = sup.start(first, name="first")
            if ends == "in its group":
                Scene().start(sup, "second", fails(1))
            else:
                sup.start(second, name="second")
                asyncio.get_running_loop().call_later(1, both.set)
            await has_ended.wait()
            child.stop()
            both.clear()
            await asyncio.sleep(5)
            of_second = [(kind, colour) for kind, name, colour in colours.seen if name == "second"]
            sup.stop()
    assert of_second == [(ChildStarted, "caller"), (ChildExited, "supervisor"), (ChildRestarted, "supervisor")]


async def test_siblings_that_wait_for_a_child_start_in_the_context_of_the_supervisor() -> None:
    """When a child becomes ready, the listeners to the starts of other children do not run in its context."""
    colours = Colours()

    async def first() -> None:
        COLOUR.set("first")
        ready()
        await asyncio.Event().wait()

    COLOUR.set("supervisor")
    with listen(lambda event: None if isinstance(event, ChildReady) else colours(event)):
        async with Supervisor(strategy="one_for_all") as sup:
            COLOUR.set("caller")
            sup.start(first, name="first", ready=2.0)
            Scene().start(sup, "next")
            await turns()
            seen = [*colours.seen]
            sup.stop()
    assert seen == [(ChildStarted, "first", "caller"), (ChildStarted, "next", "supervisor")]


@pytest.fixture
def logged() -> Iterator[list[tuple[str, str]]]:
    """Yield the first words of each log message, with the colour of its context."""
    rows: list[tuple[str, str]] = []

    def note(record: logging.LogRecord) -> bool:
        rows.append((" ".join(record.getMessage().split()[:2]), COLOUR.get()))
        return True

    logger = logging.getLogger("aiosupervise.supervisor")
    logger.addFilter(note)
    yield rows
    logger.removeFilter(note)


async def test_a_child_that_does_not_stop_is_logged_in_the_context_of_the_supervisor(
    logged: list[tuple[str, str]],
) -> None:
    """It is not logged in the context of the caller who has stopped it."""
    COLOUR.set("supervisor")
    async with Supervisor(grace=1) as sup:
        COLOUR.set("caller")
        child = sup.start(stubborn, name="it")
        await turns()
        await child.stop()
    assert logged == [("child it", "supervisor")]


async def test_repeated_failures_are_logged_in_the_context_of_the_supervisor(logged: list[tuple[str, str]]) -> None:
    """They are not logged in the context of a caller whose command detects that the children have failed."""
    fail = asyncio.Event()

    async def child() -> None:
        await fail.wait()
        raise ConnectionError

    COLOUR.set("supervisor")
    async with Supervisor() as sup:
        COLOUR.set("caller")
        children = [sup.start(child, name=name) for name in "ab"]
        await turns()
        fail.set()
        await asyncio.sleep(0)
        for one in children:
            one.stop()
        await asyncio.sleep(2)
    assert logged == [("child a", "caller"), ("child b", "supervisor")]


class Request:
    """An object that a caller of `start` may have in its context."""


async def test_the_context_of_a_caller_is_dropped_with_the_child(request: pytest.FixtureRequest) -> None:
    """This holds even if the child had a heartbeat: the clock of the others does not keep the context alive."""
    held: list[weakref.ref[Request]] = []
    current: ContextVar[Request] = ContextVar(request.node.name)

    async def caller() -> None:
        current.set(Request())
        held.append(weakref.ref(current.get()))
        child = Scene().start(sup, "it", heartbeat=50.0, restart="temporary")
        await asyncio.sleep(1)
        await child.stop()

    async with Supervisor() as sup:
        Scene().start(sup, "other", heartbeat=100.0)
        await asyncio.create_task(caller())
        await asyncio.sleep(20)
        gc.collect()
        assert held[0]() is None
        sup.stop()
