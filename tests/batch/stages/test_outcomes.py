"""What comes out of stages: one outcome for each input of the first, whichever stage made it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiosupervise import (
    Failure,
    JobFinished,
    Overload,
    Pending,
    Reason,
    RunFinished,
    RunStarted,
    Success,
    map_all,
    run_all,
    supervise,
)
from aiosupervise._events.records import Event
from aiosupervise.engines import EngineRun

from .pages import Stage, now, read_all, shown

pytestmark = pytest.mark.looptime


async def test_each_input_has_one_outcome() -> None:
    """Index and input are those of the first stage, and the name that of the stage that made the outcome."""
    fetch, parse, store = Stage("fetch", fails=["b"]), Stage("parse", fails=["fetch c"]), Stage("store")
    report = await map_all(store, map_all(parse, map_all(fetch, ["a", "b", "c", "d"])))
    assert shown(report) == ["Success store-0", "Failure fetch-1", "Failure parse-2", "Success store-3"]
    assert [(outcome.index, outcome.input) for outcome in report] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert [success.value for success in report.succeeded] == ["store parse fetch a", "store parse fetch d"]
    assert report.tally.total == 4
    assert now() == 3


async def test_attempts_and_seconds_are_sums() -> None:
    """`attempts` is 1 plus all retries, and `elapsed` the sum of the jobs, without waits between them."""
    failures = {"fetch": 2, "parse": 1}

    def failing(name: str) -> Any:
        @supervise(retry_on=ConnectionError, backoff=[0], name=name)
        async def work(value: str) -> str:
            await asyncio.sleep(1)
            if value == "a" and failures[name]:
                failures[name] -= 1
                raise ConnectionError
            if value == "c" and name == "parse":
                raise LookupError
            return value

        return work

    report = await map_all(failing("parse"), map_all(failing("fetch"), ["a", "b", "c"]), limit=1)
    assert [(one.attempts, one.elapsed) for one in report if not isinstance(one, Pending)] == [(4, 5), (1, 2), (1, 2)]
    assert report.tally.retries == 1
    assert [type(outcome) for outcome in report] == [Success, Success, Failure]


async def test_a_failure_is_handed_on_as_it_is() -> None:
    """The error is the same object, and the next stage is not called."""
    error, parse = LookupError(), Stage("parse")
    report = await map_all(parse, map_all(Stage("fetch", fails="b", error=error), list("ab")))
    assert report.failed[0].error is error
    assert parse.asked == ["fetch a"]


async def test_a_failure_of_a_later_stage_has_its_error_and_reason() -> None:
    """With the input of the first stage."""
    error = ConnectionError()

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def parse(_: str) -> None:
        raise error

    [failure] = (await map_all(parse, map_all(Stage("fetch"), ["a"]))).failed
    assert (failure.error, failure.reason, failure.input) == (error, Reason.EXHAUSTED, "a")


async def test_the_listener_of_the_last_stage_gets_the_events_of_all_stages() -> None:
    """Those of a stage in the middle, too."""
    events: list[Event] = []
    pages = map_all(Stage("parse"), map_all(Stage("fetch"), ["a"]))
    await map_all(Stage("store"), pages, listen=events.append)
    assert [event.name for event in events if isinstance(event, JobFinished)] == ["fetch", "parse", "store"]


async def test_the_job_of_a_pending_outcome_does_what_is_left() -> None:
    """Whatever stage it comes from: the stages that its value has not gone through."""
    fetch, parse, store = Stage("fetch", 1), Stage("parse", 2), Stage("store", 4)
    run = map_all(store, map_all(parse, map_all(fetch, list("abcd"), limit=1), limit=1), limit=1, timeout=5.5)
    report = await run
    assert shown(report) == ["Pending store-0", "Pending store-1", "Pending parse-2", "Pending fetch-3"]
    assert [pending.started for pending in report.pending] == [True, False, False, False]
    assert [pending.input for pending in report.pending] == list("abcd")
    jobs = [pending.job for pending in report.pending if pending.job is not None]
    assert (await run_all(jobs)).values() == [f"store parse fetch {page}" for page in "abcd"]


async def test_a_coroutine_that_never_started_has_no_job() -> None:
    """As in any run, it cannot be run again."""
    fetch = Stage("fetch")
    report = await map_all(Stage("parse"), run_all([fetch("a"), fetch("b")], limit=1), timeout=0)
    assert [pending.job for pending in report.pending] == [None, None]


async def test_run_all_as_the_first_stage() -> None:
    """Its jobs have no inputs, and so the outcomes have none."""
    fetch = Stage("fetch")
    report = await map_all(Stage("parse"), run_all([fetch("a"), fetch("b")]))
    assert report.values() == ["parse fetch a", "parse fetch b"]
    assert [outcome.input for outcome in report] == [None, None]


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_strategy_is_that_of_the_last_stage(strategy: Any, *, streamed: bool) -> None:
    """Whatever order the first one is in: its owner sets that."""

    async def fetch(seconds: int) -> int:
        await asyncio.sleep(seconds)
        return seconds

    run = map_all(Stage("parse", 0), map_all(fetch, [3, 1, 2]), strategy=strategy)
    outcomes = await read_all(run) if streamed else await run
    assert [outcome.input for outcome in outcomes] == ([3, 1, 2] if strategy == "gather" else [1, 2, 3])


async def test_outcomes_that_are_handed_on_count() -> None:
    """For the tally of the later stage, as they come."""
    run = map_all(Stage("parse", 10), map_all(Stage("fetch", fails="bc"), list("abcd")))
    task = asyncio.ensure_future(run)
    await asyncio.sleep(2)
    assert (run.tally.succeeded, run.tally.failed, run.tally.running, run.tally.total) == (0, 2, 2, 4)
    await task


async def test_max_failures_counts_failures_of_all_stages() -> None:
    """The stage after the one that has failed stops, and what was fetched is parsed."""
    fetch, parse = Stage("fetch", fails="bc"), Stage("parse", fails=["fetch e"])
    report = await map_all(parse, map_all(fetch, list("abcdefgh"), limit=1), max_failures=2)
    assert shown(report)[:5] == [
        "Success parse-0",
        "Failure fetch-1",
        "Failure fetch-2",
        "Success parse-3",
        "Failure parse-4",
    ]
    assert [type(outcome) for outcome in report[5:]] == [Success, Pending, Pending]
    assert report.stopped is not None
    assert report.stopped.name == "FAILURES"


async def test_first_exception_counts_failures_of_all_stages() -> None:
    """It ends all stages."""
    fetch, parse = Stage("fetch", fails="b"), Stage("parse", 9)
    pages = map_all(fetch, list("abcd"), limit=2)
    report = await map_all(parse, pages, strategy="wait", return_when="FIRST_EXCEPTION")
    assert shown(report)[:1] == ["Failure fetch-1"]
    assert sorted(pending.index for pending in report.pending) == [0, 2, 3]
    assert now() == 1


async def test_an_outcome_is_emitted_by_the_stage_that_made_it() -> None:
    """And by no other; the listener of the last stage gets the events of all."""
    events: list[Event] = []
    pages = map_all(Stage("fetch", fails="b"), list("abc"))
    await map_all(Stage("parse", fails=["fetch c"]), pages, listen=events.append)
    finished = [(event.name, event.outcome.index) for event in events if isinstance(event, JobFinished)]
    assert sorted(finished) == [("fetch", 0), ("fetch", 1), ("fetch", 2), ("parse", 0), ("parse", 2)]
    assert [event.name for event in events if isinstance(event, RunStarted)] == ["parse", "fetch"]
    assert [event.name for event in events if isinstance(event, RunFinished)] == ["fetch", "parse"]
    outcome = next(event.outcome for event in events if isinstance(event, JobFinished) and event.name == "parse")
    assert outcome.input == "a"


async def test_a_slow_stage_slows_the_stages_before() -> None:
    """Each has as many jobs and unread outcomes as its limit, and the first pulls no more."""
    fetch, parse, store = Stage("fetch", 1), Stage("parse", 1), Stage("store", 100)
    pulled = itertools.count()
    run = map_all(store, map_all(parse, map_all(fetch, pulled, limit=4), limit=3), limit=2)
    async with run:
        async for _ in run:
            break
        assert next(pulled) == 4 + 3 + 2
    assert (fetch.most, parse.most, store.most) == (4, 3, 2)


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_slow_reader_slows_stages_that_only_hand_on(limit: int) -> None:
    """An outcome that was handed on and is unread keeps a slot."""
    pulled = itertools.count()

    async def fetch(page: int) -> int:
        raise LookupError(page)

    run = map_all(Stage("parse"), map_all(fetch, pulled, limit=4), limit=limit)
    async with run:
        async for _ in run:
            await asyncio.sleep(10)
            break
    assert next(pulled) <= 4 + limit + 2


async def test_input_order_in_a_stream_needs_no_more_slots() -> None:
    """A slow first page is read before the others take all slots of the next stage."""

    async def fetch(page: int) -> int:
        await asyncio.sleep(10 if page == 0 else 1)
        return page

    run = map_all(Stage("parse"), map_all(fetch, range(8), limit=6), limit=2)
    assert [outcome.index for outcome in await read_all(run)] == list(range(8))


async def test_the_total_comes_from_the_first_stage() -> None:
    """As soon as that knows it."""

    async def pages() -> AsyncIterator[str]:
        for page in "abc":
            yield page
            await asyncio.sleep(2)

    fetched = map_all(Stage("fetch"), pages())
    run = map_all(Stage("parse", 10), fetched)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(4.5)
    assert run.tally.total is None
    await asyncio.sleep(2)
    assert run.tally.total == 3
    await task


async def test_the_total_of_a_list_is_known_from_the_beginning() -> None:
    """It is that of the first stage, however many follow."""
    run = map_all(Stage("store"), map_all(Stage("parse"), map_all(Stage("fetch"), list("abc"))))
    assert run.tally.total == 3
    run.close()


async def test_the_total_comes_before_the_end_of_the_first_stage() -> None:
    """With the first outcome that is read after the first stage has seen the end of its source."""

    async def fetch(seconds: int) -> int:
        await asyncio.sleep(seconds)
        return seconds

    run = map_all(Stage("parse"), map_all(fetch, iter([1, 2, 30])))
    task = asyncio.ensure_future(run)
    await asyncio.sleep(3)
    assert run.tally.total == 3
    await task


async def test_the_total_of_a_source_that_was_not_read_to_its_end() -> None:
    """It stays unknown."""
    run = map_all(Stage("parse"), map_all(Stage("fetch"), iter(range(100)), limit=1))
    asyncio.get_running_loop().call_later(1.5, run.stop)
    assert (await run).tally.total is None


async def test_group_by_gets_the_input_of_its_stage() -> None:
    """Each stage has groups and limits of its own."""
    fetch, parse = Stage("fetch"), Stage("parse", 10)
    got: list[str] = []

    def group_of(page: str) -> str:
        got.append(page)
        return page[-1]

    pages = map_all(fetch, ["1a", "2a", "1b"], group_by=lambda page: page[1], limit_per_group=1)
    report = await map_all(parse, pages, group_by=group_of, limit_per_group=1)
    assert report.values() == ["parse fetch 1a", "parse fetch 2a", "parse fetch 1b"]
    assert sorted(got) == ["fetch 1a", "fetch 1b", "fetch 2a"]
    assert now() == 1 + 10 + 10


@pytest.mark.parametrize("grouped", [0, 1])
async def test_a_group_that_is_stopped(grouped: int) -> None:
    """Its inputs are pending at once, in a stream too, whichever stage has groups; the report has its name."""

    def failing(number: int) -> Any:
        @supervise(retry_on=ConnectionError, backoff=[0])
        async def work(page: tuple[str, int]) -> tuple[str, int]:
            await asyncio.sleep(0.1)
            if page[0] == "dead" and number == grouped:
                raise ConnectionError
            return page

        return work

    def options(number: int) -> dict[str, Any]:
        overload = Overload(first_pause=0.1, longest_pause=0.2, probes=2)
        return {"group_by": lambda page: page[0], "overload": overload} if number == grouped else {}

    def source() -> Iterator[tuple[str, int]]:
        for number in range(400):
            yield ("dead" if number % 2 else "live"), number

    pages = map_all(failing(0), source(), limit=10, name="fetch", **options(0))
    run = map_all(failing(1), pages, limit=10, name="parse", strategy="as_completed", **options(1))
    outcomes = await read_all(run)
    assert sorted(outcome.index for outcome in outcomes) == list(range(400))
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds.index(Pending) < 150
    assert kinds.count(Success) == 200
    assert run.report.stopped_groups == ("dead",)
    assert run.report.stopped is None


async def test_an_engine_gets_values() -> None:
    """A stage may run anywhere: its engine knows neither of the stages before it nor of their inputs."""
    got: list[object] = []

    class Elsewhere(EngineRun):
        def start_job(self, item: Any, index: int) -> None:
            got.append(item)
            outcome = Success(index, item.upper(), 3, 2.0, f"elsewhere-{index}", item)
            asyncio.get_running_loop().call_later(2, self.context.record, outcome)

        def cancel(self, *, already_cancelled: bool) -> None:
            """Cancel nothing."""

    class Engine:
        def check(self, func: object, inputs: Any) -> None:
            assert callable(func)
            assert list(inputs) == []

        def start(self, context: Any) -> EngineRun:
            return Elsewhere(context)

    report = await map_all(Stage("parse"), map_all(Stage("fetch"), ["a", "b"]), engine=Engine())
    assert got == ["fetch a", "fetch b"]
    assert [(one.value, one.input, one.attempts, one.elapsed) for one in report.succeeded] == [
        ("FETCH A", "a", 3, 3.0),
        ("FETCH B", "b", 3, 3.0),
    ]


async def test_bars_are_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the stages, and each shows its own counts."""
    shown_bars: list[str] = []

    class Bar:
        interval = 1.0

        def __init__(self, name: str, _: object) -> None:
            self._name = name

        def open(self, _: object) -> None:
            shown_bars.append(f"open {self._name}")

        def show(self, tally: Any, status: str) -> None:
            if tally.running:
                shown_bars.append(f"{self._name}: {tally.succeeded} {status}".strip())

        def close(self) -> None:
            shown_bars.append(f"close {self._name}")

    monkeypatch.setattr("aiosupervise.integrations.tqdm.ProgressBar", Bar)
    pages = map_all(Stage("fetch", 1.5), [1, 2], limit=1, progress=True)
    run = map_all(Stage("store", 1.5), map_all(Stage("parse", 1.5), pages), progress=True)
    asyncio.get_running_loop().call_later(1.6, run.stop)
    await run
    assert shown_bars[:2] == ["open fetch", "open store"]
    assert shown_bars[-2:] == ["close fetch", "close store"]
    assert "store: 0 stopping" in shown_bars
