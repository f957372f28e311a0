"""How stages end: gracefully, so that what was fetched is parsed, or all at once."""

import asyncio
import inspect
import signal
import warnings
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from aiosupervise import (
    Budget,
    JobFinished,
    Overload,
    Pending,
    Run,
    RunStopped,
    Stopped,
    Success,
    listen,
    map_all,
    run_all,
    supervise,
)
from aiosupervise._batch import circuit
from aiosupervise._events.records import Event
from aiosupervise.engines import EngineRun

from .pages import Stage, now, read_all, shown

pytestmark = pytest.mark.looptime
PROBES = Overload(first_pause=1, longest_pause=1, probes=2)


def later(seconds: float, act: Any) -> None:
    """Do something in some seconds."""
    asyncio.get_running_loop().call_later(seconds, act)


# Gracefully


@pytest.mark.parametrize("streamed", [False, True])
async def test_stop_finishes_what_was_begun(*, streamed: bool) -> None:
    """The first stage starts no other job, and what it has done goes through all stages before the run returns.

    That can take the limit of the first stage times the seconds of the last one over its limit.
    """
    fetch, parse = Stage("fetch", 1), Stage("parse", 10)
    run = map_all(parse, map_all(fetch, list(range(20)), limit=6), limit=2)
    later(1.5, run.stop)
    outcomes = await read_all(run) if streamed else list(await run)
    assert shown(outcomes) == [f"Success parse-{n}" for n in range(8)] + [f"Pending fetch-{n}" for n in range(8, 20)]
    assert run.report.stopped is Stopped.STOP
    assert now() == 1 + 4 * 10
    assert fetch.cancelled == parse.cancelled == []


async def test_pending_jobs_of_stopped_stages_come_last() -> None:
    """In completion order, though the first stage ends long before the last one."""
    pages = map_all(Stage("fetch"), list(range(6)), limit=2)
    run = map_all(Stage("parse", 10), pages, limit=9, strategy="as_completed")
    later(1.5, run.stop)
    kinds = [type(outcome) for outcome in await read_all(run)]
    assert kinds == [Success, Success, Success, Success, Pending, Pending]


async def test_stop_when_everything_has_been_fetched() -> None:
    """The run comes to its end as it would have, so nothing has stopped it."""
    run = map_all(Stage("parse", 10), map_all(Stage("fetch"), iter([1, 2])))
    later(5, run.stop)
    report = await run
    assert report.stopped is None
    assert report.ok


async def test_stop_before_anything_has_begun() -> None:
    """No job of any stage starts."""
    fetch, parse = Stage("fetch"), Stage("parse")
    pages = map_all(fetch, [1, 2])
    run = map_all(parse, pages)
    async with run:
        run.stop()
        assert [type(outcome) async for outcome in run] == [Pending, Pending]
    assert fetch.asked == parse.asked == []
    assert run.report.stopped is pages.report.stopped is Stopped.STOP


async def test_stop_of_an_earlier_stage() -> None:
    """It stops that stage and those before it; the later ones go on."""
    pages = map_all(Stage("fetch"), list(range(4)), limit=1)
    parsed = map_all(Stage("parse"), pages, limit=1)
    run = map_all(Stage("store"), parsed, limit=1)
    later(1.5, parsed.stop)
    assert shown(await run) == ["Success store-0", "Success store-1", "Pending fetch-2", "Pending fetch-3"]
    assert run.report.stopped is Stopped.STOP


async def test_the_first_signal_stops_and_the_second_cancels() -> None:
    """A signal stops all stages gracefully, as `stop` does; the second one cancels them. It is the reason of each."""
    for signals, kinds in ((1, [Success, Pending, Pending]), (2, [Pending, Pending, Pending])):
        fetch, parse = Stage("fetch", 10), Stage("parse", 10)
        pages = map_all(fetch, [1, 2, 3], limit=1)
        run = map_all(parse, pages, stop_on=[signal.SIGTERM])
        for number in range(signals):
            later(5 + number, lambda: signal.raise_signal(signal.SIGTERM))
        assert [type(outcome) for outcome in await run] == kinds
        assert run.report.stopped is pages.report.stopped is Stopped.SIGNAL
        assert run.stopped_by is signal.SIGTERM


async def test_max_failures_of_an_earlier_stage() -> None:
    """It stops that stage, and the report of the last says why."""
    events: list[Event] = []
    pages = map_all(Stage("fetch", fails="ab"), list("abcdef"), limit=2, max_failures=1)
    report = await map_all(Stage("parse"), pages, listen=events.append)
    assert shown(report)[:2] == ["Failure fetch-0", "Failure fetch-1"]
    assert report.stopped is Stopped.FAILURES
    assert [(event.name, event.why) for event in events if isinstance(event, RunStopped)] == [
        ("fetch", Stopped.FAILURES)
    ]


async def test_max_failures_of_the_last_stage() -> None:
    """It alone says so: the stages before it have met nothing."""
    events: list[Event] = []
    pages = map_all(Stage("fetch"), list("abcdef"), limit=1)
    parse = Stage("parse", fails=["fetch a"])
    report = await map_all(parse, pages, max_failures=0, listen=events.append)
    assert report.stopped is Stopped.FAILURES
    assert [event.name for event in events if isinstance(event, RunStopped)] == ["parse"]
    assert pages.report.stopped is Stopped.STOP


# Probes


def dead(name: str) -> Any:
    """The function of a stage whose service stays down."""

    @supervise(retry_on=ConnectionError, backoff=[0], max_retries=None, name=name)
    async def work(value: object) -> object:
        await asyncio.sleep(0.1)
        if up:
            return f"{name} {value}"
        raise ConnectionError

    up: list[bool] = []
    work.up = up  # type: ignore[attr-defined]
    return work


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each run a budget that is soon empty."""
    monkeypatch.setattr(circuit, "Budget", partial(Budget, capacity=50))


async def test_probes_of_the_last_stage() -> None:
    """Running fetches finish, no other begins, and their values are pending with a job that parses them."""
    fetch, parse = Stage("fetch", 3), dead("parse")
    run = map_all(parse, map_all(fetch, list(range(20)), limit=3), limit=2, overload=PROBES, name="parse")
    report = await run
    assert report.stopped is Stopped.PROBES
    assert fetch.cancelled == []
    values = [pending for pending in report.pending if pending.name.startswith("parse")]
    assert len(values) == len(fetch.ended) - len(report.failed)
    assert values
    assert sum(pending.name.startswith("fetch") for pending in report.pending) == 20 - len(fetch.asked)
    asked = list(fetch.asked)
    parse.up.append(True)
    assert [await pending.job() for pending in values if pending.job] == [
        f"parse fetch {pending.input}" for pending in values
    ]
    assert fetch.asked == asked


async def test_probes_of_the_last_stage_while_one_before_needs_slots() -> None:
    """A stage in the middle finishes what was fetched, though the last one starts nothing."""
    fetch, parse, store = Stage("fetch", 1), Stage("parse", 1), dead("store")
    pages = map_all(parse, map_all(fetch, list(range(40)), limit=8), limit=2)
    report = await map_all(store, pages, limit=2, overload=PROBES, name="store")
    assert report.stopped is Stopped.PROBES
    assert len(fetch.asked) == len(fetch.ended) == len(parse.ended)
    assert sorted(outcome.index for outcome in report) == list(range(40))


async def test_pending_jobs_come_last_after_failed_probes() -> None:
    """Values that come when the last stage starts nothing more, too, though one of its jobs ends much later."""
    parse = dead("parse")

    async def work(page: str) -> object:
        if page == "fetch 0":
            await asyncio.sleep(100)
            return page
        return await parse(page)

    pages = map_all(Stage("fetch", 3), list(range(9)), limit=3)
    run = map_all(work, pages, limit=3, overload=PROBES, strategy="as_completed")
    outcomes = await read_all(run)
    place = next(place for place, outcome in enumerate(outcomes) if isinstance(outcome, Success))
    assert not any(isinstance(outcome, Pending) for outcome in outcomes[:place])
    assert sum(isinstance(outcome, Pending) for outcome in outcomes) > 1


async def test_pending_jobs_come_last_after_those_of_a_stopped_group() -> None:
    """Those of the group come at once, those that the timeout has left come last."""
    dying = dead("fetch")

    async def fetch(page: str) -> str:
        if page == "dead":
            await dying(page)
        return page

    async def parse(page: str) -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            if page == "b":
                raise
            await asyncio.sleep(4)
        return page

    pages = map_all(fetch, ["dead"] * 30 + ["a", "b"], group_by=str, limit_per_group=2, overload=PROBES)
    outcomes = await read_all(map_all(parse, pages, strategy="as_completed", timeout=100))
    *before, last, pending = outcomes
    assert {outcome.input for outcome in before} == {"dead"}
    assert any(isinstance(outcome, Pending) for outcome in before)
    assert (type(last), last.input, type(pending), pending.input) == (Success, "a", Pending, "b")


async def test_pending_jobs_that_come_last_take_no_slots() -> None:
    """Those of a stopped group come last if their stage was stopped before they were read; values overtake them."""
    dying, parse = dead("fetch"), Stage("parse")

    async def fetch(page: str) -> str:
        if page == "dead":
            await dying(page)
        await asyncio.sleep(100)
        return page

    pages = map_all(fetch, ["dead"] * 30 + ["a"], group_by=str, limit_per_group=2, overload=PROBES)
    run = map_all(parse, pages, limit=2, strategy="as_completed")
    later(50, run.stop)
    async with asyncio.timeout(1000), run:
        await asyncio.sleep(60)
        outcomes = [outcome async for outcome in run]
    value = next(place for place, outcome in enumerate(outcomes) if isinstance(outcome, Success))
    assert parse.asked == ["a"]
    assert {type(outcome) for outcome in outcomes[value + 1 :]} == {Pending}


async def test_probes_of_an_earlier_stage() -> None:
    """The later ones parse what was fetched, and the report says why the first one has stopped."""
    pages = map_all(dead("fetch"), list(range(20)), limit=2, overload=PROBES, name="fetch")
    report = await map_all(Stage("parse"), pages)
    assert report.stopped is Stopped.PROBES
    assert all(outcome.name.startswith("fetch") for outcome in report)


# At once


async def test_timeout_cancels_all_stages() -> None:
    """That of the last one; what was done in all stages is done."""
    fetch, parse = Stage("fetch", 2), Stage("parse", 5)
    report = await map_all(parse, map_all(fetch, list(range(6)), limit=2), limit=1, timeout=8)
    assert shown(report)[:2] == ["Success parse-0", "Pending parse-1"]
    assert {outcome.name for outcome in report[2:]} == {"parse-2", "fetch-3", "fetch-4", "fetch-5"}
    assert report.stopped is Stopped.TIMEOUT
    assert now() == 8


async def test_a_timeout_of_an_earlier_stage() -> None:
    """It bounds that stage, and what was fetched is parsed."""
    fetch, parse = Stage("fetch", 2), Stage("parse", 5)
    report = await map_all(parse, map_all(fetch, list(range(6)), limit=2, timeout=3))
    assert shown(report) == [
        "Success parse-0",
        "Success parse-1",
        "Pending fetch-2",
        "Pending fetch-3",
        "Pending fetch-4",
        "Pending fetch-5",
    ]
    assert report.stopped is Stopped.TIMEOUT
    assert fetch.cancelled == [2, 3]
    assert now() == 7


async def test_a_cancel_cancels_all_stages() -> None:
    """And the report of the last one holds what is known."""
    fetch, parse = Stage("fetch", 2), Stage("parse", 5)
    run = map_all(parse, map_all(fetch, list(range(6)), limit=2), limit=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await run
    assert sorted(outcome.index for outcome in run.report) == list(range(6))
    assert run.report.stopped is Stopped.CANCELLED
    assert fetch.cancelled == [2]
    assert parse.cancelled == ["fetch 0"]


async def test_leaving_the_block_cancels_all_stages() -> None:
    """When control returns, no job is left running."""
    fetch, parse = Stage("fetch", 2), Stage("parse", 1)
    run = map_all(parse, map_all(fetch, iter(range(100)), limit=3))
    async with run:
        async for _ in run:
            break
    assert (fetch.running, parse.running) == (0, 0)
    assert run.report.stopped is Stopped.LEFT


async def test_a_cancel_before_three_stages_have_begun() -> None:
    """The job of each pending outcome does what all of them would have done."""
    run = map_all(Stage("store"), map_all(Stage("parse"), map_all(Stage("fetch"), ["a", "b"])))
    async with run:
        pass
    assert [(pending.input, pending.started) for pending in run.report.pending] == [("a", False), ("b", False)]
    assert [await pending.job() for pending in run.report.pending if pending.job] == [
        "store parse fetch a",
        "store parse fetch b",
    ]


async def test_a_cancel_before_the_first_stage_has_begun() -> None:
    """The items of its list are pending, coroutines are closed, and each outcome is emitted once."""
    events: list[Event] = []
    fetch = Stage("fetch")
    with listen(events.append):
        run = map_all(Stage("store"), map_all(Stage("parse"), run_all([fetch("a"), fetch("b")])))
        async with run:
            pass
    assert shown(run.report) == ["Pending fetch-0", "Pending fetch-1"] or len(run.report.pending) == 2
    assert len([event for event in events if isinstance(event, JobFinished)]) == 2


@pytest.mark.parametrize("turns", range(12))
async def test_the_end_of_the_loop(turns: int) -> None:
    """It cancels every task of all stages at once, as asyncio.run does: each input has its outcome all the same."""
    fetch, parse = Stage("fetch", 0), Stage("parse", 0)
    run = map_all(Stage("store", 0), map_all(parse, map_all(fetch, list(range(6)), limit=2), limit=2), limit=2)
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(run)
    for _ in range(turns):
        await asyncio.sleep(0)
    for other in asyncio.all_tasks() - before:
        other.cancel()
    await asyncio.wait([task])
    if turns:
        assert sorted(outcome.index for outcome in run.report) == list(range(6))
    assert asyncio.all_tasks() == before


async def test_the_end_of_the_loop_during_the_end_of_the_stages() -> None:
    """The stage before is waited for all the same, and its outcomes are in the report."""

    async def fetch(page: int) -> int:
        try:
            await asyncio.sleep(page)
        except asyncio.CancelledError:
            await asyncio.sleep(4)
            raise
        return page

    run = map_all(Stage("parse", 100), map_all(fetch, [0, 100, 100]), limit=1, timeout=1)
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(run)
    await asyncio.sleep(2)
    for other in asyncio.all_tasks() - before - {task}:
        other.cancel()
    await asyncio.wait([task])
    assert shown(run.report) == ["Pending parse-0", "Pending fetch-1", "Pending fetch-2"]
    assert asyncio.all_tasks() == before


async def test_a_cancel_of_one_pump_while_it_waits_for_the_stage_before() -> None:
    """The stage before is cancelled too."""

    def group_of(page: int) -> int:
        raise LookupError(page)

    async def fetch(page: int) -> int:
        await asyncio.sleep(page)
        return page

    run = map_all(Stage("parse"), map_all(fetch, [1, 1000]), group_by=group_of)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(2)
    next(other for other in asyncio.all_tasks() if other.get_name() == "parse pump").cancel()
    with pytest.raises(LookupError):
        await task
    assert shown(run.report) == ["Pending parse-0", "Pending fetch-1"]
    assert now() < 10


# Errors


async def test_an_error_of_the_source() -> None:
    """The running jobs of all stages finish, then it is raised, once."""

    def pages() -> Iterator[str]:
        yield "a"
        yield "b"
        raise LookupError("no more pages")

    run = map_all(Stage("store"), map_all(Stage("parse"), map_all(Stage("fetch"), pages())))
    with pytest.raises(LookupError, match="no more pages"):
        await run
    assert shown(run.report) == ["Success store-0", "Success store-1"]
    assert run.report.stopped is None
    assert now() == 3


async def test_an_error_of_a_later_stage() -> None:
    """It stops the stages before; what was fetched by then is pending, and the error is raised."""

    def group_of(page: str) -> str:
        if page == "fetch b":
            raise LookupError(page)
        return page

    fetch = Stage("fetch")
    run = map_all(Stage("parse"), map_all(fetch, list("abcd"), limit=2), group_by=group_of)
    with pytest.raises(LookupError, match="fetch b"):
        await run
    assert sorted(shown(run.report)) == ["Pending fetch-2", "Pending fetch-3", "Pending parse-1", "Success parse-0"]


async def test_an_error_at_the_beginning_of_a_stage() -> None:
    """An engine that cannot begin: the error is raised, and what the list holds is pending."""

    class Engine:
        def check(self, func: object, inputs: object) -> None:
            """Accept anything."""

        def start(self, context: object) -> Any:
            raise LookupError(f"no workers for {type(context).__name__}")

    run = map_all(Stage("parse"), map_all(Stage("fetch"), [1, 2], engine=Engine()))
    with pytest.raises(LookupError, match="no workers for EngineContext"):
        await run
    assert shown(run.report) == ["Pending fetch-0", "Pending fetch-1"]


async def test_an_error_before_the_first_stage_has_begun() -> None:
    """The items of the list are pending; the job of each outcome runs all stages."""

    class Elsewhere(EngineRun):
        async def open(self) -> None:
            raise LookupError("no workers")

        def start_job(self, item: object, index: int) -> None:
            """Start nothing."""

        def cancel(self, *, already_cancelled: bool) -> None:
            """Cancel nothing."""

    class Engine:
        def check(self, func: object, inputs: object) -> None:
            """Accept anything."""

        def start(self, context: Any) -> EngineRun:
            return Elsewhere(context)

    pages = map_all(Stage("parse"), map_all(Stage("fetch"), ["a", "b"]))
    run = map_all(Stage("store"), pages, engine=Engine())
    with pytest.raises(LookupError, match="no workers"):
        await run
    pending = run.report.pending
    assert [(one.name, one.input, one.started) for one in pending] == [("fetch-0", "a", False), ("fetch-1", "b", False)]
    assert [await one.job() for one in pending if one.job] == ["store parse fetch a", "store parse fetch b"]


async def test_an_interrupt_in_the_source() -> None:
    """KeyboardInterrupt and SystemExit cancel all stages, since the process is about to end."""

    async def pages() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1.5)
        raise SystemExit

    fetch, parse = Stage("fetch"), Stage("parse", 10)
    run = map_all(parse, map_all(fetch, pages()))
    with pytest.raises(SystemExit):
        await run
    assert parse.cancelled == ["fetch a"]


async def test_a_stage_that_does_not_end_is_named() -> None:
    """The run waits for it, and a warning of each says for what."""

    async def stubborn(page: int) -> int:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(10)
            raise
        return page

    run = map_all(Stage("parse"), map_all(stubborn, [1]), timeout=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await run
    texts = sorted(str(warning.message) for warning in caught)
    assert [text.rpartition(": ")[2] for text in texts] == ["stubborn-0", "the stage stubborn"]


async def test_an_error_is_no_reason_of_the_run() -> None:
    """It stops the stages before the one that raised, but nobody has stopped the run."""

    def group_of(page: str) -> str:
        raise LookupError(page)

    pages = map_all(Stage("fetch"), [0, 1, 2], limit=1)
    run = map_all(Stage("parse"), pages, group_by=group_of)
    with pytest.raises(LookupError, match="fetch 0"):
        await run
    assert shown(run.report) == ["Pending parse-0", "Pending fetch-1", "Pending fetch-2"]
    assert run.report.stopped is None
    assert pages.report.stopped is Stopped.STOP


# Before the first stage has begun


async def test_tasks_end_with_a_run_that_was_left_at_once() -> None:
    """As those of a run of one stage do, which are running before it begins."""
    tasks = [asyncio.create_task(asyncio.sleep(1)) for _ in range(2)]
    async with map_all(Stage("parse"), run_all(tasks)) as run:
        pass
    assert [task.cancelled() for task in tasks] == [True, True]
    assert [outcome.index for outcome in run.report] == [0, 1]
    assert run.report.stopped is Stopped.LEFT


async def stubborn() -> None:
    """Raise when closed."""
    try:
        await asyncio.sleep(1)
    except GeneratorExit:
        raise ValueError("close") from None


async def test_a_coroutine_that_cannot_be_closed() -> None:
    """It costs no other job its outcome, and no job has two."""
    begun = stubborn()
    begun.send(None)
    run = map_all(Stage("parse"), run_all([asyncio.sleep(1), begun, asyncio.sleep(1)]))
    with pytest.raises(ValueError, match="close"):
        async with run:
            pass
    assert [outcome.index for outcome in run.report] == [0, 1, 2]


async def test_an_item_that_is_no_job_has_no_outcome() -> None:
    """A reader who gets outcomes in input order does not wait for it, however many pending ones come after it."""
    jobs: list[Any] = [asyncio.sleep(1), 3, *(asyncio.sleep(1) for _ in range(9))]
    read: list[int] = []
    with pytest.raises(TypeError, match="job 1 is 3"):
        await asyncio.wait_for(_read_into(read, map_all(Stage("parse"), run_all(jobs, limit=1), limit=2)), 60)
    assert read == [0, *range(2, 11)]


async def _read_into(read: list[int], run: Run[Any, Any]) -> None:
    async with run:
        async for outcome in run:
            read.append(outcome.index)  # noqa: PERF401 - the run raises in the end


async def test_a_discarded_stage_closes_all_coroutines() -> None:
    """Also those after one that cannot be closed, whose error is suppressed as in a run of one stage."""
    begun, new = stubborn(), stubborn()
    begun.send(None)
    map_all(Stage("parse"), run_all([begun, new])).close()
    assert inspect.getcoroutinestate(new) == inspect.CORO_CLOSED
