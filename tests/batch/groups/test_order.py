"""Which input of a run with groups starts next, how far the run looks ahead, and how it ends."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiosupervise import JobFinished, Overload, Pending, RetryAfter, Run, Stopped, Success, map_all, supervise
from aiosupervise._batch._groups import feed
from aiosupervise._batch._groups.schedule import EMPTY_QUEUE, Schedule

pytestmark = pytest.mark.looptime


def host_of(page: str) -> str:
    """Return the group of a page: its first letter."""
    return page[0]


class Pages:
    """Serves pages whose hosts take some seconds, and records when each was asked for."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[str] = []
        self.ended: dict[str, float] = {}
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def fetch(self, page: str) -> str:
        """Fetch a page."""
        self.asked.append(page)
        self.running[page[0]] += 1
        self.most[page[0]] = max(self.most[page[0]], self.running[page[0]])
        await asyncio.sleep(self.seconds.get(page[0], 1))
        self.running[page[0]] -= 1
        self.ended[page] = asyncio.get_running_loop().time()
        return page


async def read_all(run: Run[Any, Any]) -> list[Any]:
    """Read a run to its end."""
    async with run:
        return [outcome async for outcome in run]


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
async def test_a_saturated_group_lets_later_inputs_go_first(strategy: Any) -> None:
    """Inputs of one group start in input order, and the first of all that may start does."""
    pages = Pages(a=10)
    inputs = ["a1", "a2", "a3", "b1", "c1", "b2"]
    report = await map_all(pages.fetch, inputs, limit=3, strategy=strategy, group_by=host_of, limit_per_group=1)
    assert pages.asked == ["a1", "b1", "c1", "b2", "a2", "a3"]
    assert pages.ended == {"b1": 1, "c1": 1, "b2": 2, "a1": 10, "a2": 20, "a3": 30}
    assert sorted(report.values()) == sorted(inputs)
    in_order = strategy == "gather"
    assert report.values() == (inputs if in_order else ["b1", "c1", "b2", "a1", "a2", "a3"])


async def test_a_waiting_input_starts_before_one_that_is_pulled_next() -> None:
    """When its group may start it again, it comes first, as it stands first in the input."""
    pages = Pages(a=1, b=3)
    await map_all(pages.fetch, ["a1", "a2", "b1", "c1", "c2"], limit=2, group_by=host_of, limit_per_group=1)
    assert pages.asked == ["a1", "b1", "a2", "c1", "c2"]


async def test_each_group_has_the_limit_that_the_function_says() -> None:
    """None is for no limit but that of the run; the limits are never exceeded, and always refilled."""
    pages = Pages()
    limits = {"a": 2, "b": 1, "c": None}
    inputs = [f"{host}{n}" for n in range(6) for host in "abc"]
    await map_all(pages.fetch, inputs, limit=100, group_by=host_of, limit_per_group=limits.get)
    assert pages.most == {"a": 2, "b": 1, "c": 6}
    assert {host: max(pages.ended[f"{host}{n}"] for n in range(6)) for host in "abc"} == {"a": 3, "b": 6, "c": 1}


async def test_groups_without_limits_share_the_limit_of_the_run() -> None:
    """Groups alone change nothing while nothing fails; None is no limit for the run either."""
    for limit, most in ((2, 2), (None, 5)):
        pages = Pages()
        await map_all(pages.fetch, ["a1", "a2", "b1", "a3", "a4", "a5"], limit=limit, group_by=host_of)
        assert pages.asked == ["a1", "a2", "b1", "a3", "a4", "a5"]
        assert pages.most["a"] == most


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_lazy_source_is_pulled_no_further_than_the_bound(
    monkeypatch: pytest.MonkeyPatch, *, streamed: bool
) -> None:
    """An endless source of one saturated group: the look-ahead has an end, ten times the limit at least."""
    monkeypatch.setattr(feed, "LOOK_AHEAD", 30)
    pulled = 0

    def pages() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield "a"

    for limit, most in ((2, 30), (5, 50)):
        pulled = 0
        slow = Pages(a=100)
        run: Run[str, str] = map_all(
            slow.fetch, pages(), limit=limit, group_by=host_of, limit_per_group=1, timeout=50, strategy="as_completed"
        )
        outcomes = await (read_all(run) if streamed else run)
        assert pulled == most + 1
        assert [type(outcome) for outcome in outcomes] == [Pending] * pulled
        assert slow.asked == ["a"]


async def test_a_list_is_looked_through_to_its_end() -> None:
    """What a list holds costs nothing to look ahead in; the loop's other tasks get a turn meanwhile."""
    pages = Pages(a=1000)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while "b" not in pages.asked:
            turns += 1
            await asyncio.sleep(0)

    inputs = ["a"] * 5000 + ["b"]
    counting = asyncio.ensure_future(count())
    report = await map_all(pages.fetch, inputs, limit=2, group_by=host_of, limit_per_group=1, timeout=2)
    await counting
    assert turns >= 5
    assert report.stopped is Stopped.TIMEOUT
    assert len(report) == 5001
    assert len(report.succeeded) == 1


async def test_a_silent_source_keeps_no_waiting_input_from_starting() -> None:
    """While the run waits for the next input of an async source, a group that has a slot again uses it."""
    pages = Pages()

    async def inputs() -> AsyncIterator[str]:
        yield "a1"
        yield "a2"
        yield "a3"
        yield "b1"
        await asyncio.sleep(100)
        yield "b2"

    await map_all(pages.fetch, inputs(), limit=5, group_by=host_of, limit_per_group=1)
    assert pages.ended == {"a1": 1, "b1": 1, "a2": 2, "a3": 3, "b2": 101}


async def test_waiting_inputs_fill_the_free_slots_and_no_others() -> None:
    """All of them at once; in a streamed run, an unread outcome keeps its slot."""
    inputs = [f"{host}{n}" for host in "abcdefgh" for n in (1, 2)]
    pages = Pages(z=3)
    await map_all(pages.fetch, [*inputs, "z1"], limit=9, group_by=host_of, limit_per_group=1)
    assert pages.ended == {page: int(page[1]) for page in inputs} | {"z1": 3}

    pages, inputs = Pages(), ["a1", "a2", "b1", "b2", "c1"]
    run = map_all(pages.fetch, inputs, limit=3, strategy="as_completed", group_by=host_of, limit_per_group=1)
    async with run:
        await asyncio.sleep(2)
        await anext(run)
        await asyncio.sleep(2)
        assert pages.asked == ["a1", "b1", "c1", "a2"]


async def test_the_input_that_the_reader_waits_for_starts_though_outcomes_are_unread() -> None:
    """Streamed in input order, the outcomes behind it would otherwise keep their slots for ever."""
    pages = Pages(a=5)
    inputs = ["a1", "a2", "b1", "b2", "b3", "b4", "b5", "b6"]
    run = map_all(pages.fetch, inputs, limit=2, group_by=host_of, limit_per_group=1)
    outcomes = await read_all(run)
    assert [outcome.input for outcome in outcomes] == inputs
    assert pages.asked.index("a2") < pages.asked.index("b3")


async def test_the_input_that_the_reader_waits_for_starts_though_unread_outcomes_have_all_slots() -> None:
    """They came while the job before it had left its slot to wait, and are read only after that input."""
    pages = Pages()
    calls = itertools.count()

    @supervise(retry_on=ConnectionError, backoff=[50])
    async def fetch(page: str) -> str:
        if page == "a1" and next(calls) == 0:
            raise ConnectionError
        return await pages.fetch(page)

    inputs = ["a1", "a2", "b1", "b2", "c1"]
    async with asyncio.timeout(1000):
        outcomes = await read_all(map_all(fetch, inputs, limit=2, group_by=host_of, limit_per_group=1))
    assert [outcome.input for outcome in outcomes] == inputs
    assert pages.asked == ["b1", "c1", "a1", "a2", "b2"]


async def test_an_input_that_the_reader_needs_later_waits_for_a_slot() -> None:
    """Inputs that the reader needs next may start despite unread outcomes, but only as many as the limit permits."""
    pages = Pages()
    calls = itertools.count()

    @supervise(retry_on=ConnectionError, backoff=[50])
    async def fetch(page: str) -> str:
        if page == "a1" and next(calls) == 0:
            raise ConnectionError
        return await pages.fetch(page)

    inputs = ["a1", "b1", "b2", "c1"]
    outcomes = await read_all(map_all(fetch, inputs, limit=2, group_by=host_of, limit_per_group=1))
    assert [outcome.input for outcome in outcomes] == inputs
    assert pages.asked == ["b1", "c1", "a1", "b2"]


async def test_the_next_input_of_the_reader_waits_while_all_slots_are_taken() -> None:
    """The limit holds even for the input whose outcome is read next."""
    pages = Pages(b=100, c=200)

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def fetch(page: str) -> str:
        if page == "a1":
            raise RetryAfter(10)
        return await pages.fetch(page)

    inputs = ["a1", "b1", "a2", "c1"]
    outcomes = await read_all(map_all(fetch, inputs, limit=2, group_by=host_of))
    assert [outcome.input for outcome in outcomes] == inputs
    assert pages.asked == ["b1", "c1", "a2"]
    assert pages.ended["a2"] == 101


async def test_a_slow_reader_slows_the_run() -> None:
    """No more inputs are pulled than the reader has taken, but for the limit and those that wait."""
    pages = Pages()
    pulled = 0

    def inputs() -> Iterator[str]:
        nonlocal pulled
        for pulled in itertools.count(1):
            yield f"{'abc'[pulled % 3]}{pulled}"

    async with map_all(pages.fetch, inputs(), limit=4, strategy="as_completed", group_by=host_of) as run:
        for read in range(1, 10):
            await anext(run)
            await asyncio.sleep(5)
            assert pulled <= read + 4


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("limit_per_group", [None, 1, 3])
async def test_inputs_that_wait_start_no_faster_than_they_are_read(strategy: Any, limit_per_group: int | None) -> None:
    """Under every strategy, also in input order, in which the input that the reader needs next need not wait."""
    pages = Pages()
    inputs = [f"{'ab'[number % 2]}{number}" for number in range(100)]
    run = map_all(pages.fetch, inputs, limit=4, strategy=strategy, group_by=host_of, limit_per_group=limit_per_group)
    async with run:
        for read in range(1, 10):
            await anext(run)
            await asyncio.sleep(5)
            assert len(pages.asked) <= read + 4


async def test_a_slow_group_that_the_reader_needs_has_all_its_slots() -> None:
    """Also if more outcomes behind its pages are unread than the limit, such as those of a group that is down."""
    pages = Pages(a=5)

    @supervise(retry_on=ConnectionError, backoff=[0], max_retries=None)
    async def fetch(page: str) -> str:
        if page[0] == "x":
            raise ConnectionError
        return await pages.fetch(page)

    inputs = [f"{host}{number}" for host in "axb" for number in range(12)]
    overload = Overload(first_pause=0.1, longest_pause=0.1, probes=1)
    run = map_all(fetch, inputs, limit=4, group_by=host_of, limit_per_group=3, overload=overload)
    outcomes = await read_all(run)
    assert [outcome.input for outcome in outcomes] == inputs
    assert run.report.stopped_groups == ("x",)
    assert pages.ended["a11"] == 12 / 3 * 5


async def test_a_stopped_run_reports_the_inputs_that_wait() -> None:
    """Pulled or held, each has one outcome, and those of inputs that wait come in input order."""
    for make in (list, iter):
        pages = Pages()
        source: Any = make(["a1", "a3", "a2", "b1", "b2", "c1"])
        run = map_all(pages.fetch, source, limit=2, strategy="as_completed", group_by=host_of, limit_per_group=1)
        asyncio.get_running_loop().call_later(0.5, run.stop)
        report = await run
        waiting = ["a3", "a2"] if make is iter else ["a3", "a2", "b2", "c1"]
        assert [(type(outcome), outcome.input) for outcome in report] == [
            (Success, "a1"),
            (Success, "b1"),
            *((Pending, page) for page in waiting),
        ]
        assert report.stopped is Stopped.STOP


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_item_of_a_source_that_stops_its_run_is_pending(*, is_async: bool) -> None:
    """The source gave it all the same."""
    pages = Pages()
    run: Run[str, str]

    def inputs() -> Iterator[str]:
        yield "a1"
        run.stop()
        yield "a2"

    async def async_inputs() -> AsyncIterator[str]:
        for page in inputs():
            yield page

    run = map_all(pages.fetch, async_inputs() if is_async else inputs(), group_by=host_of)
    report = await run
    assert [(type(outcome), outcome.input) for outcome in report] == [(Success, "a1"), (Pending, "a2")]


async def test_a_task_factory_that_stops_the_run() -> None:
    """A run that is stopped by what happens when a job starts, starts no other."""

    async def fetch(page: str) -> str:
        return page

    def factory(loop: Any, coroutine: Any, **keywords: Any) -> Any:
        if coroutine.__name__ == "fetch":
            run.stop()
        return asyncio.Task(coroutine, loop=loop, **keywords)

    asyncio.get_running_loop().set_task_factory(factory)
    run = map_all(fetch, ["a1", "a2", "b1"], group_by=host_of)
    try:
        report = await run
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert [type(outcome) for outcome in report] == [Success, Pending, Pending]


async def test_the_event_of_each_outcome_names_the_group() -> None:
    """Also if its job never started: its group was busy until the end."""
    events: list[JobFinished] = []

    def on_event(event: object) -> None:
        if isinstance(event, JobFinished):
            events.append(event)

    pages = ["a1", "a2", "b1", "a3"]
    await map_all(Pages().fetch, pages, group_by=host_of, listen=on_event, limit_per_group=1, timeout=1.5)
    ends = [(event.outcome.input, event.group, type(event.outcome)) for event in events]
    assert sorted(ends) == [("a1", "a", Success), ("a2", "a", Pending), ("a3", "a", Pending), ("b1", "b", Success)]


@pytest.mark.parametrize("listener", [None, lambda _: None])
async def test_no_group_of_a_job_is_kept_after_its_event(listener: Any) -> None:
    """And none at all if nobody listens."""
    run = map_all(Pages().fetch, ["a1", "a2", "b1"], group_by=host_of, limit_per_group=1, listen=listener, timeout=1.5)
    await run
    engine: Any = run._pump._engine  # type: ignore[union-attr]
    assert engine.groups.ended == {}


async def test_healthy_groups_are_forgotten() -> None:
    """A group is there while it has a job or an input that waits."""
    sizes = []

    async def fetch(page: int) -> int:
        sizes.append(len(groups()))
        await asyncio.sleep(0)
        return page

    def groups() -> Any:
        assert run._pump is not None
        engine: Any = run._pump._engine
        return engine.groups._groups

    run = map_all(fetch, range(1000), limit=7, group_by=lambda page: page)
    await run
    assert max(sizes) == 7
    assert groups() == {}


async def test_a_task_that_cannot_be_created_leaves_its_slots() -> None:
    """The job is pending, and the error is raised once, wherever the job starts. Its group does not count it."""
    made = 0
    groups: list[Any] = []

    async def fetch(page: str) -> str:
        await asyncio.sleep(1)
        return page

    async def inputs() -> AsyncIterator[str]:
        yield "a1"
        yield "a2"
        await asyncio.sleep(10)

    def factory(loop: Any, coroutine: Any, **keywords: Any) -> Any:
        nonlocal made
        made += coroutine.__name__ == "fetch"
        if made == 2:
            engine: Any = run._pump._engine  # type: ignore[union-attr]
            groups.append(engine.groups._groups["a"])
            raise LookupError("no more tasks")
        return asyncio.Task(coroutine, loop=loop, **keywords)

    asyncio.get_running_loop().set_task_factory(factory)
    run = map_all(fetch, inputs(), group_by=host_of, limit_per_group=1)
    try:
        with pytest.raises(LookupError, match="no more tasks"):
            await run
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert [type(outcome) for outcome in run.report] == [Success, Pending]
    assert [group.running for group in groups] == [0]


class Members:
    """A group of a schedule."""

    def __init__(self) -> None:
        self.queue = EMPTY_QUEUE
        self.is_listed = False
        self.is_free = True

    def may_start(self) -> bool:
        """Return whether it may start a job."""
        return self.is_free


def order_of(schedule: Schedule) -> list[int]:
    """Take the inputs that may start, and return their indexes."""
    order = []
    while schedule.next_index() is not None:
        group, (index, *_) = schedule.take()
        order.append(index)
        schedule.enlist(group)
    return order


def test_a_group_is_in_the_schedule_once() -> None:
    """However often it is enlisted, its inputs take their turns in the order of all inputs."""
    schedule, one, other = Schedule(), Members(), Members()
    for index, group in enumerate((one, other, one)):
        schedule.add(group, (index, None, print))
    for group in (one, one, other):
        schedule.enlist(group)
    assert order_of(schedule) == [0, 1, 2]


def test_a_group_that_came_first_when_it_could_not_start_is_enlisted_again() -> None:
    """For example when its circuit has opened and closed."""
    schedule, group = Schedule(), Members()
    schedule.add(group, (0, None, print))
    schedule.enlist(group)
    group.is_free = False
    assert schedule.next_index() is None
    group.is_free = True
    schedule.enlist(group)
    assert order_of(schedule) == [0]
