"""Each group has a budget, a breaker and a retry-after of its own, and one that is down holds up no other."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from aiosupervise import (
    AttemptFailed,
    Budget,
    Event,
    Failure,
    GroupPaused,
    GroupResumed,
    GroupStopped,
    JobFinished,
    Overload,
    Pending,
    Policy,
    Reason,
    RetryAfter,
    Run,
    Stopped,
    Success,
    Tally,
    listen,
    map_all,
    run_all,
    supervise,
    verdict,
)
from aiosupervise._batch import circuit
from aiosupervise._batch._groups import feed, registry
from aiosupervise._batch._groups.engine import GroupedJob
from aiosupervise._batch._groups.settings import GroupSettings
from aiosupervise._call.enclosing_job import Permit

pytestmark = pytest.mark.looptime


def host_of(page: str) -> str:
    """Return the group of a page: its first letter."""
    return page[0]


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class Hosts:
    """Hosts that fail while they are down; h for healthy ones."""

    def __init__(self, **back: float) -> None:
        self.back = back
        self.calls: Counter[str] = Counter()
        self.running = 0
        self.most = 0
        self.ended: dict[str, float] = {}

    async def fetch(self, page: str) -> str:
        """Fetch a page."""
        self.calls[page[0]] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.1)
        finally:
            self.running -= 1
        if now() < self.back.get(page[0], 0):
            raise ConnectionError("down")
        self.ended[page] = now()
        return page

    def supervised(self, **options: Any) -> Any:
        """Return the function of a run."""
        return supervise(retry_on=ConnectionError, **options)(self.fetch)


DEAD = float("inf")


@pytest.fixture
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each group a budget of two retries."""
    monkeypatch.setattr(circuit, "Budget", partial(Budget, capacity=30))


SHORT = Overload(first_pause=1, longest_pause=4, probes=3)


@pytest.mark.parametrize("limit_per_group", [None, 4])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.usefixtures("untraced")
async def test_a_dead_host_holds_up_no_other(limit_per_group: int | None, *, streamed: bool) -> None:
    """Wherever its pages stand: jobs that wait for it have left their slots. Its own probes are the last calls."""
    healthy = [f"{host}{n}" for n in range(30) for host in "abcdefgh"]
    dead = [f"x{n}" for n in range(30)]
    alone = Hosts()
    await map_all(alone.supervised(), healthy, limit=20, group_by=host_of, limit_per_group=limit_per_group)
    for inputs in ([*dead, *healthy], random.Random(1).sample([*dead, *healthy], 270)):
        hosts = Hosts(x=DEAD)
        run = map_all(
            hosts.supervised(),
            inputs,
            limit=20,
            strategy="as_completed",
            group_by=host_of,
            limit_per_group=limit_per_group,
        )
        if streamed:
            async with run:
                outcomes: list[Any] = [outcome async for outcome in run]
        else:
            outcomes = [*await run]
        assert max(hosts.ended.values()) - min(hosts.ended.values()) <= 1.3 * max(alone.ended.values())
        assert hosts.most <= 20
        assert hosts.calls["x"] <= 30 + 36 + 8
        assert {outcome.attempts for outcome in outcomes if isinstance(outcome, Success)} == {1}
        assert run.report.stopped_groups == ("x",)
        assert run.report.stopped is None
        assert not run.report.ok


class Thirty:
    """Thirty hosts: one is slow, one dead, one asks every tenth time to wait for half a minute; all others are well."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.ended: dict[int, float] = {}

    async def fetch(self, page: tuple[int, int]) -> None:
        """Fetch a page of a host."""
        host, _ = page
        self.calls[host] += 1
        await asyncio.sleep({SLOW: 10, GONE: 0.05}.get(host, 0.1))
        if host == GONE:
            raise ConnectionError
        if host == BUSY and self.calls[host] % 10 == 5:
            raise RetryAfter(30) from ConnectionError()
        self.ended[host] = now()


SLOW, GONE, BUSY = range(3)


@pytest.mark.parametrize("order", ["slow first", "dead first", "shuffled", "by turns"])
@pytest.mark.usefixtures("untraced")
async def test_thirty_hosts_of_different_manners(order: str) -> None:
    """The pages of the healthy ones finish nearly as soon as they would alone, whatever the order of the list."""

    async def crawl(pages: list[tuple[int, int]]) -> tuple[Thirty, Any]:
        hosts, start = Thirty(), now()
        fetch = supervise(retry_on=ConnectionError)(hosts.fetch)
        report = await map_all(fetch, pages, limit=20, group_by=lambda page: page[0], limit_per_group=4)
        hosts.ended = {host: time - start for host, time in hosts.ended.items()}
        return hosts, report

    pages = [(host, number) for host in range(30) for number in range(30)]
    alone, _ = await crawl([page for page in pages if page[0] > BUSY])
    if order == "shuffled":
        random.Random(1).shuffle(pages)
    elif order != "slow first":
        pages.sort(key=lambda page: (page[0] != GONE, page) if order == "dead first" else page[::-1])
    hosts, report = await crawl(pages)
    assert max(hosts.ended[host] for host in range(BUSY + 1, 30)) <= 1.3 * max(alone.ended.values())
    assert report.stopped_groups == (GONE,)
    assert hosts.calls[GONE] <= 60
    assert {outcome.attempts for outcome in report.succeeded if outcome.input[0] > BUSY} == {1}


@pytest.mark.usefixtures("small_budgets")
async def test_a_group_that_stays_down_stops_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its inputs are pending at once; the log, an event and the report name it, and the other groups continue."""
    hosts = Hosts(x=DEAD)
    events: list[Event] = []
    paused: list[int] = []
    inputs = ["x0", "h0", *(f"x{n}" for n in range(1, 20)), "h1"]

    def on_event(event: Event) -> None:
        events.append(event)
        if isinstance(event, (GroupPaused, GroupStopped)):
            paused.append(event.tally.paused_groups)

    with caplog.at_level(logging.INFO):
        report = await map_all(
            hosts.supervised(max_retries=9),
            inputs,
            strategy="as_completed",
            limit=2,
            overload=SHORT,
            group_by=host_of,
            limit_per_group=1,
            listen=on_event,
            name="fetch",
        )
    assert paused == [1, 1, 1, 0]
    groups = [event for event in events if isinstance(event, (GroupPaused, GroupStopped))]
    assert [(type(event), event.name, event.group) for event in groups] == [
        *[(GroupPaused, "fetch", "x")] * 3,
        (GroupStopped, "fetch", "x"),
    ]
    assert {event.group for event in events if isinstance(event, AttemptFailed)} == {"x"}
    finished = {event.outcome.input: event.group for event in events if isinstance(event, JobFinished)}
    assert finished == {page: page[0] for page in inputs}
    assert [type(outcome) for outcome in report].count(Success) == 2
    assert {outcome.input for outcome in report.pending} | {outcome.input for outcome in report.failed} == {
        page for page in inputs if page[0] == "x"
    }
    assert {failure.reason for failure in report.failed} == {Reason.BUDGET}
    assert report.stopped_groups == ("x",)
    messages = [record.getMessage() for record in caplog.records if record.name == "aiosupervise.run"]
    assert messages[0].startswith("group x of run fetch pauses for ")
    assert messages[3].startswith(
        "group x of run fetch starts no further jobs: too many probes failed; the other groups continue"
    )
    assert any("(job 0, group x) failed in attempt 1" in record.getMessage() for record in caplog.records)
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    assert "jobs are pending, as the services of some groups stayed down: x" in str(caught.value.exceptions[-1])


@pytest.mark.usefixtures("small_budgets")
async def test_many_stopped_groups_are_named_in_part() -> None:
    """The error of the values has the names of ten."""
    hosts = Hosts(**dict.fromkeys("abcdefghijklm", DEAD))
    inputs = [f"{host}{n}" for host in "abcdefghijklm" for n in range(6)]
    report = await map_all(hosts.supervised(max_retries=9), inputs, overload=SHORT, group_by=host_of, limit_per_group=1)
    assert len(report.stopped_groups) == 13
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    text = str(caught.value.exceptions[-1])
    assert text.endswith(", ...")
    assert text.count(", ") == 11


@pytest.mark.usefixtures("small_budgets")
async def test_a_pause_is_that_of_a_group() -> None:
    """The tally counts the groups that are paused; when the service is back, the group resumes, and nothing is lost."""
    hosts = Hosts(x=3)
    paused = []
    names = []

    def on_event(event: Event) -> None:
        if isinstance(event, (GroupPaused, GroupResumed)):
            assert event.group == "x"
            paused.append(event.tally.paused_groups)
            names.append(type(event))

    report = await map_all(
        hosts.supervised(max_retries=9),
        ["x0", "x1", "h0", "x2"],
        overload=SHORT,
        group_by=host_of,
        limit_per_group=2,
        listen=on_event,
    )
    assert report.ok
    assert names[-1] is GroupResumed
    assert set(paused[:-1]) == {1}
    assert paused[-1] == report.tally.paused_groups == 0


async def test_a_retry_after_pauses_its_group_alone() -> None:
    """The others go on meanwhile, and afterwards its jobs come back one by one."""
    asked = False
    times: dict[str, float] = {}

    @supervise(retry_on=ConnectionError)
    async def fetch(page: str) -> str:
        nonlocal asked
        await asyncio.sleep(0.1)
        if page[0] == "x" and not asked:
            asked = True
            raise RetryAfter(30) from ConnectionError()
        times[page] = now()
        return page

    inputs = [*(f"x{n}" for n in range(6)), *(f"h{n}" for n in range(40))]
    report = await map_all(fetch, inputs, limit=4, group_by=host_of, limit_per_group=2)
    assert report.ok
    assert max(time for page, time in times.items() if page[0] == "h") < 5
    assert min(time for page, time in times.items() if page in ("x2", "x3", "x4", "x5")) > 30


async def test_a_run_without_protection() -> None:
    """Groups have their limits alone."""
    hosts = Hosts(x=DEAD)
    report = await map_all(
        hosts.supervised(max_retries=1, backoff=[0]), ["x0", "h0", "x1"], overload=None, group_by=host_of
    )
    assert [type(outcome) for outcome in report] == [Failure, Success, Failure]
    assert [(type(failure.error), failure.attempts) for failure in report.failed] == [(ConnectionError, 2)] * 2
    assert report.stopped_groups == ()


@pytest.mark.usefixtures("small_budgets")
async def test_a_failure_of_the_calls_own_makes_no_breaker() -> None:
    """An error that the policy does not list is neutral, with a breaker and without one."""

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=[0])
    async def fetch(page: str) -> str:
        await asyncio.sleep(0)
        raise LookupError if page[1] in "02" else ConnectionError

    report = await map_all(fetch, ["x0", "x1", "x2"], limit=1, group_by=host_of)
    assert [failure.attempts for failure in report.failed] == [1, 2, 1]


@pytest.mark.usefixtures("small_budgets")
async def test_an_endless_source_of_stopped_groups_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a whole look-ahead of inputs belongs to them; a list comes to its end by itself. Their events name them."""
    monkeypatch.setattr(feed, "LOOK_AHEAD", 30)
    pulled = 0

    def pages() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield "x"

    async def async_pages() -> AsyncIterator[str]:
        for page in pages():
            yield page

    groups: list[object] = []
    until_stop = 0

    def note_group(event: Event) -> None:
        nonlocal until_stop
        if isinstance(event, JobFinished):
            groups.append(event.group)
        elif isinstance(event, GroupStopped):
            until_stop = pulled

    for source in (pages(), async_pages()):
        pulled = 0
        groups.clear()
        fetch = Hosts(x=DEAD).supervised(max_retries=9)
        run: Run[str, str] = map_all(fetch, source, limit=2, overload=SHORT, group_by=host_of, listen=note_group)
        report = await run
        assert report.stopped is Stopped.PROBES
        assert len(report) == pulled == until_stop + 30
        assert [outcome.input for outcome in report] == groups == ["x"] * pulled
    report = await map_all(
        Hosts(x=DEAD).supervised(max_retries=9), ["x"] * 200, limit=2, overload=SHORT, group_by=host_of
    )
    assert report.stopped is None
    assert len(report) == 200


@pytest.mark.usefixtures("small_budgets")
@pytest.mark.parametrize(("total", "dead"), [(None, 110), (120, 110), (120, 120)])
async def test_a_source_with_a_known_end_goes_on(
    monkeypatch: pytest.MonkeyPatch, *, total: int | None, dead: int
) -> None:
    """However many inputs of a stopped group come one after another, such as those of a dead host in a sorted file."""
    monkeypatch.setattr(feed, "LOOK_AHEAD", 30)
    hosts = Hosts(x=DEAD)

    @supervise(retry_on=ConnectionError, backoff=[0])
    async def fetch(number: int) -> str:
        return await hosts.fetch("x" if number < dead else "h")

    source: Any = range(120) if total is None else iter(range(120))
    report = await map_all(fetch, source, total=total, limit=5, group_by=lambda number: number < dead, overload=SHORT)
    assert report.stopped is None
    assert [success.index for success in report.succeeded] == [*range(dead, 120)]
    assert len(report) == 120


@pytest.mark.usefixtures("untraced")
async def test_pending_inputs_of_a_stopped_group_reach_the_reader_at_once() -> None:
    """A streamed run neither keeps them nor waits for its end; a slow reader gets them all the same."""
    inputs = [f"x{n}" for n in range(40)] + [f"h{n}" for n in range(300)]
    for strategy in ("gather", "as_completed", "wait"):
        run = map_all(
            Hosts(x=DEAD).supervised(max_retries=9),
            iter(inputs),
            limit=2,
            strategy=strategy,
            overload=SHORT,
            group_by=host_of,
        )
        read = []
        async with run:
            async for outcome in run:
                read.append(outcome)
                await asyncio.sleep(0.01)
        assert len(read) == 340
        last = [type(outcome) for outcome in read[-5:]]
        assert last == [Success] * 5, strategy


async def test_few_pending_inputs_of_a_stopped_group_wait_for_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each occupies a slot until it is read, so the source is not pulled ahead of the reader."""
    monkeypatch.setattr(feed, "LOOK_AHEAD", 20)
    hosts = Hosts(x=DEAD).supervised(max_retries=9)
    run = map_all(hosts, (f"x{n}" for n in range(600)), total=600, limit=2, overload=SHORT, group_by=host_of)
    unread = []
    async with run:
        async for _ in run:
            assert run._pump is not None
            unread.append(len(run._pump.outlet.ready))
            await asyncio.sleep(0.01)
    assert len(unread) == 600
    assert max(unread) <= 2 * 20


async def test_failing_groups_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of them, while they are idle: a sparse dead host is asked no more often than a dense one."""
    monkeypatch.setattr(registry, "_REMEMBERED", 2)
    known: list[list[Any]] = []

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=[0])
    async def fetch(page: str) -> str:
        groups: Any = run._pump._engine.groups  # type: ignore[union-attr]
        known.append([*groups._groups])
        await asyncio.sleep(0)
        if page[0] != "h":
            raise ConnectionError
        return page

    run = map_all(fetch, ["a", "b", "h", "c", "a", "h"], limit=1, group_by=host_of)
    await run
    assert known == [["a"]] * 2 + [["a", "b"]] * 2 + [["a", "b", "h"]] + [["a", "b", "c"]] * 2 + [
        ["b", "c", "a"]
    ] * 2 + [["c", "a", "h"]]


@pytest.mark.usefixtures("small_budgets")
async def test_a_group_that_stops_twice_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its inputs come back after it was forgotten, and so does its probing, but the report has each group once."""
    monkeypatch.setattr(registry, "_REMEMBERED", 1)
    stopped: list[object] = []

    def on_event(event: Event) -> None:
        if isinstance(event, GroupStopped):
            stopped.append(event.group)

    async def inputs() -> AsyncIterator[str]:
        for host in "xyzx":
            for n in range(10):
                yield f"{host}{n}"
            await asyncio.sleep(100)

    hosts = Hosts(x=DEAD, y=DEAD, z=DEAD)
    fetch = hosts.supervised(max_retries=2, backoff=[0])
    report = await map_all(fetch, inputs(), limit=2, overload=SHORT, group_by=host_of, listen=on_event)
    assert stopped == ["x", "y", "z", "x"]
    assert report.stopped_groups == ("x", "y", "z")


@pytest.mark.usefixtures("untraced")
async def test_a_sparse_dead_host_stops_as_a_dense_one_does() -> None:
    """It is remembered between its inputs."""
    hosts = Hosts(x=DEAD)
    inputs = [f"{'x' if n % 50 == 0 else 'h'}{n}" for n in range(3000)]
    report = await map_all(hosts.supervised(backoff=[0]), inputs, limit=5, group_by=host_of)
    assert report.stopped_groups == ("x",)
    assert hosts.calls["x"] < 80


async def test_a_group_that_has_recovered_is_forgotten() -> None:
    """When its budget is full again and its last fifty jobs succeeded at once."""
    has_breaker: list[bool] = []

    @supervise(retry_on=ConnectionError, backoff=[0])
    async def fetch(page: int) -> int:
        groups: Any = run._pump._engine.groups  # type: ignore[union-attr]
        has_breaker.append(groups._groups["x"].breaker is not None)
        await asyncio.sleep(0)
        if len(has_breaker) == 1:
            raise ConnectionError
        return page

    run = map_all(fetch, range(100), limit=1, group_by=lambda _: "x")
    assert (await run).ok
    assert has_breaker == [False] + [True] * 51 + [False] * 49


async def test_a_group_that_is_stopped_when_its_last_job_has_ended() -> None:
    """It is idle, and remembered like any other that has failed."""
    context: Any = SimpleNamespace(tally=Tally(None, 1), scope=SimpleNamespace(emit=lambda *_: None), wake=lambda: None)
    context.config = SimpleNamespace(overload=Overload())
    groups = registry.Groups(GroupSettings(host_of, None), context, None)
    group = groups.of("x0", 0)
    group.ensure_breaker()
    group.stop()
    assert groups.take_stopped() == []
    assert [*groups._idle] == [group]
    groups.close()


async def test_a_group_whose_inputs_have_all_started() -> None:
    """The source is exhausted, and no input waits; its circuit then asks for more evidence of an outage."""
    context: Any = SimpleNamespace(tally=Tally(None, 1), scope=None, config=SimpleNamespace(overload=None))
    groups = registry.Groups(GroupSettings(host_of, None), context, None)
    group = groups.of("x0", 0)
    assert not group.have_all_started()
    groups.schedule.is_exhausted = True
    assert group.have_all_started()
    groups.schedule.add(group, (0, "x0", print))
    assert not group.have_all_started()


@pytest.mark.parametrize(("limit", "running", "expected"), [(2, 1, True), (2, 2, False), (None, 9, True)])
async def test_a_circuit_that_is_not_closed_keeps_the_limit_of_its_group(
    limit: int | None, running: int, *, expected: bool
) -> None:
    """For example when the group ramps up after a wait."""
    context: Any = SimpleNamespace(tally=Tally(None, 1), scope=None, config=SimpleNamespace(overload=None))
    group: Any = registry.Groups(GroupSettings(host_of, limit), context, None).of("x0", 0)
    group.running = running
    group.breaker = SimpleNamespace(circuit=SimpleNamespace(is_closed=False), free_slots=lambda slots, _: slots)
    assert group.may_start() is expected


async def test_a_busy_group_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others have failed and are idle while its job runs."""
    monkeypatch.setattr(registry, "_REMEMBERED", 2)
    groups: list[Any] = []

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def fetch(page: str) -> None:
        if page[0] == "x":
            groups.append(run._pump._engine.groups._groups["x"])  # type: ignore[union-attr]
        await asyncio.sleep(100 if page == "x1" else 1)
        raise ConnectionError

    run = map_all(fetch, ["x0", "a", "x1", "b", "c", "d", "x2"], limit=2, group_by=host_of)
    await run
    assert groups == [groups[0]] * 3


async def test_a_job_whose_attempt_is_interrupted_keeps_its_slot() -> None:
    """It had not left it; the next job starts when this one has ended, and not before."""
    hosts = Hosts(x=0.15)
    fetch = hosts.supervised(backoff=[0])
    started: list[tuple[str, float]] = []

    async def job(page: str) -> str:
        started.append((page, now()))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.15):
                await fetch(page)
        await asyncio.sleep(1)
        return page

    async with asyncio.timeout(1000):
        report = await map_all(job, ["x0", "x1", "h0"], limit=1, group_by=host_of)
    assert report.values() == ["x0", "x1", "h0"]
    assert started == [("x0", 0), ("x1", pytest.approx(1.15)), ("h0", pytest.approx(2.25))]


async def test_a_group_that_is_forgotten_twice() -> None:
    """Of a stopped group that is forgotten at once, nothing is left to forget, and a new group of the name stays."""
    context: Any = SimpleNamespace(tally=Tally(None, 1), scope=SimpleNamespace(emit=lambda *_: None), wake=lambda: None)
    context.config = SimpleNamespace(overload=Overload())
    groups = registry.Groups(GroupSettings(host_of, None), context, None)
    group = groups.of("x0", 0)
    group.ensure_breaker()
    group.stop()
    groups._forget(group)
    other = groups.of("x0", 0)
    assert groups.take_stopped() == []
    assert groups.of("x0", 0) is other
    groups.close()


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_paused_group_with_a_waiting_input_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, *, lazy: bool
) -> None:
    """However many others have failed in the meantime: the input starts after the pause."""
    monkeypatch.setattr(registry, "_REMEMBERED", 2)

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def fetch(page: str) -> float:
        if page == "x0":
            raise RetryAfter(30)
        if page[0] != "x":
            raise ConnectionError
        return now()

    async def pages() -> AsyncIterator[str]:
        yield "x0"
        await asyncio.sleep(1)
        for page in ["x1", *"abcdef"]:
            yield page

    source: Any = pages() if lazy else ["x0", "x1", *"abcdef"]
    report = await map_all(fetch, source, group_by=host_of, limit=1)
    assert len(report) == 8
    [success] = report.succeeded
    assert success.input == "x1"
    assert 30 <= success.value < 40


class Fragile:
    """An object that cannot be hashed any more after the first times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __hash__(self) -> int:
        self.times -= 1
        if self.times < 0:
            raise LookupError("no hash")
        return 1


@pytest.mark.parametrize("times", [2, 3])
async def test_a_group_that_cannot_be_hashed_any_more(times: int) -> None:
    """The outcomes are known, and the run raises the error."""
    hosts = Hosts()
    run = map_all(hosts.fetch, ["a", "b"], group_by=lambda _: Fragile(times), limit=1)
    with pytest.raises(LookupError, match="no hash"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Pending]
    assert run.tally.running == 0


@pytest.mark.usefixtures("small_budgets")
async def test_a_group_that_cannot_be_hashed_when_it_stops() -> None:
    """Its inputs are pending all the same, and the run raises the error."""
    key, pauses = Fragile(10**6), 0

    def on_event(event: Event) -> None:
        nonlocal pauses
        pauses += isinstance(event, GroupPaused)
        if pauses == 2:  # all inputs have been pulled
            key.times = 0

    fetch = Hosts(x=DEAD).supervised(backoff=[0])
    pages = [f"x{n}" for n in range(30)]
    run = map_all(fetch, pages, limit=5, group_by=lambda _: key, overload=SHORT, listen=on_event)
    with pytest.raises(LookupError, match="no hash"):
        await run
    assert len(run.report) == 30
    assert run.tally.paused_groups == 0


async def test_none_is_a_group(caplog: pytest.LogCaptureFixture) -> None:
    """Such as the host of a URL without one; the log names it."""
    caplog.set_level(logging.INFO)
    for back in (20.0, DEAD):
        hosts = Hosts(x=back)
        pages = [f"x{n}" for n in range(300)]
        report = await map_all(hosts.supervised(backoff=[0]), pages, group_by=lambda _: None, limit=20)
    assert report.stopped_groups == (None,)
    assert "1 group stayed down: None" in report.summary()
    for what in ("pauses for", "resumes", "starts no further jobs"):
        assert f"group None of run fetch {what}" in caplog.text


async def test_a_job_whose_wait_is_cut_short_by_itself_goes_on() -> None:
    """It takes a slot again, and ends as it will."""
    hosts = Hosts(x=DEAD)
    fetch = hosts.supervised(backoff=[100], max_retries=1)

    async def job(page: str) -> str:
        if page[0] == "h":
            return await hosts.fetch(page)
        try:
            async with asyncio.timeout(1):
                await fetch(page)
        except TimeoutError:
            await asyncio.sleep(5)
        return "instead"

    run = map_all(job, ["x", *(f"h{n}" for n in range(20))], limit=1, group_by=host_of)
    report = await run
    assert report.values() == ["instead", *(f"h{n}" for n in range(20))]
    # Meanwhile the slot was free, for nine pages; then they waited for the job to end.
    assert [hosts.ended[f"h{n}"] < 1.2 for n in range(20)].count(True) in (9, 10)
    assert hosts.ended["h19"] > 6


async def test_a_call_in_a_child_task_keeps_the_slot_of_its_job() -> None:
    """The job may be busy with something else while the call waits."""
    hosts = Hosts(x=1)
    fetch = hosts.supervised(backoff=[2], max_retries=1)

    async def job(page: str) -> Any:
        return await asyncio.gather(fetch(page), hosts.fetch(page.replace("x", "y")))

    await map_all(job, ["x", "h"], limit=1, group_by=host_of)
    assert hosts.ended["h"] > hosts.ended["x"] > 2


async def test_a_probe_needs_no_slot_of_jobs_that_wait_for_it() -> None:
    """Jobs keep their slots while calls in their child tasks wait, so one of these is the probe."""
    hosts = Hosts(x=DEAD)
    fetch = hosts.supervised(backoff=[2])

    async def job(page: str) -> None:
        await asyncio.gather(fetch(page), fetch(page), return_exceptions=True)
        await fetch(page)

    pages = [f"{host}{n}" for n in range(10) for host in "xab"]
    async with asyncio.timeout(1000):
        report = await map_all(job, pages, limit=5, group_by=host_of)
    assert report.stopped_groups == ("x",)
    assert len(report.succeeded) == 20


@pytest.mark.parametrize("permit", [Permit.GO, Permit.PROBE])
async def test_a_call_is_a_probe_only_if_it_was_sent_as_one(permit: Permit) -> None:
    """A circuit that has become half-open while the call waited for its slot does not wait for this one."""
    probes: list[object] = []

    async def acquire(*_: object) -> Permit:
        return permit

    context: Any = SimpleNamespace(tally=Tally(None, 1), scope=None, config=SimpleNamespace(overload=None))
    groups = registry.Groups(GroupSettings(host_of, None), context, None)
    group: Any = groups.of("x0", 0)
    circuit = SimpleNamespace(state=SimpleNamespace(permit=lambda: permit))
    group.breaker = SimpleNamespace(circuit=circuit, acquire=acquire, on_start=probes.append)
    job: Any = object.__new__(GroupedJob)
    job.run_context = group
    assert await job.acquire("call") is permit
    assert probes == ["call"] * (permit is Permit.PROBE)


async def test_retries_in_a_run_inside_of_a_job_count_for_the_job() -> None:
    """A run with groups counts them for the run around it, as one without does."""
    hosts = Hosts(x=0.15)

    async def crawl() -> int:
        return (await map_all(hosts.supervised(backoff=[1]), ["x0"], group_by=host_of)).tally.retries

    report = await run_all([crawl])
    assert report.values() == [1]
    assert report.tally.retries == 1


async def test_a_job_comes_back_before_a_new_one_starts() -> None:
    """When its wait is over, the next free slot is its own; with a deadline it waits no longer than that."""
    order: list[str] = []
    failed: set[str] = set()

    def fetch_with(**options: Any) -> Any:
        @supervise(retry_on=ConnectionError, backoff=[0.5], **options)
        async def fetch(page: str) -> str:
            order.append(page)
            if page[0] == "x" and page not in failed:
                failed.add(page)
                raise ConnectionError
            await asyncio.sleep(10)
            return page

        return fetch

    inputs = ["x0", "x1", "h0", "h1", "h2"]
    report = await map_all(fetch_with(), inputs, limit=1, group_by=host_of)
    assert report.ok
    assert order == ["x0", "x1", "h0", "x0", "x1", "h1", "h2"]

    failed.clear()
    report = await map_all(fetch_with(deadline=3.0), ["x0", "h0"], limit=1, group_by=host_of)
    assert report.failed[0].reason is Reason.DEADLINE
    assert report.failed[0].elapsed == pytest.approx(3.0)
    assert report.failed[1].reason is Reason.DEADLINE


@pytest.mark.usefixtures("small_budgets")
async def test_a_job_that_is_cancelled_while_it_comes_back() -> None:
    """It was the probe, too: the next one is sent."""
    hosts = Hosts(x=3)
    tasks: dict[str, asyncio.Task[Any]] = {}
    inner = hosts.supervised(max_retries=9, backoff=[0])

    async def job(page: str) -> str:
        tasks[page] = asyncio.current_task()  # type: ignore[assignment]
        if page[0] == "h":
            await asyncio.sleep(20)
            return page
        result: str = await inner(page)
        return result

    run = map_all(job, ["x0", "x1", "h0", "h1"], limit=2, overload=SHORT, group_by=host_of)
    asyncio.get_running_loop().call_later(15, lambda: tasks["x0"].cancel("probe"))
    report = await run
    assert [type(outcome) for outcome in report] == [Failure, Success, Success, Success]
    assert isinstance(report[0].error, asyncio.CancelledError)  # type: ignore[union-attr]
    assert report.elapsed < 22
    engine: Any = run._pump._engine  # type: ignore[union-attr]
    assert engine.groups.slots._returning == {}
    assert engine.groups.schedule.is_exhausted


async def test_a_job_that_is_cancelled_when_a_slot_is_free_for_it() -> None:
    """Its outcome is the cancellation, and the slot that was assigned to it is released."""
    hosts = Hosts(x=0.2)
    inner = hosts.supervised(backoff=[5])
    jobs: list[Any] = []

    async def job(page: str) -> str:
        if page[0] == "h":
            await asyncio.sleep(10)
            return page
        jobs.append(asyncio.current_task())
        result: str = await inner(page)
        return result

    def on_event(event: object) -> None:
        if isinstance(event, JobFinished) and event.outcome.input == "h0":
            asyncio.get_running_loop().call_soon(jobs[0].cancel)

    report = await map_all(job, ["x0", "h0", "h1"], limit=1, group_by=host_of, listen=on_event)
    assert [type(outcome) for outcome in report] == [Failure, Success, Success]
    assert [type(failure.error) for failure in report.failed] == [asyncio.CancelledError]
    assert hosts.calls["x"] == 1


@pytest.mark.usefixtures("small_budgets")
async def test_a_probe_that_waits_for_a_slot_has_not_failed() -> None:
    """Its time begins with its attempt: a group is not stopped for the slowness of others."""
    hosts = Hosts(x=5)
    inner = hosts.supervised(max_retries=9, backoff=[0])

    async def job(page: str) -> str:
        if page[0] == "h":
            await asyncio.sleep(100)
            return page
        result: str = await inner(page)
        return result

    report = await map_all(job, ["x0", "x1", "h0", "h1"], limit=2, overload=SHORT, group_by=host_of)
    assert report.ok
    assert report.stopped_groups == ()


@pytest.mark.usefixtures("small_budgets")
async def test_probes_beyond_the_limit_of_their_group_come_back_one_by_one() -> None:
    """So that its limit holds for attempts, though more of its jobs exist."""
    running = most = 0
    back = 20.0

    @supervise(Policy(retry_on=ConnectionError, max_retries=9, backoff=[0.2]))
    async def fetch(page: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(1)
        finally:
            running -= 1
        if now() < back:
            raise ConnectionError
        return page

    overload = Overload(first_pause=1, longest_pause=4, probes=20)
    inputs = [f"x{n}" for n in range(12)]
    report = await map_all(fetch, inputs, limit=50, overload=overload, group_by=host_of, limit_per_group=2)
    assert report.ok
    assert most == 2


@pytest.mark.usefixtures("small_budgets")
async def test_a_call_that_outlives_its_run() -> None:
    """It retries by itself."""
    left: list[asyncio.Task[Any]] = []
    hosts = Hosts(x=5)
    fetch = hosts.supervised(max_retries=9, backoff=[1])

    async def job(page: str) -> None:
        await asyncio.sleep(0)
        left.append(asyncio.ensure_future(fetch(page)))

    await map_all(job, ["x0"], group_by=host_of)
    with listen(lambda _: None):
        assert await left[0] == "x0"


@pytest.mark.usefixtures("small_budgets")
async def test_calls_that_outlive_their_run_do_not_pause_it() -> None:
    """Nor does its group get a circuit then: they retry as their policy says, and no event follows the last one."""
    left: list[asyncio.Task[Any]] = []
    hosts = Hosts(x=DEAD)
    fetch = hosts.supervised(max_retries=50, backoff=[1])
    events: list[Event] = []

    async def job(page: str) -> None:
        left.extend(asyncio.ensure_future(fetch(page)) for _ in range(3))

    run = map_all(job, ["x0"], group_by=host_of)
    with listen(events.append):
        await run
        results = await asyncio.gather(*left, return_exceptions=True)
    assert [verdict(error).reason for error in results] == [Reason.EXHAUSTED] * 3  # type: ignore[union-attr]
    assert hosts.calls["x"] == 3 * 51
    assert not any(isinstance(event, GroupPaused) for event in events)
    assert run.tally.paused_groups == 0


async def test_a_call_that_outlives_its_job_outside_a_task_leaves_no_slot() -> None:
    """A coroutine that a callback drives is in no task, and its job, which has ended, has none either."""
    calls, running, most = [], 0, 0

    @supervise(retry_on=ConnectionError, backoff=[0.01], max_retries=1)
    async def call() -> None:
        raise ConnectionError

    def drive() -> None:
        calls.append(call())
        calls[0].send(None)

    async def job(x: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if x == 0:
            asyncio.get_running_loop().call_later(0.01, drive)
        else:
            await asyncio.sleep(1)
        running -= 1

    await map_all(job, range(6), limit=2, group_by=str)
    calls[0].close()
    assert most == 2


@pytest.mark.usefixtures("small_budgets")
async def test_a_group_pauses_when_half_of_its_jobs_fail() -> None:
    """Only the first attempts of the group count, of which one in two has failed."""

    @supervise(retry_on=ConnectionError, max_retries=5)
    async def fetch(page: str) -> None:
        await asyncio.sleep(0.1)
        if page == "bad":
            raise ConnectionError

    events: list[Event] = []
    await map_all(fetch, ["bad", "big"], group_by=host_of, overload=SHORT, listen=events.append)
    assert [event.group for event in events if isinstance(event, GroupPaused)][:1] == ["b"]
